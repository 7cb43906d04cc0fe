"""Any population of audiograms, such as HÖRSTAT, from a CSV file.

The header holds the canonical column names (`vaesweep.data.audiograms.COLUMNS`) in any order and any case; further
columns are ignored. Values are in dB HL and years. Commas, semicolons and tabs separate cells; with the latter two,
decimals may be written with a comma, as in German files.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vaesweep.data.audiograms import COLUMNS, Rows, screen
from vaesweep.data.spelling import did_you_mean
from vaesweep.errors import UserError

SEPARATORS = (";", "\t", ",")
EMPTY = frozenset({"", "na", "nan"})
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)


def read_population(path: Path) -> Rows:
    """Read the complete and plausible rows of the CSV file at `path`."""
    if not path.is_file():
        raise UserError(f"{path}: not a file; give a CSV file")
    text = _text(path)
    if not text.strip():
        raise UserError(f"{path}: the file is empty; needed is a header with {', '.join(COLUMNS)}")
    separator = max(SEPARATORS, key=text.lstrip().splitlines()[0].count)
    lines = _lines(text, separator, path)
    _, cells = next(lines)
    header = [name.strip().lower() for name in cells]
    where = _positions(header, path)
    values = [_values(line, row, header, where, separator, path) for line, row in lines]
    if not values:
        raise UserError(f"{path}: a header and no rows below it")
    x = np.array(values)
    rows = screen(x, {"with an empty cell": np.isnan(x).any(axis=1)}, path, path.name)
    extra = [name or "(no name)" for name in header if name not in COLUMNS]
    ignored = (f"{path.name}: columns ignored: {', '.join(extra)}",) if extra else ()
    return Rows(rows.x, (*rows.summary, *ignored))


def _text(path: Path) -> str:
    """Decode UTF-8 or UTF-16 with or without their marks, else Windows' Western European encoding."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    marked = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp1252"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise UserError(f"{path}: not a text file; save the table as CSV (UTF-8)")


def _lines(text: str, separator: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that hold anything, each with the number of the line it ends on."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not a CSV row ({error})") from None


def _positions(header: Sequence[str], path: Path) -> list[int]:
    """Where each of the canonical columns stands in `header`."""
    twice = [name for name in COLUMNS if header.count(name) > 1]
    if twice:
        raise UserError(f"{path}: the header names {', '.join(twice)} more than once")
    missing = [name for name in COLUMNS if name not in header]
    if len(missing) == len(COLUMNS):
        raise UserError(f"{path}: no known column in its first line; needed: {', '.join(COLUMNS)}")
    if missing:
        unknown = [name for name in header if name not in COLUMNS]
        named = ", ".join(f"{name}{did_you_mean(name, unknown)}" for name in missing)
        raise UserError(f"{path}: missing in the header: {named}")
    return [header.index(name) for name in COLUMNS]


def _values(
    line: int, row: Sequence[str], header: Sequence[str], where: Sequence[int], separator: str, path: Path
) -> list[float]:
    """The fifteen numbers of one row, NaN for an empty cell."""
    if len(row) != len(header):
        raise UserError(f"{path}, line {line}: {len(row)} cells where the header has {len(header)}")
    values = []
    for at in where:
        cell = row[at].strip()
        number = cell if separator == "," else cell.replace(",", ".")
        if cell.lower() in EMPTY:
            values.append(np.nan)
        elif NUMBER.fullmatch(number):
            values.append(float(number))
        else:
            raise UserError(f"{path}, line {line}: {header[at]} is {cell[:40]!r}, which is not a number")
    return values
