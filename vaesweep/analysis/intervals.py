"""Two-sided 95 % intervals over seeds by Student's t.

A seed is one replicate. Cells of one seed share data order and noise, so they are not independent, and no
interval here ever counts cells.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

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


def half_width(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half-widths of the t-intervals of the columns' means, and the columns' numbers of replicates.

    `values` is `[replicate, column]`. NaN are left out; a column with fewer than two replicates has width
    NaN.
    """
    n = (~np.isnan(values)).sum(axis=0)
    mean = np.nansum(values, axis=0) / np.maximum(n, 1)
    variance = np.nansum((values - mean) ** 2, axis=0) / np.maximum(n - 1, 1)
    quantile = stats.t.ppf((1 + LEVEL) / 2, np.maximum(n - 1, 1))
    return np.where(n >= 2, quantile * np.sqrt(variance / np.maximum(n, 1)), np.nan), n
