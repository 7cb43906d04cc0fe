"""Equations with known solutions, as the tests of the room `sde` solve them."""

import math

import torch
from torch import Tensor

from vaesweep.sde import Sde, Terms, increments

GROWTH, VOLATILITY = 0.5, 0.6
PULL, CENTRE, SIGMA = 1.5, 0.7, 0.8


def geometric() -> Sde:
    """dy = GROWTH y ds + VOLATILITY y dW, in either calculus."""
    return Sde(lambda _, s, y: Terms(GROWTH * y, VOLATILITY * y))


def geometric_end(start: Tensor, path: Tensor, calculus: str) -> Tensor:
    """Its solution at depth 1 along a path `[batch, step, *latent]`."""
    growth = GROWTH - (VOLATILITY**2 / 2 if calculus == "ito" else 0)
    return start * (growth + VOLATILITY * path.sum(1)).exp()


def bounded() -> Sde:
    """dy = cos(y)^2 (ds / 2 + dW), Stratonovich: diffusion that is not linear in the state."""
    return Sde(lambda _, s, y: Terms(0.5 * y.cos().square(), y.cos().square()))


def bounded_end(start: Tensor, path: Tensor) -> Tensor:
    """Its solution at depth 1: tan y is a Brownian motion with drift 1/2."""
    return torch.atan(start.tan() + 0.5 + path.sum(1))


def ornstein_uhlenbeck() -> Sde:
    """dy = PULL (CENTRE - y) ds + SIGMA dW."""
    return Sde(lambda _, s, y: Terms(PULL * (CENTRE - y), torch.tensor(SIGMA, dtype=y.dtype)), additive=True)


def ornstein_uhlenbeck_end(start: Tensor, path: Tensor) -> Tensor:
    """Its solution at depth 1: the integral of exp(-PULL (1 - s)) dW by midpoints of a path that is fine enough."""
    steps = path.shape[1]
    left = 1 - (torch.arange(steps, dtype=path.dtype) + 0.5) / steps
    decay = torch.exp(-PULL * left).reshape(-1, *[1] * (path.dim() - 2))
    return CENTRE + (start - CENTRE) * math.exp(-PULL) + SIGMA * (decay * path).sum(1)


def brownian(batch: int, steps: int, *latent: int, seed: int = 0) -> Tensor:
    """Increments of a seed, in double precision."""
    noise = torch.randn(batch, steps, *latent, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return increments(noise)


def slope(steps: list[int], errors: list[float]) -> float:
    """The order: the slope of log error over log step size, by least squares."""
    x = -torch.tensor(steps).double().log()
    y = torch.tensor(errors).double().log()
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
