"""Settings of images, and the condition of a domain of them.

Thesis, "Synthetic Poisson equation data set" and "Binarized MNIST" (lines 1775 and 1788). What it leaves open is chosen
here and marked so.
"""

from enum import StrEnum

from pydantic import Field

from vaesweep.data.domains import Role
from vaesweep.packing import Frozen


class PixelKind(StrEnum):
    """The kind of pixels that a model sees."""

    BINARY = "binary"  # 0 and 1, for a Bernoulli model
    REAL = "real"  # standardised, for a Gaussian model


class Binarisation(StrEnum):
    """The way in which MNIST's intensities become binary images."""

    STATIC = "static"  # 1 with the probability of the intensity, drawn once
    DYNAMIC = "dynamic"  # the training domain's drawn anew for every batch, the others' once
    THRESHOLD = "threshold"  # 1 from half the full intensity


class Grid(StrEnum):
    """The grid of the Poisson equation's pixels on the unit square, along either axis, for `size` pixels."""

    INNER = "inner"  # 1 / (size + 1), ..., size / (size + 1): without the border, where all images are zero
    BORDERED = "bordered"  # 0, 1 / (size - 1), ..., 1


class ImageRows(Frozen):
    """The largest number of images of each part; all if not set. More include those of fewer."""

    train: int | None = Field(None, ge=1)
    valid: int | None = Field(None, ge=1)
    test: int | None = Field(None, ge=1, description="of the test domain, and of each unseen one")

    def of(self, role: Role) -> int | None:
        """The number that holds for a domain with `role`."""
        return {Role.TRAIN: self.train, Role.VALID: self.valid}.get(role, self.test)


class ImagesConfig(Frozen):
    """The images that are trained on; settings that the kind of data in `--data` does not use are ignored."""

    size: int | None = Field(None, ge=4, le=1024, description="pixels a side; 16 (poisson), 28 (MNIST) or 32 (folder)")
    rows: ImageRows = ImageRows()
    binarisation: Binarisation = Field(Binarisation.DYNAMIC, description="of mnist; the thesis' code draws anew")
    grid: Grid = Field(Grid.INNER, description="of poisson; not in the thesis")
    partition: int = Field(0, ge=0, description="of folder: which images are for training, validation and testing")


class ImageCondition(Frozen):
    """The condition of a domain of images `[row, 1, size, size]`."""

    kind: PixelKind
    size: int
    drawn: bool = Field(False, description="intensities, 0 to 255, of which binary images are drawn for every batch")


class PoissonCondition(ImageCondition):
    """The distribution of observations of the Poisson equation's solutions (thesis line 1775)."""

    kind: PixelKind = PixelKind.REAL
    size: int = 16
    modes: tuple[int, ...] = Field((1, 3), description="a = b of the solutions, in equal proportions")
    noise: float = Field(5e-3, description="standard deviation of the Gaussian noise, in the units of the solutions")
    grid: Grid = Grid.INNER
