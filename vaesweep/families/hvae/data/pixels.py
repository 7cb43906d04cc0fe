"""The images of one domain on a device, and batches of them as a model takes them.

Images stay in the type that they are stored in, a byte a pixel for MNIST; a batch alone is float32.
"""

import warnings

import torch
from torch import Tensor

from vaesweep.data.domains import Domain, Standardisation
from vaesweep.errors import UserError
from vaesweep.families.hvae.data.binary import binarised_at_random, binarised_by_index
from vaesweep.families.hvae.data.config import PixelKind
from vaesweep.families.hvae.data.parts import CHUNK, condition_of


class Pixels:
    """The images of `domain` on `device`; real pixels that are not finite are refused with a `UserError`."""

    def __init__(self, domain: Domain, standardisation: Standardisation, device: torch.device) -> None:
        self.condition = condition_of(domain)
        with warnings.catch_warnings(action="ignore"):  # arrays may be read-only, and are never written to
            self._images = torch.as_tensor(domain.arrays["images"], device=device)
            self._indices = torch.as_tensor(domain.arrays["indices"], device=device)
        finite = self._images.isfinite().flatten(1).all(-1)
        if not finite.all():
            row = int(finite.int().argmin())
            raise UserError(f"{domain.name}: row {row} has a pixel that is not finite; make the data anew")
        if self.condition.kind is PixelKind.REAL:
            self._mean, self._std = float(standardisation.mean[0]), float(standardisation.std[0])

    def __len__(self) -> int:
        return len(self._indices)

    def indices(self, rows: Tensor | slice) -> Tensor:
        """The indices `[batch]`, int64, of some rows, by which their random numbers are keyed."""
        return self._indices[rows]

    def mean(self) -> Tensor:
        """The mean image `[1, height, width]`, float32, as batches have it: of 0 and 1, or standardised."""
        total = sum(images.double().sum(0) for images in self._images.split(CHUNK))
        mean = torch.as_tensor(total) / len(self)
        if self.condition.drawn:
            return (mean / 255).float()
        return (mean if self.condition.kind is PixelKind.BINARY else (mean - self._mean) / self._std).float()

    def batch(self, rows: Tensor | slice, generator: torch.Generator | None = None) -> Tensor:
        """The images `[batch, 1, height, width]`, float32, of some rows: 0 and 1, or standardised.

        Where binary images are drawn from intensities, `generator` draws them anew; without one each row's are its own,
        those of static binarisation.
        """
        images = self._images[rows]
        if self.condition.drawn:
            if generator:
                return binarised_at_random(images, generator)
            return binarised_by_index(images, self._indices[rows]).float()
        if self.condition.kind is PixelKind.BINARY:
            return images.float()
        return (images.float() - self._mean) / self._std
