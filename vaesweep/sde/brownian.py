"""Brownian motion over unit depth as increments on uniform grids, and one path on grids of different fineness.

An increment over a step of 1/n is N(0, 1/n). Halving the step must not draw another path: a finer grid is filled in by
the Brownian bridge, given the coarse increment, so that its sums are the coarse increments (Kloeden and Platen 1992,
section 1.8). Standard normal noise comes from outside.
"""

from math import sqrt

from torch import Tensor


def increments(noise: Tensor) -> Tensor:
    """Increments W_{(i+1)/n} - W_{i/n} from standard normal `noise`, both `[batch, step, *latent]`."""
    return noise / sqrt(noise.shape[1])


def coarsen(increments: Tensor, factor: int) -> Tensor:
    """The same path in `factor` times fewer steps: `[batch, step, *latent]` to `[batch, step / factor, *latent]`.

    ValueError if `factor` does not divide the number of steps.
    """
    steps = increments.shape[1]
    if factor < 1 or steps % factor:
        raise ValueError(f"{steps} steps cannot be joined {factor} at a time; a divisor of {steps} is needed")
    return increments if factor == 1 else increments.unflatten(1, (steps // factor, factor)).sum(2)


def refine(increments: Tensor, factor: int, noise: Tensor) -> Tensor:
    """The same path in `factor` times more steps: `[batch, step, *latent]` to `[batch, step * factor, *latent]`.

    Standard normal `noise` `[batch, step * factor, *latent]`. Given a coarse increment over dt, its parts are
    coarse / factor + sqrt(dt / factor) (noise - mean of noise): what independent normal parts are, given their sum.
    ValueError if the noise has another number of steps.
    """
    steps = increments.shape[1]
    if factor < 1 or noise.shape[1] != steps * factor:
        raise ValueError(f"{steps} steps in {factor} parts each need noise of {steps * factor}, not {noise.shape[1]}")
    if factor == 1:
        return increments
    parts = noise.unflatten(1, (steps, factor))
    bridge = (parts - parts.mean(2, keepdim=True)) / sqrt(steps * factor)
    return (increments.unsqueeze(2) / factor + bridge).flatten(1, 2)
