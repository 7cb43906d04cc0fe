"""Readers of the two formats MNIST comes in, plain or in gzip: IDX (LeCun) and text with a pixel a number (Larochelle).

Both are read some at a time, so that no more memory is taken than the images need. A row of text is reduced to its
digits by one operation on bytes: the three files of 70 000 images take about a second, where parsing them number by
number takes minutes.
"""

import contextlib
import itertools
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vaesweep.data.reading import BoundedReader, open_bounded, size
from vaesweep.data.spelling import existing
from vaesweep.errors import UserError

SIDE = 28
IMAGES_MAGIC = 0x00000803  # unsigned bytes, three axes
BLANKS = b" \t"
FILE_BYTES = 2 * 2**30  # the most that is read of one file, unzipped: 2.7 million images as bytes, half of it as text
LINE_BYTES = 2**16  # the most that a row of text may take, and the most blank lines; one of MNIST's takes 1568
COUNTED = FILE_BYTES // SIDE**2  # rows, beyond which those of a damaged text are not counted
REMEDY = "get the file anew"


@contextlib.contextmanager
def open_file(folder: Path, name: str) -> Iterator[tuple[Path, BoundedReader]]:
    """The file `name` or `name.gz` of `folder`, whichever is there, and a reader of its content, unzipped."""
    zipped = folder / f"{name}.gz"
    path = zipped if zipped.exists() and not (folder / name).exists() else existing(folder / name)
    with open_bounded(path, FILE_BYTES, REMEDY) as reader:
        yield path, reader


def read_idx(folder: Path, name: str) -> np.ndarray:
    """The images `[row, 28, 28]`, uint8 from 0 to 255, of an IDX file: a header of four integers, then the pixels."""
    with open_file(folder, name) as (path, reader):
        start = bytes(reader.read_exactly(16))
        header = struct.unpack(">4I", start) if len(start) == 16 else (0,)
        if header[0] != IMAGES_MAGIC:
            raise UserError(f"{path}: not an IDX file of images (it begins with {start[:4].hex()!r}, not '00000803')")
        _, rows, height, width = header
        if (height, width) != (SIDE, SIDE):
            raise UserError(f"{path}: images of {height} x {width} pixels; {SIDE} x {SIDE} are needed")
        needed = f"{rows} images of {SIDE} x {SIDE} pixels take {16 + rows * SIDE**2}"
        if 16 + rows * SIDE**2 > FILE_BYTES:
            raise UserError(f"{path}: {needed} bytes, where at most {size(FILE_BYTES)} are read of one file; {REMEDY}")
        pixels = reader.read_exactly(rows * SIDE**2)
        if rows == 0 or len(pixels) < rows * SIDE**2:
            cut = _cut_at(len(pixels) // SIDE**2, rows)
            raise UserError(f"{path}: {16 + len(pixels)} bytes, but {needed}{cut}; {REMEDY}")
        if reader.read(1):
            raise UserError(f"{path}: more bytes than its header says: {needed}; {REMEDY}")
    return np.frombuffer(pixels, np.uint8).reshape(rows, SIDE, SIDE)


def _cut_at(whole: int, rows: int) -> str:
    return f" (it ends within row {whole + 1})" if whole < rows else ""


def read_amat(folder: Path, name: str) -> np.ndarray:
    """The images `[row, 28, 28]`, uint8 of 0 and 1, of a text file: an image a line, 784 zeros and ones and blanks."""
    digits = bytearray()
    with open_file(folder, name) as (path, reader):
        lines = _lines(reader, path)
        for number, line in enumerate(lines, start=1):
            row = line.translate(None, BLANKS)
            if fault := _fault(row):
                rows = number + sum(1 for _ in itertools.islice(lines, COUNTED))
                of = rows if rows < COUNTED else f"more than {COUNTED}"
                raise UserError(f"{path}: row {number} of {of} has {fault}; {REMEDY}")
            digits += row
    if not digits:
        raise UserError(f"{path}: holds no images; {REMEDY}")
    images = np.frombuffer(digits, np.uint8).reshape(-1, SIDE, SIDE)
    images -= ord("0")
    return images


def _fault(row: bytes) -> str:
    """What is wrong with a row of text without blanks, nothing if empty."""
    if other := row.translate(None, b"01"):
        return f"{other[:8].decode(errors='replace')!r} beside zeros and ones"
    return f"{len(row)} zeros and ones, not {SIDE**2}" if len(row) != SIDE**2 else ""


def _lines(reader: BoundedReader, path: Path) -> Iterator[bytes]:
    """The lines of a text that hold anything, and the blank ones between them."""
    rest, blank = b"", 0
    for chunk in itertools.chain(reader.chunks(), [b"\n"]):
        text = rest + chunk
        end = 1 + max(text.rfind(b"\n"), text.rfind(b"\r", 0, -1))  # of a last \r, the \n may be in the next chunk
        lines, rest = text[:end].splitlines(), text[end:]
        if max(map(len, [rest, *lines])) > LINE_BYTES or blank > LINE_BYTES:
            raise UserError(f"{path}: not a text of images, a row of {SIDE**2} zeros and ones each; {REMEDY}")
        for line in lines:
            if line.strip():
                yield from itertools.repeat(b"", blank)
                yield line
                blank = 0
            else:
                blank += 1
