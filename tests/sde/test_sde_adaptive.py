"""Adaptive steps come to the solution of small fixed steps on the same path, and so do gradients of the adjoint."""

import pytest
import torch
from equations import geometric, geometric_end, ornstein_uhlenbeck
from torch import Tensor

from vaesweep.errors import UserError
from vaesweep.sde import SOLVERS, adaptive, coarsen, path_increments, posterior_sde, solve

ENTROPY, STEPS = 7, 1024


def drifts(tensors: tuple[Tensor, ...], s: float, z: Tensor) -> tuple[Tensor, Tensor]:
    prior, posterior = tensors
    return (z @ prior).tanh() - z, 3 * (z @ posterior + s).tanh() - z


@pytest.fixture
def tensors() -> list[Tensor]:
    """Weights of both drifts, log sigma, and the start."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [(3, 3), (3, 3), (), (5, 3)]]
    return [(0.5 * one).requires_grad_() for one in drawn]


def objective(state: Tensor, running: Tensor | None) -> Tensor:
    assert running is not None
    return state.square().sum() + running.sum()


def fixed(tensors: list[Tensor]) -> Tensor:
    """By a fixed step; measured, it is within 3e-4 of steps four times as fine."""
    *own, log_sigma, start = tensors
    path = path_increments(start, ENTROPY, STEPS).detach()
    found = solve(SOLVERS["reversible_heun"], posterior_sde(drifts, tuple(own), log_sigma), start, path)
    return objective(found.state, found.running)


def adapted(tensors: list[Tensor], tolerance: float, *, adjoint: bool = False) -> Tensor:
    *own, log_sigma, start = tensors
    sde = posterior_sde(drifts, tuple(own), log_sigma)
    found = adaptive(sde, start, ENTROPY, tolerance=tolerance, adjoint=adjoint)
    return objective(found.state, found.running)


@pytest.mark.parametrize("adjoint", [False, True])
def test_state_path_rate_and_gradients_are_those_of_a_small_fixed_step(tensors: list[Tensor], adjoint: bool) -> None:
    reference = fixed(tensors)
    found = adapted(tensors, 1e-3, adjoint=adjoint)
    torch.testing.assert_close(found, reference, rtol=5e-3, atol=0)
    expected = torch.autograd.grad(reference, tensors)
    for one, other in zip(torch.autograd.grad(found, tensors), expected, strict=True):
        # relative to the whole gradient: at a tolerance of 1e-3 the adjoint is off by a few of its thousandths
        assert float((one - other).norm() / other.norm()) < 0.02


def test_a_smaller_tolerance_comes_closer_by_more_evaluations() -> None:
    start = torch.full((50, 1), 0.8, dtype=torch.float64)
    exact = geometric_end(start, path_increments(start, ENTROPY, 1), "stratonovich")
    found = [adaptive(geometric(), start, ENTROPY, tolerance=tolerance) for tolerance in (1e-1, 1e-3, 1e-4)]
    errors = [float((one.state - exact).square().mean().sqrt()) for one in found]
    assert errors[1] < errors[0] / 2  # by tolerances a hundred and ten times smaller: far less than is to be expected
    assert errors[2] < errors[1] / 2
    assert found[0].evaluations < found[1].evaluations < found[2].evaluations


def test_the_path_depends_on_its_entropy_alone() -> None:
    start = torch.zeros(4, 2, 3, dtype=torch.float64)
    fine, coarse = (path_increments(start, ENTROPY, steps) for steps in (64, 8))
    assert fine.shape == (4, 64, 2, 3)
    torch.testing.assert_close(coarsen(fine, 8), coarse)
    assert not torch.equal(coarse, path_increments(start, ENTROPY + 1, 8))


def test_a_path_has_the_variance_of_its_steps() -> None:
    # 20 000 numbers: the variance has a relative standard error of 0.01; four of them
    fine = path_increments(torch.zeros(10_000, 2, dtype=torch.float64), ENTROPY, 8)
    torch.testing.assert_close(8 * fine.square().mean((0, 2)), torch.ones(8).double(), atol=0.04, rtol=0)


def test_what_has_no_integral_beside_it_has_none() -> None:
    found = adaptive(ornstein_uhlenbeck(), torch.zeros(4, 2, 3, dtype=torch.float64), ENTROPY, tolerance=0.1)
    assert found.state.shape == (4, 2, 3)
    assert found.running is None


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan")])
def test_a_tolerance_is_positive(tolerance: float) -> None:
    with pytest.raises(UserError, match="above 0"):
        adaptive(geometric(), torch.ones(2, 1), ENTROPY, tolerance=tolerance)
