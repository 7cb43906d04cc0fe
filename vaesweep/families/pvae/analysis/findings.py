"""Verdicts of a sweep on the thesis' statements about acquisition (study A, sections 4.5 and 4.6), one each.

Differences of areas and offsets are taken within cells and averaged over a seed's cells; `analysis/findings.py`
turns them into verdicts.
"""

from collections.abc import Iterator, Mapping

import pandas as pd

from vaesweep.analysis.findings import Finding, below, lower_rate
from vaesweep.analysis.gaps import NEGATIVE_ELBO
from vaesweep.analysis.groups import POINT, REGIME, named
from vaesweep.analysis.metric_curves import NATS, Metric, optimal_rates
from vaesweep.data.domains import Role
from vaesweep.families.pvae.analysis.comparison import JUDGE, Choice, Group, rows_of_group
from vaesweep.families.pvae.analysis.metrics import MEASUREMENTS, UNITS
from vaesweep.families.pvae.analysis.records import AcquisitionRecord

DB = UNITS["area_rmse"]
OFFSET = "stop_offset"
AREAS = (
    ("reduction", "variance", "expected reduction of the error leaves a smaller area than largest variance"),
    ("variance", "single_best", "largest variance leaves a smaller area than the greedy single best order"),
    ("variance", "random", "largest variance leaves a smaller area than a random order"),
    ("single_best", "random", "the greedy single best order leaves a smaller area than a random one"),
)
STOPS = (
    ("uncertainty", "measurements", "uncertainty stops nearer to where it should than a line of m alone"),
    ("uncertainty", "constant", "uncertainty stops nearer to where it should than the best constant index"),
)
OPTIMA = (("distortion", "distortion"), (NEGATIVE_ELBO, "ELBO"))


def findings(
    points: pd.DataFrame, choice: Choice | None, records: Mapping[str, AcquisitionRecord]
) -> Iterator[Finding]:
    """All statements that the finished cells `points` (of `grouped_table`) have data for."""
    if choice:
        yield from _within_cells(points, choice.best)
    for regime, cells in points.groupby(REGIME, sort=False):
        if cells[POINT].nunique() > 1:
            yield from _optima(str(regime), cells)
    if choice:
        yield from _missingness(points, choice, records)


def _within_cells(points: pd.DataFrame, group: Group) -> Iterator[Finding]:
    """Rules and stopping criteria, of the chosen group on the test domain."""
    test = points[points["role"] == Role.TEST]
    for metric, unit, pairs in (("area_rmse", DB, AREAS), (OFFSET, MEASUREMENTS, STOPS)):
        for better, worse, statement in pairs:
            columns = f"{metric}.{better}", f"{metric}.{worse}"
            if set(columns) <= set(test.columns):
                differences = (test[columns[0]] - test[columns[1]]).dropna()
                of_chosen = differences[differences.index.isin(rows_of_group(test, group).index)]
                if len(of_chosen):
                    where = f"{named(*group)}, {test['domain'].iloc[0]}"
                    everywhere = _everywhere(test, differences, group[0])
                    yield below(statement, where, of_chosen.groupby(test["seed"]).mean(), unit, everywhere)


def _everywhere(test: pd.DataFrame, differences: pd.Series, regime: str) -> str:
    """The number of points of a regime's curve at which the mean difference is below zero, in words."""
    rows = test.loc[differences.index]
    means = differences[rows[REGIME] == regime].groupby(rows[POINT]).mean()
    return f"; below zero at {(means < 0).sum()} of {len(means)} points of the curve" if len(means) > 1 else ""


def _optima(regime: str, cells: pd.DataFrame) -> Iterator[Finding]:
    """The rate of the best area beside those of the best distortion and ELBO, and on unseen domains."""
    area = Metric(JUDGE, DB)
    test = cells[cells["role"] == Role.TEST]
    best = optimal_rates(test, area)
    if best.empty:
        return
    domain = str(test["domain"].iloc[0])
    for name, label in OPTIMA:
        statement = f"the best area lies at a lower rate than the best {label}"
        yield lower_rate(statement, named(regime, domain), best, optimal_rates(test, Metric(name, NATS)))
    unseen = cells[cells["role"] == Role.UNSEEN]
    for unseen_domain, rows in unseen.groupby("domain", sort=False):
        statement = f"the best area on {unseen_domain} lies at a lower rate than on {domain}"
        unseen_rates = optimal_rates(rows, area)
        if len(unseen_rates):
            yield lower_rate(statement, named(regime, "test-domain rates of the same cells"), unseen_rates, best)


def _missingness(points: pd.DataFrame, choice: Choice, records: Mapping[str, AcquisitionRecord]) -> Iterator[Finding]:
    """Static and dynamic missingness, where one regime has the one and one the other."""
    kinds = points["cell"].map({cell: record.missingness for cell, record in records.items()})
    regimes = {
        kind: [str(name) for name, own in kinds.groupby(points[REGIME], sort=False) if set(own.dropna()) == {kind}]
        for kind in ("static", "dynamic")
    }
    if not all(len(names) == 1 for names in regimes.values()):
        return
    (static,), (dynamic,) = regimes["static"], regimes["dynamic"]
    yield from _gap_of(points, static, dynamic)
    test = points[points["role"] == Role.TEST]
    if static in choice.by_regime and dynamic in choice.by_regime:
        dynamic_areas, static_areas = (
            rows_of_group(test, choice.by_regime[regime]).groupby("seed")[JUDGE].mean() for regime in (dynamic, static)
        )
        statement = f"{dynamic} leaves a smaller best area than {static}"
        difference = (dynamic_areas - static_areas).dropna()
        if len(difference):
            where = f"each at its point chosen by validation, {test['domain'].iloc[0]}"
            yield below(statement, where, difference, DB)


def _gap_of(points: pd.DataFrame, static: str, dynamic: str) -> Iterator[Finding]:
    """The distortion's gap train → test of both regimes at their common points."""
    train, test = (
        points[points["role"] == role].set_index("cell")["distortion"].astype(float) for role in (Role.TRAIN, Role.TEST)
    )
    about = points[points["role"] == Role.TEST].set_index("cell")[[REGIME, POINT, "seed"]]
    gaps = about.assign(gap=test - train).pivot_table(index=["seed", POINT], columns=REGIME, values="gap")
    if not {static, dynamic} <= set(gaps.columns):
        return
    difference = (gaps[dynamic] - gaps[static]).dropna().groupby("seed").mean()
    if len(difference):
        count = len(gaps.dropna(subset=[static, dynamic]).groupby(POINT))
        where = f"mean over {count} common point{'s' if count > 1 else ''}"
        yield below(f"{dynamic} has a smaller distortion gap train → test than {static}", where, difference, NATS)
