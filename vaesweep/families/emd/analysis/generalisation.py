"""Separation of seen and unseen data, and the drop from one to the other (thesis, Tables 1 and 4).

Values are SI-SDRi of the mode, dB, mixture by mixture, as cells keep them. Where the seeds of a model were judged on
the same mixtures an interval is over seeds and mixtures at once; where each seed has mixtures of its own it is over
seeds, which is then over both. Models are compared within seed and mixture.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from vaesweep.analysis.groups import POINT, REGIME, grouped_table, named
from vaesweep.analysis.intervals import Interval, combined_interval, crossed_interval, mean_squares, t_interval
from vaesweep.analysis.load import load_cells
from vaesweep.analysis.runs import Runs
from vaesweep.data.domains import Role
from vaesweep.families.emd.evaluation import AUDIBLE_SOURCES, MODE
from vaesweep.training.evaluate import ROWS
from vaesweep.training.finished import FinishedCell

QUALITY = f"si_sdri.{MODE}"
COLUMNS = ("model", "domain", "role", "si_sdri", "low", "high", "drop", "drop_low", "drop_high", "relative_drop")
NO_TARGET = "target nan"  # the point of a twin beside cells with targets
DIFFERENCES = ("model", "other", "domain", "difference", "low", "high")


@dataclass(frozen=True)
class Judged:
    """One model on one domain: by seed the values of its mixtures `[mixture]`, dB, and the data that they were.

    `data` is a fingerprint; seeds of one fingerprint were judged on the same mixtures.
    """

    values: Mapping[str, np.ndarray]
    data: Mapping[str, str]

    @property
    def shared(self) -> bool:
        """Whether all seeds were judged on the same mixtures."""
        return len({self.data[seed] for seed in self.values}) == 1

    @property
    def means(self) -> dict[str, float]:
        """The mean over mixtures, by seed."""
        return {seed: float(values.mean()) for seed, values in self.values.items()}

    @property
    def interval(self) -> Interval:
        """Of the mean, over all that was drawn."""
        if self.shared and self.values:
            return crossed_interval(np.stack(list(self.values.values())))
        return t_interval(np.array(list(self.means.values())))

    def less(self, other: "Judged") -> Interval:
        """Of the mean difference to another model, within the seeds and mixtures that both have; NaN without any."""
        both = [s for s in self.values if s in other.values and self.data[s] == other.data[s]]
        return Judged({s: self.values[s] - other.values[s] for s in both}, {s: self.data[s] for s in both}).interval

    def drop_to(self, other: "Judged") -> Interval:
        """Of the drop from this domain to another, whose mixtures are others: within seeds, over mixtures of both."""
        seeds = [seed for seed in self.values if seed in other.values]
        drops = np.array([self.means[seed] - other.means[seed] for seed in seeds])
        if len(drops) < 2 or not (self.shared and other.shared):
            return t_interval(drops)
        of_mixtures = [_of_mixtures(np.stack([own.values[seed] for seed in seeds])) for own in (self, other)]
        parts, degrees = np.array([(float(drops.var(ddof=1)) / len(drops), len(drops) - 1), *of_mixtures]).T
        return combined_interval(float(drops.mean()), float(parts.sum()), parts, degrees, len(drops))


def _of_mixtures(values: np.ndarray) -> tuple[float, int]:
    """The variance that mixtures add to a mean over `[seed, mixture]`, beyond the residual's, and its degrees."""
    if values.shape[1] < 2:
        return float("nan"), 1
    (_, of_data, of_residual), degrees = mean_squares(values)
    return max(float(of_data - of_residual), 0.0) / values.size, int(degrees[1])


def per_mixture(cell: FinishedCell) -> dict[str, np.ndarray]:
    """SI-SDRi of every mixture, dB, by domain: means over its audible sources; none of a cell that kept none.

    Of a mixture without a sound there is no quality: it counts as no improvement.
    """
    values = {}
    for name, tensor in cell.kept.items():
        domain = name.removeprefix(f"{ROWS}/").removesuffix(f"/{QUALITY}")
        if name == f"{ROWS}/{domain}/{QUALITY}":
            audible = cell.kept[f"{ROWS}/{domain}/{AUDIBLE_SOURCES}"]
            values[domain] = (tensor / audible.clamp_min(1)).double().numpy()
    return values


def models(runs: Runs) -> dict[str, tuple[str, str]]:
    """The model of every finished cell, which is a regime's point, and its seed."""
    points = grouped_table(runs).drop_duplicates("cell").set_index("cell")
    labels = zip(points.index, points[REGIME], points[POINT], points["seed"], strict=True)
    return {
        str(cell): (named(str(regime), "" if point == NO_TARGET else str(point)), str(seed))
        for cell, regime, point, seed in labels
    }


def judged(runs: Runs, cells: Iterable[FinishedCell]) -> dict[str, dict[str, Judged]]:
    """By model, which is a regime's point, and domain: the mixtures' values of its seeds. Cells are read one by one."""
    places = models(runs)
    values: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    data: dict[str, dict[str, dict[str, str]]] = {}
    for cell in cells:
        if cell.cell not in places:
            continue
        model, seed = places[cell.cell]
        for domain, own in per_mixture(cell).items():
            values.setdefault(model, {}).setdefault(domain, {})[seed] = own
            data.setdefault(model, {}).setdefault(domain, {})[seed] = cell.domains.get(domain) or cell.cell
    return {
        model: {domain: Judged(own, data[model][domain]) for domain, own in by_domain.items()}
        for model, by_domain in values.items()
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
            yield (*row, drop.mean, drop.low, drop.high, drop.mean / seen.interval.mean)


def differences_table(by_model: Mapping[str, Mapping[str, Judged]]) -> pd.DataFrame:
    """A row a pair of models and domain: the difference of their SI-SDRi, dB, and its interval."""
    rows = []
    for one, other in combinations(by_model, 2):
        for domain in by_model[one]:
            if domain in by_model[other]:
                found = by_model[one][domain].less(by_model[other][domain])
                rows.append((one, other, domain, found.mean, found.low, found.high))
    return pd.DataFrame(rows, columns=list(DIFFERENCES))


def read(runs: Runs, tracking_uri: str | None = None) -> list[FinishedCell]:
    """The finished cells of a sweep with what they keep of each mixture, read from the store without their weights."""
    return [replace(cell, weights={}, history={}) for cell in load_cells(runs, tracking_uri)]
