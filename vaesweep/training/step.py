"""One optimisation step of a pack as functions of tensors: a gradient, and the move along it. Compiled on demand.

    views, batch, weights ──► stacked forward ──► Elbo ──► objective ──► gradient ──► clip ──► Adam

Compiled, many small operations become a few loops over memory, on a CPU (by a C++ compiler) and on a GPU (by Triton).
That takes tens of seconds a structure, so whether it pays is a matter of measurement (`training/autotune.py`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from vaesweep.elbo import Elbo
from vaesweep.rates import Weights
from vaesweep.training import adam
from vaesweep.training.skipping import Skipping, hold
from vaesweep.training.stack import Batch, Stack, Views, gradient, joined, unflatten
from vaesweep.training.state import RUNNING, PackState


class StepNumbers(NamedTuple):
    """The numbers of an optimiser step, `[cell]`: learning rate, bound on the gradient norm, weight decay, skipping."""

    learning_rate: Tensor
    clip_norm: Tensor
    decay: Tensor | None  # None where no cell's weights decay
    skipping: Skipping | None  # None where every step is taken


class Step:
    """The arithmetic of a step for the stacks of one structure; `rate_names` are the model's."""

    def __init__(self, stack: Stack, rate_names: Sequence[str], *, compiled: bool, bfloat16: bool = False) -> None:
        self._stack, self._names, self._bfloat16 = stack, tuple(rate_names), bfloat16
        self._fresh = compiled
        self._differentiate, self._move = self._parts, _move
        if compiled:
            self._differentiate = torch.compile(self._parts, fullgraph=True)
            self._move = torch.compile(_move, fullgraph=True)

    def gradient(self, batch: Batch, weights: Weights, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient `[cell, parameter]`, measured means `[distortion and each rate, cell]` and objectives `[cell]`.

        Means and objectives are sums over the batch's rows, divided by `rows`: those of the batch that all workers
        share.
        """
        if self._fresh:
            _mark_cells_dynamic(self._stack.flat, *batch.values(), *weights.tensors())
        with torch.autocast(self._stack.flat.device.type, torch.bfloat16, enabled=self._bfloat16):
            parts, (measured, objective) = self._differentiate(self._stack.flat, batch, weights, rows)
        return joined(parts), measured, objective

    @torch.no_grad()
    def move(
        self, state: PackState, gradient: Tensor, objective: Tensor, numbers: StepNumbers, average: float
    ) -> tuple[Tensor, Tensor]:
        """Clip and make one Adam step in place; norms before clipping and which cells are alive, `[cell]`.

        The skipped steps are counted in `numbers.skipping`, in place too.
        """
        if numbers.skipping is None:
            correction = adam.corrections(state.step, state.flat.device)
        else:
            correction = adam.own_corrections(state.step - numbers.skipping.total)
        alive = state.failed == RUNNING
        arguments = (state.flat, state.exp_avg, state.exp_avg_sq, gradient, alive, objective, *numbers, correction)
        if self._fresh:
            _mark_cells_dynamic(*(leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)))
        self._fresh = False
        norm, alive = self._move(*arguments)
        if average:
            adam.average(state.average, state.flat, average, state.step)
        return norm, alive

    def _parts(
        self, flat: Tensor, batch: Batch, weights: Weights, rows: int
    ) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
        def objective(views: Views) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            elbo = _elbo(self._stack.apply(_components, batch, shared=False, views=views))
            loss = weights.objective(elbo).sum(-1) / rows
            parts = [elbo.distortion, *(elbo.rate(name) for name in self._names)]
            measured = torch.stack([part.sum(-1) for part in parts]) / rows
            return loss.sum(), (measured.detach(), loss.detach())

        return gradient(objective, unflatten(flat, self._stack.layout))


def _move(
    flat: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    gradient: Tensor,
    alive: Tensor,
    objective: Tensor,
    learning_rate: Tensor,
    clip_norm: Tensor,
    decay: Tensor | None,
    skipping: Skipping | None,
    correction: Tensor,
) -> tuple[Tensor, Tensor]:
    norm, finite = adam.clip(gradient, clip_norm, alive & objective.isfinite())
    if skipping is None:
        adam.update(flat, exp_avg, exp_avg_sq, gradient, torch.where(finite, learning_rate, 0.0), decay, correction)
        return norm, finite
    alive, moving = hold(skipping, torch.where(finite, norm, torch.inf), alive)
    gradient.masked_fill_(~moving[:, None], 0.0)
    effective_learning_rate = torch.where(moving, learning_rate, 0.0)
    adam.update(flat, exp_avg, exp_avg_sq, gradient, effective_learning_rate, decay, correction, moving)
    return norm, alive


def _components(result: tuple[Elbo, object], batch: Batch) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """The bound's parts, and those of each draw where there are several, in containers that vmap can return."""
    elbo, _ = result
    return [(bound.distortion, dict(bound.rates)) for bound in (elbo, elbo.draws) if bound is not None]


def _elbo(parts: list[tuple[Tensor, dict[str, Tensor]]]) -> Elbo:
    draws = Elbo(*parts[1]) if len(parts) > 1 else None
    return Elbo(*parts[0], draws)


def _mark_cells_dynamic(*tensors: Tensor) -> None:
    """Have code compiled for any number of cells, since packs shrink as cells end and compiling again takes seconds."""
    for tensor in tensors:
        torch._dynamo.maybe_mark_dynamic(tensor, 0)
