"""Any folder of PNG, JPEG or BMP files, as grey images of one size (Pillow reads them)."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vaesweep.data.domains import DataSet, Domain, partition
from vaesweep.data.reading import check_size, open_regular
from vaesweep.data.spelling import slug
from vaesweep.errors import UserError
from vaesweep.families.hvae.data.config import ImageCondition, ImagesConfig, PixelKind
from vaesweep.families.hvae.data.parts import data_set, shuffled

SIZE = 32
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp"}
# Pillow knows others by their content, whatever their names, such as PostScript, for which it runs another program.
FORMATS = ("PNG", "JPEG", "BMP")
PIXELS = 2**27  # of one image: four bytes each while it is read
FILE_BYTES = 2**30  # of one image's file
REMEDY = "mend or remove the file"
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, zlib.error, struct.error, Image.DecompressionBombError)


def load(folder: Path, config: ImagesConfig) -> DataSet:
    """The images in `folder` and the folders in it, split by `config.partition`; an image's index is its place by name.

    Images are uint8, 0 to 255, and real: what is standardised of them is their intensity.
    """
    paths = sorted(
        (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")),
        key=lambda path: path.relative_to(folder).as_posix(),
    )
    if not paths:
        raise UserError(f"{folder}: no PNG, JPEG or BMP file in it; give a folder of images")
    try:
        parts = partition(len(paths), config.partition)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None
    condition, name = ImageCondition(kind=PixelKind.REAL, size=config.size or SIZE), slug(folder.resolve().name)
    domains = []
    for role, places in parts.items():
        indices = places[shuffled(len(places), config.rows.of(role))].astype(np.int64)
        images = np.stack([read_image(paths[place], condition.size) for place in indices])
        domains.append(Domain(f"{name}.{role}", role, {"images": images, "indices": indices}, condition))
    return data_set(domains)


def read_image(path: Path, size: int) -> np.ndarray:
    """The image in `path` as `[1, size, size]`, uint8: made grey, cut to its middle square and scaled to `size`.

    Transparency is ignored; of 16 bits the upper 8 are kept. What is not an image of `FORMATS`, whatever its name, or
    has more than `PIXELS` pixels is refused with a `UserError`.
    """
    with open_regular(path, REMEDY) as file:
        check_size(file, path, FILE_BYTES, REMEDY)
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
                return np.asarray(ImageOps.fit(_grey(image), (size, size)))[None]
        except UnidentifiedImageError:
            reason = "not a PNG, JPEG or BMP file"
        except MemoryError:
            reason = "there is not enough memory for its pixels"
        except UNREADABLE as error:
            reason = str(error)
        raise UserError(f"{path}: cannot be read as an image: {reason}; {REMEDY}")


def _grey(image: Image.Image) -> Image.Image:
    """An image that was opened, of which no more than the header has been read, upright and in 8 bits of grey."""
    if image.width * image.height > PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, where at most {PIXELS} are read of one image")
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("L")
