"""Verdicts of a sweep on the thesis' statements about acquisition (study A, sections 4.5 and 4.6), one each.

A statement is judged by the thesis' method, samples without importance weights, where cells have its rules
(`unweighted…`), and beside it by the configured samples, ours. Errors are against the audiograms before noise where
these are known, as the thesis' are on synthetic data. Differences of areas and offsets are taken within cells and
averaged over a seed's cells on a split; `analysis/findings.py` turns them into verdicts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from vaesweep.analysis.findings import Differences, Finding, below, lower_rate
from vaesweep.analysis.gaps import NEGATIVE_ELBO
from vaesweep.analysis.groups import POINT, REGIME, named, splits
from vaesweep.analysis.metric_curves import NATS, Metric, optimal_rates
from vaesweep.data.domains import Role
from vaesweep.families.pvae.analysis.comparison import AREA, JUDGE, Choice, Group, rows_of_group
from vaesweep.families.pvae.analysis.metrics import MEASUREMENTS, UNITS
from vaesweep.families.pvae.analysis.records import AcquisitionRecord
from vaesweep.families.pvae.evaluation import CLEAN, STOPPING_RULE, UNWEIGHTED

DB = UNITS[AREA]
OFFSET, INDEX = "stop_offset", "stop_index"
UNCERTAINTY = "uncertainty"
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


@dataclass(frozen=True)
class Method:
    """A way of predicting that statements are judged by: its name in words, and whether it is the thesis'."""

    words: str
    thesis: bool

    def rule(self, rule: str) -> str:
        """The name of an acquisition rule by this method."""
        if not self.thesis:
            return rule
        return UNWEIGHTED if rule == STOPPING_RULE else f"{UNWEIGHTED}_{rule}"

    def criterion(self, name: str) -> str:
        """The name of a stopping criterion by this method."""
        return f"{UNWEIGHTED}_{name}" if self.thesis else name


THESIS, OURS = Method("plain samples, as the thesis", thesis=True), Method("the cells' own samples", thesis=False)


def findings(
    points: pd.DataFrame, choice: Choice | None, records: Mapping[str, AcquisitionRecord]
) -> Iterator[Finding]:
    """All statements that the finished cells `points` (of `grouped_table`) have data for."""
    for method in (THESIS, OURS):
        if choice:
            yield from _within_cells(points, choice.best, method)
        for regime, cells in points.groupby(REGIME, sort=False):
            if cells[POINT].nunique() > 1:
                yield from _optima(str(regime), cells, method)
    if choice:
        yield from _missingness(points, choice, records)


def column(points: pd.DataFrame, metric: str, by: str) -> str:
    """The column of an error's metric: against the audiograms before noise where `points` have it."""
    clean = f"{metric}{CLEAN}.{by}"
    return clean if clean in points and points[clean].notna().any() else f"{metric}.{by}"


def _by(statement: str, method: Method) -> str:
    return f"{statement}, by {method.words}"


def _within_cells(points: pd.DataFrame, group: Group, method: Method) -> Iterator[Finding]:
    """Rules and stopping criteria, of the chosen group on the test domain."""
    test = points[points["role"] == Role.TEST]
    for metric, unit, pairs in ((AREA, DB, AREAS), (OFFSET, MEASUREMENTS, STOPS)):
        name = method.rule if metric == AREA else method.criterion
        for better, worse, statement in pairs:
            columns = [column(test, metric, name(by)) for by in (better, worse)]
            if set(columns) <= set(test.columns):
                differences = (test[columns[0]] - test[columns[1]]).dropna()
                of_chosen = differences[differences.index.isin(rows_of_group(test, group).index)]
                if len(of_chosen):
                    where = f"{named(*group)}, {test['domain'].iloc[0]}"
                    everywhere = _everywhere(test, differences, group[0])
                    yield below(_by(statement, method), where, _by_seed(of_chosen, test), unit, everywhere)


def _by_seed(values: pd.Series, points: pd.DataFrame) -> Differences:
    """The mean of each seed's `values`, rows of `points`; on several splits of the data one a seed and split."""
    seeds, of_split = (labels.loc[values.index] for labels in (points["seed"], splits(points)))
    if of_split.nunique() < 2:
        return values.groupby(seeds).mean()
    return values.groupby([seeds, of_split.rename("split")]).mean().unstack()


def _everywhere(test: pd.DataFrame, differences: pd.Series, regime: str) -> str:
    """The number of points of a regime's curve at which the mean difference is below zero, in words."""
    rows = test.loc[differences.index]
    means = differences[rows[REGIME] == regime].groupby(rows[POINT]).mean()
    return f"; below zero at {(means < 0).sum()} of {len(means)} points of the curve" if len(means) > 1 else ""


def _optima(regime: str, cells: pd.DataFrame, method: Method) -> Iterator[Finding]:
    """The rates of the best area and stop beside those of the best distortion and ELBO, and on unseen domains."""
    test = cells[cells["role"] == Role.TEST]
    domain = str(test["domain"].iloc[0])
    area = Metric(column(test, AREA, method.rule(STOPPING_RULE)), DB)
    stops = (Metric(column(test, metric, method.criterion(UNCERTAINTY)), MEASUREMENTS) for metric in (OFFSET, INDEX))
    labels = ("the best area", "the smallest stopping offset", "the smallest stopping index")
    for metric, label in zip((area, *stops), labels, strict=True):
        best = optimal_rates(test, metric)
        for name, other in OPTIMA if len(best) else ():
            statement = _by(f"{label} lies at a lower rate than the best {other}", method)
            yield lower_rate(statement, named(regime, domain), best, optimal_rates(test, Metric(name, NATS)))
    best = optimal_rates(test, area)
    unseen = cells[cells["role"] == Role.UNSEEN]
    for unseen_domain, rows in unseen.groupby("domain", sort=False):
        statement = _by(f"the best area on {unseen_domain} lies at a lower rate than on {domain}", method)
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
        name = column(test, *JUDGE.split("."))
        dynamic_areas, static_areas = (
            rows_of_group(test, choice.by_regime[regime]).groupby("seed")[name].mean() for regime in (dynamic, static)
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
