"""Two-sided 95 % intervals over seeds by Student's t.

A seed is one replicate. Cells of one seed share data order and noise, so they are not independent, and no
interval here ever counts cells.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # as scipy.stats does it, which takes half a second more to import

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Mean over `n` replicates and its interval; `low` and `high` are NaN with fewer than two."""

    mean: float
    low: float
    high: float
    n: int


def t_interval(values: np.ndarray) -> Interval:
    """Mean and t-interval of replicates `[replicate]`; NaN are left out."""
    half, n = half_width(np.asarray(values, float)[:, None])
    kept = np.asarray(values, float)[~np.isnan(values)]
    mean = float(kept.mean()) if kept.size else float("nan")
    return Interval(mean, mean - float(half[0]), mean + float(half[0]), int(n[0]))


def t_intervals(values: np.ndarray) -> list[Interval]:
    """The `t_interval` of each row of `[row, replicate]`, to the last bit, at once where nothing is NaN."""
    values = np.ascontiguousarray(values, float)  # so that a row is summed as it is alone
    n = values.shape[1]
    if n < 2 or np.isnan(values).any():
        return [t_interval(row) for row in values]
    mean = values.sum(axis=1) / n
    variance = ((values - mean[:, None]) ** 2).sum(axis=1) / (n - 1)
    half = stdtrit(n - 1, (1 + LEVEL) / 2) * np.sqrt(variance / n)
    return [Interval(float(m), float(m - h), float(m + h), n) for m, h in zip(mean, half, strict=True)]


def half_width(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half-widths of the t-intervals of the columns' means, and the columns' numbers of replicates.

    `values` is `[replicate, column]`. NaN are left out; a column with fewer than two replicates has width
    NaN.
    """
    n = (~np.isnan(values)).sum(axis=0)
    mean = np.nansum(values, axis=0) / np.maximum(n, 1)
    variance = np.nansum((values - mean) ** 2, axis=0) / np.maximum(n - 1, 1)
    quantile = stdtrit(np.maximum(n - 1, 1), (1 + LEVEL) / 2)
    return np.where(n >= 2, quantile * np.sqrt(variance / np.maximum(n, 1)), np.nan), n


def crossed_interval(values: np.ndarray) -> Interval:
    """Mean of `values` `[seed, datum]` and its interval over both, every seed having been seen on the same data.

    Seeds and data are random effects of a two-way layout without replication: the variance of the mean is
    (MS_seeds + MS_data - MS_residual) / (seeds · data), with Satterthwaite's degrees of freedom (Searle, Casella and
    McCulloch, 1992, section 4.6). A difference of two models is first taken within seed and datum. `n` is the number of
    seeds; with one seed, or one datum, there is no interval. NaN are not allowed.
    """
    values = np.asarray(values, float)
    seeds, data = values.shape
    if seeds < 2 or data < 2:
        return Interval(float(values.mean()), float("nan"), float("nan"), seeds)
    squares, degrees = mean_squares(values)
    parts = squares / values.size
    variance = max(float(parts @ np.array([1, 1, -1])), float(parts[:2].max()))  # never below that of one alone
    return combined_interval(float(values.mean()), variance, parts, degrees, seeds)


def mean_squares(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean squares of seeds, data and residual of `values` `[seed, datum]`, two of each or more; their degrees."""
    seeds, data = values.shape
    mean = values.mean()
    of_seeds, of_data = values.mean(axis=1) - mean, values.mean(axis=0) - mean
    residual = values - mean - of_seeds[:, None] - of_data
    degrees = np.array([seeds - 1, data - 1, (seeds - 1) * (data - 1)])
    return np.array([data * (of_seeds**2).sum(), seeds * (of_data**2).sum(), (residual**2).sum()]) / degrees, degrees


def combined_interval(mean: float, variance: float, parts: np.ndarray, degrees: np.ndarray, n: int) -> Interval:
    """The interval of a mean whose `variance` is made of `parts`, with Satterthwaite's degrees of freedom."""
    if variance == 0:
        return Interval(mean, mean, mean, n)
    freedom = variance**2 / float((parts**2 / degrees).sum())
    half = float(stdtrit(max(freedom, 1.0), (1 + LEVEL) / 2)) * np.sqrt(variance)
    return Interval(mean, mean - half, mean + half, n)
