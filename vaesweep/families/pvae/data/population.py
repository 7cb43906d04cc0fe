"""Any population of audiograms, such as HÖRSTAT, from a CSV file.

The header holds the canonical column names (`audiograms.COLUMNS`) in any order and any case; further columns are
ignored. Values are in dB HL and years.
"""

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
    numbers = (table.number(row, name) for row in table.rows() for name in COLUMNS)
    x = np.fromiter(numbers, float, table.count * DIMS).reshape(-1, DIMS)
    rows = screen(x, {"with an empty cell": np.isnan(x).any(axis=1)}, path, path.name)
    extra = [name or "(no name)" for name in table.header if name not in COLUMNS]
    ignored = (f"{path.name}: columns ignored: {', '.join(extra)}",) if extra else ()
    return Rows(rows.x, (*rows.summary, *ignored))


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
