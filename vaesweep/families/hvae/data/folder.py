"""Any folder of PNG, JPEG or BMP files, as grey images of one size (Pillow reads them)."""

import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vaesweep.data.domains import DataSet, Domain, partition
from vaesweep.data.folders import find
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
EIGHT_BITS = "pixels of 8 bits: model.observation=logistic has their likelihood, gaussian a density without a bound"
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, zlib.error, struct.error, Image.DecompressionBombError)


def load(folder: Path, config: ImagesConfig) -> DataSet:
    """The images in `folder` and the folders in it, split by `config.partition`; an image's index is its place by name.

    Images are uint8, 0 to 255, and real. Only a logistic observation knows that there is nothing between two levels.
    """
    found = find(folder, SUFFIXES)
    if not found.names:
        there = "".join(f"; {line.partition(': ')[2]}" for line in found.summary)
        raise UserError(f"{folder}: no PNG, JPEG or BMP file in it; give a folder of images{there}")
    paths = [folder / name for name in found.names]
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
    return data_set(domains, (*found.summary, *_flat(domains, paths), EIGHT_BITS))


def _flat(domains: Sequence[Domain], paths: Sequence[Path]) -> Iterator[str]:
    """A line on images that are one grey level, as those are whose values lie outside of what their format holds."""
    for domain in domains:
        images = domain.arrays["images"].reshape(len(domain), -1)
        if len(flat := np.flatnonzero((images == images[:, :1]).all(axis=1))):
            one, grey = paths[domain.arrays["indices"][flat[0]]], images[flat[0], 0]
            yield f"{domain.name}: {len(flat)} of {len(domain)} images are one grey level each, such as {one} ({grey})"


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
            reason = str(error) or type(error).__name__
        raise UserError(f"{path}: cannot be read as an image: {reason}; {REMEDY}")


def _grey(image: Image.Image) -> Image.Image:
    """An image that was opened, of which no more than the header has been read, upright and in 8 bits of grey."""
    if image.width * image.height > PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, where at most {PIXELS} are read of one image")
    ImageOps.exif_transpose(image, in_place=True)
    if image.format == "PNG" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise ValueError(f"{frames} pictures in one file; save each in a file of its own")
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise ValueError(f"samples of kind {image.mode}; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("L")
