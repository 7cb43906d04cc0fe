"""Small grey images: solutions of Poisson equations, MNIST, folders of files (thesis, lines 1775 and 1788).

`config` has the settings and the condition of a domain, `loading` reads `--data`, `pixels` makes batches. Each kind of
images has a module: `poisson`, `mnist` (over `files` and `binary`), `folder`.
"""

from vaesweep.families.hvae.data.config import (
    Binarisation,
    Grid,
    ImageCondition,
    ImageRows,
    ImagesConfig,
    PixelKind,
    PoissonCondition,
)
from vaesweep.families.hvae.data.likelihood import poisson_nll
from vaesweep.families.hvae.data.loading import FORMS, load
from vaesweep.families.hvae.data.parts import GREY_SCALE, condition_of, has_eight_bits
from vaesweep.families.hvae.data.pixels import Pixels
from vaesweep.families.hvae.data.poisson import solutions

__all__ = [
    "FORMS",
    "GREY_SCALE",
    "Binarisation",
    "Grid",
    "ImageCondition",
    "ImageRows",
    "ImagesConfig",
    "PixelKind",
    "Pixels",
    "PoissonCondition",
    "condition_of",
    "has_eight_bits",
    "load",
    "poisson_nll",
    "solutions",
]
