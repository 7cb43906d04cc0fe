"""Any population of audiograms, such as HÖRSTAT, from a CSV file.

The header holds the canonical column names (`audiograms.COLUMNS`) in any order and any case; further columns are
ignored. Values are in dB HL and years.
"""

import re
from pathlib import Path

import numpy as np

from vaesweep.data.spelling import did_you_mean
from vaesweep.errors import UserError
from vaesweep.families.pvae.data.audiograms import COLUMNS, DIMS, Rows, screen
from vaesweep.families.pvae.data.tables import Table


def read_population(path: Path) -> Rows:
    """Read the complete and plausible rows of the CSV file at `path`."""
    table = Table.read(path)
    _check_header(table)
    title = table.title
    x, people = np.empty((table.count, DIMS)), []
    for number, row in enumerate(table.rows()):
        x[number] = [table.number(row, name) for name in COLUMNS]
        if title:
            people.append(called(table.text(row, title), title) or f"line {row.line} of {path.name}")
    rows = screen(x, {"with an empty cell": np.asarray(np.isnan(x).any(axis=1))}, path, path.name, people)
    extra = [name or "(no name)" for name in table.header if name not in COLUMNS and name != title]
    notes = [f"columns ignored: {', '.join(extra)}"] if extra else []
    if table.blank:
        notes.append(f"{table.blank} lines hold nothing")
    if title and len(set(rows.people)) < len(rows.people):
        notes.append(
            f"{len(rows.people)} rows of {len(set(rows.people))} people, by the column {title}: split by person"
        )
    return Rows(rows.x, (*rows.summary, *(f"{path.name}: {note}" for note in notes)), rows.people)


def called(name: str, title: str) -> str:
    """A person's name with the kind of name that it is: a SEQN says who it is in any file, others in their own.

    Whole numbers are written in one way, as spreadsheets may append `.0`; nothing of an empty cell.
    """
    kind = "SEQN" if title == "seqn" else title
    return f"{kind} {re.sub(r'(?<=[0-9])[.,]0*$', '', name)}" if name else ""


def _check_header(table: Table) -> None:
    """Refuse a header that does not name every canonical column once."""
    table.refuse_duplicates(COLUMNS)
    missing = [name for name in COLUMNS if name not in table.header]
    if len(missing) == len(COLUMNS):
        raise UserError(f"{table.where}: no known column in its first line; needed: {', '.join(COLUMNS)}")
    if missing:
        unknown = [name for name in table.header if name not in COLUMNS]
        named = ", ".join(f"{name}{did_you_mean(name, unknown)}" for name in missing)
        raise UserError(f"{table.where}: missing in the header: {named}")
