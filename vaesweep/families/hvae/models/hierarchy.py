"""Hierarchical VAEs of images, discrete (VD-VAE) and continuous in depth (CD-VAE): one template (thesis study C).

    x ─► bottom-up path ─┬─► signal 0 ─► q(z0 | x) ─► z0 ─► level 0 ─► double ─► level 1 ─► … ─► decoder ─► p(x | z)
                         ├─► signal 0 ─────────────────────────┘                    │
                         └─► signal 1, … ───────────────────────────────────────────┘

The bound (eqs. 2 and 5) has a rate of the initial value z0, whose prior is N(0, I), and one of each level: a sum of KL
divergences, or the path rate of a latent SDE. The kinds differ in what a level is and in nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaesweep.distributions import Gaussian, standard_gaussian, standard_kl
from vaesweep.elbo import Elbo
from vaesweep.families.hvae.models.blocks import Dense, Head, Pointwise2d, ResidualBlock, double, exact
from vaesweep.families.hvae.models.bottom_up import BottomUp
from vaesweep.families.hvae.models.config import DiscreteDepth, HierarchyConfig
from vaesweep.families.hvae.models.continuous import SdeLevel
from vaesweep.families.hvae.models.discrete import DiscreteLevel
from vaesweep.families.hvae.models.names import INITIAL, level_name
from vaesweep.families.hvae.models.observation import OBSERVATIONS, Observation
from vaesweep.families.hvae.models.walk import Adaptive, Walk


@dataclass(frozen=True)
class Reconstruction:
    """The output for a batch of images: their observation distribution, and log p(x, z) - log q(z | x), `[batch]`.

    The mean of exp(`log_weight`) over draws of z estimates p(x) without bias (Burda et al. 2016), in evaluation mode.
    Of levels that step by reversible Heun, in training mode alone, neither this nor the `Elbo` bounds anything.
    """

    observation: Observation
    log_weight: Tensor


class Hierarchy(nn.Module):
    """A hierarchical VAE of grey images `[batch, 1, size, size]`; see `HierarchyConfig`."""

    def __init__(self, config: HierarchyConfig) -> None:
        super().__init__()
        self.config = config
        depth = config.depth
        discrete = isinstance(depth, DiscreteDepth)
        stream = config.width if discrete else config.latents
        self.bottom_up = BottomUp(config)
        self.initial: nn.Module
        self.top: nn.Module
        if config.top:
            _, height, width = config.shape(0)
            self.initial = GlobalPosterior((config.width, height, width), config.top)
            self.top = Dense(config.initial_shape, (stream, height, width))
        else:
            self.initial = Head(config.width, config.hidden, 2 * config.latents)
            self.top = Pointwise2d(config.latents, stream) if discrete else nn.Identity()
        self.levels = nn.ModuleList(
            DiscreteLevel(config, depth) if isinstance(depth, DiscreteDepth) else SdeLevel(config, depth)
            for _ in range(config.levels)
        )
        edges_of = (config.shape(level)[1:] for level in range(config.levels if config.biases else 0))
        self.biases = nn.ParameterList(torch.zeros(stream, *edges) for edges in edges_of)
        self.decoder = PixelDecoder(stream, config)

    def forward(
        self, x: Tensor, initial_noise: Tensor, **level_noise: Tensor | Adaptive
    ) -> tuple[Elbo, Reconstruction]:
        """The bound of `x` and its reconstruction, latent variables drawn from the posterior by the given noise.

        `initial_noise` is `[batch, *initial_shape]` and each `level_<l>_noise` `[batch, layer, *shape(l)]`, standard
        normal (`HierarchyConfig.noise_shapes`). A continuous level takes as many steps as its noise has layers, or
        those that an `Adaptive` in its place asks for.
        """
        signals = self.bottom_up(x)
        q = self._posterior(signals[0], initial_noise)
        z, log_q = q.draw(initial_noise)
        rates = {INITIAL: standard_kl(q)}
        log_ratio = (log_q - standard_gaussian(z).log_prob(z)).flatten(1).sum(-1)
        observation, walks = self._descend(z, self._noises(level_noise), signals)
        for level, walk in enumerate(walks):
            rates[level_name(level)] = walk.rate
            log_ratio = log_ratio + walk.log_ratio.flatten(1).sum(-1)
        distortion = observation.nll(x)
        return Elbo(distortion, rates), Reconstruction(observation, -distortion - log_ratio)

    def generate(
        self,
        initial_noise: Tensor,
        level_noise: Sequence[Tensor | Adaptive],
        x: Tensor | None = None,
        informed: int = 0,
    ) -> Observation:
        """Observations of the prior, or of `x` as far as the `informed` topmost levels see it.

        With `informed` 0 none does, with 1 the initial value and the topmost level do (thesis Figure 8c), with all
        levels this is a reconstruction. ValueError if `x` is missing where it is needed, and of levels there are not.
        """
        if not 0 <= informed <= len(self.levels):
            raise ValueError(f"0 to {len(self.levels)} levels can be told of an image, not {informed}")
        if informed and x is None:
            raise ValueError(f"{informed} levels are to be told of an image, and there is none")
        informed_signals: list[Tensor] = self.bottom_up(x)[:informed] if x is not None else []
        z = initial_noise
        if informed_signals:
            z = self._posterior(informed_signals[0], initial_noise).sample(initial_noise)
        signals: list[Tensor | None] = [*informed_signals, *[None] * (len(self.levels) - len(informed_signals))]
        return self._descend(z, level_noise, signals)[0]

    def _posterior(self, signal: Tensor, noise: Tensor) -> Gaussian:
        """The posterior of the initial value, in the precision of its noise whatever that of products is.

        Of a global one `[batch, top, 1, 1]`, else `[batch, latents, height, width]`.
        """
        return Gaussian(*self.initial(signal).to(noise.dtype).chunk(2, dim=-3))

    def _noises(self, level_noise: dict[str, Tensor | Adaptive]) -> list[Tensor | Adaptive]:
        return [level_noise[f"{level_name(level)}_noise"] for level in range(len(self.levels))]

    def _descend(
        self, z: Tensor, noises: Sequence[Tensor | Adaptive], signals: Sequence[Tensor | None]
    ) -> tuple[Observation, list[Walk]]:
        walks: list[Walk] = []
        for number, (level, noise, signal) in enumerate(zip(self.levels, noises, signals, strict=True)):
            start = self.start(number, walks[-1].state if walks else z)
            walks.append(level(start, noise, signal))
        return self.decoder(walks[-1].state), walks

    def start(self, level: int, above: Tensor) -> Tensor:
        """Where a level begins: from the state `above` it, or from the initial value, in its resolution and biased."""
        state = double(above) if level else self.top(above).to(above.dtype)
        return state + self.biases[level] if self.config.biases else state


class GlobalPosterior(nn.Module):
    """Dense map from a signal `[batch, width, height, width]` to the parameters `[batch, 2 top, 1, 1]` of z0."""

    def __init__(self, signal: tuple[int, int, int], top: int) -> None:
        super().__init__()
        self.dense = Dense(signal, (2 * top, 1, 1))

    def forward(self, signal: Tensor) -> Tensor:
        """Means, then logarithms of standard deviations."""
        return exact(self.dense, F.gelu(signal))


class PixelDecoder(nn.Module):
    """Network from the last level's state `[batch, stream, height, width]` to the pixels' observation distribution."""

    def __init__(self, stream: int, config: HierarchyConfig) -> None:
        super().__init__()
        self._finest, self._kind = config.finest, OBSERVATIONS[config.observation]
        blocks = config.decoder_blocks
        self.enter = Pointwise2d(stream, config.width)
        self.blocks = nn.Sequential(*(ResidualBlock(config.width, config.hidden, blocks) for _ in range(blocks)))
        self.leave = Pointwise2d(config.width, self._kind.PARAMETERS * config.finest**2)
        shape = (self._kind.PARAMETERS, config.size, config.size)
        self.bias = nn.Parameter(torch.zeros(shape)) if config.mean_image else None

    def forward(self, state: Tensor) -> Observation:
        """The distribution of every pixel, its parameters in the precision of the weights."""
        features = F.gelu(self.blocks(self.enter(state)))
        parameters = F.pixel_shuffle(exact(self.leave, features), self._finest)
        return self._kind.of(parameters if self.bias is None else parameters + self.bias)

    @torch.no_grad()
    def begin_at(self, mean: Tensor) -> None:
        """Set the pixels' biases to distributions of the `mean` image `[1, size, size]`, of a model that has biases."""
        assert self.bias is not None
        self.bias[:1] = self._kind.centre(mean)
