"""CSV tables of audiograms as text: encodings, separators, decimals, and errors that name the line.

Commas, semicolons and tabs separate cells; with the latter two, decimals may be written with a comma, as in German
files. The readers of a table (`population`, `partial`) interpret its columns.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaesweep.errors import UserError
from vaesweep.families.pvae.data.audiograms import COLUMNS

SEPARATORS = (";", "\t", ",")
EMPTY = frozenset({"", "na", "nan"})
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One row of a table, as long as its header, and the number of the `line` that it ends on."""

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table with at least one row: its `header` in lower case, and the `rows` below it that hold anything.

    `where` names the table in errors, `heading` is the number of the header's line.
    """

    where: str
    heading: int
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    separator: str

    @classmethod
    def read(cls, path: Path) -> "Table":
        """The table in the file at `path`."""
        if not path.is_file():
            raise UserError(f"{path}: not a file; give a CSV file")
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None
        return cls.parse(raw, str(path))

    @classmethod
    def parse(cls, raw: bytes, where: str) -> "Table":
        """The table in a file's content."""
        text = _text(raw, where)
        if not text.strip():
            raise UserError(f"{where}: the file is empty; needed is a header with {', '.join(COLUMNS)}")
        separator = max(SEPARATORS, key=text.lstrip().splitlines()[0].count)
        heading, *rows = _lines(text, separator, where)
        if not rows:
            raise UserError(f"{where}: a header and no rows below it")
        header = tuple(name.strip().lower() for name in heading.cells)
        for row in rows:
            if len(row.cells) != len(header):
                raise UserError(
                    f"{where}, line {row.line}: {len(row.cells)} cells where the header has {len(header)}; "
                    "write one for every column, an empty one where there is no value"
                )
        return cls(where, heading.line, header, tuple(rows), separator)

    def refuse_duplicates(self, names: Sequence[str]) -> None:
        """Refuse a header that has one of `names` more than once."""
        if duplicates := [name for name in names if self.header.count(name) > 1]:
            raise UserError(f"{self.where}: the header names {', '.join(duplicates)} more than once; keep one of each")

    def text(self, row: Row, name: str) -> str:
        """The text in the column `name` of `row`, without surrounding space."""
        return row.cells[self.header.index(name)].strip()

    def number(self, row: Row, name: str) -> float:
        """The number in the column `name`, NaN where its cell is empty."""
        cell = self.text(row, name)
        if cell.lower() in EMPTY:
            return np.nan
        number = cell if self.separator == "," else cell.replace(",", ".")
        if not NUMBER.fullmatch(number):
            raise UserError(
                f"{self.where}, line {row.line}: {name} is {cell[:40]!r}, which is not a number; write one, or nothing "
                "where there is no value"
            )
        return float(number)


def _text(raw: bytes, where: str) -> str:
    """Decode UTF-8 or UTF-16 with or without their marks, else Windows' Western European encoding."""
    has_mark = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if has_mark else ("utf-8-sig", "cp1252"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise UserError(f"{where}: not a text file; save the table as CSV (UTF-8)")


def _lines(text: str, separator: str, where: str) -> Iterator[Row]:
    """The rows that hold anything, the header first."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield Row(reader.line_num, tuple(row))
    except csv.Error as error:
        raise UserError(f"{where}, line {reader.line_num}: not a CSV row ({error})") from None
