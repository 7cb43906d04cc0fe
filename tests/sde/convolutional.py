"""A small latent SDE of convolutional drifts, a loss of everything that its solution has, and its tensors."""

import torch
import torch.nn.functional as F
from equations import brownian
from torch import Tensor

from vaesweep.sde import Solver, posterior_sde, solve

CHANNELS, HIDDEN, BATCH, SIDE = 2, 3, 2, 3


def drifts(tensors: tuple[Tensor, ...], s: float, z: Tensor) -> tuple[Tensor, Tensor]:
    """Prior's and posterior's drift; the posterior's also sees a context."""
    into_p, out_p, into_q, out_q, context = tensors
    prior = F.conv2d(F.gelu(F.conv2d(z, into_p, padding=1) + s), out_p)
    return prior, F.conv2d(F.gelu(F.conv2d(z, into_q, padding=1) + s + context), out_q)


def tensors_of(seed: int) -> list[Tensor]:
    """Weights of both drifts, context, log sigma, start, and increments of eight steps."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(HIDDEN, CHANNELS, 3, 3), (CHANNELS, HIDDEN, 1, 1)] * 2
    shapes += [(BATCH, HIDDEN, SIDE, SIDE), (), (BATCH, CHANNELS, SIDE, SIDE)]
    drawn = [0.4 * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [*drawn, brownian(BATCH, 8, CHANNELS, SIDE, SIDE, seed=seed)]


def loss(solver: Solver, segment: int | None, *tensors: Tensor, keep: bool = True) -> Tensor:
    """A number that depends on all of the solution."""
    *own, log_sigma, start, path = tensors
    sde = posterior_sde(drifts, tuple(own), log_sigma, against=True)
    state, running, against, states = solve(solver, sde, start, path, segment=segment, keep=keep)
    total = state.square().sum()
    for one in (running, against, states):
        total = total if one is None else total + one.sin().sum()
    return total
