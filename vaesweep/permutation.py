"""Assignment of estimates to sources: utterance-level permutation invariance (Kolbæk et al. 2017; thesis, study B).

Exact: every assignment of N ≤ 4 sources is compared; more are matched by the Hungarian method.
"""

from collections.abc import Callable
from itertools import permutations
from typing import Any, NamedTuple

import torch
from torch import Tensor

MOST_ENUMERATED = 4  # sources: 24 permutations


class Assignment(NamedTuple):
    """`order` `[..., N]` holds the index of each target's estimate, `loss` `[...]` the sum over the chosen pairs."""

    order: Tensor
    loss: Tensor


def pairwise(loss: Callable[..., Tensor], targets: Tensor, *estimates: Tensor) -> Tensor:
    """`loss` of every target with every estimate: `[..., N, time]` each, to `[..., target, estimate]`.

    `loss(target, *estimates)` reduces time and broadcasts. Several `estimates` are parameters of one estimate, such as
    location and scale, and are permuted together.
    """
    return loss(targets.unsqueeze(-2), *(estimate.unsqueeze(-3) for estimate in estimates))


def best_assignment(losses: Tensor) -> Assignment:
    """The one-to-one assignment of least total loss: `losses` is `[..., target, estimate]`, square.

    The gradient is that of the chosen losses. Of equal assignments up to four sources take the one that is first in
    lexicographic order, so that ties leave the estimates where they are. A NaN makes the `loss` NaN and the `order`
    meaningless. More than four sources go through the CPU. ValueError if `losses` is not square.
    """
    sources = losses.shape[-1]
    if losses.dim() < 2 or losses.shape[-2] != sources:
        raise ValueError(f"losses must be [..., N, N], a row a target and a column an estimate, not {[*losses.shape]}")
    order = _enumerated(losses) if sources <= MOST_ENUMERATED else _match(losses.detach())
    chosen = losses.gather(-1, order.unsqueeze(-1)).squeeze(-1).sum(-1)
    return Assignment(order, torch.where(losses.isnan().any(-1).any(-1), torch.nan, chosen))


def _enumerated(losses: Tensor) -> Tensor:
    """The best order `[..., N]` of all N! permutations."""
    sources = losses.shape[-1]
    orders = torch.tensor(list(permutations(range(sources))), device=losses.device)
    totals = losses[..., torch.arange(sources, device=losses.device), orders].sum(-1)
    return orders[totals.argmin(-1)]


@torch.library.custom_op("vaesweep::match", mutates_args=())
def _match(losses: Tensor) -> Tensor:
    """The best order `[..., N]` by scipy: an operation of its own, which compiled code calls and vmap maps over."""
    from scipy.optimize import linear_sum_assignment  # takes half a second, for more than a few sources only

    flat = losses.nan_to_num().reshape(-1, *losses.shape[-2:])
    orders = [torch.from_numpy(linear_sum_assignment(matrix)[1]) for matrix in flat.cpu().numpy()]
    return torch.stack(orders).reshape(losses.shape[:-1]).to(losses.device)


@_match.register_fake
def _shape(losses: Tensor) -> Tensor:
    return losses.new_empty(losses.shape[:-1], dtype=torch.int64)


@_match.register_vmap
def _map(info: Any, in_dims: tuple[int], losses: Tensor) -> tuple[Tensor, int]:
    return _match(losses.movedim(in_dims[0], 0)), 0
