"""The data set of several domains of images: their standardisation, and a summary line for each."""

from collections.abc import Sequence

import numpy as np

from vaesweep.data.domains import DataSet, Domain, Role, Standardisation
from vaesweep.data.repeats import repeats
from vaesweep.errors import UserError
from vaesweep.families.hvae.data.config import ImageCondition, PixelKind

ORDER = 28  # of images from files
GREY_SCALE = Standardisation(np.array([127.5]), np.array([127.5]))  # takes intensities of 8 bits to -1 to 1
CHUNK = 1024  # images at a time, where something larger than the images is computed of them


def data_set(domains: Sequence[Domain], notes: Sequence[str] = ()) -> DataSet:
    """A data set of `domains`, whose `condition` is an `ImageCondition`; `notes` end its summary.

    Real pixels are standardised by one mean and one standard deviation, both of shape `[1]`, of all pixels of the
    training domain: position says nothing about a pixel's scale. Binary pixels are not standardised.
    """
    summary = [*map(_line, domains), *notes, *repeats(domains, "images")]
    (train,) = [domain for domain in domains if domain.role is Role.TRAIN]
    if condition_of(train).kind is PixelKind.BINARY:
        return DataSet(tuple(domains), ("pixel",), summary=tuple(summary))
    scale = _fitted(train)
    summary.append(f"pixels standardised by mean {scale.mean[0]:.5g} and standard deviation {scale.std[0]:.5g}")
    return DataSet(tuple(domains), ("pixel",), scale, tuple(summary))


def shuffled(rows: int, most: int | None) -> np.ndarray:
    """Row numbers `[row]`, int64, in a random order that is always the same for `rows`: the first `most` of them.

    Files are often sorted by what is on their images (Larochelle's test file by digit, folders by name), and the first
    rows of a domain should have some of everything.
    """
    return np.random.default_rng(np.random.SeedSequence((ORDER, rows))).permutation(rows)[:most]


def condition_of(domain: Domain) -> ImageCondition:
    """The condition of the images of `domain`."""
    assert isinstance(domain.condition, ImageCondition)
    return domain.condition


def has_eight_bits(domain: Domain) -> bool:
    """Whether a domain of real pixels has intensities of 8 bits, 0 to 255."""
    return domain.arrays["images"].dtype == np.uint8 and condition_of(domain).kind == PixelKind.REAL


def _fitted(train: Domain) -> Standardisation:
    """Mean and standard deviation of all pixels, in chunks, so that no copy of all images in float64 is made."""
    images = train.arrays["images"]
    mean = images.mean(dtype=np.float64)
    squares = sum(((images[i : i + CHUNK] - mean) ** 2).sum() for i in range(0, len(images), CHUNK))
    if squares == 0:
        raise UserError(f"{train.name}: all pixels are equal, so they cannot be standardised; use images that differ")
    return Standardisation(np.array([mean]), np.array([np.sqrt(squares / images.size)]))


def _line(domain: Domain) -> str:
    condition, indices = condition_of(domain), domain.arrays["indices"]
    drawn = ", drawn anew from intensities for every batch of training" if condition.drawn else ""
    return (
        f"{domain.name}: {len(domain)} {condition.kind} images of {condition.size} x {condition.size} pixels{drawn}, "
        f"indices {indices.min()} to {indices.max()}"
    )
