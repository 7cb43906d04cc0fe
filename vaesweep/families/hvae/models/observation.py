"""Observation distributions of images: a Gaussian or a Bernoulli distribution of every pixel (thesis line 1756)."""

from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from vaesweep.distributions import Gaussian
from vaesweep.likelihoods import gaussian_nll

LN_TWO_PI_E = 2.8378770664093453  # twice the entropy of N(0, 1) in nats


class Observation(Protocol):
    """A distribution of images `[…, 1, height, width]`, its pixels independent."""

    PARAMETERS: ClassVar[int]  # numbers a pixel

    @classmethod
    def of(cls, parameters: Tensor) -> Self:
        """The distribution with `parameters` `[…, PARAMETERS, height, width]`, any real numbers."""

    @property
    def mean(self) -> Tensor:
        """The mean of every pixel, `[…, 1, height, width]`."""

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

    def nll(self, x: Tensor) -> Tensor:
        """-log p(x), nats an image: `[…]`."""
        return gaussian_nll(x, Gaussian(self.mean, self.log_std)).sum((-3, -2, -1))

    def entropy(self) -> Tensor:
        """The entropy of every pixel in nats; a density's may be negative."""
        return self.log_std + LN_TWO_PI_E / 2

    def sample(self, noise: Tensor) -> Tensor:
        """Images, by standard normal noise."""
        return self.mean + self.log_std.exp() * noise


@dataclass(frozen=True)
class BernoulliPixels:
    """Bernoulli distribution of every pixel: 1 with the probability sigmoid(logit), else 0."""

    PARAMETERS: ClassVar[int] = 1
    logits: Tensor

    @classmethod
    def of(cls, parameters: Tensor) -> "BernoulliPixels":
        """The distribution of logits."""
        return cls(parameters)

    @property
    def mean(self) -> Tensor:
        """The probability of a 1."""
        return self.logits.sigmoid()

    def nll(self, x: Tensor) -> Tensor:
        """-log p(x), nats an image: `[…]`."""
        return (F.softplus(self.logits) - x * self.logits).sum((-3, -2, -1))

    def entropy(self) -> Tensor:
        """The entropy of every pixel in nats."""
        return F.softplus(self.logits) - self.mean * self.logits

    def sample(self, noise: Tensor) -> Tensor:
        """Images, by standard normal noise."""
        return (torch.special.ndtr(noise) < self.mean).to(self.logits)


OBSERVATIONS: dict[str, type[GaussianPixels] | type[BernoulliPixels]] = {
    "gaussian": GaussianPixels,
    "bernoulli": BernoulliPixels,
}
