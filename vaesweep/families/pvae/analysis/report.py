"""Report of a sweep on acquisition (thesis study A, sections 4.5 and 4.6): the best rate for each use.

Curves and optima of every metric, the thesis' Figures 6 and 8 to 10, the table of what cells and classical baselines
reach on the same data, and a verdict on each of the thesis' statements. Whatever a sweep lacks (seeds, targets, rules,
models) is left out, and the summary says so.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from vaesweep.analysis.groups import POINT, REGIME, grouped_table, named, point_axes, regime_axes, single
from vaesweep.analysis.metric_curves import metric_curve
from vaesweep.analysis.report import Report
from vaesweep.analysis.runs import Runs
from vaesweep.data.domains import DataSet, Role
from vaesweep.data.writing import replace_file
from vaesweep.errors import UserError
from vaesweep.families.pvae.analysis import baselines
from vaesweep.families.pvae.analysis.baselines import Baseline
from vaesweep.families.pvae.analysis.comparison import (
    AREA,
    MODEL,
    Choice,
    Group,
    acquisition_table,
    choose,
    paired_difference,
    records_of_group,
)
from vaesweep.families.pvae.analysis.findings import findings
from vaesweep.families.pvae.analysis.metrics import UNITS, metrics_of
from vaesweep.families.pvae.analysis.rate_figures import AcquisitionCurves, draw_areas, draw_metrics, draw_stops
from vaesweep.families.pvae.analysis.records import AcquisitionRecord, common_config, load_records
from vaesweep.families.pvae.analysis.rules_figure import RULES, RuleCurves, draw_rule_curves
from vaesweep.families.pvae.data.audiograms import age_extrapolations
from vaesweep.families.pvae.evaluation import ADAPTIVE, CLEAN, STOPPING_RULE, RuleName
from vaesweep.families.pvae.family import FAMILY, PartialVaeCell
from vaesweep.vocabulary import store_uri

OFFSET = "stop_offset.uncertainty"
JUDGED = (Role.TEST, Role.UNSEEN)


def report(runs: Runs, data: DataSet, out: Path, tracking_uri: str | None = None) -> Report:
    """Write metric_curve.csv, acquisition.csv and the figures that the sweep has data for into `out`.

    `data` are those of the sweep, on which the baselines are fitted and judged; where its cells were trained on several
    splits, the others are loaded. The models are read from `tracking_uri`, by default the store that sweeps write to.
    """
    points = grouped_table(runs)
    if points.empty:
        return Report((), ("acquisition: no cell has finished, so there is nothing to report yet",))
    records, unread = load_records(runs, tracking_uri or store_uri())
    config = common_config(records.values())
    data_by_split, lost = _by_split(runs, data, records)
    mixtures = []
    if config and data_by_split:
        mirrored = any(record.mirrored for record in records.values())
        mixtures = baselines.measure(data_by_split, config, baselines.kinds(mirrored=mirrored))
    valid = data.domain(Role.VALID).name
    report_data = _ReportData(runs, points, records, unread, mixtures, valid, age_extrapolations(data.domains), lost)
    threshold = config.threshold if config else None
    curve = metric_curve(points, regime_axes(runs), metrics_of(points, threshold))
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, Callable[[Path], object]] = {
        "metric_curve.csv": partial(curve.to_csv, index=False),
        "acquisition.csv": partial(report_data.table.to_csv, index=False),
        **_figures(report_data, _curves(points, curve, report_data.title), threshold),
    }
    paths = tuple(replace_file(out / name, write) for name, write in files.items())
    return Report(paths, tuple(_summary(report_data)))


def _by_split(
    runs: Runs, data: DataSet, records: Mapping[str, AcquisitionRecord]
) -> tuple[dict[str, DataSet], tuple[str, ...]]:
    """The data of every split that cells were trained on, and lines on those that cannot be loaded again."""
    splits = {record.split: record for record in records.values()}
    if len(splits) == 1:
        return dict.fromkeys(splits, data), ()
    fingerprints, by_split, lost = data.fingerprints(), {}, []
    for split, record in splits.items():
        if record.domains == fingerprints:
            by_split[split] = data
            continue
        try:
            loaded = FAMILY.load(runs.record.data, PartialVaeCell.model_validate({"data": record.data}))
            if record.domains.items() - loaded.fingerprints().items():
                raise UserError(f"--data {runs.record.data} is no longer what its cells were trained and judged on")
            by_split[split] = loaded
        except ValidationError:
            lost.append(f"acquisition: no baselines on split {split}: another version has written its settings")
        except UserError as error:
            lost.append(f"acquisition: no baselines on split {split}: {error}")
    return by_split, tuple(lost)


@dataclass(frozen=True)
class _ReportData:
    """Everything that the report is made from; `extrapolated` are the domains of ages that are not trained on."""

    runs: Runs
    points: pd.DataFrame
    records: Mapping[str, AcquisitionRecord]
    unread: int
    baselines: Sequence[Baseline]
    valid: str
    extrapolated: frozenset[str] = frozenset()
    lost: tuple[str, ...] = ()

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
    def other_rules(self) -> tuple[RuleName, ...]:
        """The rules beside largest variance by which the baselines acquired validation data."""
        rules = [rule for rule in ADAPTIVE if rule != STOPPING_RULE]
        return tuple(
            rule
            for rule in rules
            if self.baselines and all((self.valid, rule) in baseline.areas for baseline in self.baselines)
        )

    def best_by(self, rule: RuleName) -> Baseline:
        """The baseline that validation chooses by `rule`."""
        return baselines.best_baseline(self.baselines, self.valid, rule)

    def place(self, domain: str) -> str:
        """A domain's name for people, with the words for one whose numbers are of ages that are not trained on."""
        return f"{domain} (age extrapolation)" if domain in self.extrapolated else domain

    @cached_property
    def table(self) -> pd.DataFrame:
        axes = [*regime_axes(self.runs), *point_axes(self.runs)]
        family = self.runs.record.family
        return acquisition_table(self.points, axes, family, self.choice, self.records, self.baselines, self.mixture)


def _curves(points: pd.DataFrame, curve: pd.DataFrame, title: str) -> AcquisitionCurves:
    """What figures show: of errors those against audiograms before noise, on the domains where these are known."""
    columns = [str(name) for name in points]
    measured = {name: name.replace(f"{CLEAN}.", ".") for name in columns if f"{CLEAN}." in name}
    known = points[list(measured)].notna().any(axis=1)
    if not known.any():
        return AcquisitionCurves(points, curve, title)
    better = {name: points[clean].where(known, points.get(name)) for clean, name in measured.items()}
    replaced = curve["metric"].isin(measured.values()) & curve["domain"].isin(points.loc[known, "domain"])
    shown = curve[~replaced].replace({"metric": measured})
    return AcquisitionCurves(points.assign(**better), shown, f"{title}, errors before noise")


def _shown(mixture: Baseline | None) -> Baseline | None:
    """A baseline as figures show it: with the areas against audiograms before noise, where these are known."""
    if mixture is None:
        return None
    clean = {place: value for place, value in mixture.metrics.items() if f"{CLEAN}." in place[1]}
    better = {(domain, name.replace(f"{CLEAN}.", ".")): value for (domain, name), value in clean.items()}
    return replace(mixture, metrics=mixture.metrics | better)


def _figures(
    data: _ReportData, acquisition_curves: AcquisitionCurves, threshold: float | None
) -> dict[str, Callable[[Path], object]]:
    """The figures that there are data for, by name."""
    files: dict[str, Callable[[Path], object]] = {}
    test = acquisition_curves.domain(Role.TEST)
    if data.choice:
        records = records_of_group(data.points, data.choice.best, data.records)
        curves = RuleCurves.of(named(*data.choice.best), test, records, data.mixture)
        if curves.cells:
            files["information_curves.png"] = partial(draw_rule_curves, curves, data.title)
    if acquisition_curves.regimes and data.choice:
        files["area_rate.png"] = partial(draw_areas, acquisition_curves, _shown(data.mixture))
        files["metrics_rate.png"] = partial(draw_metrics, acquisition_curves)
    if acquisition_curves.regimes and OFFSET in data.points:
        files["stopping_rate.png"] = partial(draw_stops, acquisition_curves, threshold)
    return files


def _summary(data: _ReportData) -> Iterator[str]:
    """The report in a few lines."""
    if data.choice is None:
        yield f"acquisition: no cell has acquired by largest variance ({STOPPING_RULE}): nothing can be chosen or drawn"
        return
    if data.unread:
        yield (
            f"acquisition: {_counted(data.unread, 'finished cell')} without a readable model: left out of the "
            "information curves and the paired differences"
        )
    yield from data.lost
    yield from _chosen(data, data.choice)
    yield from _against_mixtures(data, data.choice.best)
    if single(data.points):
        yield "acquisition: every regime is a single point of the rate axis, so nothing is drawn against the rate"
    yield from map(str, findings(data.points, data.choice, data.records))


def _chosen(data: _ReportData, choice: Choice) -> Iterator[str]:
    """Areas of the groups that validation chose, in words: the best of all, then the best of every other regime."""
    groups = [choice.best, *(group for group in choice.by_regime.values() if group != choice.best)]
    for group in groups:
        choice_label = "chosen on validation rows only" if group == choice.best else "the best of another regime there"
        own_rows = data.table[data.table[MODEL] == data.runs.record.family]
        rows = own_rows[(own_rows[REGIME] == group[0]) & (own_rows[POINT] == group[1])]
        yield f"{choice_label}: {named(*group)}, rate {rows['rate'].iloc[0]:.3g}: {_areas(data, rows, 'seed')}"
        if areas := _areas(data, rows, "seed", metric=f"{AREA}{CLEAN}"):
            yield f"the same against the audiograms before noise: {areas}"
        for rule in data.other_rules:
            if areas := _areas(data, rows, "seed", rule):
                yield f"the same by {_rule_label(rule)}: {areas}"
    if data.mixture:
        rows = data.table[data.table[MODEL] == data.mixture.name]
        yield f"best classical baseline on validation rows: {data.mixture.name}: {_areas(data, rows, 'fit')}"
        if areas := _areas(data, rows, "fit", metric=f"{AREA}{CLEAN}"):
            yield f"the same against the audiograms before noise: {areas}"
    for rule in data.other_rules:
        best = data.best_by(rule)
        rows = data.table[data.table[MODEL] == best.name]
        yield f"the best by {_rule_label(rule)}: {best.name}: {_areas(data, rows, 'fit', rule)}"


def _rule_label(rule: RuleName) -> str:
    return RULES[rule][2]


def _areas(
    data: _ReportData, rows: pd.DataFrame, replicate: str, rule: RuleName = STOPPING_RULE, metric: str = AREA
) -> str:
    """Areas by `rule` on test and unseen domains."""
    rows = rows[(rows["metric"] == metric) & (rows["by"] == rule) & rows["role"].isin(JUDGED)]
    parts = (f"{data.place(row['domain'])} {row['mean']:.4g}{_ends(row, replicate)}" for _, row in rows.iterrows())
    return f"area in {UNITS[AREA]}: {', '.join(parts)}" if len(rows) else ""


def _ends(row: pd.Series, replicate: str) -> str:
    if row["n"] < 2:
        return f" (one {replicate})"
    return f" (95 % {row['low']:.4g} to {row['high']:.4g}, {_counted(int(row['n']), replicate)})"


def _against_mixtures(data: _ReportData, group: Group) -> Iterator[str]:
    """The chosen group less each baseline, datum by datum and rule by rule: first the one that validation chooses.

    Intervals are over all that was drawn: data, seeds, fits and splits.
    """
    if data.mixture is None:
        yield "acquisition: no cell's settings could be read, so there are no classical baselines"
        return
    domains = data.points[data.points["role"].isin(JUDGED)]["domain"]
    missing = []
    for rule, domain in itertools.product((STOPPING_RULE, *data.other_rules), dict.fromkeys(domains)):
        best = data.best_by(rule)
        for baseline in sorted(data.baselines, key=lambda candidate: candidate is not best):
            found = paired_difference(data.points, group, data.records, baseline, domain, rule)
            if found is None:
                missing.append(domain)
                break
            by = "" if rule == STOPPING_RULE else f" by {_rule_label(rule)}"
            ends = f"95 % {found.interval.low:+.3g} to {found.interval.high:+.3g} over {found.drawn}"
            place = f"{named(*group)} less {baseline.name} on {data.place(domain)}{by}"
            yield f"{place}: {found.interval.mean:+.3g} {UNITS[AREA]} ({ends})"
    if missing:
        names = ", ".join(dict.fromkeys(missing))
        yield f"acquisition: cells and baselines acquired other data on {names}: no paired comparison"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
