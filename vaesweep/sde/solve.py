"""Solution of an SDE over unit depth: a state, the integrals beside it, activations kept or recomputed.

    start ──► step ──► step ──► … ──► state            one step an increment, depth i / steps
      increments └───────┴─────► running, against      integrals beside the state, elementwise

With `segment`, the activations of so many steps at a time are computed again in the backward pass: memory then grows
with the number of segments by states alone (`checkpoint`).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from vaesweep.sde.checkpoint import recomputed
from vaesweep.sde.solvers import Carry, Solver
from vaesweep.sde.terms import Sde


class Solution(NamedTuple):
    """State and integrals at depth 1, `[batch, *latent]`; an integral that the field lacks is None.

    `states` `[batch, step + 1, *latent]`, from the start on, where they are kept.
    """

    state: Tensor
    running: Tensor | None
    against: Tensor | None
    states: Tensor | None


def solve(
    solver: Solver, sde: Sde, start: Tensor, increments: Tensor, *, segment: int | None = None, keep: bool = False
) -> Solution:
    """The solution from `start` `[batch, *latent]` along `increments` `[batch, step, *latent]`, one step each.

    `segment` is the number of steps whose activations are recomputed together in the backward pass; None keeps all
    activations. `keep` keeps every state. ValueError of a segment below one step and of increments without a step.
    """
    steps = increments.shape[1]
    if steps < 1 or (segment is not None and segment < 1):
        raise ValueError(f"at least one step is needed, in a segment too; got {steps} steps, segments of {segment}")
    stepper = _Stepper(solver, steps, keep)
    advance = stepper.advance if segment is None else stepper.advance_recomputed
    carry, path = solver.begin(sde, start), [start]
    for first in range(0, steps, segment or steps):
        part = increments[:, first : first + (segment or steps)]
        carry, states = advance(sde, carry, part, first)
        path += states
    return Solution(carry.state, carry.running, carry.against, torch.stack(path, dim=1) if keep else None)


@dataclass(frozen=True)
class _Stepper:
    """Takes steps of a grid of `steps`; with `keep`, every state on the way is returned too."""

    solver: Solver
    steps: int
    keep: bool

    def advance(self, sde: Sde, carry: Carry, increments: Tensor, first: int) -> tuple[Carry, list[Tensor]]:
        """The carry after all `increments`, from step `first` on, and the states on the way."""
        states = []
        for number, dw in enumerate(increments.unbind(1), start=first):
            carry = self.solver.step(sde, carry, number / self.steps, (number + 1) / self.steps, dw)
            if self.keep:
                states.append(carry.state)
        return carry, states

    def advance_recomputed(self, sde: Sde, carry: Carry, increments: Tensor, first: int) -> tuple[Carry, list[Tensor]]:
        """As `advance`, computed again in the backward pass: every tensor is passed as an argument."""
        leaves, spec = tree_flatten(carry)
        is_tensor = [leaf is not None for leaf in leaves]
        field, additive, count = sde.field, sde.additive, sum(is_tensor)

        def inside(increments: Tensor, *tensors: Tensor) -> tuple[Carry, list[Tensor]]:
            values = iter(tensors[:count])
            carry = tree_unflatten([next(values) if present else None for present in is_tensor], spec)
            return self.advance(Sde(field, tensors[count:], additive), carry, increments, first)

        return recomputed(inside, increments, *(leaf for leaf in leaves if leaf is not None), *sde.tensors)
