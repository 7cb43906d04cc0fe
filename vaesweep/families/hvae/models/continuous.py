"""A level of a CD-VAE: one latent SDE over a unit of depth, on images of latent variables (thesis eqs. 3 to 5).

    dz = h(z, s, signal) ds + σ dW    the posterior, which sees the image by the level's bottom-up signal
    dz = h(z, s) ds + σ dW            the prior

Drifts are convolutional and see depth and state; σ is one learnt number. The path rate ∫ ½ |u|² ds, σ u the difference
of the drifts, is integrated beside the state, of every latent variable by itself.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaesweep.families.hvae.models.blocks import SMALL, Pointwise2d
from vaesweep.families.hvae.models.config import ContinuousDepth, HierarchyConfig, OdeLike
from vaesweep.families.hvae.models.walk import Adaptive, Walk
from vaesweep.sde import SOLVERS, Solver, Tensors, adaptive, increments, log_ratio, posterior_sde, prior_sde, solve

EULER = SOLVERS["euler_maruyama"]


class Drifts(nn.Module):
    """Convolutional blocks of kernels 1, 3, 3, 1, one a process, side by side: prior first, then posterior.

    The first layer is linear in state, depth and signal, so that the signal's part is computed once for all steps. The
    last layer begins small: both processes begin as Brownian motion nearly, and the path rate at next to nothing.
    """

    def __init__(self, latents: int, hidden: int, width: int, processes: int) -> None:
        super().__init__()
        self._hidden, self._latents = hidden, latents
        linear = nn.Linear(latents + 1, processes * hidden)
        self.state = nn.Parameter(linear.weight[:, :latents].detach().clone())
        self.depth = nn.Parameter(linear.weight[:, latents].detach().clone())
        self.bias = nn.Parameter(linear.bias.detach().clone())
        self.signal = Pointwise2d(width, hidden) if processes > 1 else None
        self.first, self.first_bias = _grouped(hidden, processes)
        self.second, self.second_bias = _grouped(hidden, processes)
        last = nn.Conv2d(hidden, processes * latents, 1)
        self.expand = nn.Parameter(SMALL * last.weight.detach())
        self.expand_bias = nn.Parameter(torch.zeros(processes * latents))

    def prior(self) -> Tensors:
        """The tensors that the prior's drift depends on, beside depth and state."""
        hidden, latents = slice(self._hidden), slice(self._latents)
        middle = (self.first[hidden], self.first_bias[hidden], self.second[hidden], self.second_bias[hidden])
        offset = self.bias[hidden, None, None]
        return (
            self.state[hidden],
            self.depth[hidden],
            offset,
            *middle,
            self.expand[latents],
            self.expand_bias[latents],
        )

    def both(self, signal: Tensor) -> Tensors:
        """The tensors that both drifts depend on, with the level's `signal` `[batch, width, height, width]`."""
        assert self.signal is not None
        from_signal = self.signal(signal)
        offset = torch.cat([torch.zeros_like(from_signal), from_signal], dim=-3) + self.bias[:, None, None]
        middle = (self.first, self.first_bias, self.second, self.second_bias)
        return (self.state, self.depth, offset, *middle, self.expand, self.expand_bias)


def _grouped(hidden: int, processes: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Weights and biases of a convolution of kernel 3 for each process by itself."""
    convolution = nn.Conv2d(processes * hidden, processes * hidden, 3, groups=processes)
    assert convolution.bias is not None
    return nn.Parameter(convolution.weight.detach()), nn.Parameter(convolution.bias.detach())


def drift(tensors: Tensors, s: float, y: Tensor) -> Tensor:
    """The drifts of one or two processes at depth `s` and state `y`: `[batch, process * latents, height, width]`.

    They are in the precision of `y`, in which steps and rates are summed, whatever that of products is.
    """
    state, depth, offset, first, first_bias, second, second_bias, expand, expand_bias = tensors
    processes = first.shape[-4] // first.shape[-3]
    x = F.linear(y.movedim(-3, -1), state).movedim(-1, -3) + (offset + s * depth[:, None, None])
    x = F.conv2d(F.gelu(x), first, first_bias, padding=1, groups=processes)
    x = F.conv2d(F.gelu(x), second, second_bias, padding=1, groups=processes)
    return F.conv2d(F.gelu(x), expand, expand_bias, groups=processes).to(y.dtype)


def drifts(tensors: Tensors, s: float, y: Tensor) -> tuple[Tensor, Tensor]:
    """The prior's and the posterior's drift at depth `s` and state `y`, each of the shape of `y`."""
    prior, posterior = drift(tensors, s, y).chunk(2, dim=-3)
    return prior, posterior


class LevelPath(NamedTuple):
    """A posterior's path through one level, `[batch, step + 1, latents, height, width]`, for figures.

    `states` it visits, at depths 0, 1/n, …, 1, the drifts there, and the level's diffusion `sigma`, one number. Of
    `OdeLike` both are its one drift.
    """

    states: Tensor
    posterior: Tensor
    prior: Tensor
    sigma: Tensor

    @property
    def rate(self) -> Tensor:
        """½ |u|² at the visited states, elementwise, in nats per unit of depth: what the path rate integrates."""
        return 0.5 * ((self.posterior - self.prior) / self.sigma).square()


class SdeLevel(nn.Module):
    """One latent SDE; `OdeLike` has one drift for prior and posterior, which sees no image, and a rate of zero.

    Steps are the configured solver's in training. In evaluation mode they are Euler's where that solver's path rates
    are not exact, so that what is reported is a bound, and samples are of the prior that it is a bound of.
    """

    def __init__(self, config: HierarchyConfig, depth: ContinuousDepth) -> None:
        super().__init__()
        self._configured, self._segment = SOLVERS[depth.solver], depth.recompute or None
        self._informed = not isinstance(depth, OdeLike)
        self.drifts = Drifts(config.latents, depth.hidden, config.width, 2 if self._informed else 1)
        self.log_sigma = nn.Parameter(torch.tensor(math.log(depth.diffusion)))

    @property
    def solver(self) -> Solver:
        """The solver of the present mode."""
        return self._configured if self.training or self._configured.exact_rate else EULER

    def forward(self, start: Tensor, noise: Tensor | Adaptive, signal: Tensor | None) -> Walk:
        """The walk along the posterior with a `signal`, else along the prior, in as many steps as `noise` has.

        `start` is `[batch, latents, height, width]`, `noise` `[batch, step, latents, height, width]`, standard normal.
        """
        if isinstance(noise, Adaptive):
            return self._adaptive(start, noise, signal)
        path = increments(noise)
        if signal is None or not self._informed:
            prior = prior_sde(drift, self.drifts.prior(), self.log_sigma)
            state = solve(self.solver, prior, start, path, segment=self._segment).state
            return Walk(state, torch.zeros_like(state), torch.zeros_like(state))
        posterior = posterior_sde(drifts, self.drifts.both(signal), self.log_sigma, against=True)
        solution = solve(self.solver, posterior, start, path, segment=self._segment)
        assert solution.running is not None
        return Walk(solution.state, solution.running, log_ratio(solution))

    def _adaptive(self, start: Tensor, steps: Adaptive, signal: Tensor | None) -> Walk:
        if signal is None or not self._informed:
            sde = prior_sde(drift, self.drifts.prior(), self.log_sigma)
        else:
            sde = posterior_sde(drifts, self.drifts.both(signal), self.log_sigma)
        solution = adaptive(sde, start, steps.entropy, tolerance=steps.tolerance)
        rate = torch.zeros_like(start) if solution.running is None else solution.running
        return Walk(solution.state, rate, torch.full_like(rate, math.nan))

    def trace(self, start: Tensor, noise: Tensor, signal: Tensor) -> LevelPath:
        """The path that `forward` walks with these arguments, with drifts and diffusion along it."""
        tensors = self.drifts.both(signal) if self._informed else self.drifts.prior()
        drifts_at = drifts if self._informed else _shared_drift
        sde = posterior_sde(drifts_at, tensors, self.log_sigma)
        states = solve(self.solver, sde, start, increments(noise), keep=True).states
        assert states is not None
        steps = noise.shape[1]
        pairs = [drifts_at(tensors, number / steps, state) for number, state in enumerate(states.unbind(1))]
        prior, posterior = (torch.stack(values, dim=1) for values in zip(*pairs, strict=True))
        return LevelPath(states, posterior, prior, self.log_sigma.exp())


def _shared_drift(tensors: Tensors, s: float, y: Tensor) -> tuple[Tensor, Tensor]:
    """The shared drift of `OdeLike` as the prior's and the posterior's."""
    shared = drift(tensors, s, y)
    return shared, shared
