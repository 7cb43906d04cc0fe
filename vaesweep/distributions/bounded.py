"""Distributions of variables between zero and one: masks of the variational separators (thesis, study B, eq. 41)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vaesweep.distributions.gamma_sampling import NUMBERS, log_gamma_sample
from vaesweep.distributions.stirling import delta, phi


@dataclass(frozen=True)
class Beta:
    """Independent beta variables with density proportional to z^(a - 1) (1 - z)^(b - 1): `a` draws towards one.

    A sample is G_a / (G_a + G_b) of two gamma variables, formed from their logarithms: it may be 0 or 1 to rounding.
    """

    NOISE: ClassVar[tuple[int, ...]] = (2, NUMBERS)

    a: Tensor
    b: Tensor

    @property
    def mean(self) -> Tensor:
        """a / (a + b)."""
        return self.a / (self.a + self.b)

    @property
    def std(self) -> Tensor:
        """√(ab / (a + b + 1)) / (a + b)."""
        both = self.a + self.b
        return (self.a * self.b / (both + 1)).sqrt() / both

    @property
    def point(self) -> Tensor:
        """See `Distribution`: a / (a + b), since the log odds have the density σ^a (1 - σ)^b / B(a, b)."""
        return self.mean

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A sample and its log density, elementwise, by `noise` `[..., *shape, *NOISE]` (see `gamma_sampling`)."""
        log_odds = log_gamma_sample(self.a, noise[..., 0, :]) - log_gamma_sample(self.b, noise[..., 1, :])
        z = log_odds.sigmoid()
        return z, self.log_prob(z)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density in nats, elementwise, of `z` kept one machine epsilon away from 0 and 1, where it may diverge."""
        epsilon = torch.finfo(z.dtype).eps
        z = z.clamp(epsilon, 1 - epsilon)
        return (self.a - 1) * z.log() + (self.b - 1) * (-z).log1p() - log_beta(self.a, self.b)

    def kl(self, other: "Beta") -> Tensor:
        """Analytic KL in nats, elementwise, by what is left of Stirling's formula, so that nothing cancels."""
        a, b, both = self.a, self.b, self.a + self.b
        c, d, other_both = other.a, other.b, other.a + other.b
        of_means = c * ((c / other_both).log() - (a / both).log()) + d * ((d / other_both).log() - (b / both).log())
        of_widths = 0.5 * ((a * (b / both)).log() - (c * (d / other_both)).log())
        of_shapes = (a - c) * (delta(a) - delta(both)) + (b - d) * (delta(b) - delta(both))
        remainders = (phi(c) + phi(d) - phi(other_both)) - (phi(a) + phi(b) - phi(both))
        return of_means + of_widths + of_shapes + remainders


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    """log B(a, b) = log Γ(a) + log Γ(b) - log Γ(a + b), elementwise."""
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
