"""Comparison of how well cells and classical baselines acquire and stop, and the choice of a group by validation.

A group is the cells of one point of one regime, which differ in their seed and split only; a baseline's replicates are
its fits. Intervals are over these replicates. The paired difference to the best mixture is of every datum the mean area
of the group's cells less that of the mixture's fits, by the same rule on the same rows; its interval is over data,
seeds, fits and splits (`differences`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vaesweep.analysis.groups import POINT, REGIME
from vaesweep.analysis.intervals import half_width
from vaesweep.data.domains import Role
from vaesweep.families.pvae.analysis.baselines import Baseline
from vaesweep.families.pvae.analysis.differences import Difference, difference
from vaesweep.families.pvae.analysis.metrics import UNITS
from vaesweep.families.pvae.analysis.records import AcquisitionRecord, areas_by_split
from vaesweep.families.pvae.evaluation import STOPPING_RULE

AREA = "area_rmse"
JUDGE = f"{AREA}.{STOPPING_RULE}"  # the metric that groups and baselines are chosen by, on validation data
MODEL, CHOSEN = "model", "chosen"
OF_ALL, OF_REGIME = "of all", "of its regime"
ENOUGH = 0.5  # a group is chosen only if it has at least this share of the most replicates that any has
NUMBERS = [
    *("rate", "metric", "unit", "by", "domain", "role", "mean", "low", "high", "n", CHOSEN),
    *("difference", "difference_low", "difference_high", "n_data", "n_seeds", "n_fits", "n_splits"),
]

Group = tuple[str, str]  # regime, point


@dataclass(frozen=True)
class Choice:
    """The group of each regime with the lowest mean area on validation rows, and the best of these."""

    by_regime: Mapping[str, Group]
    best: Group

    def mark(self, group: Group) -> str:
        """The value of the column `chosen` for a group."""
        if group == self.best:
            return OF_ALL
        return OF_REGIME if group in self.by_regime.values() else ""


def choose(points: pd.DataFrame) -> Choice | None:
    """Choose by validation rows only; None where no cell has an area by largest variance there."""
    valid = points[points["role"] == Role.VALID]
    if JUDGE not in valid or valid[JUDGE].isna().all():
        return None
    means = valid.groupby([REGIME, POINT], sort=False)[JUDGE].agg(["mean", "count"])
    means = means[means["count"] >= max(1, ENOUGH * means["count"].max())]["mean"]
    by_regime = {str(regime): group for regime, group in means.groupby(level=REGIME, sort=False).idxmin().items()}
    return Choice(by_regime, means.idxmin())


def rows_of_group(points: pd.DataFrame, group: Group) -> pd.DataFrame:
    """The rows of a group's cells."""
    return points[(points[REGIME] == group[0]) & (points[POINT] == group[1])]


def records_of_group(
    points: pd.DataFrame, group: Group, records: Mapping[str, AcquisitionRecord]
) -> list[AcquisitionRecord]:
    """The records of a group's cells."""
    return [records[cell] for cell in dict.fromkeys(rows_of_group(points, group)["cell"]) if cell in records]


def paired_difference(
    points: pd.DataFrame,
    group: Group,
    records: Mapping[str, AcquisitionRecord],
    mixture: Baseline | None,
    domain: str,
    rule: str,
) -> Difference | None:
    """Cells of `group` less the `mixture`: the mean difference of a datum's area, measurement·dB, and its interval."""
    cells = records_of_group(points, group, records)
    reference = mixture.areas.get((domain, rule), {}) if mixture else {}
    known = {cell.domains.get(domain) for cell in cells}
    same_listeners = len(known) == 1 and None not in known
    return difference(areas_by_split(cells, (domain, rule)), reference, same_listeners=same_listeners)


def acquisition_table(
    points: pd.DataFrame,
    axes: list[str],
    family: str,
    choice: Choice | None,
    records: Mapping[str, AcquisitionRecord],
    baselines: Sequence[Baseline],
    mixture: Baseline | None,
) -> pd.DataFrame:
    """Areas and stops of every group and baseline on every domain (acquisition.csv), a row a number.

    `points` is `grouped_table`'s and `axes` its axes; `mixture` is the baseline chosen on validation data. Columns:
    `model`, the axes, `regime`, `point`, then `NUMBERS`; `by` is the rule or the stopping criterion, `rate` the group's
    mean on the test domain (nats per datum), `n` counts seeds or fits.
    """
    roles = dict(zip(points["domain"], points["role"], strict=True))
    rows = [*_group_rows(points, axes, family, choice, records, mixture), *_baseline_rows(baselines, mixture, roles)]
    return pd.DataFrame(rows, columns=[MODEL, *axes, REGIME, POINT, *NUMBERS])


def _group_rows(
    points: pd.DataFrame,
    axes: list[str],
    family: str,
    choice: Choice | None,
    records: Mapping[str, AcquisitionRecord],
    mixture: Baseline | None,
) -> Iterator[dict[str, object]]:
    names = [name for name in points.columns if name.partition(".")[0] in UNITS]
    for (regime, point, domain), cells in points.groupby([REGIME, POINT, "domain"], sort=False) if names else ():
        group = (str(regime), str(point))
        place = {axis: cells[axis].iloc[0] for axis in axes} | {REGIME: regime, POINT: point}
        about = {MODEL: family, **place, "rate": cells["rate"].mean(), "domain": domain, "role": cells["role"].iloc[0]}
        about[CHOSEN] = choice.mark(group) if choice else ""
        by_seed = cells.groupby("seed", dropna=False)[names].mean()
        for name, number in _intervals(by_seed):
            metric, _, rule = name.partition(".")
            paired = paired_difference(points, group, records, mixture, str(domain), rule) if metric == AREA else None
            yield about | number | _difference(paired)


def _baseline_rows(
    baselines: Sequence[Baseline], mixture: Baseline | None, roles: Mapping[str, str]
) -> Iterator[dict[str, object]]:
    for baseline in baselines:
        mark = OF_ALL if baseline is mixture else ""
        for (domain, name), values in baseline.metrics.items():
            about = {MODEL: baseline.name, REGIME: "", POINT: "", "domain": domain, CHOSEN: mark}
            for _, number in _intervals(pd.DataFrame({name: values})):
                yield about | {"role": roles.get(domain, "")} | number


def _intervals(replicates: pd.DataFrame) -> Iterator[tuple[str, dict[str, object]]]:
    """Mean and interval of every column that has a finite value, over rows."""
    values = replicates.to_numpy(float)
    values = np.where(np.isfinite(values), values, np.nan)
    half, n = half_width(values)
    for column, name in enumerate(replicates.columns):
        if n[column]:
            metric, _, by = str(name).partition(".")
            mean = float(np.nanmean(values[:, column]))
            ends = {"mean": mean, "low": mean - half[column], "high": mean + half[column], "n": int(n[column])}
            yield str(name), {"metric": metric, "unit": UNITS[metric], "by": by, **ends}


def _difference(found: Difference | None) -> dict[str, object]:
    if found is None:
        return {}
    interval = found.interval
    ends = {"difference_low": interval.low, "difference_high": interval.high}
    counts = {"n_data": found.listeners, "n_seeds": found.seeds, "n_fits": found.fits, "n_splits": found.splits}
    return {"difference": interval.mean, **ends, **counts}
