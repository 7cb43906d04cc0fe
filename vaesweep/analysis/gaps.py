"""Generalisation gaps: differences of a cell's metrics between two domains (gap.csv).

Differences are taken within a cell, so whatever makes one training run better than another drops out; the
interval is over seeds.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd

from vaesweep.analysis.intervals import t_interval
from vaesweep.analysis.table import finished, own_metrics
from vaesweep.data.domains import Role

NEGATIVE_ELBO = "negative_elbo"
PAIRS = ((Role.TRAIN, Role.TEST), (Role.TEST, Role.UNSEEN), (Role.TRAIN, Role.UNSEEN))


def gap_table(table: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """Mean gap `to` − `from` of every metric, by target rate and `axes`, then averaged over the whole sweep.

    `table` is `cells_table`'s, `axes` its other axes. Columns: target_rate, axes…, metric, from, to, gap,
    low, high, n_seeds, rate (the measured mean rate of the cells on `from`). The whole sweep's rows have
    no target and no axes; there each seed counts once, with its mean over cells.
    """
    keys = ["target_rate", *axes]
    groups = [(key, cells) for key, cells in table.groupby(keys, dropna=False) if pd.notna(list(key)).any()]
    rows = [
        (*key, *row)
        for key, cells in [*groups, ((np.nan,) * len(keys), table)]
        for start, end in domain_pairs(table)
        for row in _pair_rows(paired(cells, start, end, axes), start, end, mean_rate(cells, start))
    ]
    return pd.DataFrame(rows, columns=[*keys, "metric", "from", "to", "gap", "low", "high", "n_seeds", "rate"])


def domain_pairs(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Ordered pairs of domains that have a gap: train→test, test→unseen, train→unseen."""
    roles = table.drop_duplicates("domain").groupby("role", sort=False)["domain"].apply(list).to_dict()
    for start, end in PAIRS:
        yield from product(roles.get(start, []), roles.get(end, []))


def paired(table: pd.DataFrame, start: str, end: str, axes: list[str]) -> pd.DataFrame:
    """Differences `end` − `start` within each finished cell: a column a metric, then the seed; a row a cell.

    The ELBO's sign is turned (`negative_elbo`), so that a larger difference is worse for it as for the
    distortion.
    """
    points = finished(table)
    points = points.assign(**{NEGATIVE_ELBO: -points["elbo"].astype(float)})
    metrics = ["distortion", "rate", NEGATIVE_ELBO, *own_metrics(table, axes)]
    here = points[points["domain"] == start].set_index("cell")
    there = points[points["domain"] == end].set_index("cell")
    cells = here.index.intersection(there.index)
    difference = there.loc[cells, metrics].astype(float) - here.loc[cells, metrics].astype(float)
    return difference.assign(seed=here.loc[cells, "seed"])


def mean_rate(table: pd.DataFrame, domain: str) -> float:
    """The mean rate of the finished cells on a domain, nats per datum."""
    points = finished(table)
    return float(points.loc[points["domain"] == domain, "rate"].astype(float).mean())


def _pair_rows(differences: pd.DataFrame, start: str, end: str, rate: float) -> Iterator[tuple[object, ...]]:
    by_seed = differences.groupby("seed", dropna=False).mean()
    for metric in by_seed.columns:
        gap = t_interval(by_seed[metric].to_numpy(float))
        if gap.n:
            yield metric, start, end, gap.mean, gap.low, gap.high, gap.n, rate
