"""The sweep as one tidy table, a row for every cell and domain (cells.csv), from which all else is computed."""

import pandas as pd

from vaesweep.analysis.runs import TARGET, Runs
from vaesweep.data.domains import Role
from vaesweep.vocabulary import DATUM, Outcome

IDENTITY = ["cell", "seed", "target_rate", "domain", "role"]
ELBO_PARTS = ["rate", "distortion", "elbo"]  # nats per datum
STATUS = ["saturated", "settled", "outcome"]
MISSED = 0.05  # a target counts as missed when the measured rate is off by more than this share of it


def cells_table(runs: Runs) -> pd.DataFrame:
    """One row per listed cell and domain; a cell without final numbers keeps its rows, with empty numbers.

    Columns: cell, seed, target_rate, domain, role, rate, distortion, elbo, saturated, settled, outcome, the axes but
    seed and target by their dotted names, then every other metric in alphabetical order. Targets are in nats per datum,
    whatever they were given per. Sorted by the record's order of domains, then target, seed and cell.
    """
    target = target_axis(runs)
    cells = runs.cells.assign(
        seed=_numbers(runs.cells, "seed"),
        target_rate=_numbers(runs.cells, target) * _per_datum(runs, target) if target else float("nan"),
        settled=runs.cells.get("settled"),
    )
    axes = other_axes(runs)
    wide = cells[["cell", "seed", "target_rate", *STATUS, *axes]].merge(_domains(runs), how="cross")
    table = wide.merge(_metrics(runs), how="left", on=["cell", "domain"])
    table = table.sort_values(["order", "target_rate", "seed", "cell"], kind="stable", ignore_index=True)
    leading = [*IDENTITY, *ELBO_PARTS, *STATUS, *axes]
    rest = sorted(set(table.columns) - set(leading) - {"order"})
    return table.reindex(columns=[*leading, *rest])


def finished(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of curves and gaps: those of finished cells, with finite rate, distortion and ELBO."""
    finite = table[ELBO_PARTS].astype(float).abs().lt(float("inf")).all(axis=1)
    return table[finite & (table["outcome"] == Outcome.FINISHED)]


def is_open(cells: pd.DataFrame) -> pd.Series:
    """Rows of cells whose rate control asked for what it did not get: out of reach, or not settled at the end."""
    return (cells["saturated"] != "") | is_unsettled(cells)


def is_unsettled(cells: pd.DataFrame) -> pd.Series:
    """Rows of cells whose rate control had not settled when training ended; false where that is not known."""
    if "settled" not in cells:
        return pd.Series(False, index=cells.index)
    return cells["settled"].map(lambda settled: settled is False or settled == 0).astype(bool)


def on_curve(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `finished` that have a rate: not those of deterministic models, which have none."""
    rates = [name for name in table.columns if name.startswith("rate.")]
    points = finished(table)
    return points[points[rates].notna().any(axis=1)] if rates else points


def cells_at(table: pd.DataFrame, domain: str, rate: float) -> set[str]:
    """Cells of the target whose mean rate on `domain` is nearest `rate`; without targets, each seed's one."""
    points = on_curve(table)
    points = points[points["domain"] == domain]
    if points["target_rate"].notna().any():
        means = points.groupby("target_rate")["rate"].mean()
        return set(points.loc[points["target_rate"] == (means - rate).abs().idxmin(), "cell"])
    nearest = (points["rate"] - rate).abs().groupby(points["seed"], dropna=False).idxmin()
    return set(points.loc[nearest, "cell"])


def rates_of_targets(table: pd.DataFrame, name: str) -> pd.Series:
    """Rates of finished cells on the training domain, in nats per datum: of the one that target `name` was set for."""
    points = finished(table)
    points = points[points["role"] == Role.TRAIN]
    return points[f"rate.{name}" if f"rate.{name}" in points else "rate"]


def misses(table: pd.DataFrame, name: str) -> pd.Series:
    """Shares by which `rates_of_targets` are off their target, of those that missed one that was not out of reach."""
    off = (rates_of_targets(table, name) / table["target_rate"] - 1).abs()
    return off[(off > MISSED) & (table["saturated"] == "")]


def own_metrics(table: pd.DataFrame, axes: list[str]) -> list[str]:
    """The metrics of `table` beside total rate, distortion and ELBO: single rates and the family's own."""
    other_columns = {*IDENTITY, *ELBO_PARTS, *STATUS, *axes}
    return [name for name in table.columns if name not in other_columns]


def target_axis(runs: Runs) -> str | None:
    """Dotted name of the target rate: an axis before a constant, the total's before any other.

    `None` without targets, and when several rates have their own and none is the total's: then no one
    number is the target rate.
    """
    constants = [name for name in runs.cells.columns if TARGET.fullmatch(name) and name not in runs.record.axes]
    set_constants = [name for name in constants if _numbers(runs.cells, name).notna().any()]
    for names in ([axis for axis in runs.record.axes if TARGET.fullmatch(axis)], set_constants):
        total = [name for name in names if target_name(name) == "total"]
        if len(names) == 1 or total:
            return (total or names)[0]
        if names:
            return None
    return None


def target_name(axis: str) -> str:
    """The rate that a target belongs to: `total` of `rates.total.target`."""
    match = TARGET.fullmatch(axis)
    return match["rate"] if match else ""


def _per_datum(runs: Runs, axis: str) -> pd.Series:
    """What the target of every cell is multiplied by to be in nats per datum: how much of its unit a datum has."""
    rate = target_name(axis)
    factors = []
    for cell in runs.cells["cell"]:
        params = runs.params.get(cell, {})
        unit = params.get(f"rates.{rate}.per", DATUM)
        factors.append(1.0 if unit == DATUM else float(params.get(f"{DATUM}.{unit}", "nan")))
    return pd.Series(factors, index=runs.cells.index)


def other_axes(runs: Runs) -> list[str]:
    """The sweep's axes but the seed and the target rate, by their dotted names."""
    return [axis for axis in runs.record.axes if axis not in ("seed", target_axis(runs))]


def _numbers(cells: pd.DataFrame, column: str) -> pd.Series:
    if column not in cells:
        return pd.Series(float("nan"), index=cells.index)
    return pd.to_numeric(cells[column], errors="coerce")


def _domains(runs: Runs) -> pd.DataFrame:
    rows = [(order, domain.name, str(domain.role)) for order, domain in enumerate(runs.record.domains)]
    return pd.DataFrame(rows, columns=["order", "domain", "role"])


def _metrics(runs: Runs) -> pd.DataFrame:
    wide = runs.finals.pivot_table(index=["cell", "domain"], columns="metric", values="value", dropna=False)
    return wide.dropna(how="all").reset_index().rename_axis(columns=None)
