"""References for the bound of a hierarchy: the data's own density, published models (thesis, Figure 5)."""

from collections.abc import Mapping

import torch

from vaesweep.data.domains import DataSet, Role
from vaesweep.families.hvae.data import Pixels, PoissonCondition, poisson_nll
from vaesweep.families.hvae.data.mnist import BINARISED

TRUE_DENSITY = "true density"
PUBLISHED: Mapping[str, float] = {  # nats an image of binarised MNIST's test set; thesis, Figure 5, and its references
    "MADE": 86.64,
    "PixelCNN": 81.30,
    "Efficient VD-VAE": 79.09,
    "CR-NVAE": 76.93,
}
TEST_SET = 10_000  # its images


def references(data: DataSet, domain: str, rows: int) -> dict[str, float]:
    """Negative log-likelihoods, nats an image, of the first `rows` images of `domain`, by name; none of other data.

    Images of Poisson equations have the density that they are drawn from: below it no model's mean negative ELBO on
    the same images can be but by chance. Published models are there for Larochelle's test set, whole.
    """
    images = next((candidate for candidate in data.domains if candidate.name == domain), None)
    if images is None:
        return {}
    if isinstance(images.condition, PoissonCondition):
        pixels = Pixels(images, data.standardisation, torch.device("cpu"))
        x = pixels.batch(slice(0, min(rows, len(pixels))))
        return {TRUE_DENSITY: float(poisson_nll(x, images.condition, data.standardisation).mean())}
    whole = len(images) == TEST_SET <= rows
    return dict(PUBLISHED) if whole and domain == f"{BINARISED}.{Role.TEST}" else {}
