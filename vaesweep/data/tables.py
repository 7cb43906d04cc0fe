"""CSV tables as text: encodings, separators, decimals, and errors that name the line.

Commas, semicolons and tabs separate cells; with the latter two, decimals may be written with a comma, as in German
files. Excel's first line `sep=;` is followed. The readers of a table interpret its columns. Rows are made of the text
one at a time, since as strings they take twenty times the file's memory.

A row is a line: two stray quotes would otherwise make one cell of all rows between them, in silence.
"""

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from vaesweep.data.reading import CHUNK, read_file
from vaesweep.errors import UserError

SEPARATORS = (";", "\t", ",")
EMPTY = frozenset({"", "na", "nan"})
ROW_CHARACTERS = 2**20  # the most that a row may take, since it must be held to be told from the next
TABLE_BYTES = 256 * 2**20  # the most that is read of one file
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
MARK = "\ufeff"  # of UTF, which a file that was put together of several has in its middle
_SEPARATOR_LINE = re.compile(r'"?sep=(.?)"?[,;\t]*', re.IGNORECASE)
_SPREADSHEETS = {b"PK\x03\x04": "an Excel or OpenOffice table", b"\xd0\xcf\x11\xe0": "an Excel table"}
QUOTE = "a cell is one line: close its quote, or take away a stray one"
SAVE = "save the table as CSV (UTF-8)"


@dataclass(frozen=True)
class Row:
    """One row of a table, as long as its header, the number of its `line`, and whether a cell of it `holds` text."""

    line: int
    cells: tuple[str, ...]
    holds: bool = True


@dataclass(frozen=True)
class Table:
    """A table with at least one row: its `header` in lower case, and the number of `rows` below it that hold anything.

    `where` names the table in errors, `heading` is the number of the header's line, `blank` the number of lines below
    it that hold nothing.
    """

    where: str
    heading: int
    header: tuple[str, ...]
    count: int
    blank: int
    separator: str
    _raw: bytes
    _encoding: str

    @classmethod
    def read(cls, path: Path, limit: int = TABLE_BYTES, needed: Sequence[str] = ()) -> Self:
        """The table in the file at `path`, of at most `limit` bytes; `needed` are columns that errors may name."""
        return cls.parse(read_file(path, limit, "give a CSV file"), str(path), needed)

    @classmethod
    def parse(cls, raw: bytes, where: str, needed: Sequence[str] = ()) -> Self:
        """The table in a file's content."""
        encoding = _encoding(raw, where)
        separator = _separator(raw, encoding, where, needed)
        rows = _rows(raw, encoding, separator, where)
        heading = next((row for row in rows if row.holds), None)
        if heading is None:
            raise UserError(f"{where}: all of its cells are empty; {_needed(needed)}")
        header = tuple(name.strip().strip(MARK).strip().lower() for name in heading.cells)
        table, count, blank = cls(where, heading.line, header, 0, 0, separator, raw, encoding), 0, 0
        for row in rows:
            if row.holds:
                table._check_length(row)
            count, blank = count + row.holds, blank + (not row.holds)
        if not count:
            raise UserError(f"{where}: a header and no rows below it")
        if (lines := _count(raw, encoding)) != heading.line + count + blank:
            raise UserError(f"{where}: {heading.line + count + blank} lines were read of {lines}; {SAVE}")
        return replace(table, count=count, blank=blank)

    def rows(self) -> Iterator[Row]:
        """The rows below the header, from the first."""
        rows = _rows(self._raw, self._encoding, self.separator, self.where)
        return itertools.islice((row for row in rows if row.holds), 1, None)

    def _check_length(self, row: Row) -> None:
        """Refuse a row that is not as long as the header."""
        if len(row.cells) != len(self.header):
            raise UserError(
                f"{self.where}, line {row.line}: {len(row.cells)} cells where the header has {len(self.header)}; "
                f"write one for every column, an empty one where there is no value{self._other_separator()}"
            )

    def _other_separator(self) -> str:
        return f" (cells are taken to be separated by {_called(self.separator)})"

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
    """The lines of a table's text, of which `csv` may take several for what it thinks is one row."""

    def __init__(self, raw: bytes, encoding: str, where: str) -> None:
        self._text = io.TextIOWrapper(io.BytesIO(raw), encoding, newline="")
        self._where = where
        self.number = self.characters = 0
        self.first = 1  # line of the row that is being read

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(ROW_CHARACTERS + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self.characters += len(line)
        if self.number > self.first:
            raise UserError(f"{self._where}, line {self.first}: not a CSV row (a quoted cell goes on below); {QUOTE}")
        if self.characters > ROW_CHARACTERS:
            raise UserError(
                f"{self._where}, line {self.number}: a row of more than {ROW_CHARACTERS} characters; give a CSV file"
            )
        return line

    def begin(self) -> None:
        """Take the next line as the first of another row."""
        self.characters, self.first = 0, self.number + 1


def _rows(raw: bytes, encoding: str, separator: str, where: str) -> Iterator[Row]:
    """A row a line, the header and what is before it first; a line that names the separator holds nothing."""
    lines = _Lines(raw, encoding, where)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    try:
        for row in reader:
            number = lines.number
            lines.begin()
            holds = any(cell.strip() for cell in row) and not (number == 1 and _names_separator(row, separator))
            yield Row(number, tuple(row), holds)
    except csv.Error as error:
        raise UserError(f"{where}, line {lines.first}: not a CSV row ({error}); {QUOTE}") from None


def _names_separator(row: Sequence[str], separator: str) -> bool:
    return bool(_SEPARATOR_LINE.fullmatch(separator.join(row).strip(" ").lstrip(MARK)))


def _count(raw: bytes, encoding: str) -> int:
    """The number of lines, which end in a line feed, a carriage return, or both."""
    decoder, lines, last = codecs.getincrementaldecoder(encoding)(), 0, "\n"
    for start in range(0, len(raw), CHUNK):
        text = decoder.decode(raw[start : start + CHUNK], final=start + CHUNK >= len(raw))
        if not text:
            continue
        whole = last[-1:] + text
        lines += text.count("\n") + text.count("\r") - whole.count("\r\n")
        last = text
    return lines + (last[-1] not in "\r\n")


def _separator(raw: bytes, encoding: str, where: str, needed: Sequence[str]) -> str:
    """The separator that the first line names, or that is most frequent in the first line that holds anything."""
    lines = _Lines(raw, encoding, where)
    for line in lines:
        lines.begin()
        if not line.strip():
            continue
        if (named := _SEPARATOR_LINE.fullmatch(line.strip(" \r\n").lstrip(MARK))) is None:
            return max(SEPARATORS, key=line.lstrip().splitlines()[0].count)
        if named[1] not in SEPARATORS:
            known = ", ".join(map(_called, SEPARATORS))
            raise UserError(f"{where}, line {lines.number}: cells separated by {named[1]!r}; separate them by {known}")
        return named[1]
    raise UserError(f"{where}: the file is empty; {_needed(needed)}")


def _called(separator: str) -> str:
    return {";": "semicolons", "\t": "tabs", ",": "commas"}[separator]


def _needed(columns: Sequence[str]) -> str:
    return f"needed is a header with {', '.join(columns)}" if columns else "needed is a header, and rows below it"


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
    raise UserError(f"{where}: not a text file{_kind(raw)}; {SAVE}")


def _kind(raw: bytes) -> str:
    """What a file that is no text seems to be."""
    for start, name in _SPREADSHEETS.items():
        if raw.startswith(start):
            return f", but {name}"
    even, odd = raw[:2000:2].count(0), raw[1:2000:2].count(0)
    return ", or UTF-16 without its mark" if max(even, odd) > len(raw[:2000]) // 4 > 4 * min(even, odd) else ""
