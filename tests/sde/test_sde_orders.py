"""Every solver converges at the orders that it states, measured on equations with known solutions."""

import math
from itertools import product

import pytest
import torch
from equations import (
    CENTRE,
    GROWTH,
    PULL,
    SIGMA,
    VOLATILITY,
    bounded,
    bounded_end,
    brownian,
    geometric,
    geometric_end,
    ornstein_uhlenbeck,
    ornstein_uhlenbeck_end,
    slope,
)
from torch import Tensor

from vaesweep.sde import SOLVERS, Sde, Solver, Terms, coarsen, solve

EACH = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
FINE, PATHS = 2048, 2000
GRIDS = [8, 16, 32, 64, 128]
# A root mean square over 2000 paths of the same noise: slopes of ten seeds lie at most 0.09 off the order, with the
# curvature of coarse grids, and 0.14 for the equation of bounded states.
STRONG = 0.2
START = torch.full((PATHS, 1), 1.2, dtype=torch.float64)


def strong_order(solver: Solver, sde: Sde, path: Tensor, exact: Tensor) -> float:
    errors = []
    for steps in GRIDS:
        found = solve(solver, sde, START, coarsen(path, FINE // steps)).state
        errors.append(float((found - exact).square().mean().sqrt()))
    return slope(GRIDS, errors)


@EACH
def test_the_strong_order_of_diagonal_noise(solver: Solver) -> None:
    path = brownian(PATHS, FINE, 1)
    order = strong_order(solver, geometric(), path, geometric_end(START, path, solver.calculus))
    assert order == pytest.approx(solver.diagonal.strong, abs=STRONG)


@pytest.mark.parametrize("solver", [one for one in SOLVERS.values() if one.calculus == "stratonovich"])
def test_the_strong_order_of_diagonal_noise_that_is_not_linear(solver: Solver) -> None:
    path = brownian(PATHS, FINE, 1)
    order = strong_order(solver, bounded(), path, bounded_end(START, path))
    assert order == pytest.approx(solver.diagonal.strong, abs=STRONG)


@EACH
def test_the_strong_order_of_additive_noise(solver: Solver) -> None:
    path = brownian(PATHS, FINE, 1)
    order = strong_order(solver, ornstein_uhlenbeck(), path, ornstein_uhlenbeck_end(START, path))
    assert order == pytest.approx(solver.additive.strong, abs=STRONG)


def every_outcome(steps: int) -> tuple[Tensor, Tensor]:
    """All paths of three-point increments `[3^steps, steps, 1]` with their probabilities: Gauss-Hermite quadrature.

    Expectations of polynomials of at most degree five in each increment are exact, those of the solvers' first and
    second moments on linear equations among them. So weak errors are numbers without a sampling error.
    """
    values, masses = [-math.sqrt(3 / steps), 0.0, math.sqrt(3 / steps)], [1 / 6, 2 / 3, 1 / 6]
    path = torch.tensor(list(product(values, repeat=steps)), dtype=torch.float64).unsqueeze(-1)
    return path, torch.tensor(list(product(masses, repeat=steps)), dtype=torch.float64).prod(1)


@EACH
def test_the_weak_order_of_diagonal_noise(solver: Solver) -> None:
    extra = 0.0 if solver.calculus == "ito" else VOLATILITY**2 / 2
    exact = [math.exp(GROWTH + extra), math.exp(2 * (GROWTH + extra) + VOLATILITY**2)]
    grids, errors = [4, 5, 6, 8], []
    for steps in grids:
        path, mass = every_outcome(steps)
        state = solve(solver, geometric(), torch.ones_like(path[:, 0]), path).state.squeeze(-1)
        moments = [float((mass * state**power).sum()) for power in (1, 2)]
        errors.append(math.hypot(*(a - b for a, b in zip(moments, exact, strict=True))))
    # without noise in the measurement; what is left is the curvature of so coarse grids
    assert slope(grids, errors) == pytest.approx(solver.diagonal.weak, abs=0.25)


@EACH
def test_the_weak_order_of_additive_noise(solver: Solver) -> None:
    mean, variance = CENTRE + (1 - CENTRE) * math.exp(-PULL), SIGMA**2 * (1 - math.exp(-2 * PULL)) / (2 * PULL)
    errors = []
    for steps in GRIDS:
        # the end is linear in the increments, so that its derivative by them gives its variance
        path = torch.zeros(1, steps, 1, dtype=torch.float64, requires_grad=True)
        end = solve(solver, ornstein_uhlenbeck(), torch.ones(1, 1, dtype=torch.float64), path).state
        (influence,) = torch.autograd.grad(end.sum(), path)
        errors.append(math.hypot(end.item() - mean, float(influence.square().sum()) / steps - variance))
    assert slope(GRIDS, errors) == pytest.approx(solver.additive.weak, abs=0.15)


@EACH
def test_the_order_without_noise(solver: Solver) -> None:
    def field(_: tuple[Tensor, ...], s: float, y: Tensor) -> Terms:
        return Terms(y * math.cos(s), torch.zeros_like(y), running=y.square())

    start, exact = torch.ones(1, 1, dtype=torch.float64), math.exp(math.sin(1.0))
    found = [solve(solver, Sde(field), start, torch.zeros(1, n, 1, dtype=torch.float64)) for n in GRIDS]
    assert slope(GRIDS, [abs(float(one.state) - exact) for one in found]) == pytest.approx(solver.ordinary, abs=0.1)


@EACH
def test_what_runs_beside_the_state_has_the_order_of_the_state(solver: Solver) -> None:
    def field(_: tuple[Tensor, ...], s: float, y: Tensor) -> Terms:
        return Terms(-y, torch.zeros_like(y), running=y.square())

    start, exact = torch.ones(1, 1, dtype=torch.float64), (1 - math.exp(-2.0)) / 2
    found = [solve(solver, Sde(field), start, torch.zeros(1, n, 1, dtype=torch.float64)).running for n in GRIDS]
    errors = [abs(float(one) - exact) for one in found if one is not None]
    assert slope(GRIDS, errors) == pytest.approx(solver.ordinary, abs=0.1)
