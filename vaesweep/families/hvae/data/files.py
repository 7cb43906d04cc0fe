"""Readers of the two formats MNIST comes in, plain or in gzip: IDX (LeCun) and text with a pixel a number (Larochelle).

A row of text is reduced to its digits by one operation on bytes: the three files of 70 000 images take about a second,
where parsing them number by number takes minutes.
"""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from vaesweep.data.spelling import existing
from vaesweep.errors import UserError

SIDE = 28
IMAGES_MAGIC = 0x00000803  # unsigned bytes, three axes
BLANKS = b" \t"


def read_bytes(folder: Path, name: str) -> tuple[Path, bytes]:
    """The file `name` or `name.gz` of `folder`, whichever is there, and its content, unzipped."""
    zipped = folder / f"{name}.gz"
    path = zipped if zipped.exists() and not (folder / name).exists() else existing(folder / name)
    try:
        content = path.read_bytes()
        return path, gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read: {error}; get the file anew") from None


def read_idx(folder: Path, name: str) -> np.ndarray:
    """The images `[row, 28, 28]`, uint8 from 0 to 255, of an IDX file: a header of four integers, then the pixels."""
    path, content = read_bytes(folder, name)
    header = struct.unpack(">4I", content[:16]) if len(content) >= 16 else (0,)
    if header[0] != IMAGES_MAGIC:
        raise UserError(f"{path}: not an IDX file of images (it begins with {content[:4].hex()!r}, not '00000803')")
    _, rows, height, width = header
    if (height, width) != (SIDE, SIDE):
        raise UserError(f"{path}: images of {height} x {width} pixels; {SIDE} x {SIDE} are needed")
    needed = 16 + rows * SIDE**2
    if rows == 0 or len(content) != needed:
        raise UserError(
            f"{path}: {len(content)} bytes, but {rows} images of {SIDE} x {SIDE} pixels take {needed}"
            f"{_cut_at((len(content) - 16) // SIDE**2, rows)}; get the file anew"
        )
    return np.frombuffer(content, np.uint8, offset=16).reshape(rows, SIDE, SIDE)


def _cut_at(whole: int, rows: int) -> str:
    return f" (it ends within row {whole + 1})" if whole < rows else ""


def read_amat(folder: Path, name: str) -> np.ndarray:
    """The images `[row, 28, 28]`, uint8 of 0 and 1, of a text file: an image a line, 784 zeros and ones and blanks."""
    path, content = read_bytes(folder, name)
    rows = [line.translate(None, BLANKS) for line in content.rstrip().splitlines()]
    if not rows:
        raise UserError(f"{path}: holds no images; get the file anew")
    for number, row in enumerate(rows, start=1):
        other = row.translate(None, b"01")
        if other:
            fault = f"{other[:8].decode(errors='replace')!r} beside zeros and ones"
        elif len(row) != SIDE**2:
            fault = f"{len(row)} zeros and ones, not {SIDE**2}"
        else:
            continue
        raise UserError(f"{path}: row {number} of {len(rows)} has {fault}; get the file anew")
    return (np.frombuffer(b"".join(rows), np.uint8) - ord("0")).reshape(-1, SIDE, SIDE)
