"""Recomputed steps change what is kept for the backward pass, and neither a number nor a gradient."""

from typing import Any

import pytest
import torch
from tiny_hierarchies import images, lively, noises, shaped
from torch import Tensor

from vaesweep.elbo import Elbo
from vaesweep.families.hvae.models.hierarchy import Hierarchy
from vaesweep.training.stack import Stack, gradient, initial_rows

SOLVERS = ["euler_maruyama", "euler_heun", "reversible_heun"]
STEPS, ROWS = 7, 3
EXACT = {"rtol": 1e-9, "atol": 1e-9}  # float64, gradients summed in another order


def download_cell(recompute: int, solver: str = "euler_heun", kind: str = "continuous") -> Hierarchy:
    return lively(shaped(kind, {"solver": solver, "recompute": recompute}))


def loss_of(model: Hierarchy, **more: Any) -> Tensor:
    x, noise = images(model.config, ROWS), noises(model.config, ROWS, draws=STEPS)
    elbo, output = model(x, **noise)
    return (-elbo.value() - 0.1 * output.log_weight).sum()


@pytest.mark.parametrize("kind", ["continuous", "ode_like"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("recompute", [1, 3, 100])
def test_loss_and_gradients_are_the_same(kind: str, solver: str, recompute: int) -> None:
    """Seven steps in segments of one, of three (the last of one) and of more than there are."""
    kept, again = download_cell(0, solver, kind), download_cell(recompute, solver, kind)
    losses = [loss_of(kept), loss_of(again)]
    assert torch.equal(losses[0], losses[1])
    for loss in losses:
        loss.backward()
    for (name, one), other in zip(kept.named_parameters(), again.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None, name
        torch.testing.assert_close(other.grad, one.grad, **EXACT)


@pytest.mark.parametrize("cells", [1, 3])
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_same_in_a_stack_of_cells(solver: str, cells: int) -> None:
    """The forward pass is mapped over cells and the gradient taken outside, as training does."""
    found = []
    for recompute in (0, 2):
        config = shaped("continuous", {"solver": solver, "recompute": recompute})

        def build(config: Any = config) -> Hierarchy:
            return Hierarchy(config).double()

        stack = Stack(build(), initial_rows(build, list(range(cells))))
        x, noise = images(config, ROWS), noises(config, ROWS, draws=STEPS)

        def objective(views: dict[str, Tensor], stack: Stack = stack, batch: Any = {"x": x} | noise) -> Any:
            loss = stack.apply(_negative_elbo, batch, shared=True, views=views)
            return loss.sum(), loss.detach()

        found.append(gradient(objective, stack.views))
    (kept, loss), (again, other) = found
    torch.testing.assert_close(other, loss, **EXACT)
    assert loss.shape == (cells, ROWS)
    for one, same in zip(kept, again, strict=True):
        torch.testing.assert_close(same, one, **EXACT)


def _negative_elbo(result: tuple[Elbo, Any], batch: Any) -> Tensor:
    return -result[0].value()


def saved(model: Hierarchy, steps: int) -> int:
    """Numbers that one forward pass keeps for the backward pass, each storage once."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    x, noise = images(model.config, ROWS), noises(model.config, ROWS, draws=steps)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(x, **noise)[0].value().sum()
    total = sum(kept.values())
    del loss
    return total


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_is_kept_grows_with_segments_by_states_alone(solver: str) -> None:
    few, many = 8, 32
    without = saved(download_cell(0, solver), many) - saved(download_cell(0, solver), few)
    each = saved(download_cell(1, solver), many) - saved(download_cell(1, solver), few)
    whole = saved(download_cell(many, solver), many) - saved(download_cell(many, solver), few)
    # A step without recomputation keeps each of a block's layers, of two processes of 5 channels; with it the state
    # and its integrals, of 2 channels each, their increments and for the reversible solver its terms.
    assert each < 0.6 * without
    assert whole < each
