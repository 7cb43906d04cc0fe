"""What is recomputed has the gradients of what is kept, under every transform, and keeps states alone."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from convolutional import BATCH, CHANNELS, SIDE, loss, tensors_of
from equations import brownian
from torch import Tensor

from vaesweep.sde import SOLVERS, Solver, recomputed

EACH = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
SEGMENTS = pytest.mark.parametrize("segment", [1, 3, 8])
STATE = BATCH * CHANNELS * SIDE**2
same = partial(torch.testing.assert_close, rtol=1e-11, atol=1e-12)  # sums of another order, in doubles


def leaves(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.clone().requires_grad_() for tensor in tensors]


def plain(function: Callable[..., Tensor], tensors: list[Tensor]) -> tuple[Tensor, ...]:
    own = leaves(tensors)
    return torch.autograd.grad(function(*own), own)


def functional(function: Callable[..., Tensor], tensors: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.func.grad(function, argnums=tuple(range(len(tensors))))(*tensors)


def cells() -> list[Tensor]:
    """The tensors of two cells, stacked."""
    return [torch.stack(pair) for pair in zip(tensors_of(0), tensors_of(1), strict=True)]


@EACH
@SEGMENTS
def test_gradients_are_those_of_what_is_kept(solver: Solver, segment: int) -> None:
    kept = plain(partial(loss, solver, None), tensors_of(0))
    for way in (plain, functional):
        same(way(partial(loss, solver, segment), tensors_of(0)), kept)


@EACH
@SEGMENTS
def test_gradients_are_the_same_of_a_forward_that_is_mapped_over_cells(solver: Solver, segment: int) -> None:
    def mapped(*tensors: Tensor) -> Tensor:
        return torch.vmap(partial(loss, solver, segment))(*tensors).sum()

    each = [plain(partial(loss, solver, None), tensors_of(cell)) for cell in range(2)]
    looped = tuple(torch.stack(pair) for pair in zip(*each, strict=True))
    for way in (plain, functional):
        same(way(mapped, cells()), looped)


@SEGMENTS
def test_gradients_are_the_same_where_cells_share_some_of_the_tensors(segment: int) -> None:
    solver, (*own, path) = SOLVERS["euler_heun"], cells()

    def mapped(segment: int | None, *own: Tensor) -> Tensor:
        one = partial(loss, solver, segment)
        return torch.vmap(one, in_dims=(*[0] * 5, None, None, None))(*own[:5], own[5][0], own[6][0], path[0]).sum()

    same(plain(partial(mapped, segment), own), plain(partial(mapped, None), own))


@SEGMENTS
def test_gradients_of_each_cell_can_be_mapped_too(segment: int) -> None:
    solver = SOLVERS["euler_heun"]
    found = torch.vmap(torch.func.grad(partial(loss, solver, segment)))(*cells())
    same(found[0], plain(partial(loss, solver, None), tensors_of(0))[0])


@SEGMENTS
def test_second_derivatives_are_those_of_what_is_kept(segment: int) -> None:
    def curvature(segment: int | None, *tensors: Tensor) -> Tensor:
        first = torch.autograd.grad(loss(SOLVERS["reversible_heun"], segment, *tensors), tensors, create_graph=True)
        return torch.stack([one.square().sum() for one in first]).sum()

    same(plain(partial(curvature, segment), tensors_of(0)), plain(partial(curvature, None), tensors_of(0)))


def test_gradients_are_finite_differences() -> None:
    def mixed(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, None]:
        return a * b.sin(), b.exp(), None

    a, b = leaves([torch.tensor([0.3, 1.2]).double(), torch.tensor([-0.4, 0.9]).double()])
    function = lambda a, b: recomputed(mixed, a, b)[:2]  # noqa: E731
    assert torch.autograd.gradcheck(function, (a, b))
    assert torch.autograd.gradgradcheck(function, (a, b))


def test_what_needs_no_gradient_gets_none_and_an_argument_may_be_given_back() -> None:
    a, b = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0)
    product, same_a = recomputed(lambda a, b: (a * b, a), a, b)
    (product + same_a).backward()
    assert a.grad is not None
    assert float(a.grad) == 4
    assert b.grad is None


def kept_numbers(solver: Solver, steps: int, segment: int | None) -> int:
    """How many numbers are kept for the backward pass, whatever holds them."""
    *own, _ = leaves(tensors_of(0))
    path, kept = brownian(BATCH, steps, CHANNELS, SIDE, SIDE), {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        held = loss(solver, segment, *own, path, keep=False)  # alive while counted: no address is used twice
    assert held.requires_grad
    return sum(kept.values())


@EACH
@pytest.mark.parametrize("segment", [1, 2, 4])
def test_memory_grows_with_the_steps_by_states_alone(solver: Solver, segment: int) -> None:
    grown = [kept_numbers(solver, steps, segment) for steps in (16, 32, 48)]
    assert grown[2] - grown[1] == grown[1] - grown[0]
    # what goes from segment to segment: state and both integrals; reversible Heun also carries its twin and the terms
    # of the last step, whose diffusion is one number; and increments, which are there anyway
    carried = {"reversible_heun": 7 * STATE + 1}.get(solver.name, 3 * STATE)
    assert grown[1] - grown[0] <= 16 * STATE + 16 // segment * carried


@EACH
def test_without_recomputation_memory_grows_by_activations(solver: Solver) -> None:
    grown = [kept_numbers(solver, steps, None) for steps in (16, 32)]
    assert grown[1] - grown[0] > 16 * 8 * STATE
