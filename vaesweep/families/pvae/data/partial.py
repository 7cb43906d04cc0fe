"""Partial audiograms of listeners who are being measured, from a CSV file: thresholds measured so far, and the age.

The header holds canonical column names (`audiograms.COLUMNS`) in any order and any case. A threshold whose
cell is empty, or that has no column, has not been measured; `age` is needed. The first of the columns `listener`,
`id`, `name` and `seqn` that is there names the listeners; further columns are ignored. A column that looks like a
threshold and is none of the model's is refused, since to ignore a measurement would be an unnoticed mistake; beside
thresholds of the model, one of another frequency, such as `right_250`, is ignored and named.
Values are in dB HL and years.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaesweep.data.reading import ByteStream, read_stream
from vaesweep.data.spelling import did_you_mean, existing
from vaesweep.errors import UserError
from vaesweep.families.pvae.data.audiograms import COLUMNS, DIMS, EARS, FREQUENCIES, HIGHEST, LOWEST, THRESHOLDS
from vaesweep.families.pvae.data.tables import Table

PARTIAL_BYTES = 16 * 2**20  # the most that is read of one file: some three hundred thousand listeners
KNOWN = f"thresholds are {' or '.join(f'{ear}_' for ear in EARS)} and one of {', '.join(map(str, FREQUENCIES))} (Hz)"

# Frequencies of pure-tone audiometry in Hz, and words that beside a number make a column's name a threshold's.
AUDIOMETRIC = {125, 250, 500, 750, 1000, 1500, 2000, 3000, 4000, 6000, 8000, 9000, 10000, 11200, 12500, 14000, 16000}
WORDS = frozenset({*EARS, "r", "l", "re", "le", "ear", "hz", "k", "khz", "db", "hl", "dbhl"})


@dataclass(frozen=True)
class Listeners:
    """Listeners being measured: `names`, and `x`, float32 `[listener, 15]` in dB HL and years, NaN where not measured.

    `ignored` are the columns of the file that were not read.
    """

    names: tuple[str, ...]
    x: np.ndarray
    ignored: tuple[str, ...] = ()


def read_partial(path: str | Path) -> Listeners:
    """Read the CSV file at `path`; a value out of range or a listener without an age is refused with its line."""
    return listeners_of(Table.read(existing(path), PARTIAL_BYTES))


def read_partial_stream(stream: ByteStream, where: str) -> Listeners:
    """Read a CSV file from a stream, such as standard input; `where` names it in errors."""
    return parse_partial(read_stream(stream, PARTIAL_BYTES, where, "give a CSV file"), where)


def parse_partial(raw: bytes, where: str) -> Listeners:
    """Read the content of a CSV file; `where` names it in errors."""
    return listeners_of(Table.parse(raw, where))


def listeners_of(table: Table) -> Listeners:
    """The listeners of a table, one a row; those without a name are called by their line."""
    _check_header(table)
    present = [name for name in COLUMNS if name in table.header]
    title = table.title
    x, lines, names = np.full((table.count, DIMS), np.nan), [], []
    for number, row in enumerate(table.rows()):
        for name in present:
            x[number, COLUMNS.index(name)] = table.number(row, name)
        lines.append(f"line {row.line}")
        names.append((title and table.text(row, title)) or lines[-1])
    check(x, [f"{table.where}, {line}" for line in lines])
    ignored = [name or "(no name)" for name in table.header if name not in COLUMNS and name != title]
    return Listeners(tuple(names), x.astype(np.float32), tuple(ignored))


def check(x: np.ndarray, labels: Sequence[str]) -> None:
    """Refuse partial audiograms `x` `[listener, 15]` with an implausible value or no age; `labels` say whose it is."""
    if x.ndim != 2 or x.shape[1] != DIMS:
        raise UserError(f"partial audiograms have shape {x.shape}; needed is [listener, {DIMS}]: {', '.join(COLUMNS)}")
    for label, row in zip(labels, x, strict=True):
        if np.isnan(row[THRESHOLDS]):
            raise UserError(f"{label}: no age; every listener needs one, in years from 0 to 120")
        for name, value, low, high in zip(COLUMNS, row, LOWEST, HIGHEST, strict=True):
            if not np.isnan(value) and not low <= value <= high:
                unit = "years" if name == "age" else "dB HL"
                raise UserError(f"{label}: {name} is {value:g}, which is not between {low:g} and {high:g} {unit}")


def _check_header(table: Table) -> None:
    table.refuse_duplicates(COLUMNS)
    unknown = [name for name in table.header if name not in COLUMNS]
    for name in unknown:
        if _like_threshold(name) and not _is_company(name, table.header):
            raise UserError(f"{table.where}, line {table.heading}: unknown threshold {name!r}{_hint(name)}; {KNOWN}")
    if "age" not in table.header:
        hint = did_you_mean("age", unknown)
        raise UserError(f"{table.where}, line {table.heading}: no column 'age'{hint}; every listener needs an age")


def _like_threshold(name: str) -> bool:
    """Whether a column's name holds an audiometric frequency, or nothing but numbers, ears and units."""
    words, hertz = re.findall(r"[^\W\d_]+", name), _hertz(name)
    return bool(hertz) and (WORDS.issuperset(words) or not AUDIOMETRIC.isdisjoint(hertz))


def _is_company(name: str, header: Sequence[str]) -> bool:
    """Whether a column like a threshold is beside the model's: of another frequency, or of one that is there too."""
    asked = [column for column in COLUMNS[:THRESHOLDS] if int(column.partition("_")[2]) in _hertz(name)]
    if asked:
        ears = [ear for ear in EARS if ear in name]
        return all(column in header for column in asked if not ears or column.partition("_")[0] in ears)
    return not AUDIOMETRIC.isdisjoint(_hertz(name)) and any(column in header for column in COLUMNS[:THRESHOLDS])


def _hint(name: str) -> str:
    """The nearest column of a name that holds one of the model's frequencies; another frequency is near none."""
    return "" if _hertz(name).isdisjoint(FREQUENCIES) else did_you_mean(name, COLUMNS[:THRESHOLDS])


def _hertz(name: str) -> set[int]:
    """The numbers in a name, thousands where a k follows."""
    return {int(number) * (1000 if k else 1) for number, k in re.findall(r"(\d+) ?(k?)", name)}
