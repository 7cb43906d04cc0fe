"""The contents of a sweep's page, report.json: every number that it shows, from tracked runs alone.

Rates, distortions and ELBOs are in nats per datum; the page turns them into other units. Numbers that are not there,
or not finite, are null.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

import vaesweep
from vaesweep.analysis.curves import CURVE, HIGHEST_ELBO, LOWEST_DISTORTION
from vaesweep.analysis.curves import optimum as find_optimum
from vaesweep.analysis.gaps import NEGATIVE_ELBO
from vaesweep.analysis.intervals import Interval, t_interval
from vaesweep.analysis.runs import BETA, MISSING, RUNNING, Runs
from vaesweep.analysis.table import (
    ELBO_PARTS,
    cells_at,
    finished,
    is_unsettled,
    misses,
    on_curve,
    target_axis,
    target_name,
)
from vaesweep.analysis.tables import Tables, make_tables
from vaesweep.data.domains import Role
from vaesweep.vocabulary import DATUM, Outcome

FORMAT = 1
GAP_METRICS = ("distortion", NEGATIVE_ELBO, "rate")
EFFECT_METRICS = ("elbo", "distortion", "rate")
JUDGES = (Role.VALID, Role.TEST, Role.UNSEEN)  # roles on which settings are compared
ENDED = (Outcome.FINISHED, Outcome.DIVERGED, Outcome.FAILED)


def contents(runs: Runs, tables: Tables | None = None) -> dict[str, Any]:
    """All that the page of a sweep shows, as JSON takes it; its `tables` are made unless they are given."""
    tables = tables or make_tables(runs)
    table, axes = tables.cells, tables.axes
    record = runs.record
    outcomes = {str(name): int(count) for name, count in runs.cells["outcome"].value_counts().items()}
    return {
        "format": FORMAT,
        "vaesweep": vaesweep.__version__,
        "drawn": datetime.now(UTC).isoformat(timespec="seconds"),
        "sweep": {
            "name": record.name,
            "identity": record.sweep,
            "family": record.family,
            "preset": record.preset,
            "command": record.command,
            "run": runs.run_id,
            "experiment": runs.experiment_id,
            "began": runs.began,
            "code": list(runs.code),
            "data": {"spec": record.data, "fingerprint": record.fingerprint, "summary": list(record.summary)},
            "axes": {axis: list(values) for axis, values in record.axes.items()},
            "settings": common_settings(runs),
        },
        "units": units(runs),
        "progress": {
            "cells": len(runs.cells),
            "ended": sum(outcomes.get(outcome, 0) for outcome in ENDED),
            "outcomes": outcomes,
        },
        "domains": [{"name": d.name, "role": str(d.role), "rows": d.rows} for d in record.domains],
        "answers": list(answers(table, tables.curve)),
        "troubles": list(troubles(runs, table)),
        "cells": cells(runs, table, axes),
        "curve": rows_of(tables.curve),
        "gaps": rows_of(gaps_shown(tables.gaps, axes)),
        "gap_axes": axes,
        "effects": rows_of(effects(table, axes)),
    }


def units(runs: Runs) -> dict[str, float]:
    """How much of each of the family's units a datum has, where all cells agree: `{"second": 3.0}`."""
    found: dict[str, set[str]] = {}
    for params in runs.params.values():
        for key, value in params.items():
            if key.startswith(f"{DATUM}."):
                found.setdefault(key.removeprefix(f"{DATUM}."), set()).add(value)
    return {unit: float(next(iter(values))) for unit, values in sorted(found.items()) if len(values) == 1}


def common_settings(runs: Runs) -> dict[str, str]:
    """The settings that all tracked cells share, as MLflow has them."""
    every = list(runs.params.values())
    first = every[0] if every else {}
    return {key: value for key, value in sorted(first.items()) if all(one.get(key) == value for one in every)}


def answers(table: pd.DataFrame, curve: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The optimum of each metric on each domain, with its intervals and how far the rates reach.

    `value` is that of the cells whose rate is best on the validation domain, `chosen_on`, with a t-interval over seeds,
    and `rate_low` to `rate_high` spans their seeds. Where there is none, and on that domain itself, it is the curve's
    own optimum, and these span the seeds' own optima. `own` is the optimum of the domain's own curve, which looks
    better than it is; `reaches` the rates that were trained.
    """
    roles = dict(zip(table["domain"], table["role"], strict=True))
    judge = next((domain for domain, role in roles.items() if role == Role.VALID), None)
    for domain in roles:
        line = curve[(curve["domain"] == domain) & (curve["kind"] == CURVE)]
        for metric, kind in (("elbo", HIGHEST_ELBO), ("distortion", LOWEST_DISTORTION)):
            own = find_optimum(curve, domain, kind)
            best = find_optimum(curve, judge, kind) if judge else None
            if own is None:
                continue
            entry = {"value": own[metric], "low": own[f"{metric}_low"], "high": own[f"{metric}_high"]}
            entry |= {name: own[name] for name in ("rate", "rate_low", "rate_high")}
            seeds, edge, chosen_on = int(own["n_seeds"]), bool(own["at_edge"]), None
            if judge is not None and best is not None and domain != judge:
                there = table[(table["domain"] == domain) & table["cell"].isin(cells_at(table, judge, best["rate"]))]
                means = there.groupby("seed", dropna=False)[[metric, "rate"]].mean()
                interval = t_interval(means[metric].to_numpy(float))
                entry |= {"value": interval.mean, "low": interval.low, "high": interval.high}
                entry |= {
                    "rate": means["rate"].mean(),
                    "rate_low": means["rate"].min(),
                    "rate_high": means["rate"].max(),
                }
                seeds, edge, chosen_on = interval.n, bool(best["at_edge"]), judge
            yield {
                "metric": metric,
                "domain": domain,
                "role": str(own["role"]),
                **{name: number(value) for name, value in entry.items()},
                "seeds": seeds,
                "at_edge": edge,
                "chosen_on": chosen_on,
                "own": {"value": number(own[metric]), "rate": number(own["rate"]), "at_edge": bool(own["at_edge"])},
                "reaches": [number(line["rate"].min()), number(line["rate"].max())],
            }


def troubles(runs: Runs, table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """What a reader must know before the curves: cells that are not on them, or not where they were asked to be."""
    causes = dict(zip(runs.cells["cell"], runs.cells["cause"], strict=True))
    by_outcome = runs.cells.groupby("outcome")["cell"].apply(list).to_dict()
    for outcome in (Outcome.FAILED, Outcome.DIVERGED, MISSING, RUNNING):
        if names := by_outcome.get(outcome):
            yield {"kind": str(outcome), "cells": [{"cell": name, "why": causes.get(name, "")} for name in names]}
    once = finished(table).drop_duplicates("cell")
    for kind, which in (("saturated", once["saturated"] != ""), ("unsettled", is_unsettled(once))):
        if len(chosen := once[which]):
            why = [f"target {target:g}" if pd.notna(target) else "" for target in chosen["target_rate"]]
            pairs = zip(chosen["cell"], why, strict=True)
            yield {"kind": kind, "cells": [{"cell": cell, "why": text} for cell, text in pairs]}
    if axis := target_axis(runs):
        off = misses(table, target_name(axis))
        if len(off):
            pairs = zip(table.loc[off.index, "cell"], off, strict=True)
            listed = [{"cell": cell, "why": f"off by {share:.0%}"} for cell, share in pairs]
            yield {"kind": "missed", "cells": listed}


def cells(runs: Runs, table: pd.DataFrame, axes: Sequence[str]) -> list[dict[str, Any]]:
    """One entry a cell: its run, seed, target, β, values on the axes, and its numbers on each domain by name."""
    betas = [name for name in runs.cells.columns if name.startswith(BETA)]
    own = {row["cell"]: row for row in runs.cells.to_dict("records")}
    rates = [name for name in table.columns if name.startswith("rate.")]
    shown = [*ELBO_PARTS, *rates] if len(rates) > 1 else ELBO_PARTS
    on_line = set(on_curve(table)["cell"])
    entries: dict[str, dict[str, Any]] = {}
    for row in table.to_dict("records"):
        cell = row["cell"]
        if cell not in entries:
            entries[cell] = {
                "cell": cell,
                "run": runs.run_ids.get(cell),
                "seed": number(row["seed"]),
                "target": number(row["target_rate"]),
                "beta": {name.removeprefix(BETA): number(own[cell][name]) for name in betas},
                "axes": {axis: plain(row[axis]) for axis in axes},
                "outcome": row["outcome"],
                "open": bool(row["saturated"]) or row["settled"] in (False, 0),
                "on_curve": cell in on_line,
                "on": {},
            }
        values = [number(row.get(name)) for name in shown]
        if any(value is not None for value in values):
            entries[cell]["on"][row["domain"]] = dict(zip(shown, values, strict=True))
    return list(entries.values())


def gaps_shown(gaps: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """The gaps of rate, distortion and −ELBO by target and setting, and those of all metrics over the whole sweep."""
    whole = gaps[["target_rate", *axes]].isna().all(axis=1)
    return gaps[whole | gaps["metric"].isin(GAP_METRICS)]


def effects(table: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """By how much each setting moves a cell: differences to the axis' first value, all else being equal.

    A difference is taken between cells that agree in target, seed and all other axes. Each seed counts once, with the
    mean of its differences; the interval is over seeds. Columns: axis, value, against, domain, metric, difference, low,
    high, n_seeds, n_pairs.
    """
    points = finished(table)
    points = points[points["role"].isin([str(role) for role in JUDGES])]
    rows = [row for axis in axes for row in _effects_of(points, axis, [other for other in axes if other != axis])]
    columns = ["axis", "value", "against", "domain", "metric", "difference", "low", "high", "n_seeds", "n_pairs"]
    return pd.DataFrame(rows, columns=columns)


def _effects_of(points: pd.DataFrame, axis: str, others: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    keys = ["target_rate", "seed", *others]
    first, *rest = list(dict.fromkeys(points[axis])) or [None]
    for domain, there in points.groupby("domain", sort=False):
        by_value = {value: rows.groupby(keys, dropna=False) for value, rows in there.groupby(axis, sort=False)}
        if first not in by_value:
            continue
        for metric in EFFECT_METRICS:
            against = by_value[first][metric].mean()
            for value in rest:
                if value not in by_value:
                    continue
                pairs = (by_value[value][metric].mean() - against).dropna()
                change = t_interval(pairs.groupby("seed", dropna=False).mean().to_numpy(float))
                if change.n:
                    yield (axis, value, first, domain, metric, *_ends(change), len(pairs))


def _ends(interval: Interval) -> tuple[float, float, float, int]:
    return interval.mean, interval.low, interval.high, interval.n


def differences(here: pd.DataFrame, there: pd.DataFrame) -> pd.DataFrame:
    """Differences `here` − `there` of two sweeps' cells on domains, targets and seeds that both have.

    By domain and metric, each seed counting once; the interval is over seeds. Columns: domain, metric, difference, low,
    high, n_seeds, n_targets. Without common targets there are none.
    """
    keys = ["domain", "target_rate", "seed"]
    means = [finished(table).groupby(keys, dropna=False)[ELBO_PARTS].mean() for table in (here, there)]
    common = (means[0] - means[1]).dropna()
    rows = []
    for domain, part in common.groupby("domain", sort=False):
        targets = part.index.get_level_values("target_rate").nunique(dropna=False)
        for metric in ELBO_PARTS:
            change = t_interval(part[metric].groupby("seed", dropna=False).mean().to_numpy(float))
            rows.append((domain, metric, *_ends(change), targets))
    columns = ["domain", "metric", "difference", "low", "high", "n_seeds", "n_targets"]
    return pd.DataFrame(rows, columns=columns)


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, as JSON takes them."""
    return [{str(key): plain(value) for key, value in row.items()} for row in frame.to_dict("records")]


def plain(value: Any) -> Any:
    """A value as JSON takes it."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def number(value: Any) -> float | None:
    """A finite number, else null."""
    return float(value) if value is not None and math.isfinite(float(value)) else None


def settings_that_differ(sweeps: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings in which the contents of some sweeps differ."""
    names = list(dict.fromkeys(name for sweep in sweeps for name in sweep["sweep"]["settings"]))
    return [name for name in names if len({sweep["sweep"]["settings"].get(name) for sweep in sweeps}) > 1]
