"""Separation of seen and unseen data, and the drop from one to the other (thesis, Tables 1 and 4).

Values are SI-SDRi of the mode, dB, and the further qualities that cells were judged by (`evaluation.qualities`),
mixture by mixture, as cells keep them. Where the seeds of a model were judged on the same mixtures an interval is over
seeds and mixtures at once; where each seed has mixtures of its own it is over seeds, which is then over both. Models
are compared within seed and mixture. A mixture that a quality has no value of is left out.

All are against the sources as they were mixed, without noise. SI-SDR against references that have noise themselves
rewards what keeps that noise (arXiv 2508.14623), which is not the case here; where noise is heard, STOI belongs beside
it all the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from vaesweep.analysis.groups import POINT, REGIME, grouped_table, named
from vaesweep.analysis.intervals import Interval, combined_interval, crossed_interval, mean_squares, t_interval
from vaesweep.analysis.load import load_cells
from vaesweep.analysis.runs import Runs
from vaesweep.data.domains import Role
from vaesweep.families.emd.evaluation import AUDIBLE_SOURCES, MIXTURE, MODE
from vaesweep.training.evaluate import ROWS
from vaesweep.training.finished import FinishedCell

SI_SDRI = f"si_sdri.{MODE}"
FURTHER = {f"{name}.{MODE}": name for name in ("sdri", "stoi", "estoi", "pesq")}  # by metric: the column
OF_MIXTURES = {f"{name}.{MODE}": f"{name}.{MIXTURE}" for name in ("stoi", "estoi", "pesq")}
REFERENCES = "clean sources"
NO_TARGET = "target nan"  # the point of a twin beside cells with targets
DIFFERENCES = ("model", "other", "domain", "difference", "low", "high")


@dataclass(frozen=True)
class Judged:
    """One model on one domain by one quality: by seed the values of its mixtures `[mixture]`, and the data they were.

    `data` is a fingerprint; seeds of one fingerprint were judged on the same mixtures. One without a value is NaN.
    """

    values: Mapping[str, np.ndarray]
    data: Mapping[str, str]

    @property
    def shared(self) -> bool:
        """Whether all seeds were judged on the same mixtures."""
        return len({self.data[seed] for seed in self.values}) == 1

    @property
    def valued(self) -> dict[str, np.ndarray]:
        """By seed the values of mixtures that have one; where seeds share mixtures, one of every seed."""
        missing = {seed: np.isnan(values) for seed, values in self.values.items()}
        if self.shared:
            missing = dict.fromkeys(missing, np.any(list(missing.values()), axis=0))
        return {seed: values[~missing[seed]] for seed, values in self.values.items() if not missing[seed].all()}

    @property
    def means(self) -> dict[str, float]:
        """The mean over mixtures, by seed."""
        return {seed: float(values.mean()) for seed, values in self.valued.items()}

    @property
    def interval(self) -> Interval:
        """Of the mean, over all that was drawn."""
        valued = self.valued
        if self.shared and valued:
            return crossed_interval(np.stack(list(valued.values())))
        return t_interval(np.array(list(self.means.values())))

    def less(self, other: "Judged") -> Interval:
        """Of the mean difference to another model, within the seeds and mixtures that both have; NaN without any."""
        both = [s for s in self.values if s in other.values and self.data[s] == other.data[s]]
        return Judged({s: self.values[s] - other.values[s] for s in both}, {s: self.data[s] for s in both}).interval

    def drop_to(self, other: "Judged") -> Interval:
        """Of the drop from this domain to another, whose mixtures are others: within seeds, over mixtures of both."""
        means, others = self.means, other.means
        seeds = [seed for seed in means if seed in others]
        drops = np.array([means[seed] - others[seed] for seed in seeds])
        if len(drops) < 2 or not (self.shared and other.shared):
            return t_interval(drops)
        of_mixtures = [
            _of_mixtures(np.stack([values[seed] for seed in seeds])) for values in (self.valued, other.valued)
        ]
        parts, degrees = np.array([(float(drops.var(ddof=1)) / len(drops), len(drops) - 1), *of_mixtures]).T
        return combined_interval(float(drops.mean()), float(parts.sum()), parts, degrees, len(drops))


def _of_mixtures(values: np.ndarray) -> tuple[float, int]:
    """The variance that mixtures add to a mean over `[seed, mixture]`, beyond the residual's, and its degrees."""
    if values.shape[1] < 2:
        return float("nan"), 1
    (_, of_data, of_residual), degrees = mean_squares(values)
    return max(float(of_data - of_residual), 0.0) / values.size, int(degrees[1])


def per_mixture(cell: FinishedCell, quality: str = SI_SDRI) -> dict[str, np.ndarray]:
    """A quality of every mixture by domain, means over its audible sources; none of a cell that kept none.

    Of a mixture without a sound there is no SI-SDRi: it counts as no improvement. Of another quality it is NaN.
    """
    values = {}
    for name, tensor in cell.kept.items():
        domain = name.removeprefix(f"{ROWS}/").removesuffix(f"/{quality}")
        if name != f"{ROWS}/{domain}/{quality}":
            continue
        if quality == SI_SDRI:  # of which sums over sources are kept
            tensor = tensor / cell.kept[f"{ROWS}/{domain}/{AUDIBLE_SOURCES}"].clamp_min(1)
        values[domain] = tensor.double().numpy()
    return values


NOTHING = Judged({}, {})
ByModel = Mapping[str, Mapping[str, Judged]]  # by model, which is a regime's point, and domain


def models(runs: Runs) -> dict[str, tuple[str, str]]:
    """The model of every finished cell, which is a regime's point, and its seed."""
    points = grouped_table(runs).drop_duplicates("cell").set_index("cell")
    labels = zip(points.index, points[REGIME], points[POINT], points["seed"], strict=True)
    return {
        str(cell): (named(str(regime), "" if point == NO_TARGET else str(point)), str(seed))
        for cell, regime, point, seed in labels
    }


def judged(runs: Runs, cells: Iterable[FinishedCell]) -> dict[str, ByModel]:
    """By quality, model and domain, in the record's order, the mixtures' values of a model's seeds.

    Cells are read one by one.
    """
    places, domains = models(runs), [domain.name for domain in runs.record.domains]
    by_quality: dict[str, dict[str, dict[str, dict[str, np.ndarray]]]] = {}
    data: dict[str, dict[str, dict[str, str]]] = {}
    for cell in cells:
        if cell.cell not in places:
            continue
        model, seed = places[cell.cell]
        for quality in (SI_SDRI, *FURTHER, *OF_MIXTURES.values()):
            for domain, own in per_mixture(cell, quality).items():
                values = by_quality.setdefault(quality, {})
                values.setdefault(model, {}).setdefault(domain, {})[seed] = own
                data.setdefault(model, {}).setdefault(domain, {})[seed] = cell.domains.get(domain) or cell.cell
    return {
        quality: {
            model: {name: Judged(by_domain[name], data[model][name]) for name in domains if name in by_domain}
            for model, by_domain in by_model.items()
        }
        for quality, by_model in by_quality.items()
    }


def generalisation_table(
    runs: Runs, by_quality: Mapping[str, ByModel], heard: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """A row a model and domain: SI-SDRi with its interval, and the drop to it from the test domain, dB and relative.

    Further qualities have the same columns, but for the relative drop, with their name before it; STOI and PESQ also
    the mixtures' own mean. `heard` says by domain what is heard, `clean` or `noisy`.
    """
    roles = {domain.name: domain.role for domain in runs.record.domains}
    (test,) = [name for name, role in roles.items() if role is Role.TEST]
    further = [name for name in FURTHER if name in by_quality]
    rows = []
    for model, by_domain in by_quality[SI_SDRI].items():
        for domain, own in by_domain.items():
            seen = by_domain.get(test) if roles[domain] is Role.UNSEEN else None
            row: dict[str, object] = {"model": model, "domain": domain, "role": str(roles[domain])}
            row |= {"heard": (heard or {}).get(domain, ""), "references": REFERENCES}
            row |= _named("", own.interval, "si_sdri") | (drop := _drop("", seen, own))
            row["relative_drop"] = drop["drop"] / seen.interval.mean if seen else float("nan")
            for quality in further:
                row |= _further(quality, by_quality, model, domain, test if seen else None)
            rows.append(row)
    return pd.DataFrame(rows)


def _further(
    quality: str, by_quality: Mapping[str, ByModel], model: str, domain: str, test: str | None
) -> dict[str, float]:
    """The columns of a further quality; NaN of a model that was not judged by it."""

    def of(quality: str, domain: str | None) -> Judged:
        return by_quality.get(quality, {}).get(model, {}).get(domain or "", NOTHING)

    column, own = FURTHER[quality], of(quality, domain)
    row = _named(f"{column}_", own.interval, column)
    if quality in OF_MIXTURES:
        row[f"{column}_{MIXTURE}"] = of(OF_MIXTURES[quality], domain).interval.mean
    return row | _drop(f"{column}_", of(quality, test), own)


def _drop(prefix: str, seen: Judged | None, own: Judged) -> dict[str, float]:
    return _named(f"{prefix}drop_", (seen or NOTHING).drop_to(own), f"{prefix}drop")


def _named(prefix: str, interval: Interval, mean: str) -> dict[str, float]:
    return {mean: interval.mean, f"{prefix}low": interval.low, f"{prefix}high": interval.high}


def differences_table(by_quality: Mapping[str, ByModel]) -> pd.DataFrame:
    """A row a pair of models and domain: the difference of their SI-SDRi, dB, and its interval; further ones beside."""
    rows = []
    by_model = by_quality[SI_SDRI]
    further = {quality: column for quality, column in FURTHER.items() if quality in by_quality}
    for one, other in combinations(by_model, 2):
        for domain in by_model[one]:
            if domain not in by_model[other]:
                continue
            row: dict[str, object] = {"model": one, "other": other, "domain": domain}
            row |= _named("", by_model[one][domain].less(by_model[other][domain]), "difference")
            for quality, column in further.items():
                own, others = (by_quality[quality].get(m, {}).get(domain, NOTHING) for m in (one, other))
                row |= _named(f"{column}_", own.less(others), column)
            rows.append(row)
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else list(DIFFERENCES))


def read(runs: Runs, tracking_uri: str | None = None) -> list[FinishedCell]:
    """The finished cells of a sweep with what they keep of each mixture, read from the store without their weights."""
    return [replace(cell, weights={}, history={}) for cell in load_cells(runs, tracking_uri)]
