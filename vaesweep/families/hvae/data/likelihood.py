"""The likelihood of the Poisson equation's images under the distribution that they are drawn from.

Its mean over a domain is an estimate of the data's entropy, with a standard error of sqrt(pixels / 2 / rows) nats. No
model has a higher one in expectation; on the images of one domain a model may, by chance.
"""

import math

import torch
from torch import Tensor

from vaesweep.data.domains import Standardisation
from vaesweep.families.hvae.data.config import PoissonCondition
from vaesweep.families.hvae.data.poisson import solutions


def poisson_nll(images: Tensor, condition: PoissonCondition, standardisation: Standardisation) -> Tensor:
    """-log p of standardised `images` `[batch, 1, size, size]`, in nats an image, `[batch]`, float64.

    p is the equal mixture, over the condition's modes, of Gaussians around the noiseless images, in standardised units
    as the images are. Of an unseen domain, its own condition gives its entropy, and the training domain's what the best
    model of the training domain would have there.
    """
    mean, std = (torch.as_tensor(value, device=images.device) for value in (standardisation.mean, standardisation.std))
    centres = (torch.as_tensor(solutions(condition), device=images.device) - mean) / std
    scale = condition.noise / std
    distance = ((images.double() - centres) / scale).square().flatten(2).sum(-1)
    constant = condition.size**2 * (scale.log() + 0.5 * math.log(math.tau)) + math.log(len(condition.modes))
    return constant - torch.logsumexp(-0.5 * distance, dim=-1)
