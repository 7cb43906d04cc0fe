"""Small grey images: solutions of Poisson equations, MNIST, folders of files (thesis, lines 1775 and 1788).

`config` says what may be set and what a domain says of itself, `loading` reads `--data`, `pixels` makes batches. A
module each for what images are made of: `poisson`, `mnist` (over `files` and `binary`), `folder`.
"""

from vaesweep.data.images.config import (
    Binarisation,
    Grid,
    ImageCondition,
    ImageRows,
    ImagesConfig,
    Kind,
    PoissonCondition,
)
from vaesweep.data.images.likelihood import poisson_nll
from vaesweep.data.images.loading import FORMS, load
from vaesweep.data.images.pixels import Pixels
from vaesweep.data.images.poisson import solutions

__all__ = [
    "FORMS",
    "Binarisation",
    "Grid",
    "ImageCondition",
    "ImageRows",
    "ImagesConfig",
    "Kind",
    "Pixels",
    "PoissonCondition",
    "load",
    "poisson_nll",
    "solutions",
]
