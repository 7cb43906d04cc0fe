"""Files that are written as wholes: a reader finds the old one or the new one."""

import os
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, write_to: Callable[[Path], object]) -> Path:
    """Write a file beside `path`, then put it in place, so that no reader sees an incomplete file."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_to(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
