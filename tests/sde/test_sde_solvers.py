"""Solvers agree with one another, with torchsde and with themselves: reversed, mapped, step after step."""

import pytest
import torch
import torchsde
from equations import SIGMA, bounded, brownian, ornstein_uhlenbeck
from torch import Tensor

from vaesweep.sde import SOLVERS, Carry, Sde, Solver, Terms, solve

EACH = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
METHODS = {"euler_maruyama": "euler", "euler_heun": "euler_heun", "reversible_heun": "reversible_heun"}


def starts(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Walked(torchsde.BaseBrownian):
    """Our increments as torchsde asks for them."""

    def __init__(self, path: Tensor) -> None:
        super().__init__()
        self.path = path

    def __call__(self, ta: Tensor, tb: Tensor, return_U: bool = False, return_A: bool = False) -> Tensor:
        steps = self.path.shape[1]
        return self.path[:, round(float(ta) * steps) : round(float(tb) * steps)].sum(1)

    def __repr__(self) -> str:
        return "Walked"

    @property
    def shape(self) -> torch.Size:
        return self.path[:, 0].shape

    @property
    def dtype(self) -> torch.dtype:
        return self.path.dtype

    @property
    def device(self) -> torch.device:
        return self.path.device

    @property
    def levy_area_approximation(self) -> str:
        return "none"


class Theirs(torch.nn.Module):
    """An SDE as torchsde takes it."""

    noise_type = "diagonal"

    def __init__(self, sde: Sde, calculus: str) -> None:
        super().__init__()
        self.sde, self.sde_type = sde, calculus

    def f(self, s: Tensor, y: Tensor) -> Tensor:
        return self.sde.at(float(s), y).drift

    def g(self, s: Tensor, y: Tensor) -> Tensor:
        return self.sde.at(float(s), y).diffusion.expand_as(y)


@EACH
@pytest.mark.parametrize("sde", [bounded(), ornstein_uhlenbeck()], ids=["diagonal", "additive"])
def test_every_state_is_that_of_torchsde_on_the_same_path(solver: Solver, sde: Sde) -> None:
    path, start = brownian(5, 16, 3), starts(5, 3)
    depths = torch.arange(17, dtype=torch.float64) / 16
    theirs = torchsde.sdeint(
        Theirs(sde, solver.calculus), start, depths, bm=Walked(path), method=METHODS[solver.name], dt=1 / 16
    )
    ours = solve(solver, sde, start, path, keep=True).states
    torch.testing.assert_close(ours, theirs.movedim(0, 1), rtol=0, atol=1e-12)


def counted(sde: Sde) -> tuple[Sde, list[float]]:
    """The SDE, and a list that gets every depth at which it is evaluated."""
    depths: list[float] = []

    def field(tensors: tuple[Tensor, ...], s: float, y: Tensor) -> Terms:
        depths.append(s)
        return sde.field(tensors, s, y)

    return sde._replace(field=field), depths


@pytest.mark.parametrize("name", ["euler_maruyama", "euler_heun"])
def test_of_additive_noise_the_field_is_evaluated_once_a_step_at_exact_depths(name: str) -> None:
    sde, depths = counted(ornstein_uhlenbeck())
    solve(SOLVERS[name], sde, starts(2, 3), brownian(2, 10, 3))
    assert depths == [number / 10 for number in range(10)]


def test_reversible_heun_evaluates_the_field_once_a_step_and_once_to_begin_with() -> None:
    sde, depths = counted(bounded())
    solve(SOLVERS["reversible_heun"], sde, starts(2, 3), brownian(2, 10, 3))
    assert depths == [number / 10 for number in range(11)]


def test_of_additive_noise_euler_heun_is_euler_maruyama() -> None:
    path, start = brownian(2, 8, 3), starts(2, 3)
    one, other = (solve(SOLVERS[name], ornstein_uhlenbeck(), start, path) for name in ("euler_heun", "euler_maruyama"))
    assert torch.equal(one.state, other.state)


def test_reversible_heun_is_undone_in_closed_form() -> None:
    solver, sde, path = SOLVERS["reversible_heun"], bounded(), brownian(4, 32, 3)
    begun = solver.begin(sde, starts(4, 3))
    carry = begun
    for number, dw in enumerate(path.unbind(1)):
        carry = solver.step(sde, carry, number / 32, (number + 1) / 32, dw)
    for number, dw in reversed(list(enumerate(path.unbind(1)))):
        # a step back is a step of negative depth along the negative increment
        carry = solver.step(sde, carry, (number + 1) / 32, number / 32, -dw)
    torch.testing.assert_close(carry.state, begun.state, rtol=0, atol=1e-12)
    torch.testing.assert_close(carry.twin, begun.twin, rtol=0, atol=1e-12)


def beside(_: tuple[Tensor, ...], s: float, y: Tensor) -> Terms:
    return Terms(-y, torch.full_like(y, SIGMA), running=y.square(), against=y)


@EACH
def test_integrals_are_elementwise_and_their_absence_is_none(solver: Solver) -> None:
    path, start = brownian(2, 8, 3, 4), starts(2, 3, 4)
    with_them, without = (solve(solver, sde, start, path) for sde in (Sde(beside, (), True), ornstein_uhlenbeck()))
    assert with_them.running is not None
    assert with_them.against is not None
    assert with_them.running.shape == with_them.against.shape == with_them.state.shape == (2, 3, 4)
    assert without.running is without.against is without.states is None


@EACH
def test_states_that_are_kept_begin_with_the_start_and_end_with_the_end(solver: Solver) -> None:
    start = starts(2, 3)
    found = solve(solver, ornstein_uhlenbeck(), start, brownian(2, 8, 3), keep=True)
    assert found.states is not None
    assert found.states.shape == (2, 9, 3)
    assert torch.equal(found.states[:, 0], start)
    assert torch.equal(found.states[:, -1], found.state)


@EACH
def test_mapped_over_cells_it_is_a_loop_over_cells(solver: Solver) -> None:
    path, start = brownian(6, 8, 3).unflatten(0, (2, 3)), starts(2, 3, 3)
    sde = Sde(beside, (), True)
    mapped = torch.vmap(lambda start, path: solve(solver, sde, start, path)[:3])(start, path)
    for cell in range(2):
        looped = solve(solver, sde, start[cell], path[cell])
        for one, other in zip(mapped, looped[:3], strict=True):
            torch.testing.assert_close(one[cell], other)


@EACH
def test_it_compiles_and_gives_the_same(solver: Solver) -> None:
    path, start = brownian(2, 3, 3), starts(2, 3)

    def end(start: Tensor) -> tuple[Tensor, ...]:
        solution = solve(solver, Sde(beside, (), True), start, path, segment=2)
        return solution.state, solution.running, solution.against

    compiled = torch.compile(end, fullgraph=True, backend="aot_eager")
    for one, other in zip(compiled(start), end(start), strict=True):
        torch.testing.assert_close(one, other)


def test_no_steps_and_empty_segments_are_refused() -> None:
    start = starts(2, 3)
    with pytest.raises(ValueError, match="at least one step"):
        solve(SOLVERS["euler_heun"], bounded(), start, brownian(2, 4, 3)[:, :0])
    with pytest.raises(ValueError, match="segments of 0"):
        solve(SOLVERS["euler_heun"], bounded(), start, brownian(2, 4, 3), segment=0)
    with pytest.raises(RuntimeError, match="what it began"):
        SOLVERS["reversible_heun"].step(bounded(), Carry(start), 0.0, 1.0, start)
