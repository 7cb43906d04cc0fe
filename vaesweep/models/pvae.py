"""The partial VAE: an autoencoder of data of which any subset of dimensions is observed.

Thesis section 2.5 (eq. 2.6) and study A, section 3.2 (eq. 1); the PointNet Plus embedding of Ma et al. 2019:

    x_d, observed ──► h(x_d · e_d, e_d) ──► Σ over observed d ──► MLP ──► q(z | x_O) ──► z ──► MLP ──► p(x | z)

Each dimension d has a learnt identity vector e_d. The sum makes the encoding invariant to order and number of what is
observed. A datum with nothing observed says nothing about z: its posterior is the prior, by construction.
"""

from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn

from vaesweep.distributions import Gaussian, gaussian_kl, sampled_kl, standard_gaussian
from vaesweep.elbo import Elbo
from vaesweep.likelihoods import partial_distortion
from vaesweep.packing import Frozen

RATE = "z"


class PartialVaeConfig(Frozen):
    """The shape of a partial VAE. An `embedding` of 16 is the thesis' (line 646), 4 `latents` its largest."""

    latents: int = Field(4, ge=1)
    embedding: int = Field(16, ge=1)
    features: int = Field(32, ge=1, description="width of an observed dimension's embedding, which is summed")
    hidden: int = Field(64, ge=1, description="width of the encoder's and decoder's layers")
    layers: int = Field(2, ge=1, description="hidden layers of the encoder and of the decoder each")
    minimum_std: float = Field(
        0.02, gt=0, description="floor of the observation's standard deviation, standardised units"
    )
    analytic_kl: bool = Field(True, description="closed form; otherwise one Monte Carlo sample")


class PointNetPlus(nn.Module):
    """Embeds observed dimensions and sums them: `x`, `observed` `[batch, dim]` to `[batch, features]`.

    The product x_d · e_d carries no identity where x_d = 0, the mean of standardised data, so e_d goes in beside it.
    The layer h is linear in x_d before its activation: W[x_d e_d; e_d] + b = x_d (W₁ e_d) + (W₂ e_d + b). Both
    brackets are per dimension, not per datum, which turns a matrix product a datum and dimension into one
    multiply-add; an unobserved dimension multiplies both by zero.
    """

    def __init__(self, dims: int, embedding: int, features: int) -> None:
        super().__init__()
        self.identity = nn.Parameter(torch.randn(dims, embedding))
        self.slope = nn.Linear(embedding, features, bias=False)
        self.offset = nn.Linear(embedding, features)

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        """Unobserved entries of `x` are ignored, whatever they hold."""
        known = torch.stack([x.masked_fill(~observed, 0.0), observed.to(x.dtype)], dim=-1)
        line = torch.stack([self.slope(self.identity), self.offset(self.identity)], dim=-2)
        return torch.relu(torch.einsum("bdk,dkh->dbh", known, line)).sum(0)


class PartialVae(nn.Module):
    """A partial VAE of `dims` dimensions with Gaussian posterior, standard normal prior and Gaussian observation."""

    def __init__(self, dims: int, config: PartialVaeConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = PointNetPlus(dims, config.embedding, config.features)
        self.encoder = mlp(config.features, config.hidden, 2 * config.latents, config.layers)
        self.decoder = mlp(config.latents, config.hidden, 2 * dims, config.layers)

    def posterior(self, x: Tensor, observed: Tensor) -> Gaussian:
        """q(z | x_O), each parameter `[batch, latent]`; exactly the prior where nothing is observed."""
        mean, log_std = self.encoder(self.embed(x, observed)).chunk(2, dim=-1)
        informed = observed.any(-1, keepdim=True).to(x.dtype)
        return Gaussian(mean * informed, log_std * informed)

    def observation(self, z: Tensor) -> Gaussian:
        """p(x | z), each parameter `[..., dim]`, standardised units; the variance is learnt, with a floor."""
        mean, raw = self.decoder(z).chunk(2, dim=-1)
        return Gaussian(mean, (nn.functional.softplus(raw) + self.config.minimum_std).log())

    def forward(self, x: Tensor, observed: Tensor, noise: Tensor) -> tuple[Elbo, Gaussian]:
        """The partial ELBO of a batch, and the observation it came from.

        `x` and `observed` are `[batch, dim]`, `noise` is standard normal `[batch, latent]`. The distortion is
        `[batch]` over observed dimensions, the one rate `z` is `[batch, latent]`.
        """
        q = self.posterior(x, observed)
        z = q.sample(noise)
        observation = self.observation(z)
        prior = standard_gaussian(z)
        rate = gaussian_kl(q, prior) if self.config.analytic_kl else sampled_kl(q, prior, z)
        distortion = partial_distortion(x, observed, observation)
        return Elbo(distortion, {RATE: rate}), observation


def mlp(inputs: int, hidden: int, outputs: int, layers: int) -> nn.Sequential:
    """A perceptron with `layers` hidden layers of ReLU units."""
    widths = [inputs, *[hidden] * layers]
    body = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*body, nn.Linear(widths[-1], outputs))
