"""Read one SAS transport file (XPT, version 5), and refuse a damaged one in one line.

pandas decodes the numbers, some rows at a time, and of a wide table only the columns that are asked for are kept.
Faults that it accepts are refused here first: files cut short, other files renamed, tables without rows. Layout:
records of 80 bytes; three for the library, four for the table, one that counts the columns, one description (140
bytes, on old machines 135) per column, one that opens the rows; then the rows, back to back and padded with blanks to
80 bytes. The format does not say how many rows there are, so a file that was cut exactly between two rows looks whole.
"""

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaesweep.data.reading import CHUNK, read_file
from vaesweep.data.spelling import did_you_mean
from vaesweep.errors import UserError
from vaesweep.families.pvae.data.audiograms import TABLE_BYTES

if TYPE_CHECKING:
    import pandas as pd

RECORD = 80
LIBRARY = b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!"
OBSERVATIONS = b"HEADER RECORD*******OBS     HEADER RECORD!!!!!!!"
MEMBER_AT, COLUMNS_AT, DESCRIPTIONS_AT = 3 * RECORD, 7 * RECORD, 8 * RECORD
IBM_ZERO = 1e-70  # pandas decodes an IBM zero as 5.4e-79
AGAIN = "download it again"


def read_xport(path: Path, columns: Sequence[str]) -> "pd.DataFrame":
    """Read the numeric `columns` (upper-case names) of the table in `path`; a missing value is NaN."""
    import pandas as pd  # takes half a second, which every sweep of partial VAEs would pay

    raw = read_file(path, TABLE_BYTES, AGAIN)
    width = _check(raw, path)
    try:
        with pd.read_sas(
            io.BytesIO(raw), format="xport", encoding="latin-1", chunksize=max(1, CHUNK // width)
        ) as chunks:
            frame = pd.concat([_numbers(chunk, columns, path) for chunk in chunks], ignore_index=True)
    except UserError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError, struct.error) as error:
        raise UserError(f"{path}: damaged SAS transport file ({error!r}); {AGAIN}") from None
    return frame.mask(frame.abs() < IBM_ZERO, 0.0)


def _numbers(frame: "pd.DataFrame", columns: Sequence[str], path: Path) -> "pd.DataFrame":
    """The `columns` of some rows."""
    frame.columns = frame.columns.str.upper()
    _check_columns(frame, columns, path)
    return frame[list(columns)].astype("float64")


def _check(raw: bytes, path: Path) -> int:
    """The width of a row, in bytes; `raw` is refused unless it is a whole transport file with at least one row."""
    if not raw:
        raise UserError(f"{path}: the file is empty; {AGAIN}")
    if not raw.startswith(LIBRARY[: len(raw)]):
        raise UserError(f"{path}: not a SAS transport file, it begins with {_shown(raw)}; {AGAIN}")
    try:
        start, width = _rows_at(raw)
    except (ValueError, struct.error):
        raise UserError(f"{path}: cut short or damaged in its header ({len(raw)} bytes); {AGAIN}") from None
    rest = raw[len(raw) - (len(raw) - start) % width :]
    if len(raw) % RECORD or len(rest) >= RECORD or rest.strip(b" "):
        raise UserError(f"{path}: cut short in its rows ({len(raw)} bytes); {AGAIN}")
    if raw.count(b" ", start) == len(raw) - start:
        raise UserError(f"{path}: the table has no rows; {AGAIN}")
    return width


def _shown(raw: bytes) -> str:
    """The first bytes, as they can be shown in one line; a web page is named as one."""
    text = raw[:16].decode("ascii", "replace")
    page = ", a web page" if raw[:512].lstrip().lower().startswith((b"<!doctype", b"<html")) else ""
    return f"{text!a}{page}"


def _rows_at(raw: bytes) -> tuple[int, int]:
    """The start of the rows and the width of a row, in bytes; `ValueError` where the header is damaged."""
    description = int(raw[MEMBER_AT : MEMBER_AT + RECORD][-5:-2])
    count = int(raw[COLUMNS_AT : COLUMNS_AT + RECORD][54:58])
    end = DESCRIPTIONS_AT + -(-description * count // RECORD) * RECORD
    if not raw[end:].startswith(OBSERVATIONS) or description < RECORD or len(raw) < end + RECORD:
        raise ValueError
    widths = (struct.unpack_from(">h", raw, DESCRIPTIONS_AT + description * i + 4)[0] for i in range(count))
    width = sum(widths)
    if width < 1:
        raise ValueError
    return end + RECORD, width


def _check_columns(frame: "pd.DataFrame", columns: Sequence[str], path: Path) -> None:
    missing = [f"{name}{did_you_mean(name, frame.columns)}" for name in columns if name not in frame]
    if missing:
        raise UserError(f"{path}: without the column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    import pandas as pd

    text = [name for name in columns if not pd.api.types.is_numeric_dtype(frame[name])]
    if text:
        raise UserError(f"{path}: {', '.join(text)} should hold numbers but holds text")
