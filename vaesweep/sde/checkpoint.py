"""Functions that are computed again in the backward pass: memory grows with their arguments and results alone.

`torch.utils.checkpoint` keeps tensors by saved-tensor hooks and by reference from a closure; mapped by
`torch.func.vmap`, those belong to a level of the transform that has ended when the backward pass runs. Here every
tensor is an argument of an autograd function with a rule for vmap, as `training/stack.py` needs it: forward mapped over
cells, gradient taken outside. Gradients are those of the function itself, second ones too.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

T = TypeVar("T")


def recomputed(function: Callable[..., T], *tensors: Tensor) -> T:
    """`function(*tensors)`, of which the arguments are kept for the backward pass and no intermediate tensor.

    `function` is pure: its result depends on `tensors` alone, and all that needs a gradient is among them. It may
    return any nesting of tuples of tensors, None among them. A compiler sees the function as it is, and decides itself
    what is kept.
    """
    if torch.compiler.is_compiling():
        return function(*tensors)
    shape: list[tuple[TreeSpec, list[bool]]] = []

    def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
        leaves, spec = tree_flatten(function(*tensors))
        shape.append((spec, [leaf is not None for leaf in leaves]))
        return tuple(_view_if_argument(leaf, tensors) for leaf in leaves if leaf is not None)

    results = iter(_Recomputed.apply(flat, *tensors))
    spec, is_tensor = shape[0]
    return tree_unflatten([next(results) if present else None for present in is_tensor], spec)


def _view_if_argument(result: Tensor, arguments: tuple[Tensor, ...]) -> Tensor:
    """The result, as a view where it is an argument: an autograd function may not both save and return an argument."""
    return result.view_as(result) if any(result is argument for argument in arguments) else result


class _Recomputed(torch.autograd.Function):
    """A function of tensors to a tuple of tensors; the first argument is that function."""

    generate_vmap_rule = True

    @staticmethod
    def forward(function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
        return function(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.function, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the tensors that need one, by evaluating the function again; None for the function itself."""
        tensors = list(ctx.saved_tensors)
        needed = [i for i, needs_gradient in enumerate(ctx.needs_input_grad[1:]) if needs_gradient]

        def of_needed(*variables: Tensor) -> tuple[Tensor, ...]:
            arguments = tensors.copy()
            for i, variable in zip(needed, variables, strict=True):
                arguments[i] = variable
            return ctx.function(*arguments)

        pull = torch.func.vjp(of_needed, *(tensors[i] for i in needed))[1]
        by_index = dict(zip(needed, pull(gradients), strict=True))
        return None, *(by_index.get(i) for i in range(len(tensors)))
