"""Priors of latent variables: log densities in nats, unreduced by the chain rule, so that rates stay per dimension.

log p(z) = Σ_i log p(z_i | z_1 … z_i-1). For a factorised prior each term is its own dimension's density.
"""

import torch
from torch import Tensor, nn

from vaesweep.distributions import LOG_TWO_PI, Gaussian, standard_gaussian


class StandardPrior(nn.Module):
    """N(0, I)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Every dimension's term, in the shape of `z`."""
        return standard_gaussian(z).log_prob(z)

    def total(self, z: Tensor) -> Tensor:
        """log p(z), `[...]`."""
        return self.log_prob(z).sum(-1)

    def sample(self, noise: Tensor, uniform: Tensor) -> Tensor:
        """Samples `[row, latent]` from standard normal `noise` of that shape."""
        return noise


class MixturePrior(nn.Module):
    """A learnt mixture of diagonal Gaussians, started as `components` unit Gaussians around standard normal means."""

    def __init__(self, latents: int, components: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(torch.randn(components, latents))
        self.log_std = nn.Parameter(torch.zeros(components, latents))

    def log_prob(self, z: Tensor) -> Tensor:
        """Every dimension's term, in the shape of `z` `[..., latent]`: differences of log p(z_1 … z_i)."""
        terms = Gaussian(self.mean, self.log_std).log_prob(z.unsqueeze(-2))
        prefix = torch.logsumexp(self.weight.log_softmax(0).unsqueeze(-1) + terms.cumsum(-1), dim=-2)
        return torch.cat([prefix[..., :1], prefix[..., 1:] - prefix[..., :-1]], dim=-1)

    def total(self, z: Tensor) -> Tensor:
        """log p(z), `[...]`; the squares are multiplied out, which turns them into two matrix products."""
        precision = (-2 * self.log_std).exp()
        linear = self.mean * precision
        constant = -0.5 * (self.mean * linear + LOG_TWO_PI).sum(-1) - self.log_std.sum(-1)
        log_densities = z.square() @ (-0.5 * precision).mT + z @ linear.mT + constant
        return torch.logsumexp(self.weight.log_softmax(0) + log_densities, dim=-1)

    def sample(self, noise: Tensor, uniform: Tensor) -> Tensor:
        """Samples `[row, latent]` from standard normal `noise` of that shape; `uniform` `[row]` draws components."""
        below = self.weight.softmax(0).cumsum(0)[:-1] < uniform.unsqueeze(-1)
        component = below.sum(-1)
        return self.mean[component] + self.log_std[component].exp() * noise
