"""A level of a very deep VAE (Child 2021; thesis lines 1725 to 1731): top-down blocks of one latent variable each.

stream ─┬─► prior block ─► p(z | stream), features ──────┐
        ├─► posterior block ◄─ signal                    │
        │         └─► q(z | stream, x) ─► z ─► linear ───┤
        └──────────────────────────────────────────────► + ─► residual block ─► stream
"""

import torch
from torch import Tensor, nn

from vaesweep.distributions import Gaussian, gaussian_kl
from vaesweep.families.hvae.models.blocks import SMALL, Head, Pointwise2d, ResidualBlock
from vaesweep.families.hvae.models.config import DiscreteDepth, HierarchyConfig
from vaesweep.families.hvae.models.walk import Walk


class TopDownBlock(nn.Module):
    """One latent variable `[batch, latents, height, width]` and its prior, in a path of `depth` such blocks."""

    def __init__(self, width: int, hidden: int, latents: int, depth: int, *, zero_prior: bool = False) -> None:
        super().__init__()
        self._split = (latents, latents, width)
        self.prior = Head(width, hidden, 2 * latents + width, scale=0.0 if zero_prior else SMALL)
        self.posterior = Head(2 * width, hidden, 2 * latents)
        self.project = Pointwise2d(latents, width, scale=depth**-0.5)
        self.residual = ResidualBlock(width, hidden, depth)

    def forward(self, stream: Tensor, noise: Tensor, signal: Tensor | None) -> Walk:
        """The stream after the block; z is drawn from the posterior where there is a `signal`, else from the prior.

        Distributions are in the precision of the noise, whatever that of products is.
        """
        mean, log_std, features = self.prior(stream).to(noise.dtype).split(self._split, dim=-3)
        p = Gaussian(mean, log_std)
        q = p
        if signal is not None:
            parameters = self.posterior(torch.cat([stream, signal], dim=-3)).to(noise.dtype)
            q = Gaussian(*parameters.chunk(2, dim=-3))
        z, log_q = q.draw(noise)
        stream = self.residual(stream + features + self.project(z))
        if signal is None:
            return Walk(stream, torch.zeros_like(z), torch.zeros_like(z))
        return Walk(stream, gaussian_kl(q, p), log_q - p.log_prob(z))


class DiscreteLevel(nn.Module):
    """Several blocks that share one bottom-up signal."""

    def __init__(self, config: HierarchyConfig, depth: DiscreteDepth) -> None:
        super().__init__()
        total = config.levels * depth.blocks
        self.blocks = nn.ModuleList(
            TopDownBlock(config.width, depth.hidden, config.latents, total, zero_prior=depth.zero_prior)
            for _ in range(depth.blocks)
        )

    def forward(self, stream: Tensor, noise: Tensor, signal: Tensor | None) -> Walk:
        """The walk through all blocks: `noise` is `[batch, block, latents, height, width]`, and so is the rate."""
        walks: list[Walk] = []
        for block, block_noise in zip(self.blocks, noise.unbind(-4), strict=True):
            walks.append(block(walks[-1].state if walks else stream, block_noise, signal))
        rates, ratios = ([getattr(walk, name) for walk in walks] for name in ("rate", "log_ratio"))
        return Walk(walks[-1].state, torch.stack(rates, -4), torch.stack(ratios, -4))
