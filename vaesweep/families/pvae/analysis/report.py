"""A sweep's answer about acquisition (thesis study A, sections 4.5 and 4.6): which rate is best for which use.

Curves and optima of every metric, the thesis' Figures 6 and 8 to 10, the table of what cells and classical baselines
reach on the same data, and a verdict on each of the thesis' statements. Whatever a sweep lacks (seeds, targets, rules,
models) is left out, and said to be.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import pandas as pd

from vaesweep.analysis.groups import POINT, REGIME, grouped_table, named, point_axes, regime_axes, single
from vaesweep.analysis.metric_curves import metric_curve
from vaesweep.analysis.report import Report, replace_file
from vaesweep.analysis.runs import Runs
from vaesweep.data.domains import DataSet, Role
from vaesweep.families.pvae.analysis import baselines
from vaesweep.families.pvae.analysis.baselines import Baseline
from vaesweep.families.pvae.analysis.comparison import (
    AREA,
    MODEL,
    Choice,
    Group,
    acquisition_table,
    cells_of,
    choose,
    paired,
)
from vaesweep.families.pvae.analysis.findings import findings
from vaesweep.families.pvae.analysis.metrics import UNITS, metrics_of
from vaesweep.families.pvae.analysis.rate_figures import AcquisitionCurves, draw_areas, draw_metrics, draw_stops
from vaesweep.families.pvae.analysis.records import AcquisitionRecord, common_config, load_records
from vaesweep.families.pvae.analysis.rules_figure import RULES, RuleCurves, draw_rule_curves
from vaesweep.families.pvae.evaluation import ADAPTIVE, STOPPING_RULE, RuleName
from vaesweep.vocabulary import store_uri

OFFSET = "stop_offset.uncertainty"
JUDGED = (Role.TEST, Role.UNSEEN)


def report(runs: Runs, data: DataSet, out: Path, tracking_uri: str | None = None) -> Report:
    """Write metric_curve.csv, acquisition.csv and the figures that the sweep has data for into `out`.

    `data` are those of the sweep, on which the baselines are fitted and judged; the models are read from
    `tracking_uri`, by default the store that sweeps write to.
    """
    points = grouped_table(runs)
    if points.empty:
        return Report((), ("acquisition: no cell has finished, so there is nothing to report yet",))
    kept, unread = load_records(runs, tracking_uri or store_uri())
    config = common_config(kept.values())
    measured = baselines.measure(data, config) if config else []
    found = _Found(runs, points, kept, unread, measured, data.domain(Role.VALID).name)
    threshold = config.threshold if config else None
    curve = metric_curve(points, regime_axes(runs), metrics_of(points, threshold))
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, Callable[[Path], object]] = {
        "metric_curve.csv": partial(curve.to_csv, index=False),
        "acquisition.csv": partial(found.table.to_csv, index=False),
        **_figures(found, AcquisitionCurves(points, curve, found.title), threshold),
    }
    paths = tuple(replace_file(out / name, write) for name, write in files.items())
    return Report(paths, tuple(_summary(found)))


@dataclass(frozen=True)
class _Found:
    """All that the report is made of."""

    runs: Runs
    points: pd.DataFrame
    kept: Mapping[str, AcquisitionRecord]
    unread: int
    baselines: Sequence[Baseline]
    valid: str

    @property
    def title(self) -> str:
        record = self.runs.record
        return f"{record.name} ({record.family}, preset {record.preset})"

    @cached_property
    def choice(self) -> Choice | None:
        return choose(self.points)

    @cached_property
    def mixture(self) -> Baseline | None:
        return self.best_by(STOPPING_RULE) if self.baselines else None

    @cached_property
    def others(self) -> tuple[RuleName, ...]:
        """What baselines acquired by on validation data, beside largest variance."""
        rules = [rule for rule in ADAPTIVE if rule != STOPPING_RULE]
        return tuple(
            rule for rule in rules if self.baselines and all((self.valid, rule) in one.areas for one in self.baselines)
        )

    def best_by(self, rule: RuleName) -> Baseline:
        """The baseline that validation chooses by `rule`."""
        return baselines.chosen(self.baselines, self.valid, rule)

    @cached_property
    def table(self) -> pd.DataFrame:
        axes = [*regime_axes(self.runs), *point_axes(self.runs)]
        family = self.runs.record.family
        return acquisition_table(self.points, axes, family, self.choice, self.kept, self.baselines, self.mixture)


def _figures(found: _Found, drawn: AcquisitionCurves, threshold: float | None) -> dict[str, Callable[[Path], object]]:
    """The figures that there are data for, by name."""
    files: dict[str, Callable[[Path], object]] = {}
    test = drawn.domain(Role.TEST)
    if found.choice:
        cells = cells_of(found.points, found.choice.best, found.kept)
        curves = RuleCurves.of(named(*found.choice.best), test, cells, found.mixture)
        if curves.cells:
            files["information_curves.png"] = partial(draw_rule_curves, curves, found.title)
    if drawn.regimes and found.choice:
        files["area_rate.png"] = partial(draw_areas, drawn, found.mixture)
        files["metrics_rate.png"] = partial(draw_metrics, drawn)
    if drawn.regimes and OFFSET in found.points:
        files["stopping_rate.png"] = partial(draw_stops, drawn, threshold)
    return files


def _summary(found: _Found) -> Iterator[str]:
    """The report in a few lines."""
    if found.choice is None:
        yield f"acquisition: no cell has acquired by largest variance ({STOPPING_RULE}): nothing can be chosen or drawn"
        return
    if found.unread:
        yield (
            f"acquisition: {_many(found.unread, 'finished cell')} without a readable model: left out of the "
            "information curves and the paired differences"
        )
    yield from _chosen(found, found.choice)
    yield from _against_mixtures(found, found.choice.best)
    if single(found.points):
        yield "acquisition: every regime is a single point of the rate axis, so nothing is drawn against the rate"
    yield from map(str, findings(found.points, found.choice, found.kept))


def _chosen(found: _Found, choice: Choice) -> Iterator[str]:
    """What the groups reach that validation chose: the best of all, then the best of every other regime."""
    groups = [choice.best, *(group for group in choice.by_regime.values() if group != choice.best)]
    for group in groups:
        which = "chosen on validation rows only" if group == choice.best else "the best of another regime there"
        mine = found.table[found.table[MODEL] == found.runs.record.family]
        rows = mine[(mine[REGIME] == group[0]) & (mine[POINT] == group[1])]
        yield f"{which}: {named(*group)}, rate {rows['rate'].iloc[0]:.3g}: {_areas(rows, 'seed')}"
        for rule in found.others:
            if said := _areas(rows, "seed", rule):
                yield f"the same by {_called(rule)}: {said}"
    if found.mixture:
        rows = found.table[found.table[MODEL] == found.mixture.name]
        yield f"best classical baseline on validation rows: {found.mixture.name}: {_areas(rows, 'fit')}"
    for rule in found.others:
        best = found.best_by(rule)
        rows = found.table[found.table[MODEL] == best.name]
        yield f"the best by {_called(rule)}: {best.name}: {_areas(rows, 'fit', rule)}"


def _called(rule: RuleName) -> str:
    return RULES[rule][2]


def _areas(rows: pd.DataFrame, replicate: str, rule: RuleName = STOPPING_RULE) -> str:
    """Areas by `rule` on test and unseen domains."""
    rows = rows[(rows["metric"] == AREA) & (rows["by"] == rule) & rows["role"].isin(JUDGED)]
    parts = (f"{row['domain']} {row['mean']:.4g}{_ends(row, replicate)}" for _, row in rows.iterrows())
    return f"area in {UNITS[AREA]}: {', '.join(parts)}" if len(rows) else ""


def _ends(row: pd.Series, replicate: str) -> str:
    if row["n"] < 2:
        return f" (one {replicate})"
    return f" (95 % {row['low']:.4g} to {row['high']:.4g}, {_many(int(row['n']), replicate)})"


def _against_mixtures(found: _Found, group: Group) -> Iterator[str]:
    """The chosen group less each baseline, datum by datum and rule by rule: first the one that validation chooses."""
    if found.mixture is None:
        yield "acquisition: no cell's settings could be read, so there are no classical baselines"
        return
    domains = found.points[found.points["role"].isin(JUDGED)]["domain"]
    missing = []
    for rule, domain in itertools.product((STOPPING_RULE, *found.others), dict.fromkeys(domains)):
        best = found.best_by(rule)
        for baseline in sorted(found.baselines, key=lambda one: one is not best):
            less = paired(found.points, group, found.kept, baseline, domain, rule)
            if less is None:
                missing.append(domain)
                break
            by = "" if rule == STOPPING_RULE else f" by {_called(rule)}"
            ends = f"95 % {less.low:+.3g} to {less.high:+.3g} over {less.n} data"
            place = f"{named(*group)} less {baseline.name} on {domain}{by}"
            yield f"{place}: {less.mean:+.3g} {UNITS[AREA]} ({ends})"
    if missing:
        names = ", ".join(dict.fromkeys(missing))
        yield f"acquisition: cells and baselines acquired other data on {names}: no paired comparison"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
