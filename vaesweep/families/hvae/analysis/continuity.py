"""The bound and its parts at steps other than in training (thesis study C, Figures 4 and 5): continuity.csv.

Every image's Brownian paths are the same at every step, so what a step changes is taken within cells: its interval over
seeds says nothing of how seeds differ in the bound itself.
"""

import re

import pandas as pd

from vaesweep.analysis.groups import OWN_RATE
from vaesweep.analysis.intervals import t_interval
from vaesweep.families.hvae.analysis.cells import GROUP, Hierarchies

PARTS = ("elbo", "distortion", "path_rate", "initial_rate")  # nats an image
STEPPED = re.compile(rf"steps_(?P<steps>\d+)\.(?P<part>{'|'.join(PARTS)})")
INITIAL_RATE = "rate.initial"
COLUMNS = [
    *(GROUP, "kind", "domain", "role", "steps", "step_size", "in_training", "part"),
    *("value", "low", "high", "change", "change_low", "change_high", "n_seeds"),
]
_PLACE = [GROUP, "cell", "seed", "domain", "role"]


def bound_parts(cells: Hierarchies) -> pd.DataFrame:
    """Every part of the bound of every cell at every step, on test and unseen domains, and its change.

    Columns: group, cell, seed, domain, role, `steps` (missing where levels have none), part, `value`, and `change` from
    the value at training's steps. Values that are not finite are missing.
    """
    points = cells.judged
    steps = points[GROUP].map(cells.steps).astype(float)
    trained = {
        "elbo": points["elbo"],
        "distortion": points["distortion"],
        "path_rate": points[OWN_RATE] - points[INITIAL_RATE],
        "initial_rate": points[INITIAL_RATE],
    }
    parts = [points[_PLACE].assign(steps=steps, part=part, value=value) for part, value in trained.items()]
    for column in points.columns:
        if match := STEPPED.fullmatch(column):
            stepped = float(match["steps"])
            rows = points.loc[steps.notna() & (steps != stepped), [*_PLACE, column]].rename(columns={column: "value"})
            parts.append(rows.assign(steps=stepped, part=match["part"]))
    table = pd.concat(parts, ignore_index=True)
    table["value"] = table["value"].astype(float).where(lambda value: value.abs() < float("inf"))
    trained_parts = parts_in_training(table, cells)
    table = table.merge(trained_parts, how="left", on=["cell", "domain", "part"])
    table["change"] = table["value"] - table.pop("in_training")
    return table


def parts_in_training(rows: pd.DataFrame, cells: Hierarchies) -> pd.DataFrame:
    """The value at training's steps, of rows of `bound_parts`, as `in_training`, by cell, domain and part."""
    trained = rows[rows["steps"] == rows[GROUP].map(cells.steps)]
    return trained[["cell", "domain", "part", "value"]].rename(columns={"value": "in_training"})


def by_seed(rows: pd.DataFrame, group: str, domain: str, part: str, column: str = "value") -> pd.DataFrame:
    """A `column` of rows of `bound_parts`, `[seed, steps]`; one column, 0, where levels have no steps."""
    selected = rows[(rows[GROUP] == group) & (rows["domain"] == domain) & (rows["part"] == part)]
    selected = selected.assign(steps=selected["steps"].fillna(0).astype(int))
    return selected.pivot_table(index="seed", columns="steps", values=column)


def continuity(cells: Hierarchies, rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval over seeds of everything in `rows` (of `bound_parts`): continuity.csv.

    `change` is from training's step, within cells; `step_size` is 1 / `steps`, empty where levels have no steps.
    """
    records = []
    keys = [GROUP, "domain", "role", "part", "steps"]
    for (group, domain, role, part, steps), cell in rows.groupby(keys, sort=False, dropna=False):
        seeds = cell.groupby("seed")[["value", "change"]].mean()
        level, change = (t_interval(seeds[name].to_numpy(float)) for name in ("value", "change"))
        if level.n:
            trained = cells.steps(str(group))
            about = (group, cells.depths[str(group)].kind, domain, role, steps, 1 / float(str(steps)))
            numbers = (level.mean, level.low, level.high, change.mean, change.low, change.high, level.n)
            records.append((*about, trained is None or steps == trained, part, *numbers))
    table = pd.DataFrame(records, columns=COLUMNS)
    order = table["part"].map({part: number for number, part in enumerate(PARTS)})
    ordered = table.assign(order=order, first=table.groupby([GROUP, "domain"], sort=False).ngroup())
    return ordered.sort_values(["first", "order", "steps"], ignore_index=True)[COLUMNS]


def has_steps(table: pd.DataFrame) -> bool:
    """Whether any group of a table of `continuity` was evaluated at more than one step."""
    counts = table[table["part"] == PARTS[0]].groupby([GROUP, "domain"])["steps"].nunique()
    return bool((counts > 1).any())
