"""CSV tables of audiograms as text: encodings, separators, decimals, and errors that name the line.

Commas, semicolons and tabs separate cells; with the latter two, decimals may be written with a comma, as in German
files. The readers of a table (`population`, `partial`) interpret its columns. Rows are made of the text one at a time,
since as strings they take twenty times the file's memory.
"""

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vaesweep.data.reading import CHUNK, read_file
from vaesweep.errors import UserError
from vaesweep.families.pvae.data.audiograms import COLUMNS, TABLE_BYTES

SEPARATORS = (";", "\t", ",")
EMPTY = frozenset({"", "na", "nan"})
ROW_CHARACTERS = 2**20  # the most that a row may take, since it must be held to be told from the next
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One row of a table, as long as its header, and the number of the `line` that it ends on."""

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table with at least one row: its `header` in lower case, and the number of `rows` below it that hold anything.

    `where` names the table in errors, `heading` is the number of the header's line.
    """

    where: str
    heading: int
    header: tuple[str, ...]
    count: int
    separator: str
    _raw: bytes
    _encoding: str

    @classmethod
    def read(cls, path: Path, limit: int = TABLE_BYTES) -> "Table":
        """The table in the file at `path`, of at most `limit` bytes."""
        return cls.parse(read_file(path, limit, "give a CSV file"), str(path))

    @classmethod
    def parse(cls, raw: bytes, where: str) -> "Table":
        """The table in a file's content."""
        encoding = _encoding(raw, where)
        separator = _separator(raw, encoding, where)
        heading, *first_rows = itertools.islice(_rows(raw, encoding, separator, where), 2)
        if not first_rows:
            raise UserError(f"{where}: a header and no rows below it")
        header = tuple(name.strip().lower() for name in heading.cells)
        table, count = cls(where, heading.line, header, 0, separator, raw, encoding), 0
        for row in table.rows():
            table._check_length(row)
            count += 1
        return replace(table, count=count)

    def rows(self) -> Iterator[Row]:
        """The rows below the header, from the first."""
        return itertools.islice(_rows(self._raw, self._encoding, self.separator, self.where), 1, None)

    def _check_length(self, row: Row) -> None:
        """Refuse a row that is not as long as the header."""
        if len(row.cells) != len(self.header):
            raise UserError(
                f"{self.where}, line {row.line}: {len(row.cells)} cells where the header has {len(self.header)}; "
                "write one for every column, an empty one where there is no value"
            )

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


class _Lines:
    """The lines of a table's text, with the number of `characters` that the row has taken which they belong to.

    A quoted cell may hold ends of lines, so that a row may take several.
    """

    def __init__(self, raw: bytes, encoding: str, where: str) -> None:
        self._text = io.TextIOWrapper(io.BytesIO(raw), encoding, newline="")
        self._where = where
        self._number = self.characters = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(ROW_CHARACTERS + 1)
        if not line:
            raise StopIteration
        self._number += 1
        self.characters += len(line)
        if self.characters > ROW_CHARACTERS:
            raise UserError(
                f"{self._where}, line {self._number}: a row of more than {ROW_CHARACTERS} characters; give a CSV file"
            )
        return line


def _rows(raw: bytes, encoding: str, separator: str, where: str) -> Iterator[Row]:
    """The rows that hold anything, the header first."""
    lines = _Lines(raw, encoding, where)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    try:
        for row in reader:
            lines.characters = 0
            if any(cell.strip() for cell in row):
                yield Row(reader.line_num, tuple(row))
    except csv.Error as error:
        raise UserError(f"{where}, line {reader.line_num}: not a CSV row ({error})") from None


def _separator(raw: bytes, encoding: str, where: str) -> str:
    """The separator that is most frequent in the first line that holds anything."""
    lines = _Lines(raw, encoding, where)
    for line in lines:
        lines.characters = 0
        if line.strip():
            return max(SEPARATORS, key=line.lstrip().splitlines()[0].count)
    raise UserError(f"{where}: the file is empty; needed is a header with {', '.join(COLUMNS)}")


def _encoding(raw: bytes, where: str) -> str:
    """The encoding of text: UTF-8 or UTF-16 with or without their marks, else Windows' Western European one."""
    has_mark = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if has_mark else ("utf-8-sig", "cp1252"):
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            if not any("\0" in decoder.decode(raw[start : start + CHUNK]) for start in range(0, len(raw), CHUNK)):
                decoder.decode(b"", final=True)
                return encoding
        except UnicodeDecodeError:
            continue
    raise UserError(f"{where}: not a text file; save the table as CSV (UTF-8)")
