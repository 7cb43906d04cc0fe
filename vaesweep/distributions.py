"""Distributions of latent variables: densities, reparameterised samples and KL divergences, elementwise.

Every function keeps its arguments' shape, so that leading cell axes need no care and rates stay unreduced.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LOG_TWO_PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussians with `mean` and `log_std` of one shape."""

    mean: Tensor
    log_std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised: `noise` is standard normal, of the same shape (any leading sample axes broadcast)."""
        return self.mean + self.log_std.exp() * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density in nats, elementwise."""
        scaled = (z - self.mean) * (-self.log_std).exp()
        return -0.5 * (scaled.square() + LOG_TWO_PI) - self.log_std


def standard_gaussian(like: Tensor) -> Gaussian:
    """The standard normal prior in the shape of `like`."""
    zero = torch.zeros_like(like)
    return Gaussian(zero, zero)


def gaussian_kl(q: Gaussian, p: Gaussian) -> Tensor:
    """Analytic KL(q || p) in nats, elementwise and therefore unreduced over latent axes."""
    log_ratio = q.log_std - p.log_std
    shift = (q.mean - p.mean) * (-p.log_std).exp()
    return 0.5 * ((2 * log_ratio).exp() + shift.square() - 1) - log_ratio


def sampled_kl(q: Gaussian, p: Gaussian, z: Tensor) -> Tensor:
    """One-sample Monte Carlo estimate log q(z) - log p(z) of KL(q || p), `z` drawn from `q`; may be negative."""
    return q.log_prob(z) - p.log_prob(z)
