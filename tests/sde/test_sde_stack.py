"""In a pack, as the loop trains it, recomputed walks have the gradients of kept ones: interpreted and compiled."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from equations import brownian
from torch import Tensor, nn
from torch.func import functional_call

from vaesweep.sde import SOLVERS, posterior_sde, solve
from vaesweep.training.stack import Stack, gradient, initial_rows

CHANNELS, SIDE = 2, 3


class Drifts(nn.Module):
    """Both drifts; the posterior's is the prior's, moved by a context."""

    def __init__(self) -> None:
        super().__init__()
        self.prior = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.moved = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, s: float, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Prior's and posterior's drift."""
        prior = self.prior(z + s).tanh()
        return prior, prior + self.moved(context)


class Model(nn.Module):
    """A latent SDE whose drifts are modules: their present parameters go in as tensors, and so does the context."""

    def __init__(self, segment: int | None) -> None:
        super().__init__()
        self.segment, self.drifts, self.log_sigma = segment, Drifts(), nn.Parameter(torch.zeros(()))

    def forward(self, start: Tensor, path: Tensor) -> Tensor:
        """A number of each row, `[batch]`."""
        names = [name for name, _ in self.drifts.named_parameters()]

        def drifts(tensors: tuple[Tensor, ...], s: float, z: Tensor) -> Any:
            context, *parameters = tensors
            return functional_call(self.drifts, dict(zip(names, parameters, strict=True)), (s, z, context))

        sde = posterior_sde(drifts, (start.sin(), *self.drifts.parameters()), self.log_sigma)
        found = solve(SOLVERS["euler_heun"], sde, start, path, segment=self.segment)
        assert found.running is not None
        return (found.state.square() + found.running).flatten(1).sum(1)


def stacked_gradient(segment: int | None, cells: int, *, compiled: bool) -> list[Tensor]:
    """Of a pack of `cells`, of different initial weights."""
    flat = initial_rows(lambda: Model(segment), range(cells))
    stack = Stack(Model(segment), flat)
    path = brownian(2 * cells, 4, CHANNELS, SIDE, SIDE).float().unflatten(0, (cells, 2))
    batch = {"start": path.sum(2), "path": path}

    def objective(views: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        each = stack.apply(lambda result, batch: result, batch, shared=False, views=views)
        return each.sum(), each

    def step(views: dict[str, Tensor]) -> list[Tensor]:
        return gradient(objective, views)[0]

    run = torch.compile(step, fullgraph=True, backend="aot_eager") if compiled else step
    return run({name: view.detach() for name, view in stack.views.items()})


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    """Compiled code of one test is no other's."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("cells", [1, 3])
def test_the_gradient_of_a_pack_is_the_same(cells: int, compiled: bool) -> None:
    kept = stacked_gradient(None, cells, compiled=False)
    found = stacked_gradient(2, cells, compiled=compiled)
    assert all(float(one.abs().sum()) > 0 for one in kept)
    torch.testing.assert_close(found, kept, rtol=1e-4, atol=1e-4)  # single precision, sums of another order
