"""Curves against the rate, their intervals over seeds and their optima; of distortion and ELBO, curve.csv.

Thesis, section 4.6: "the curves are moving averages when sorting the models based on the rate". In curve.csv each
domain has its own curve, at the rates measured on that domain. The interval at a rate is over seeds: each seed's
own moving average is interpolated at the curve's rates.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vaesweep.analysis.intervals import half_width
from vaesweep.analysis.table import ELBO_PARTS, on_curve
from vaesweep.errors import UserError

COLUMNS = [
    *("kind", "domain", "role", "rate", "distortion", "distortion_low", "distortion_high"),
    *("elbo", "elbo_low", "elbo_high", "n_cells", "n_seeds", "rate_low", "rate_high", "at_edge"),
]
CURVE = "curve"
LOWEST_DISTORTION = "optimum.distortion"
HIGHEST_ELBO = "optimum.elbo"
RANGE = ["rate_low", "rate_high"]


@dataclass(frozen=True)
class Loss:
    """A column with an optimum: where `sign` times its value is lowest or, with an `aim`, nearest to that."""

    column: str
    sign: int = 1
    aim: float | None = None

    def best(self, curve: pd.DataFrame) -> int:
        """The place of the optimum among the rows of `curve`."""
        values = curve[self.column].to_numpy(float)
        return int(np.argmin(self.sign * values if self.aim is None else np.abs(values - self.aim)))


OPTIMA = {LOWEST_DISTORTION: Loss("distortion"), HIGHEST_ELBO: Loss("elbo", sign=-1)}


@dataclass(frozen=True)
class _SeedCurve:
    """One seed's cells `rates`, sorted, and its moving average at strictly increasing rates."""

    rates: np.ndarray
    average: pd.DataFrame

    def at(self, column: str, rates: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """The average interpolated at `rates`; NaN where the seed does not count.

        A seed counts at a point when it has cells on both sides of the point or inside its window, from
        rate `first` to rate `last`: seeds trained towards one target end at slightly different rates, and
        all count at the end.
        """
        values = np.interp(rates, self.average["rate"], self.average[column])
        covers = (self.rates[0] <= last) & (self.rates[-1] >= first)
        return np.where(covers, values, np.nan)

    def optimal_rate(self, loss: Loss) -> float:
        return float(self.average["rate"].iloc[loss.best(self.average)])


def rd_curve(table: pd.DataFrame, window: int | None = None) -> pd.DataFrame:
    """Curve and optima of every domain in `table` (of `cells_table`); only finished cells count.

    `window` is `loss_curve`'s. Rates, distortions and ELBOs are in nats per datum. Rows are grouped by domain in the
    table's order: the curve by rising rate, then the two optima.
    """
    _check_window(window)
    points = on_curve(table)
    domains = list(dict.fromkeys(table["domain"]))
    parts = [_domain_curve(points[points["domain"] == domain], window) for domain in domains]
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def loss_curve(
    points: pd.DataFrame, optima: Mapping[str, Loss], window: int | None = None, beside: Sequence[str] = ()
) -> pd.DataFrame:
    """The moving average of one domain's cells against `rate`, and the optima by their `kind`.

    `points` has a row a cell: `rate`, `seed`, the columns of `optima`, which get an interval over seeds, and those
    `beside`, which do not. `window` is the number of neighbouring cells *of one seed* that are averaged
    (`default_window` if `None`); the curve over all seeds averages as many times more cells as there are seeds.
    Columns: `kind`, `rate`, the averages with `_low` and `_high`, and `curve.csv`'s counts and spans.
    """
    _check_window(window)
    losses = list(dict.fromkeys(loss.column for loss in optima.values()))
    columns = list(dict.fromkeys(["rate", *losses, *beside]))
    window = window or default_window(int(points.groupby("seed", dropna=False).size().max()))
    seeds = list(_seed_curves(points, window, columns).values())
    average = moving_average(points, window * len(seeds), columns)
    curve = _with_intervals(average, seeds, losses).assign(kind=CURVE, at_edge=False)
    optimum_rows = [_optimum(curve, seeds, kind, loss) for kind, loss in optima.items()]
    return pd.concat([curve, pd.DataFrame(optimum_rows).astype(dict.fromkeys(RANGE, float))], ignore_index=True)


def seed_optima(points: pd.DataFrame, loss: Loss, window: int | None = None) -> pd.Series:
    """The rate at which each seed's own moving average is best, by seed; `points` and `window` as of `loss_curve`."""
    if points.empty:
        return pd.Series(dtype=float)
    window = window or default_window(int(points.groupby("seed", dropna=False).size().max()))
    seeds = _seed_curves(points, window, ["rate", loss.column])
    return pd.Series({seed: curve.optimal_rate(loss) for seed, curve in seeds.items()}, dtype=float)


def moving_average(points: pd.DataFrame, window: int, columns: Sequence[str] = ELBO_PARTS) -> pd.DataFrame:
    """Moving average of `columns`, rate first, over cells sorted by rate: one row a full window.

    Only full windows count, so that every row is as certain as the next; a `window` larger than the cells
    is all of them. Besides the averages: `n_cells` in the window and the rates of its `first` and `last`
    cell.
    """
    names = list(columns)
    values = points[names].astype(float).sort_values(names).to_numpy()
    size = min(window, len(values))
    average = pd.DataFrame(np.lib.stride_tricks.sliding_window_view(values, size, axis=0).mean(-1), columns=names)
    return average.assign(n_cells=size, first=values[: len(average), 0], last=values[size - 1 :, 0])


def default_window(cells: int) -> int:
    """Cells of one seed in a window: 1 up to 20 cells, 3 below 60 (the thesis' 45 targets), 5 to 100, …"""
    return 1 + 2 * round(cells / 40)


def monotone_within_interval(curve: pd.DataFrame, domain: str) -> bool:
    """Whether `domain`'s distortion falls with rate up to its interval.

    It does when no point lies above an earlier one by more than both their half-widths. A half-width counts
    as at least the median along the curve, since with few seeds some intervals are narrow by chance.
    Without any interval (one seed) the curve must never rise.
    """
    points = curve[(curve["domain"] == domain) & (curve["kind"] == CURVE)].sort_values("rate")
    distortion = points["distortion"].to_numpy(float)
    half = points["distortion_high"].to_numpy(float) - distortion
    typical = np.nanmedian(half) if np.isfinite(half).any() else 0.0
    half = np.fmax(half, typical)
    rise = (distortion - half)[1:] - np.minimum.accumulate(distortion + half)[:-1]
    return bool((rise <= 1e-9 * np.abs(distortion[1:])).all())


def hidden_by_interval(curve: pd.DataFrame, domain: str) -> bool:
    """Whether `domain`'s intervals are mostly wider than all that its distortion does, so that no trend can be read."""
    points = curve[(curve["domain"] == domain) & (curve["kind"] == CURVE)]
    width = (points["distortion_high"] - points["distortion_low"]).median()
    return bool(width > np.ptp(points["distortion"].to_numpy(float))) if len(points) > 1 else False


def optimum(curve: pd.DataFrame, domain: str, kind: str) -> pd.Series | None:
    """The row of one optimum of one domain, `None` where the domain has no finished cell."""
    rows = curve[(curve["domain"] == domain) & (curve["kind"] == kind)]
    return rows.iloc[0] if len(rows) else None


def _check_window(window: int | None) -> None:
    if window is not None and window < 1:
        raise UserError(f"a moving average over {window} cells is none; give a window of 1 or more")


def _domain_curve(points: pd.DataFrame, window: int | None) -> pd.DataFrame:
    """Curve and optima of the finished cells of one domain."""
    if points.empty:
        return pd.DataFrame(columns=COLUMNS)
    whole = loss_curve(points, OPTIMA, window)
    return whole.assign(domain=points["domain"].iloc[0], role=points["role"].iloc[0]).reindex(columns=COLUMNS)


def _seed_curves(points: pd.DataFrame, window: int, columns: Sequence[str]) -> dict[Hashable, _SeedCurve]:
    groups = points.groupby("seed", dropna=False)
    return {seed: _seed_curve(group, window, columns) for seed, group in groups}


def _seed_curve(points: pd.DataFrame, window: int, columns: Sequence[str]) -> _SeedCurve:
    average = moving_average(points, window, columns)
    average = average.groupby(average["rate"].round(12), as_index=False)[list(columns)].mean()
    return _SeedCurve(np.sort(points["rate"].to_numpy(float)), average)


def _with_intervals(average: pd.DataFrame, seeds: list[_SeedCurve], losses: Sequence[str]) -> pd.DataFrame:
    """The average with the seeds' interval around it, and the number of seeds that count at each of its points."""
    place = [average[name].to_numpy(float) for name in ("rate", "first", "last")]
    columns: dict[str, np.ndarray] = {}
    for column in losses:
        half, n_seeds = half_width(np.stack([seed.at(column, *place) for seed in seeds]))
        columns |= {f"{column}_low": average[column] - half, f"{column}_high": average[column] + half}
        columns["n_seeds"] = n_seeds
    return average.assign(**columns, rate_low=np.nan, rate_high=np.nan)


def _optimum(curve: pd.DataFrame, seeds: list[_SeedCurve], kind: str, loss: Loss) -> dict[Hashable, object]:
    """The optimum's row: `rate_low` to `rate_high` spans the seeds' own optima and the averaged curve's.

    A span rather than a t-interval: an optimum's rate is not normal, sits at the edge as often as not, and
    with three seeds a t-interval (4.3 standard errors) would reach beyond the rates that were trained.
    """
    best = loss.best(curve)
    row = curve.iloc[best]
    rates = [row["rate"], *(seed.optimal_rate(loss) for seed in seeds)]
    span = (min(rates), max(rates)) if len(seeds) > 1 else (np.nan, np.nan)
    edge = best in (0, len(curve) - 1)
    spans = {"kind": kind, "rate_low": span[0], "rate_high": span[1], "at_edge": edge}
    return row.to_dict() | spans
