"""Adam (Kingma and Ba 2015; decoupled weight decay, Loshchilov and Hutter 2019) over a pack, in one buffer.

The learning rate, the bound on the gradient norm and the weight decay are each cell's own.

A cell whose gradient is not finite is frozen at once, by arithmetic and not by a branch, so that no step waits for the
device; the other cells are not affected.
"""

import math

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def clip(gradient: Tensor, bound: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
    """Scale each cell's row of `gradient` `[cell, parameter]` to a norm of at most `bound` `[cell]`, in place.

    Returns the norms before clipping and which cells are still alive: a cell whose norm is not finite is not, and the
    rows of cells that are not alive become zero.
    """
    norm = torch.linalg.vector_norm(gradient, dim=1)
    alive = alive & norm.isfinite()
    scale = (bound / norm.clamp(min=1e-12)).clamp(max=1.0)
    gradient.mul_(scale[:, None]).masked_fill_(~alive[:, None], 0.0)
    return norm, alive


def corrections(step: int, device: torch.device) -> Tensor:
    """The correction of moments that started at zero, at step `step` (from 0): `[1, 2]`, of the first and the second.

    A tensor and not a pair of numbers, since a compiled step would be compiled anew for every number.
    """
    root = math.sqrt(1 - BETA2 ** (step + 1))
    return torch.tensor([[root / (1 - BETA1 ** (step + 1)), root]], device=device)


def own_corrections(taken: Tensor) -> Tensor:
    """The corrections of cells that have taken different numbers of steps, `taken` `[cell]`: `[cell, 2]`."""
    power = taken.double() + 1
    root = torch.sqrt(1 - BETA2**power)
    return torch.stack([root / (1 - BETA1**power), root], dim=1).float()


@torch.no_grad()
def update(
    flat: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    gradient: Tensor,
    learning_rate: Tensor,
    decay: Tensor | None,
    correction: Tensor,
    moving: Tensor | None = None,
) -> None:
    """One Adam step in place; `learning_rate` `[cell]` is 0 for a cell that must not move.

    `correction` is that of `corrections`; `exp_avg` and `exp_avg_sq` `[cell, parameter]` are the running means of the
    gradient and of its square.

    `decay` `[cell]` is None where no cell's weights decay. Where `moving` `[cell]` is given, moments of cells that do
    not move stay as they are, and the `gradient` of these must be zero.
    """
    if decay is not None:
        flat.mul_((1 - learning_rate * decay)[:, None])
    if moving is None:
        exp_avg.lerp_(gradient, 1 - BETA1)
        exp_avg_sq.mul_(BETA2)
    else:
        ones = torch.ones_like(learning_rate)
        exp_avg.lerp_(gradient, torch.where(moving, (1 - BETA1) * ones, 0.0)[:, None])
        exp_avg_sq.mul_(torch.where(moving, BETA2 * ones, ones)[:, None])
    exp_avg_sq.addcmul_(gradient, gradient, value=1 - BETA2)
    denominator = torch.sqrt(exp_avg_sq, out=gradient).add_(EPSILON * correction[:, 1:])
    flat.sub_(torch.div(exp_avg, denominator, out=denominator).mul_((learning_rate * correction[:, 0])[:, None]))


def average(mean: Tensor, flat: Tensor, decay: float, step: int) -> None:
    """Move the running mean of weights towards `flat`, in place; both `[cell, parameter]`, `step` from 0.

    The memory grows with the steps up to `decay`, min(decay, (1 + step) / (10 + step)), so that a mean's start is
    forgotten soon.
    """
    mean.lerp_(flat, 1 - min(decay, (1 + step) / (10 + step)))
