"""Trained models by their names: a finished file, a run, a cell, or the best cell of a sweep.

Files are read without MLflow, whose parts of this room are imported by the functions that need them.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vaesweep.data.domains import Role
from vaesweep.data.spelling import did_you_mean
from vaesweep.environment import give_home
from vaesweep.errors import UserError
from vaesweep.family import family
from vaesweep.family.trained import Trained, read_file, trained
from vaesweep.training.finished import FinishedCell
from vaesweep.vocabulary import Tag, store_uri

if TYPE_CHECKING:
    from vaesweep.analysis.runs import Runs

BEST = re.compile(r"(?P<sweep>.+):best=(?P<metric>[^@]+)@(?P<domain>[^@]+)")
FORMS = (
    "name a finished file, a run, a cell, EXPERIMENT:best=METRIC@DOMAIN or EXPERIMENT:SWEEP:best=METRIC@DOMAIN, as "
    "rd_curve_pvae:best=elbo@valid"
)
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class NamedCell:
    """The cell that a name stands for; of a tracked one its run, and what names the data of its sweep."""

    cell: FinishedCell
    run_id: str | None = None
    data_name: Callable[[], str] | None = None


def load(name: "str | os.PathLike[str]", tracking_uri: str | None = None) -> Trained:
    """The trained model called `name`: `vaesweep.load`."""
    named = find(name, tracking_uri)
    return trained(named.cell, named.data_name)


def find(name: "str | os.PathLike[str]", tracking_uri: str | None = None) -> NamedCell:
    """The finished cell called `name`. Raises `UserError` as `vaesweep.load` does."""
    text = os.fspath(name)
    choice = BEST.fullmatch(text)
    if choice is None and (not isinstance(name, str) or _names_file(text)):
        return NamedCell(read_file(Path(text).expanduser()))
    if choice is None and ":" in text:
        raise UserError(f"{text}: this names no model; {FORMS}")
    give_home()
    from vaesweep.analysis import load, runs

    uri = tracking_uri or store_uri()
    client = runs.client_of(uri)
    if choice is None:
        run = load.finished_run(client, text)
        cell = load.download_cell(client, run.info.run_id, run.data.tags[Tag.CELL])
        return NamedCell(cell, run.info.run_id, partial(load.data_spec, run.info.run_id, uri))
    experiment, _, sweep = choice["sweep"].partition(":")
    sweep_runs = runs.read(experiment, uri, sweep or None)
    best = best_cell(sweep_runs, choice["metric"], choice["domain"])
    run_id = sweep_runs.run_ids[best]
    return NamedCell(
        load.download_cell(client, run_id, best), run_id, partial(load.data_spec, run_id, uri, sweep_runs.record.data)
    )


def best_cell(runs: "Runs", metric: str, where: str) -> str:
    """The finished cell of a sweep that is best by `metric` on the domain `where`, a domain's name or its role.

    Raises `UserError` as `best_cells` does, and where several share the best value.
    """
    best = best_cells(runs, metric, where)
    cells = list(best)
    if len(cells) > 1:
        raise UserError(f"best={metric}@{where}: cells {', '.join(cells)} share {best[cells[0]]:g}; name one of them")
    return cells[0]


def best_cells(runs: "Runs", metric: str, where: str) -> dict[str, float]:
    """The finished cells of a sweep, one or several, whose value is the best, with that, as of `best_cell`.

    Which way is better, the family says. Raises `UserError` where domain or metric are none of the sweep's, where no
    direction is better, or where no finished cell has a finite value.
    """
    domain = _domain(runs, where)
    values = runs.finals[runs.finals["domain"] == domain].pivot(index="cell", columns="metric", values="value")
    if metric not in values:
        known = sorted(values.columns)
        there = f"; there are {', '.join(known)}" if known else f"; no cell has been evaluated on {domain}"
        raise UserError(f"best={metric}: there is no such metric on {domain}{did_you_mean(metric, known) or there}")
    more = family(runs.record.family).more_wanted(metric)
    if more is None:
        raise UserError(f"best={metric}: neither more nor less of it is known to be better; take another, as elbo")
    finished = runs.cells.loc[runs.cells["outcome"] == "finished", "cell"]
    own = values.loc[values.index.isin(finished), metric]
    own = own[np.isfinite(own)]
    if own.empty:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in runs.cells["outcome"].value_counts().items())
        raise UserError(f"sweep {runs.record.sweep}: no finished cell has a finite {metric} on {domain} ({outcomes})")
    best = own[own == (own.max() if more else own.min())]
    return {str(cell): float(value) for cell, value in best.items()}


def _domain(runs: "Runs", where: str) -> str:
    """The name of the domain called `where`, or of the one that has it as its role."""
    names = [domain.name for domain in runs.record.domains]
    roles = {str(role): [domain.name for domain in runs.record.domains if domain.role is role] for role in Role}
    if where in names:
        return where
    named = roles.get(where, [])
    if len(named) == 1:
        return named[0]
    if named:
        raise UserError(f"@{where}: several domains are {where}; name one of {', '.join(named)}")
    known = [*(role for role, own in roles.items() if len(own) == 1), *names]
    raise UserError(
        f"@{where}: the sweep has no such domain" + (did_you_mean(where, known) or f"; there are {', '.join(known)}")
    )


def _names_file(text: str) -> bool:
    """Whether a name is a file's: it looks like one, or is there."""
    return text.endswith(SUFFIX) or os.sep in text or Path(text).expanduser().is_file()
