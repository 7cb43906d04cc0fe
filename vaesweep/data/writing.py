"""Files that are written as wholes: a reader finds the old one or the new one."""

import os
from collections.abc import Callable
from pathlib import Path

from vaesweep.errors import visible

FORMULAS = ("=", "+", "-", "@")  # beginnings of a cell that a spreadsheet runs


def cell_text(text: str) -> str:
    """A text for a cell of a CSV file: on one line, without control characters, and for spreadsheets no formula."""
    line = visible(text)
    return f"'{line}" if line.lstrip().startswith(FORMULAS) else line


def replace_file(path: Path, write_to: Callable[[Path], object]) -> Path:
    """Write a file beside `path`, then put it in place, so that no reader sees an incomplete file."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_to(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
