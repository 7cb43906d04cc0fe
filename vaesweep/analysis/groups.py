"""Groups of cells: regimes, each with curves of its own, and within a regime points of the rate axis.

An axis of the sweep that sets rates (a target, a β, free nats) moves cells along a curve; any other but the seed splits
them into regimes, such as the thesis' static and dynamic missingness. The cells of one point differ in their seed only,
and in the split of the data where that is an axis too.

Everything here is set against one rate: the one that a cell has on the *test domain of the training population*. A
cell then has one place whatever it is judged by, so that optima of different metrics, and of seen and unseen
domains, can be compared as "which model is best". (`curve.csv` has each domain's own rate, which is higher on unusual
data without any model being another.)
"""

from collections.abc import Sequence

import pandas as pd

from vaesweep.analysis.gaps import NEGATIVE_ELBO
from vaesweep.analysis.runs import Runs
from vaesweep.analysis.table import cells_table, finished, other_axes
from vaesweep.data.domains import Role

OF_RATES = ("rates.", "free_nats.")  # settings whose axes move cells along a curve
REGIME, POINT = "regime", "point"
OWN_RATE = "own_rate"
# Axes of replicates, as the seed is one: other splits of the data, or other synthetic data, and what is held out.
SPLITS = ("data.seed", "data.held_out")
VARIANT = "variant"  # an axis whose values are names, and labels themselves


def regime_axes(runs: Runs) -> list[str]:
    """The axes whose every combination is a regime."""
    return [axis for axis in other_axes(runs) if not axis.startswith(OF_RATES) and axis not in SPLITS]


def splits(points: pd.DataFrame) -> pd.Series:
    """The split of the data that each row's cell was trained on, by its axes' values; the same where there are none."""
    labels = pd.Series("", index=points.index)
    for axis in SPLITS:
        if axis in points:
            labels = labels.where(labels == "", labels + ", ") + points[axis].astype(str)
    return labels


def point_axes(runs: Runs) -> list[str]:
    """The columns of `grouped_table` that distinguish points: the target rate, then axes of single rates."""
    return ["target_rate", *(axis for axis in other_axes(runs) if axis.startswith(OF_RATES))]


def grouped_table(runs: Runs) -> pd.DataFrame:
    """The finished cells of `cells_table` on every domain, grouped and placed on the rate axis.

    `rate` is the one on the test domain, nats per datum, and `own_rate` the domain's; `regime` and `point` are labels
    for users, empty where the sweep has but one; `negative_elbo` is −ELBO. Regimes are in the record's order, and
    within each rows are sorted as in `cells_table`.
    """
    points = finished(cells_table(runs))
    rates = points.loc[points["role"] == Role.TEST].set_index("cell")["rate"].astype(float)
    points = points[points["cell"].isin(rates.index)]
    points = points.assign(
        **{
            OWN_RATE: points["rate"].astype(float),
            "rate": points["cell"].map(rates),
            NEGATIVE_ELBO: -points["elbo"].astype(float),
            REGIME: _labels(points, regime_axes(runs)),
            POINT: _labels(points, point_axes(runs)),
        }
    )
    listed = {cell: place for place, cell in enumerate(runs.record.cells)}
    regime_places = points["cell"].map(listed).groupby(points[REGIME]).transform("min")
    return points.iloc[regime_places.argsort(kind="stable")]


def named(*labels: str) -> str:
    """The name of a group from its labels: `dynamic, target 3`."""
    return ", ".join(label for label in labels if label) or "all cells"


def single(points: pd.DataFrame) -> bool:
    """Whether no regime in `points` has more than one point, so that nothing can be drawn against the rate."""
    return len(points) == 0 or bool(points.groupby(REGIME)[POINT].nunique().max() < 2)


def _labels(points: pd.DataFrame, axes: Sequence[str]) -> pd.Series:
    """One label a row, of those axes that differ anywhere (and of the target, by which users name cells)."""
    labels = pd.Series("", index=points.index)
    for axis in axes:
        values = points[axis]
        if values.isna().all() or (axis != "target_rate" and values.astype(str).nunique() < 2):
            continue
        labels = labels.where(labels == "", labels + ", ") + values.map(lambda value, axis=axis: _label(axis, value))
    return labels


def _label(axis: str, value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if axis == VARIANT:
        return text
    return f"target {text}" if axis == "target_rate" else f"{axis.rsplit('.', 1)[-1]} {text}"
