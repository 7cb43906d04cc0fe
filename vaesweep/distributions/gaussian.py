"""Gaussians, diagonal and with full covariance: densities, reparameterised samples and KL divergences."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

LOG_TWO_PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussians with `mean` and `log_std` of one shape."""

    NOISE: ClassVar[tuple[int, ...]] = ()

    mean: Tensor
    log_std: Tensor

    @property
    def std(self) -> Tensor:
        """The standard deviation."""
        return self.log_std.exp()

    @property
    def point(self) -> Tensor:
        """See `Distribution`: the mean."""
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        """A reparameterised sample; `noise` is standard normal, of the same shape (leading sample axes broadcast)."""
        return self.mean + self.log_std.exp() * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density in nats, elementwise."""
        scaled = (z - self.mean) * (-self.log_std).exp()
        return -0.5 * (scaled.square() + LOG_TWO_PI) - self.log_std

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A sample as of `sample`, and its log density, elementwise: by the chain rule, given the dimensions before."""
        return self.sample(noise), -0.5 * (noise.square() + LOG_TWO_PI) - self.log_std

    def plus(self, other: "Gaussian") -> "Gaussian":
        """The distribution of the sum of two independent variables."""
        return Gaussian(self.mean + other.mean, 0.5 * torch.logaddexp(2 * self.log_std, 2 * other.log_std))

    def kl(self, other: "Gaussian") -> Tensor:
        """Analytic KL(self || other) in nats, elementwise: `gaussian_kl` as a method of `Distribution`."""
        return gaussian_kl(self, other)


@dataclass(frozen=True)
class TriangularGaussian:
    """A Gaussian with full covariance L Lᵀ: `mean` and `log_std` `[..., dim]`, `below` `[..., dim, dim]`.

    `log_std` is the logarithm of the diagonal of L, `below` what lies below it; the rest of `below` must be zero.
    """

    mean: Tensor
    log_std: Tensor
    below: Tensor

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A sample and, as `Gaussian.draw`, log q(z_i | z_1 … z_i-1) of every dimension i."""
        z = self.mean + self.log_std.exp() * noise + torch.einsum("...ij,...j->...i", self.below, noise)
        return z, -0.5 * (noise.square() + LOG_TWO_PI) - self.log_std

    @property
    def std(self) -> Tensor:
        """The standard deviation of every dimension by itself, `[..., dim]`."""
        return self.factor.square().sum(-1).sqrt()

    @property
    def factor(self) -> Tensor:
        """L, lower triangular `[..., dim, dim]`."""
        return self.below + torch.diag_embed(self.log_std.exp())


def samples(q: Gaussian | TriangularGaussian, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Many samples of each `[..., sample, dim]` and their log densities `[..., sample]`.

    `noise` is standard normal, `[sample, dim]` or of any shape that broadcasts to the samples'.
    """
    spread = noise * q.log_std.exp().unsqueeze(-2)
    if isinstance(q, TriangularGaussian):
        spread = spread + noise @ q.below.mT
    log_prob = -0.5 * (noise.square() + LOG_TWO_PI).sum(-1) - q.log_std.sum(-1, keepdim=True)
    return q.mean.unsqueeze(-2) + spread, log_prob


def log_density(q: Gaussian | TriangularGaussian, z: Tensor) -> Tensor:
    """log q(z) of samples `[..., sample, dim]` under each of the Gaussians `[..., dim]`: `[..., sample]`, nats."""
    difference = z - q.mean.unsqueeze(-2)
    if isinstance(q, TriangularGaussian):
        scaled = torch.linalg.solve_triangular(q.factor, difference.mT, upper=False).mT
    else:
        scaled = difference * (-q.log_std).exp().unsqueeze(-2)
    return -0.5 * (scaled.square() + LOG_TWO_PI).sum(-1) - q.log_std.sum(-1, keepdim=True)


def standard_gaussian(like: Tensor) -> Gaussian:
    """The standard normal prior in the shape of `like`."""
    zero = torch.zeros_like(like)
    return Gaussian(zero, zero)


def gaussian_kl(q: Gaussian, p: Gaussian) -> Tensor:
    """Analytic KL(q || p) in nats, elementwise and therefore unreduced over latent axes."""
    log_ratio = q.log_std - p.log_std
    shift = (q.mean - p.mean) * (-p.log_std).exp()
    return 0.5 * ((2 * log_ratio).exp() + shift.square() - 1) - log_ratio


def standard_kl(q: Gaussian | TriangularGaussian) -> Tensor:
    """Analytic KL(q || N(0, I)) in nats, unreduced: the terms of the dimensions, which sum to it."""
    spread = (2 * q.log_std).exp()
    if isinstance(q, TriangularGaussian):
        spread = spread + q.below.square().sum(-1)
    return 0.5 * (spread + q.mean.square() - 1) - q.log_std


def total_kl(q: Gaussian | TriangularGaussian, p: Gaussian | TriangularGaussian) -> Tensor:
    """Analytic KL(q || p) in nats, `[...]`, of two Gaussians of one kind."""
    if isinstance(q, Gaussian) and isinstance(p, Gaussian):
        return gaussian_kl(q, p).sum(-1)
    if not (isinstance(q, TriangularGaussian) and isinstance(p, TriangularGaussian)):
        raise TypeError("the KL between a diagonal and a full Gaussian is not needed here")
    both = torch.cat([q.factor, (q.mean - p.mean).unsqueeze(-1)], dim=-1)
    scaled = torch.linalg.solve_triangular(p.factor, both, upper=False)
    return 0.5 * (scaled.square().sum((-2, -1)) - q.mean.shape[-1]) + (p.log_std - q.log_std).sum(-1)
