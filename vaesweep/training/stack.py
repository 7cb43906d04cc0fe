"""A pack's models as one: parameters stacked over cells in one buffer, a forward pass vectorised over cells.

The buffer is `[cell, parameter]`; the tensors the model sees are views of it, so that the optimiser, the gradient norm
and a checkpoint each handle one tensor.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map

Batch = dict[str, Tensor]  # keyword arguments of a model's forward, each [batch, ...]
Layout = tuple[tuple[str, tuple[int, ...]], ...]  # names and shapes, in the buffer's order
Views = dict[str, Tensor]  # parameters by name, each `[cell, *shape]`


class _Bound(nn.Module):
    """A model whose call is any function of it: `functional_call` swaps parameters only around a module's forward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(model, *arguments)`."""
        return function(self.model, *arguments)


class Stack:
    """The stacked parameters of a pack. `flat` is `[cell, parameter]`.

    A model whose class says `stackable = False`, since its computation depends on values and cannot be vectorised over
    cells, is called for one cell after the other; it belongs into packs of one. One cell alone is called as it is too:
    vectorising a single call costs a fifth of its time and gains nothing.

    The model is in evaluation mode, but with `training`: what is reported of it comes from the former.
    """

    def __init__(self, model: nn.Module, flat: Tensor, *, training: bool = False) -> None:
        if any(True for _ in model.buffers()):
            raise TypeError(f"{type(model).__name__} has buffers; a packed model may hold parameters only")
        self._skeleton = _Bound(model.to("meta").requires_grad_(False)).train(training)
        self._vectorised = stackable(model) and len(flat) > 1
        self.layout = layout_of(model)
        self.flat = flat
        self.views: Views = unflatten(flat, self.layout)

    def __len__(self) -> int:
        return len(self.flat)

    def apply(
        self, function: Callable[[Any, Batch], Any], batch: Batch, *, shared: bool, views: Views | None = None
    ) -> Any:
        """`function(output, batch)` of each cell's forward pass, stacked: leaves are `[cell, ...]`.

        `batch` entries are `[cell, batch, ...]`, or `[batch, ...]` where all cells see the same (`shared`). `views`
        stand in for the stack's own parameters.
        """

        def apply_model(model: nn.Module, batch: Batch) -> Any:
            return function(model(**batch), batch)

        return self._each(apply_model, (batch,), 0 if not shared else None, self.views if views is None else views)

    def call(self, function: Callable[..., Any], *arguments: Tensor) -> Any:
        """`function(model, *arguments)` of each cell, stacked; arguments and results are `[cell, ...]`."""
        return self._each(function, arguments, 0, self.views)

    def part(self, cells: slice) -> "Stack":
        """The stack of some of the cells."""
        return Stack(self._skeleton.model, self.flat[cells], training=self._skeleton.training)

    def _each(self, function: Callable[..., Any], arguments: tuple[Any, ...], in_dim: int | None, views: Views) -> Any:
        def call_cell(parameters: dict[str, Tensor], *arguments: Any) -> Any:
            named = {f"model.{name}": value for name, value in parameters.items()}
            return functional_call(self._skeleton, named, (function, *arguments))

        if self._vectorised:
            return vmap(call_cell, in_dims=(0, *[in_dim] * len(arguments)))(views, *arguments)
        chosen = [tree_map(itemgetter(i), arguments) if in_dim == 0 else arguments for i in range(len(self))]
        results = [call_cell({name: view[i] for name, view in views.items()}, *own) for i, own in enumerate(chosen)]
        return tree_map(lambda *parts: torch.stack(parts), *results)


def gradient(objective: Callable[[Views], tuple[Tensor, Any]], views: Views) -> tuple[list[Tensor], Any]:
    """The gradient of a scalar in every view, and the second result of `objective`, beside the scalar.

    A compiled step needs the functional form, which puts the forward and the backward pass into one graph; run as it
    is, that form costs a pack of one a third more than plain autograd.
    """
    if torch.compiler.is_compiling():
        parts, beside = torch.func.grad(objective, has_aux=True)(views)
        return list(parts.values()), beside
    leaves = {name: view.detach().requires_grad_() for name, view in views.items()}
    scalar, beside = objective(leaves)
    return list(torch.autograd.grad(scalar, list(leaves.values()))), beside


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Parts `[cell, *shape]` in the order of the layout as one buffer `[cell, parameter]`."""
    return torch.cat([part.reshape(len(part), -1) for part in parts], dim=1)


def stackable(model: nn.Module) -> bool:
    """Whether a model's cells can be one stacked model."""
    return bool(getattr(model, "stackable", True))


def layout_of(model: nn.Module) -> Layout:
    """Names and shapes of the model's parameters in the order of its buffer row."""
    return tuple((name, tuple(p.shape)) for name, p in model.named_parameters())


def unflatten(flat: Tensor, layout: Layout) -> dict[str, Tensor]:
    """Views of `flat` `[..., parameter]` by parameter name, each `[..., *shape]`."""
    sizes = [torch.Size(shape).numel() for _, shape in layout]
    parts = flat.split(sizes, dim=-1)
    return {
        name: part.reshape(*flat.shape[:-1], *shape) if shape else part.reshape(flat.shape[:-1])
        for (name, shape), part in zip(layout, parts, strict=True)
    }


def initial_rows(build: Callable[[], nn.Module], seeds: Sequence[int]) -> Tensor:
    """One row of freshly initialised parameters a seed: `[cell, parameter]`; equal seeds give equal rows."""
    rows: dict[int, Tensor] = {}
    for seed in seeds:
        if seed not in rows:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                rows[seed] = torch.cat([p.detach().reshape(-1) for p in build().parameters()])
    return torch.stack([rows[seed] for seed in seeds])
