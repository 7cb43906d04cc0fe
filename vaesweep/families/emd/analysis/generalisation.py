"""Separation of seen and unseen data, and the drop from one to the other (thesis, Tables 1 and 4).

Values are SI-SDRi of the mode, dB, mixture by mixture, as cells keep them. Where the seeds of a model were judged on
the same mixtures an interval is over seeds and mixtures at once; where each seed has mixtures of its own it is over
seeds, which is then over both. Models are compared within seed and mixture.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from vaesweep.analysis.groups import POINT, REGIME, grouped_table, named
from vaesweep.analysis.intervals import LEVEL, Interval, crossed_interval, t_interval
from vaesweep.analysis.load import load_cells
from vaesweep.analysis.runs import Runs
from vaesweep.data.domains import Role
from vaesweep.families.emd.evaluation import AUDIBLE_SOURCES, MODE
from vaesweep.training.evaluate import ROWS
from vaesweep.training.finished import FinishedCell

QUALITY = f"si_sdri.{MODE}"
COLUMNS = ("model", "domain", "role", "si_sdri", "low", "high", "drop", "drop_low", "drop_high", "relative_drop")
DIFFERENCES = ("model", "other", "domain", "difference", "low", "high")


@dataclass(frozen=True)
class Judged:
    """One model on one domain: `values` `[seed, mixture]`, dB, and whether its seeds `shared` their mixtures."""

    seeds: tuple[str, ...]
    values: np.ndarray
    shared: bool

    @property
    def interval(self) -> Interval:
        """Of the mean, over all that was drawn."""
        return crossed_interval(self.values) if self.shared else t_interval(self.values.mean(axis=1))

    def less(self, other: "Judged") -> Interval:
        """Of the mean difference to another model, within the seeds and mixtures that both have."""
        both = [seed for seed in self.seeds if seed in other.seeds]
        one, two = (own.values[[own.seeds.index(seed) for seed in both]] for own in (self, other))
        return Judged(tuple(both), one - two, self.shared and other.shared).interval

    def drop_to(self, other: "Judged") -> Interval:
        """Of the drop from this domain to another, whose mixtures are others: within seeds, over mixtures of both."""
        drops = self.values.mean(axis=1) - other.values.mean(axis=1)
        if not (self.shared and other.shared):
            return t_interval(drops)
        if len(drops) < 2:
            return Interval(float(drops.mean()), float("nan"), float("nan"), len(drops))
        parts = [(float(drops.var(ddof=1)) / len(drops), len(drops) - 1)]
        parts += [_of_mixtures(own.values) for own in (self, other)]
        variance = sum(part for part, _ in parts)
        if variance == 0:
            return Interval(float(drops.mean()), float(drops.mean()), float(drops.mean()), len(drops))
        freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
        half = float(stats.t.ppf((1 + LEVEL) / 2, max(freedom, 1.0)) * np.sqrt(variance))
        return Interval(float(drops.mean()), float(drops.mean()) - half, float(drops.mean()) + half, len(drops))


def _of_mixtures(values: np.ndarray) -> tuple[float, int]:
    """The variance that mixtures add to a mean over `[seed, mixture]`, beyond the residual's, and its degrees."""
    seeds, mixtures = values.shape
    means = values.mean(axis=0)
    residual = values - values.mean(axis=1, keepdims=True) - means + values.mean()
    of_residual = float((residual**2).sum()) / max((seeds - 1) * (mixtures - 1), 1)
    return max(float(means.var(ddof=1)) - of_residual / seeds, 0.0) / mixtures, mixtures - 1


def per_mixture(cell: FinishedCell) -> dict[str, np.ndarray]:
    """SI-SDRi of every mixture, dB, by domain: means over its audible sources; none of a cell that kept none."""
    values = {}
    for name, tensor in cell.kept.items():
        domain = name.removeprefix(f"{ROWS}/").removesuffix(f"/{QUALITY}")
        if name == f"{ROWS}/{domain}/{QUALITY}":
            values[domain] = (tensor / cell.kept[f"{ROWS}/{domain}/{AUDIBLE_SOURCES}"]).double().numpy()
    return values


def judged(runs: Runs, cells: Sequence[FinishedCell]) -> dict[str, dict[str, Judged]]:
    """By model, which is a regime's point, and domain: the mixtures' values of its seeds."""
    points = grouped_table(runs).drop_duplicates("cell").set_index("cell")
    seeds: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    data: dict[tuple[str, str], set[str]] = {}
    for cell in cells:
        if cell.cell not in points.index:
            continue
        row = points.loc[cell.cell]
        model = named(str(row[REGIME]), str(row[POINT]))
        for domain, values in per_mixture(cell).items():
            seeds.setdefault(model, {}).setdefault(domain, {})[str(row["seed"])] = values
            data.setdefault((model, domain), set()).add(cell.domains.get(domain, cell.cell))
    return {
        model: {
            domain: Judged(tuple(own), np.stack(list(own.values())), len(data[model, domain]) == 1)
            for domain, own in by_domain.items()
            if len({len(values) for values in own.values()}) == 1
        }
        for model, by_domain in seeds.items()
    }


def generalisation_table(runs: Runs, by_model: Mapping[str, Mapping[str, Judged]]) -> pd.DataFrame:
    """A row a model and domain: SI-SDRi with its interval, and the drop to it from the test domain, dB and relative."""
    roles = {domain.name: domain.role for domain in runs.record.domains}
    (test,) = [name for name, role in roles.items() if role is Role.TEST]
    return pd.DataFrame(_rows(by_model, roles, test), columns=list(COLUMNS))


def _rows(
    by_model: Mapping[str, Mapping[str, Judged]], roles: Mapping[str, Role], test: str
) -> Iterator[tuple[object, ...]]:
    for model, by_domain in by_model.items():
        for domain, own in by_domain.items():
            mean, seen = own.interval, by_domain.get(test)
            row = (model, domain, str(roles[domain]), mean.mean, mean.low, mean.high)
            if roles[domain] is not Role.UNSEEN or seen is None:
                yield (*row, *[float("nan")] * 4)
                continue
            drop = seen.drop_to(own)
            yield (*row, drop.mean, drop.low, drop.high, drop.mean / float(seen.values.mean()))


def differences_table(by_model: Mapping[str, Mapping[str, Judged]]) -> pd.DataFrame:
    """A row a pair of models and domain: the difference of their SI-SDRi, dB, and its interval."""
    rows = []
    for one, other in combinations(by_model, 2):
        for domain in by_model[one]:
            if domain in by_model[other]:
                found = by_model[one][domain].less(by_model[other][domain])
                rows.append((one, other, domain, found.mean, found.low, found.high))
    return pd.DataFrame(rows, columns=list(DIFFERENCES))


def read(runs: Runs, tracking_uri: str | None = None) -> dict[str, dict[str, Judged]]:
    """What `judged` gives of the finished cells of a sweep, read from the store."""
    return judged(runs, list(load_cells(runs, tracking_uri)))
