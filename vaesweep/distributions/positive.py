"""Distributions of positive variables: encodings and masks of variational separators (thesis, study B, section F)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vaesweep.distributions.gamma_sampling import NUMBERS, log_gamma_sample
from vaesweep.distributions.gaussian import Gaussian, gaussian_kl
from vaesweep.distributions.stirling import delta, phi

LOWEST_LOG_SAMPLE, HIGHEST_LOG_SAMPLE = math.log(1e-30), math.log(1e30)


@dataclass(frozen=True)
class LogNormal:
    """exp(x) of independent Gaussians x with mean `log_mean` and standard deviation exp(`log_std`) (eqs. 39, 42).

    Samples are at most 1e30, so that neither they nor their gradients overflow.
    """

    NOISE: ClassVar[tuple[int, ...]] = ()

    log_mean: Tensor
    log_std: Tensor

    @property
    def logarithm(self) -> Gaussian:
        """The distribution of log z."""
        return Gaussian(self.log_mean, self.log_std)

    @property
    def mean(self) -> Tensor:
        """exp(log_mean + std² / 2)."""
        return (self.log_mean + 0.5 * (2 * self.log_std).exp()).exp()

    @property
    def std(self) -> Tensor:
        """The mean, times √(exp(std²) - 1) with the standard deviation of the logarithm."""
        return self.mean * (2 * self.log_std).exp().expm1().sqrt()

    @property
    def point(self) -> Tensor:
        """See `Distribution`: exp(log_mean), the median, at most 1e30 as samples are."""
        return self.log_mean.clamp_max(HIGHEST_LOG_SAMPLE).exp()

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A sample and its log density, elementwise."""
        x, log_q = self.logarithm.draw(noise)
        return x.clamp_max(HIGHEST_LOG_SAMPLE).exp(), log_q - x

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density in nats, elementwise; -inf at zero."""
        x = z.log()
        return self.logarithm.log_prob(x) - x

    def kl(self, other: "LogNormal") -> Tensor:
        """Analytic KL in nats, elementwise: that of the logarithms, since a bijection leaves it unchanged."""
        return gaussian_kl(self.logarithm, other.logarithm)


@dataclass(frozen=True)
class Gamma:
    """Independent gamma variables with rate 1 (eq. 40).

    Samples are at least 1e-30, far enough above the smallest normal float32 that 1/z, the derivative of a logarithm,
    may be weighted without overflow. At a concentration c a share of 1e-30^c of the samples lies below: half of them
    at 0.01, nearly all at 1e-6. Their log densities, and with them one-sample estimates of a KL, then saturate; the
    analytic KL does not (thesis line 1534).
    """

    NOISE: ClassVar[tuple[int, ...]] = (NUMBERS,)

    concentration: Tensor

    @property
    def mean(self) -> Tensor:
        """The concentration."""
        return self.concentration

    @property
    def std(self) -> Tensor:
        """The root of the concentration."""
        return self.concentration.sqrt()

    @property
    def point(self) -> Tensor:
        """See `Distribution`: the concentration, since log z has the density exp(c log z - z) / Γ(c)."""
        return self.concentration

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A sample and its log density, elementwise, by `noise` `[..., *shape, *NOISE]` (see `gamma_sampling`)."""
        log_z = log_gamma_sample(self.concentration, noise, LOWEST_LOG_SAMPLE)
        z = log_z.exp()
        return z, (self.concentration - 1) * log_z - z - torch.lgamma(self.concentration)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density in nats, elementwise."""
        return torch.xlogy(self.concentration - 1, z) - z - torch.lgamma(self.concentration)

    def plus(self, other: "Gamma") -> "Gamma":
        """The distribution of the sum of two independent variables."""
        return Gamma(self.concentration + other.concentration)

    def kl(self, other: "Gamma") -> Tensor:
        """Analytic KL in nats, elementwise, by what is left of Stirling's formula, so that nothing cancels."""
        c, d = self.concentration, other.concentration
        relative = (c - d) / d
        return (c - d) * delta(c) + d * (relative - relative.log1p()) + 0.5 * relative.log1p() + phi(d) - phi(c)
