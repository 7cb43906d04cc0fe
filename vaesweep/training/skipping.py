"""Gradient skipping: a step whose gradient is too large, or not finite, is not taken (Child 2021, "Very deep VAEs").

    norm > limit ──► weights and moments stay, one more in the row; more than `most` in a row ──► the cell has failed
    otherwise    ──► the step is taken, the row is over

Decided for each cell by arithmetic and not by a branch, as freezing is (`adam`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vaesweep.training.config import GradientSkipping, TrainableConfig

SkipState = dict[str, Tensor]  # counts `[cell]`: skipped steps in a row up to now (`row`), and in all (`total`)

NOT_FINITE = "the objective or its gradient was not finite"


class Skipping(NamedTuple):
    """The rule of a pack's steps: the largest gradient norms that are followed and the counts so far, `[cell]`."""

    limit: Tensor
    row: Tensor
    total: Tensor
    most: int


def start(skip: GradientSkipping | None, cells: int, device: torch.device) -> SkipState:
    """The counts before training; none where no step is skipped."""
    if skip is None:
        return {}
    return {name: torch.zeros(cells, dtype=torch.long, device=device) for name in ("row", "total")}


def of_cells(configs: Sequence[TrainableConfig], state: SkipState, device: torch.device) -> Skipping | None:
    """The rule of cells of one structure, which counts in `state`; None where no step is skipped."""
    rules = [config.training.skip for config in configs if config.training.skip is not None]
    if not rules:
        return None
    limit = torch.tensor([rule.norm for rule in rules], device=device)
    return Skipping(limit, state["row"], state["total"], rules[0].most)


def hold(skipping: Skipping, norm: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
    """Masks `[cell]` of the cells that are still alive and of those that take this step; counts in place.

    `norm` `[cell]` is the gradient's before clipping, infinite where it or the objective is not finite. The counts of a
    failed cell stay: `cause` reads them.
    """
    skipped = alive & (norm > skipping.limit)
    row = torch.where(alive, torch.where(skipped, skipping.row + 1, 0), skipping.row)
    skipping.row.copy_(row)
    skipping.total.add_(skipped)
    return alive & (row <= skipping.most), alive & ~skipped


def cause(skip: GradientSkipping | None, state: SkipState, cell: int) -> str:
    """The cause of the failure of the cell at the position `cell`, with the rule `skip`."""
    if skip is None or (row := int(state["row"][cell])) <= skip.most:
        return NOT_FINITE
    return (
        f"its gradient's norm exceeded training.skip.norm={skip.norm:g}, or was not finite, {row} times in a row; "
        "raise that or lower training.learning_rate"
    )
