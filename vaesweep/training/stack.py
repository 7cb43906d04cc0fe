"""A pack's models as one: parameters stacked over cells in one buffer, a forward pass vectorised over cells.

The buffer is `[cell, parameter]`; the tensors the model sees are views of it, so that the optimiser, the gradient norm
and a checkpoint each handle one tensor.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from vaesweep.training.problem import Batch

Layout = tuple[tuple[str, tuple[int, ...]], ...]  # names and shapes, in the buffer's order


class _Bound(nn.Module):
    """A model whose call is any function of it: `functional_call` swaps parameters only around a module's forward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(model, *arguments)`."""
        return function(self.model, *arguments)


class Stack:
    """The stacked parameters of a pack. `flat` is `[cell, parameter]`."""

    def __init__(self, model: nn.Module, flat: Tensor) -> None:
        if any(True for _ in model.buffers()):
            raise TypeError(f"{type(model).__name__} has buffers; a packed model may hold parameters only")
        self._skeleton = _Bound(model.to("meta"))
        self.layout = layout_of(model)
        self.flat = flat
        self._views = {name: view.detach().requires_grad_() for name, view in unflatten(flat, self.layout).items()}

    def __len__(self) -> int:
        return len(self.flat)

    def apply(self, function: Callable[[Any, Batch], Any], batch: Batch, *, shared: bool) -> Any:
        """`function(output, batch)` of each cell's forward pass, stacked: leaves are `[cell, ...]`.

        `batch` entries are `[cell, batch, ...]`, or `[batch, ...]` where all cells see the same (`shared`).
        """

        def one(model: nn.Module, batch: Batch) -> Any:
            return function(model(**batch), batch)

        return self._each(one, (batch,), 0 if not shared else None)

    def call(self, function: Callable[..., Any], *arguments: Tensor) -> Any:
        """`function(model, *arguments)` of each cell, stacked; arguments and results are `[cell, ...]`."""
        return self._each(function, arguments, 0)

    def part(self, cells: slice) -> "Stack":
        """The stack of some of the cells."""
        return Stack(self._skeleton.model, self.flat[cells])

    def _each(self, function: Callable[..., Any], arguments: tuple[Any, ...], in_dim: int | None) -> Any:
        def one(parameters: dict[str, Tensor], *arguments: Any) -> Any:
            named = {f"model.{name}": value for name, value in parameters.items()}
            return functional_call(self._skeleton, named, (function, *arguments))

        return vmap(one, in_dims=(0, *[in_dim] * len(arguments)))(self._views, *arguments)

    def gradient(self, objective: Tensor) -> Tensor:
        """Gradient of a scalar that is a sum over cells: `[cell, parameter]`, each row its own cell's."""
        parts = torch.autograd.grad(objective, list(self._views.values()))
        return torch.cat([part.reshape(len(self.flat), -1) for part in parts], dim=1)


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
    drawn: dict[int, Tensor] = {}
    for seed in seeds:
        if seed not in drawn:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                drawn[seed] = torch.cat([p.detach().reshape(-1) for p in build().parameters()])
    return torch.stack([drawn[seed] for seed in seeds])
