"""Observation distributions of images, of every pixel by itself: Gaussian or Bernoulli (thesis line 1756), or logistic.

Grey images of 8 bits are not in the thesis. A density of them is unbounded, since it may gather on their levels; the
logistic distribution is discretised, as by Kingma et al. (2016) and Salimans et al. (2017), so that the 256 levels'
probabilities sum to one.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from vaesweep.distributions import Gaussian
from vaesweep.likelihoods import gaussian_nll

LN_TWO_PI_E = 2.8378770664093453  # twice the entropy of N(0, 1) in nats
RARE = 1e-3  # probability of what no training image has
LEVELS = 256  # of a grey pixel of 8 bits
STEP = 2 / (LEVELS - 1)  # between levels
SMALLEST = -9.0  # log of a logistic distribution's scale: 1/60 of a step, below which nothing is gained


class Observation(Protocol):
    """A distribution of images `[…, 1, height, width]`, its pixels independent."""

    PARAMETERS: ClassVar[int]  # numbers a pixel

    @classmethod
    def of(cls, parameters: Tensor) -> Self:
        """The distribution with `parameters` `[…, PARAMETERS, height, width]`, any real numbers."""

    @staticmethod
    def centre(mean: Tensor) -> Tensor:
        """The first parameter `[1, height, width]` of distributions with the `mean`, the others being zero."""

    @property
    def mean(self) -> Tensor:
        """The mean of every pixel, `[…, 1, height, width]`."""

    @property
    def std(self) -> Tensor:
        """The standard deviation of every pixel, `[…, 1, height, width]`."""

    def nll(self, x: Tensor) -> Tensor:
        """-log p(x), nats an image: `[…]`."""

    def entropy(self) -> Tensor:
        """The entropy of every pixel in nats, `[…, 1, height, width]`."""

    def sample(self, noise: Tensor) -> Tensor:
        """Images, by standard normal `noise` `[…, 1, height, width]`."""


@dataclass(frozen=True)
class GaussianPixels:
    """Gaussian distribution of every pixel, N(mean, std²), in standardised units."""

    PARAMETERS: ClassVar[int] = 2
    mean: Tensor
    log_std: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> "GaussianPixels":
        """The distribution of means and logarithms of standard deviations."""
        return cls(*parameters.chunk(2, dim=-3))

    @staticmethod
    def centre(mean: Tensor) -> Tensor:
        """The mean itself."""
        return mean

    @property
    def std(self) -> Tensor:
        """The standard deviation."""
        return self.log_std.exp()

    def nll(self, x: Tensor) -> Tensor:
        """-log p(x), nats an image: `[…]`."""
        return gaussian_nll(x, Gaussian(self.mean, self.log_std)).sum((-3, -2, -1))

    def entropy(self) -> Tensor:
        """The entropy of every pixel in nats; a density's may be negative."""
        return self.log_std + LN_TWO_PI_E / 2

    def sample(self, noise: Tensor) -> Tensor:
        """Images, by standard normal noise."""
        return self.mean + self.std * noise


@dataclass(frozen=True)
class BernoulliPixels:
    """Bernoulli distribution of every pixel: 1 with the probability sigmoid(logit), else 0."""

    PARAMETERS: ClassVar[int] = 1
    logits: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> "BernoulliPixels":
        """The distribution of logits."""
        return cls(parameters)

    @staticmethod
    def centre(mean: Tensor) -> Tensor:
        """The logit of the mean; of one of 0 or 1 that of `RARE` or of 1 - `RARE`."""
        return mean.logit(eps=RARE)

    @property
    def mean(self) -> Tensor:
        """The probability of a 1."""
        return self.logits.sigmoid()

    @property
    def std(self) -> Tensor:
        """The standard deviation."""
        return (self.mean * (1 - self.mean)).sqrt()

    def nll(self, x: Tensor) -> Tensor:
        """-log p(x), nats an image: `[…]`."""
        return (F.softplus(self.logits) - x * self.logits).sum((-3, -2, -1))

    def entropy(self) -> Tensor:
        """The entropy of every pixel in nats."""
        return F.softplus(self.logits) - self.mean * self.logits

    def sample(self, noise: Tensor) -> Tensor:
        """Images, by standard normal noise."""
        return (torch.special.ndtr(noise) < self.mean).to(self.logits)


@dataclass(frozen=True)
class LogisticPixels:
    """Discretised logistic distribution of every pixel over 256 levels, which are -1, -1 + `STEP`, …, 1.

    A level has the logistic distribution's mass within half a step of it, and the outermost ones all that lies beyond.
    """

    PARAMETERS: ClassVar[int] = 2
    location: Tensor
    log_scale: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> "LogisticPixels":
        """The distribution of locations and logarithms of scales, these held above `SMALLEST`."""
        location, log_scale = parameters.chunk(2, dim=-3)
        return cls(location, log_scale.clamp(min=SMALLEST))

    @staticmethod
    def centre(mean: Tensor) -> Tensor:
        """The mean itself."""
        return mean

    @property
    def mean(self) -> Tensor:
        """The mean of the logistic variable, held between -1 and 1: within half a step of that of its level."""
        scale = self.log_scale.exp()
        above, below = ((self.location + end) / scale for end in (1, -1))
        return scale * (F.softplus(above) - F.softplus(below)) - 1

    @property
    def std(self) -> Tensor:
        """The standard deviation of the logistic variable, before it is held between -1 and 1."""
        return math.pi / math.sqrt(3) * self.log_scale.exp()

    def nll(self, x: Tensor) -> Tensor:
        """-log p(x), nats an image: `[…]`; `x` are levels."""
        return -self._log_mass(x).sum((-3, -2, -1))

    def entropy(self) -> Tensor:
        """The entropy of every pixel in nats."""
        levels = torch.linspace(-1, 1, LEVELS, dtype=self.location.dtype, device=self.location.device)
        pixels = LogisticPixels(self.location[..., None], self.log_scale[..., None])
        log_mass = pixels._log_mass(levels)
        return -(log_mass.exp() * log_mass).sum(-1)

    def sample(self, noise: Tensor) -> Tensor:
        """Images, by standard normal noise."""
        logistic = torch.special.log_ndtr(noise) - torch.special.log_ndtr(-noise)
        value = (self.location + self.log_scale.exp() * logistic).clamp(-1, 1)
        return ((value + 1) / STEP).round() * STEP - 1

    def _log_mass(self, x: Tensor) -> Tensor:
        """log of the probability of every pixel's level; for a < b, σ(b) - σ(a) is σ(b) σ(-a) (1 - exp(a - b))."""
        inverse = (-self.log_scale).exp()
        upper = F.logsigmoid((x + STEP / 2 - self.location) * inverse)
        lower = F.logsigmoid((self.location - x + STEP / 2) * inverse)
        between = upper + lower + (-torch.expm1(-STEP * inverse)).log()
        return torch.where(x > 1 - STEP / 2, lower, torch.where(x < STEP / 2 - 1, upper, between))


OBSERVATIONS: dict[str, type[GaussianPixels] | type[BernoulliPixels] | type[LogisticPixels]] = {
    "gaussian": GaussianPixels,
    "bernoulli": BernoulliPixels,
    "logistic": LogisticPixels,
}
