"""References for the bound of a hierarchy, each with what it was computed of: the data's own density, published models.

Only such stand beside a hierarchy as were computed of the very same test images. The thesis' Figure 5 also has the
Efficient VD-VAE (79.09 nats) and CR-NVAE (76.93): these binarise anew, pad the images or test on half of the file, so
that they are not.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from vaesweep.data.domains import DataSet, Role
from vaesweep.families.hvae.data import Pixels, PoissonCondition, poisson_nll
from vaesweep.families.hvae.data.mnist import BINARISED

TRUE_DENSITY = "true density"
TEST_SET = 10_000  # images of Larochelle's test file


@dataclass(frozen=True)
class Reference:
    """A mean negative log-likelihood, `nats` an image: `exact` or a bound, of so many test `rows` of which `data`."""

    nats: float
    exact: bool
    rows: int
    data: str
    source: str

    @property
    def protocol(self) -> str:
        """What it was computed of, in words for a legend, in two lines."""
        return f"{'exact −log p' if self.exact else 'a bound'}, {self.data},\n{self.rows} test images"


LAROCHELLE = "Larochelle's fixed binarisation"
PUBLISHED: Mapping[str, Reference] = {
    "MADE": Reference(86.64, True, TEST_SET, LAROCHELLE, "Germain et al. 2015; two layers, 32 masks"),
    "PixelCNN": Reference(81.30, True, TEST_SET, LAROCHELLE, "van den Oord et al. 2016"),
}


def references(data: DataSet, domain: str, rows: int) -> dict[str, Reference]:
    """References of the first `rows` images of `domain`, by name; none of other data.

    Images of Poisson equations have the density that they are drawn from: on the same images a model's mean negative
    ELBO is below it by chance alone, and in expectation over such images it is not. Published models are there for
    Larochelle's test set, whole.
    """
    images = next((candidate for candidate in data.domains if candidate.name == domain), None)
    if images is None:
        return {}
    if isinstance(images.condition, PoissonCondition):
        pixels = Pixels(images, data.standardisation, torch.device("cpu"))
        x = pixels.batch(slice(0, min(rows, len(pixels))))
        nats = float(poisson_nll(x, images.condition, data.standardisation).mean())
        return {TRUE_DENSITY: Reference(nats, True, len(x), domain, "the distribution that the images are drawn from")}
    whole = len(images) == TEST_SET <= rows
    return dict(PUBLISHED) if whole and domain == f"{BINARISED}.{Role.TEST}" else {}
