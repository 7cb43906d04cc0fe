"""Read a table of a SAS transport file (XPT, version 5; SAS technical note TS-140), or refuse a damaged one in a line.

Layout: records of 80 bytes; three for the library; for each table five, which name it, one that counts its columns, one
description (140 bytes, on old machines 135) per column, one that opens the rows; then the rows, back to back and padded
with blanks to 80 bytes. The format does not say how many rows there are: where rows are narrower than a record, some
of the padding looks like rows of blanks, which SAS does not read and neither does this. A file that was cut exactly
between two rows looks whole.

Numbers are IBM's: a sign, an exponent of 16 in excess of 64, and a fraction of up to 56 bits.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vaesweep.data.reading import read_file
from vaesweep.data.spelling import did_you_mean
from vaesweep.errors import UserError
from vaesweep.families.pvae.data.audiograms import TABLE_BYTES

if TYPE_CHECKING:
    import pandas as pd

RECORD = 80
LIBRARY = b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!"
MEMBER = b"HEADER RECORD*******MEMBER  HEADER RECORD!!!!!!!"
TABLE = b"HEADER RECORD*******DSCRPTR HEADER RECORD!!!!!!!"
COLUMNS = b"HEADER RECORD*******NAMESTR HEADER RECORD!!!!!!!"
OBSERVATIONS = b"HEADER RECORD*******OBS     HEADER RECORD!!!!!!!"
OTHERS = {  # what else SAS writes, and is called a transport file
    b"HEADER RECORD*******LIBV8   ": "a SAS transport file of version 8; save it as version 5 (engine XPORT)",
    b"**COMPRESSED** **COMPRESSED**": "a file of SAS' PROC CPORT; save it by the engine XPORT",
}
MEMBERS_AT, COLUMNS_AT, DESCRIPTIONS_AT = 3 * RECORD, 4 * RECORD, 5 * RECORD  # the latter two from a table's beginning
NUMBER, TEXT = 1, 2
MISSING = b"._ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # first bytes of SAS' missing values, the others of which are zero
ROWS = 2**16  # decoded at a time
AGAIN = "download it again"


class _Damaged(Exception):
    """Damage of a header."""


@dataclass(frozen=True)
class _Column:
    """A column: where it begins in a row, and how many bytes it takes."""

    name: str
    is_number: bool
    start: int
    length: int


@dataclass(frozen=True)
class _Table:
    """A table: where its rows begin and end, with their padding, and the width of a row, in bytes."""

    name: str
    columns: tuple[_Column, ...]
    start: int
    end: int
    width: int

    def has(self, names: Sequence[str]) -> bool:
        """Whether all of the columns `names` are there."""
        return {column.name for column in self.columns}.issuperset(names)


def read_xport(path: Path, columns: Sequence[str]) -> "pd.DataFrame":
    """Read the numeric `columns` (upper-case names) of the table in `path`; a missing value is NaN.

    Of several tables it is the one that has them.
    """
    import pandas as pd  # takes half a second, which every sweep of partial VAEs would pay

    raw = read_file(path, TABLE_BYTES, AGAIN)
    table = _chosen(_tables(raw, path), columns, path)
    rows = _rows(raw, table, path)
    return pd.DataFrame({name: _numbers(rows, table, name, path) for name in columns})


def _tables(raw: bytes, path: Path) -> list[_Table]:
    """The tables of a file; `raw` is refused unless it is a whole transport file."""
    if not raw:
        raise UserError(f"{path}: the file is empty; {AGAIN}")
    for start, name in OTHERS.items():
        if raw.startswith(start):
            raise UserError(f"{path}: {name}")
    if not raw.startswith(LIBRARY[: len(raw)]):
        raise UserError(f"{path}: not a SAS transport file, it begins with {_shown(raw)}; {AGAIN}")
    try:
        return _described(raw)
    except (_Damaged, ValueError, struct.error):
        raise UserError(f"{path}: cut short or damaged in its header ({len(raw)} bytes); {AGAIN}") from None


def _described(raw: bytes) -> list[_Table]:
    tables, at = [], MEMBERS_AT
    while at < len(raw):
        headers = {at: MEMBER, at + RECORD: TABLE, at + COLUMNS_AT: COLUMNS}
        if not all(raw.startswith(header, place) for place, header in headers.items()):
            raise _Damaged
        description = int(raw[at : at + RECORD][-5:-2])
        count = int(raw[at + COLUMNS_AT : at + COLUMNS_AT + RECORD][54:58])
        first = at + DESCRIPTIONS_AT
        opens = first + -(-description * count // RECORD) * RECORD
        start = opens + RECORD
        if not raw.startswith(OBSERVATIONS, opens) or description < 88 or len(raw) < start:
            raise _Damaged
        columns = tuple(_column(raw, first + description * i) for i in range(count))
        width = 0
        for column in columns:
            if column.start != width or column.length < 1 or (column.is_number and not 2 <= column.length <= 8):
                raise _Damaged
            width += column.length
        if not width:
            raise _Damaged
        name = raw[at + 2 * RECORD + 8 : at + 2 * RECORD + 16].decode("latin-1").strip()
        at = _next_table(raw, start)
        tables.append(_Table(name, columns, start, at, width))
    if not tables:
        raise _Damaged
    return tables


def _column(raw: bytes, at: int) -> _Column:
    kind, _, length, _, name = struct.unpack_from(">hhhh8s", raw, at)
    (start,) = struct.unpack_from(">l", raw, at + 84)
    if kind not in (NUMBER, TEXT):
        raise _Damaged
    return _Column(name.decode("latin-1").strip().upper(), kind == NUMBER, start, length)


def _next_table(raw: bytes, start: int) -> int:
    """Where the rows from `start` on end: at the next table, or the file."""
    at = start
    while (at := raw.find(MEMBER, at)) >= 0:
        if at % RECORD == 0:
            return at
        at += 1
    return len(raw)


def _chosen(tables: Sequence[_Table], columns: Sequence[str], path: Path) -> _Table:
    """The only table, or the only one of several that has the `columns`."""
    having = [table for table in tables if table.has(columns)]
    if len(tables) > 1 and len(having) != 1:
        called = ", ".join(table.name or "one without a name" for table in tables)
        some = f"{len(having)} of them have" if having else "none of them has"
        raise UserError(
            f"{path}: holds {len(tables)} tables, {called}; {some} {', '.join(columns)}; save the one that is meant in "
            "a file of its own"
        )
    table = (having or tables)[0]
    names = [column.name for column in table.columns]
    if missing := [f"{name}{did_you_mean(name, names)}" for name in columns if name not in names]:
        raise UserError(f"{path}: without the column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    if twice := [name for name in columns if names.count(name) > 1]:
        raise UserError(f"{path}: {', '.join(twice)} is there more than once; {AGAIN}")
    if text := [column.name for column in table.columns if column.name in columns and not column.is_number]:
        raise UserError(f"{path}: {', '.join(text)} should hold numbers but holds text")
    return table


def _rows(raw: bytes, table: _Table, path: Path) -> np.ndarray:
    """The bytes of the rows, uint8 `[row, byte]`, without the padding."""
    length = table.end - table.start
    count, blank = length // table.width, b" " * table.width
    while count and raw.startswith(blank, table.start + (count - 1) * table.width):
        count -= 1
    padding = raw[table.start + count * table.width : table.end]
    if not count and not padding.strip(b" "):
        raise UserError(f"{path}: the table has no rows; {AGAIN}")
    if len(raw) % RECORD or len(padding) >= RECORD or padding.strip(b" "):
        raise UserError(f"{path}: cut short in its rows ({len(raw)} bytes); {AGAIN}")
    return np.frombuffer(raw, np.uint8, count * table.width, table.start).reshape(count, table.width)


def _numbers(rows: np.ndarray, table: _Table, name: str, path: Path) -> np.ndarray:
    """The numbers of a column, float64 `[row]`, NaN where they are missing."""
    (column,) = [column for column in table.columns if column.name == name]
    own = rows[:, column.start : column.start + column.length]
    if len(blank := np.flatnonzero((own == ord(" ")).all(axis=1))):
        raise UserError(f"{path}: row {blank[0] + 1} has blanks where the number of {name} is; {AGAIN}")
    return np.concatenate([_decoded(own[start : start + ROWS]) for start in range(0, len(own), ROWS)])


def _decoded(raw: np.ndarray) -> np.ndarray:
    """IBM numbers of 2 to 8 bytes, uint8 `[row, byte]`, as float64 `[row]`."""
    whole = np.zeros((len(raw), 8), np.uint8)
    whole[:, : raw.shape[1]] = raw
    bits = whole.view(">u8")[:, 0].astype(np.uint64)
    fraction = (bits & np.uint64(2**56 - 1)).astype(np.float64)
    exponent = (whole[:, 0] & 0x7F).astype(np.int64) - 64
    values = np.ldexp(fraction, (4 * exponent - 56).astype(np.int32))
    missing = np.isin(whole[:, 0], np.frombuffer(MISSING, np.uint8)) & (whole[:, 1:] == 0).all(axis=1)
    values[(whole[:, 0] & 0x80) != 0] *= -1
    return np.where(missing, np.nan, values + 0.0)


def _shown(raw: bytes) -> str:
    """The first bytes, as they can be shown in one line; a web page is named as one."""
    text = raw[:16].decode("ascii", "replace")
    page = ", a web page" if raw[:512].lstrip().lower().startswith((b"<!doctype", b"<html")) else ""
    return f"{text!a}{page}"
