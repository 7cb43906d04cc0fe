"""Any metric against the rate, with intervals over seeds and optima: metric_curve.csv, separation_curve.csv.

The curves are those of `curves.py` (thesis, section 4.6), one for every metric, domain and regime, on the one rate axis
of `groups.py`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vaesweep.analysis.curves import Loss, loss_curve, seed_optima
from vaesweep.analysis.groups import OWN_RATE, REGIME

VALUE, OPTIMUM = "value", "optimum"
NATS = "nats per datum"
COLUMNS = [
    *("metric", "unit", "domain", "role", "kind", "rate", OWN_RATE, VALUE, "low", "high"),
    *("n_cells", "n_seeds", "rate_low", "rate_high", "at_edge"),
]


@dataclass(frozen=True)
class Metric:
    """A column of `grouped_table`, of which less is better, or to be near its `aim` where it has one.

    With a `sign` of -1 more is better.
    """

    name: str
    unit: str
    aim: float | None = None
    sign: int = 1

    @property
    def optimum(self) -> Loss:
        """The loss that defines the best value, of the column `value`."""
        return Loss(VALUE, self.sign, self.aim)

    def points(self, cells: pd.DataFrame) -> pd.DataFrame:
        """The rows of `cells` where it is finite, with its `value`."""
        values = cells[self.name].astype(float) if self.name in cells else pd.Series(np.nan, cells.index)
        return cells.assign(**{VALUE: values})[np.isfinite(values)]


def metric_curve(
    points: pd.DataFrame, axes: list[str], metrics: Iterable[Metric], window: int | None = None
) -> pd.DataFrame:
    """Curve and optimum of every metric, regime and domain of `points` (of `grouped_table`).

    `axes` are the regimes'; `window` is `loss_curve`'s. Columns: the axes, `regime`, then `COLUMNS`; `own_rate` is the
    moving average of the rate on the domain itself.
    """
    parts = list(_curves(points, axes, list(metrics), window))
    columns = [*axes, REGIME, *COLUMNS]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def optimal_rates(points: pd.DataFrame, metric: Metric, window: int | None = None) -> pd.Series:
    """The rate of the metric's optimum of each seed's own curve, by seed: of the cells of one regime and domain."""
    return seed_optima(metric.points(points), metric.optimum, window)


def part(curve: pd.DataFrame, regime: str, metric: str, domain: str, kind: str) -> pd.DataFrame:
    """The rows of one curve, or of its optimum."""
    rows = (curve[REGIME] == regime) & (curve["metric"] == metric)
    return curve[rows & (curve["domain"] == domain) & (curve["kind"] == kind)]


def _curves(points: pd.DataFrame, axes: list[str], metrics: list[Metric], window: int | None) -> Iterator[pd.DataFrame]:
    for regime, cells in points.groupby(REGIME, sort=False):
        place = {axis: cells[axis].iloc[0] for axis in axes}
        for metric in metrics:
            for domain, group in metric.points(cells).groupby("domain", sort=False):
                curve = loss_curve(group, {OPTIMUM: metric.optimum}, window, [OWN_RATE])
                about = {REGIME: regime, "metric": metric.name, "unit": metric.unit, "domain": domain}
                curve = curve.rename(columns={"value_low": "low", "value_high": "high"})
                yield curve.assign(**place, **about, role=group["role"].iloc[0])
