"""The report of a sweep: three tables, one figure and a summary in a few lines, from tracked runs alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vaesweep.analysis.curves import (
    CURVE,
    HIGHEST_ELBO,
    LOWEST_DISTORTION,
    hidden_by_interval,
    monotone_within_interval,
)
from vaesweep.analysis.curves import optimum as find_optimum
from vaesweep.analysis.figures import draw_rd_curve
from vaesweep.analysis.gaps import NEGATIVE_ELBO, domain_pairs, paired
from vaesweep.analysis.intervals import Interval, t_interval
from vaesweep.analysis.runs import Runs
from vaesweep.analysis.table import (
    cells_at,
    finished,
    is_unsettled,
    misses,
    other_axes,
    target_axis,
    target_name,
)
from vaesweep.analysis.tables import Tables, make_tables
from vaesweep.data.domains import Role
from vaesweep.data.writing import replace_file


@dataclass(frozen=True)
class Report:
    """Files written, in the order cells.csv, curve.csv, gap.csv, rd_curve.png, and the summary's lines."""

    paths: tuple[Path, ...]
    summary: tuple[str, ...]


def write(runs: Runs, out: Path, window: int | None = None, tables: Tables | None = None) -> Report:
    """Write cells.csv, curve.csv, gap.csv and rd_curve.png into `out`, each replaced in one step.

    `window` is `rd_curve`'s; `tables` are made unless they are given.
    """
    tables = tables or make_tables(runs, window)
    title = f"{runs.record.name} ({runs.record.family}, preset {runs.record.preset})"
    out.mkdir(parents=True, exist_ok=True)
    paths = (
        replace_file(out / "cells.csv", partial(tables.cells.to_csv, index=False)),
        replace_file(out / "curve.csv", partial(tables.curve.to_csv, index=False)),
        replace_file(out / "gap.csv", partial(tables.gaps.to_csv, index=False)),
        replace_file(out / "rd_curve.png", partial(draw_rd_curve, tables.cells, tables.curve, title)),
    )
    return Report(paths, tuple(summarise(runs, tables.cells, tables.curve)))


def summarise(runs: Runs, table: pd.DataFrame, curve: pd.DataFrame) -> Iterator[str]:
    """The report in a few lines, rates and distortions in nats per datum."""
    yield _outcomes(runs)
    axes = other_axes(runs)
    if varied := [axis for axis in axes if len(runs.record.axes[axis]) > 1]:
        yield f"each curve averages over {', '.join(varied)}: fix them by --set for curves of their own"
    yield from _optima(curve)
    yield from _monotony(curve)
    yield from _gaps_at_optimum(table, curve, axes)
    axis = target_axis(runs)
    if axis:
        yield from _missed(table, target_name(axis))
        yield from _saturated(table)
    yield from _unsettled(table)
    yield from _skipped(runs)


def end(runs: Runs, tables: Tables, found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a command ends with: a small table of the answers `found`, the gap, what is not as it was asked for."""
    yield _outcomes(runs)
    yield from _answers_table(found)
    yield from _gaps_at_optimum(tables.cells, tables.curve, tables.axes)
    if axis := target_axis(runs):
        yield from _missed(tables.cells, target_name(axis))
        yield from _saturated(tables.cells)
    yield from _unsettled(tables.cells)
    yield from _skipped(runs)


def _answers_table(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The best ELBO and distortion of each domain that cells are judged on, in nats per datum."""
    shown = [one for one in found if one["role"] in (Role.TEST, Role.UNSEEN)] or found
    if not shown:
        return
    rows = [("", "ELBO", "at rate", "distortion", "at rate")]
    for domain in dict.fromkeys(one["domain"] for one in shown):
        own = {one["metric"]: one for one in shown if one["domain"] == domain}
        rows.append((domain, *_answer(own.get("elbo")), *_answer(own.get("distortion"))))
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for first, *rest in rows:
        values = "  ".join(value.rjust(width) for value, width in zip(rest, widths[1:], strict=True))
        yield f"  {first.ljust(widths[0])}  {values}"
    chosen = next((one["chosen_on"] for one in shown if one["chosen_on"]), None)
    seeds = max(one["seeds"] for one in shown)
    where = f"best on {chosen}" if chosen else "best on each domain itself"
    spread = f"± half of the 95 % interval over {seeds} seeds" if seeds > 1 else "one seed, so no interval"
    yield f"  nats per datum, {where}; {spread}; * at the edge of the rates trained"


def _answer(one: Mapping[str, Any] | None) -> tuple[str, str]:
    if one is None:
        return "–", "–"
    spread = "" if one["low"] is None else f" ±{(one['high'] - one['low']) / 2:.2g}"
    return f"{one['value']:.4g}{spread}", f"{one['rate']:.3g}{'*' if one['at_edge'] else ' '}"


def _outcomes(runs: Runs) -> str:
    counts = runs.cells["outcome"].value_counts()
    always = ["finished", "diverged", "failed"]
    rest = [name for name in counts.index if name not in always]
    return f"cells: {', '.join(f'{counts.get(name, 0)} {name}' for name in [*always, *rest])}"


def _optima(curve: pd.DataFrame) -> Iterator[str]:
    for domain in dict.fromkeys(curve["domain"]):
        lowest = find_optimum(curve, domain, LOWEST_DISTORTION)
        highest = find_optimum(curve, domain, HIGHEST_ELBO)
        if lowest is not None and highest is not None:
            yield (
                f"{domain}: highest ELBO {highest['elbo']:.4g} at {_rate(highest)}; "
                f"lowest distortion {lowest['distortion']:.4g} at {_rate(lowest)}"
            )


def _rate(optimum: pd.Series) -> str:
    edge = ", the edge of the rates trained" if optimum["at_edge"] else ""
    if np.isnan(optimum["rate_low"]):
        return f"rate {optimum['rate']:.3g} (one seed{edge})"
    return f"rate {optimum['rate']:.3g} (seeds {optimum['rate_low']:.3g} to {optimum['rate_high']:.3g}{edge})"


def _monotony(curve: pd.DataFrame) -> Iterator[str]:
    lines = curve[curve["kind"] == CURVE].groupby("domain", sort=False).size()
    domains = list(lines.index[lines > 1])
    hidden = [domain for domain in domains if hidden_by_interval(curve, domain)]
    rising = [domain for domain in domains if not monotone_within_interval(curve, domain) and domain not in hidden]
    falling = [domain for domain in domains if domain not in rising + hidden]
    interval = curve.loc[curve["kind"] == CURVE, "distortion_low"].notna().any()
    limit = "interval over seeds" if interval else "one seed, so no interval"
    if falling:
        yield f"distortion falls with rate on {', '.join(falling)} ({limit})"
    if rising:
        yield f"distortion rises somewhere with rate on {', '.join(rising)} ({limit})"
    if hidden:
        yield f"seeds differ by more than distortion changes with rate on {', '.join(hidden)}: no trend can be read"


def _gaps_at_optimum(table: pd.DataFrame, curve: pd.DataFrame, axes: list[str]) -> Iterator[str]:
    roles = dict(zip(table["domain"], table["role"], strict=True))
    chosen_on = next((domain for domain, role in roles.items() if role == Role.VALID), None)
    for start, end in domain_pairs(table):
        judge = chosen_on or end  # a gap at an optimum chosen on the test data would be biased
        best = find_optimum(curve, judge, HIGHEST_ELBO)
        if (roles[start], roles[end]) != (Role.TRAIN, Role.TEST) or best is None:
            continue
        cells = cells_at(table, judge, float(best["rate"]))
        differences = paired(table[table["cell"].isin(cells)], start, end, axes)
        by_seed = differences.groupby("seed", dropna=False)
        for name in ("distortion", NEGATIVE_ELBO):
            gap = t_interval(by_seed[name].mean().to_numpy(float))
            label = name.replace(NEGATIVE_ELBO, "−ELBO")
            yield f"gap {start} → {end} at the optimum of {judge}: {label} {_interval(gap)}"


def _interval(value: Interval) -> str:
    seeds = f"{value.n} seed{'s' if value.n != 1 else ''}"
    if value.n < 2:
        return f"{value.mean:+.3g} nats ({seeds})"
    return f"{value.mean:+.3g} nats (95 % {value.low:+.3g} to {value.high:+.3g}, {seeds})"


def _missed(table: pd.DataFrame, name: str) -> Iterator[str]:
    """Targets missed on the training domain, measured by the rate that the target was set for."""
    off = misses(table, name)
    missed = off.groupby(table["target_rate"]).agg(["size", "max"])
    for target, row in missed.iterrows():
        cells = f"{int(row['size'])} cell{'s' if row['size'] > 1 else ''}"
        yield f"target {target:g} missed on the training domain by up to {row['max']:.0%} ({cells})"


def _unsettled(table: pd.DataFrame) -> Iterator[str]:
    """The cells whose rate control had not settled when training ended: their rate is not the one asked for."""
    cells = finished(table).drop_duplicates("cell")
    cells = cells[is_unsettled(cells)]
    if len(cells):
        names = [f"target {target:g}" for target in sorted(cells["target_rate"].dropna().unique())]
        which = f" ({', '.join(names)})" if names else f" ({', '.join(cells['cell'].iloc[:4])})"
        yield (
            f"{len(cells)} cell{'s' if len(cells) > 1 else ''} ended before the rate control had settled{which}: "
            "open on the curve; train longer"
        )


def _skipped(runs: Runs) -> Iterator[str]:
    cells = runs.cells[runs.cells["skipped"] > 0] if "skipped" in runs.cells else runs.cells[:0]
    if len(cells):
        most = cells.sort_values("skipped").iloc[-1]
        yield (
            f"{len(cells)} cell{'s' if len(cells) > 1 else ''} skipped steps of too large or not finite gradients: "
            f"at most {most['skipped']:g}, cell {most['cell']}"
        )


def _saturated(table: pd.DataFrame) -> Iterator[str]:
    cells = table.drop_duplicates("cell")
    counts = cells.loc[cells["saturated"] != "", "target_rate"].value_counts().sort_index()
    if len(counts):
        yield "targets out of reach: " + ", ".join(
            f"{target:g} ({n} cell{'s' if n > 1 else ''})" for target, n in counts.items()
        )
