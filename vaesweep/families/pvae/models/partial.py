"""The partial VAE: an autoencoder of data of which any subset of dimensions is observed.

Thesis section 2.5 (eq. 2.6) and study A, section 3.2 (eq. 1):

    x_O ──► embedding ──► MLP ──► q(z | x_O) ──► z ──► MLP (+ linear path) ──► p(x | z)

The defaults are the thesis' model: PointNet Plus embedding (Ma et al. 2019), diagonal Gaussian posterior, standard
normal prior. A datum with nothing observed has no information on z: under that prior its posterior is the prior, by
construction. Beyond the thesis (docs/acquisition_results.md has what came out) are other embeddings, a posterior with
full covariance, a learnt mixture as the prior, a linear path from z to the observation.
"""

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vaesweep.distributions import Gaussian, TriangularGaussian, samples, standard_kl
from vaesweep.elbo import Elbo
from vaesweep.families.pvae.models.embeddings import Attention, Concatenation, PointNetPlus
from vaesweep.families.pvae.models.priors import MixturePrior, StandardPrior
from vaesweep.likelihoods import partial_distortion
from vaesweep.packing import Frozen

RATE = "z"
Positive = Annotated[float, Field(gt=0)]


class PartialVaeConfig(Frozen):
    """The shape of a partial VAE. An `embedding` of 16 is the thesis' (line 646), 4 `latents` its largest."""

    latents: int = Field(4, ge=1)
    embedding: int = Field(16, ge=1)
    features: int = Field(32, ge=1, description="width of an observed dimension's embedding, which is summed")
    hidden: int = Field(64, ge=1, description="width of the encoder's and decoder's layers")
    decoder_hidden: int | None = Field(None, ge=1, description="width of the decoder's layers, if it is another")
    layers: int = Field(2, ge=1, description="hidden layers of the encoder and of the decoder each")
    embed: Literal["sum", "attention", "concatenation"] = Field("sum", description="how a partial datum is encoded")
    posterior: Literal["diagonal", "full"] = Field("diagonal", description="covariance of q(z | x)")
    prior: Literal["standard", "mixture"] = "standard"
    prior_components: int = Field(10, ge=1, description="of a mixture prior")
    linear_path: bool = Field(False, description="adds a linear map of z to what the decoder gives")
    minimum_std: Positive | tuple[Positive, ...] = Field(
        0.02, description="floor of the observation's standard deviation, standardised units; one, or one a dimension"
    )
    draws: int = Field(1, ge=1, description="of z a datum in training; several make an importance-weighted bound")
    analytic_kl: bool = Field(True, description="closed form where the prior has one; else one Monte Carlo sample")


class PartialVae(nn.Module):
    """A partial VAE of `dims` dimensions with Gaussian posterior and Gaussian observation."""

    def __init__(self, dims: int, config: PartialVaeConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = embedding(dims, config)
        self.encoder = mlp(self.embed.width, config.hidden, posterior_size(config), config.layers)
        self.decoder = mlp(config.latents, config.decoder_hidden or config.hidden, 2 * dims, config.layers)
        if config.linear_path:
            self.path = nn.Linear(config.latents, 2 * dims, bias=False)
        standard = config.prior == "standard"
        self.prior = StandardPrior() if standard else MixturePrior(config.latents, config.prior_components)

    def posterior(self, x: Tensor, observed: Tensor) -> Gaussian | TriangularGaussian:
        """q(z | x_O), `[batch, latent]`; exactly the prior where nothing is observed and the prior is standard."""
        parameters = self.encoder(self.embed(x, observed))
        if self.config.prior == "standard":
            parameters = parameters * observed.any(-1, keepdim=True).to(x.dtype)
        latents = self.config.latents
        mean, log_std = parameters[..., :latents], parameters[..., latents : 2 * latents]
        if self.config.posterior == "diagonal":
            return Gaussian(mean, log_std)
        return TriangularGaussian(mean, log_std, strictly_lower(parameters[..., 2 * latents :], latents))

    def observation(self, z: Tensor) -> Gaussian:
        """p(x | z), each parameter `[..., dim]`, standardised units; the variance is learnt, with a floor."""
        decoded = self.decoder(z) + self.path(z) if self.config.linear_path else self.decoder(z)
        mean, raw = decoded.chunk(2, dim=-1)
        floor = torch.as_tensor(self.config.minimum_std, dtype=raw.dtype, device=raw.device)
        return Gaussian(mean, (nn.functional.softplus(raw) + floor).log())

    def forward(self, x: Tensor, observed: Tensor, noise: Tensor) -> tuple[Elbo, Gaussian]:
        """The partial ELBO of a batch, and the observation it came from.

        `x` and `observed` are `[batch, dim]`, `noise` is standard normal `[batch, latent]`. The distortion is
        `[batch]` over observed dimensions, the one rate `z` is `[batch, latent]`. With noise `[batch, draw, latent]`
        the bound is of several draws, its rate `[batch]`, and the observation `[batch, draw, dim]`.
        """
        q = self.posterior(x, observed)
        if noise.dim() > x.dim():
            return self._several_draws(x, observed, q, noise)
        z, log_q = q.draw(noise)
        observation = self.observation(z)
        analytic = self.config.analytic_kl and self.config.prior == "standard"
        rate = standard_kl(q) if analytic else log_q - self.prior.log_prob(z)
        return Elbo(partial_distortion(x, observed, observation), {RATE: rate}), observation

    def _several_draws(
        self, x: Tensor, observed: Tensor, q: Gaussian | TriangularGaussian, noise: Tensor
    ) -> tuple[Elbo, Gaussian]:
        z, log_q = samples(q, noise)
        observation = self.observation(z)
        distortion = partial_distortion(x.unsqueeze(-2), observed.unsqueeze(-2), observation)
        return Elbo.drawn(Elbo(distortion, {RATE: log_q - self.prior.total(z)})), observation


def embedding(dims: int, config: PartialVaeConfig) -> PointNetPlus | Attention | Concatenation:
    """The embedding that `config` names."""
    if config.embed == "concatenation":
        return Concatenation(dims)
    kind = PointNetPlus if config.embed == "sum" else Attention
    return kind(dims, config.embedding, config.features)


def posterior_size(config: PartialVaeConfig) -> int:
    """The number of outputs of the encoder: means, logarithms of diagonals, and entries below the diagonals."""
    latents = config.latents
    return 2 * latents + (latents * (latents - 1) // 2 if config.posterior == "full" else 0)


def strictly_lower(values: Tensor, size: int) -> Tensor:
    """Matrices `[..., size, size]` with `values` `[..., size (size - 1) / 2]` below the diagonal, zero elsewhere."""
    rows, columns = torch.tril_indices(size, size, -1, device=values.device)
    places = nn.functional.one_hot(rows * size + columns, size * size).to(values.dtype)
    return (values @ places).unflatten(-1, (size, size))


def mlp(inputs: int, hidden: int, outputs: int, layers: int) -> nn.Sequential:
    """A perceptron with `layers` hidden layers of ReLU units."""
    widths = [inputs, *[hidden] * layers]
    body = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*body, nn.Linear(widths[-1], outputs))
