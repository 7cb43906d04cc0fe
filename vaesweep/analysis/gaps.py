"""Generalisation gaps: differences of a cell's metrics between two domains (gap.csv).

Differences are taken within a cell, so whatever makes one training run better than another drops out; the
interval is over seeds.
"""

from collections.abc import Hashable, Iterator
from itertools import product

import numpy as np
import pandas as pd

from vaesweep.analysis.intervals import t_intervals
from vaesweep.analysis.table import finished, own_metrics
from vaesweep.data.domains import Role

NEGATIVE_ELBO = "negative_elbo"
ALL = -1  # the group of all cells
PAIRS = ((Role.TRAIN, Role.TEST), (Role.TEST, Role.UNSEEN), (Role.TRAIN, Role.UNSEEN))


def gap_table(table: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """Mean gap `to` − `from` of every metric, by target rate and `axes`, then averaged over the whole sweep.

    `table` is `cells_table`'s, `axes` its other axes. Columns: target_rate, axes…, metric, from, to, gap,
    low, high, n_seeds, rate (the measured mean rate of the cells on `from`). The whole sweep's rows have
    no target and no axes; there each seed counts once, with its mean over cells.
    """
    keys = ["target_rate", *axes]
    number = table.groupby(keys, dropna=False).ngroup()  # of each row's group, in the order of the keys
    names = dict(sorted(zip(number, table[keys].itertuples(index=False, name=None), strict=True)))
    groups = {group: name for group, name in names.items() if pd.notna(list(name)).any()} | {ALL: (np.nan,) * len(keys)}
    group_of = pd.Series(number.to_numpy(), index=table["cell"])[lambda cells: ~cells.index.duplicated()]
    rates = {start: _mean_rates(table, start, number) for start in table["domain"].unique()}
    pairs = list(domain_pairs(table))
    by_seed = {pair: _means_by_seed(paired(table, *pair, axes), group_of) for pair in pairs}
    rows = [
        (*name, *row)
        for group, name in groups.items()
        for pair in pairs
        if group in by_seed[pair]
        for row in _pair_rows(by_seed[pair][group], *pair, rates[pair[0]].get(group, np.nan))
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


def _mean_rates(table: pd.DataFrame, domain: str, number: pd.Series) -> dict[Hashable, float]:
    """The mean rate of the finished cells of each group, and of all, on a domain, nats per datum."""
    points = finished(table)
    rate = points.loc[points["domain"] == domain, "rate"].astype(float)
    return {group: float(rates.mean()) for group, rates in rate.groupby(number)} | {ALL: float(rate.mean())}


def _means_by_seed(differences: pd.DataFrame, group_of: pd.Series) -> dict[Hashable, pd.DataFrame]:
    """The mean differences of each seed, a row a seed, in each group of cells and in all."""
    group = group_of.reindex(differences.index).rename("group")
    means = differences.groupby([group, "seed"], dropna=False).mean()
    every = dict(iter(means.groupby(level=0)))
    return every | {ALL: differences.groupby("seed", dropna=False).mean()}


def _pair_rows(by_seed: pd.DataFrame, start: str, end: str, rate: float) -> Iterator[tuple[object, ...]]:
    for metric, gap in zip(by_seed.columns, t_intervals(by_seed.to_numpy(float).T), strict=True):
        if gap.n:
            yield metric, start, end, gap.mean, gap.low, gap.high, gap.n, rate
