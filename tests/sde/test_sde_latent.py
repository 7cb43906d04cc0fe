"""The path rate is the KL divergence between posterior and prior process: in closed form, and by log density ratios."""

import math

import pytest
import torch
from equations import brownian
from torch import Tensor

from vaesweep.distributions import Gaussian
from vaesweep.sde import SOLVERS, Sde, Solution, Solver, log_ratio, posterior_sde, prior_sde, solve

EACH = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
PULL, PRIOR_MEAN, POSTERIOR_MEAN, LOG_SIGMA = 1.2, -0.3, 0.8, torch.tensor(-0.4, dtype=torch.float64)
MEANS = (torch.tensor([PRIOR_MEAN], dtype=torch.float64), torch.tensor([POSTERIOR_MEAN], dtype=torch.float64))
SIGMA = math.exp(-0.4)


def prior_drift(means: tuple[Tensor, ...], s: float, z: Tensor) -> Tensor:
    return PULL * (means[0] - z)


def apart_by_means(means: tuple[Tensor, ...], s: float, z: Tensor) -> tuple[Tensor, Tensor]:
    """Ornstein-Uhlenbeck processes of different means: u is constant, and so is the rate."""
    return PULL * (means[0] - z), PULL * (means[1] - z)


def apart_by_pull(means: tuple[Tensor, ...], s: float, z: Tensor) -> tuple[Tensor, Tensor]:
    """Brownian motion and an Ornstein-Uhlenbeck process: u is linear in the state."""
    return torch.zeros_like(z), PULL * (means[1] - z)


def solved(solver: Solver, sde: Sde, paths: int = 3, steps: int = 16, start: float = 0.1) -> Solution:
    return solve(solver, sde, torch.full((paths, 1), start, dtype=torch.float64), brownian(paths, steps, 1))


def rate_of(solution: Solution) -> Tensor:
    assert solution.running is not None
    return solution.running


@EACH
def test_of_processes_with_different_means_the_rate_is_that_in_closed_form(solver: Solver) -> None:
    rate = rate_of(solved(solver, posterior_sde(apart_by_means, MEANS, LOG_SIGMA)))
    exact = 0.5 * (PULL * (POSTERIOR_MEAN - PRIOR_MEAN) / SIGMA) ** 2
    torch.testing.assert_close(rate, torch.full_like(rate, exact))


def test_of_a_constant_difference_the_rate_is_the_kl_of_the_discrete_chains() -> None:
    # each step's conditional densities are Gaussians of the same width, means apart by PULL (difference) ds
    steps = 8
    width = torch.tensor(math.log(SIGMA / math.sqrt(steps)), dtype=torch.float64)
    means = [Gaussian(PULL * mean / steps, width) for mean in MEANS]
    rate = rate_of(solved(SOLVERS["euler_maruyama"], posterior_sde(apart_by_means, MEANS, LOG_SIGMA), steps=steps))
    torch.testing.assert_close(rate[0], steps * means[1].kl(means[0]))


@EACH
def test_of_a_linear_difference_the_mean_rate_is_the_integral_in_closed_form(solver: Solver) -> None:
    # E u^2 = (PULL / sigma)^2 (bias(s)^2 + variance(s)), bias falling as exp(-PULL s), variance rising to its limit
    bias, limit = POSTERIOR_MEAN - 0.1, SIGMA**2 / (2 * PULL)
    fallen = (1 - math.exp(-2 * PULL)) / (2 * PULL)
    exact = 0.5 * (PULL / SIGMA) ** 2 * (bias**2 * fallen + limit * (1 - fallen))
    rate = rate_of(solved(solver, posterior_sde(apart_by_pull, MEANS, LOG_SIGMA), paths=20_000, steps=128))
    # four standard errors of 20 000 paths, and the step's bias of at most half a percent
    tolerance = 4 * float(rate.std()) / math.sqrt(len(rate)) + 0.005 * exact
    assert float(rate.mean()) == pytest.approx(exact, abs=tolerance)


@EACH
def test_the_mean_log_density_ratio_is_the_mean_rate(solver: Solver) -> None:
    solution = solved(solver, posterior_sde(apart_by_pull, MEANS, LOG_SIGMA, against=True), paths=20_000, steps=32)
    difference = log_ratio(solution) - rate_of(solution)
    # a martingale: its mean is zero within four standard errors; along reversible Heun's twin too
    assert abs(float(difference.mean())) < 4 * float(difference.std()) / math.sqrt(len(difference))
    assert float(difference.std()) > 0.1


@pytest.mark.parametrize("steps", [1, 4, 32])
def test_the_log_density_ratio_is_that_of_the_chains_of_euler_maruyama(steps: int) -> None:
    sde = posterior_sde(apart_by_pull, MEANS, LOG_SIGMA, against=True)
    start = torch.full((5, 1), 0.1, dtype=torch.float64)
    solution = solve(SOLVERS["euler_maruyama"], sde, start, brownian(5, steps, 1), keep=True)
    assert solution.states is not None
    old, new = solution.states[:, :-1], solution.states[:, 1:]
    width = torch.tensor(math.log(SIGMA / math.sqrt(steps)), dtype=torch.float64)
    drifts = [drift / steps for drift in apart_by_pull(MEANS, 0.0, old)]
    prior, posterior = (Gaussian(old + drift, width.expand_as(old)).log_prob(new) for drift in drifts)
    torch.testing.assert_close(log_ratio(solution), (posterior - prior).sum(1))


@pytest.mark.parametrize("steps", [2, 16])
def test_the_exponential_of_the_negative_ratio_has_mean_one(steps: int) -> None:
    solution = solved(
        SOLVERS["euler_maruyama"], posterior_sde(apart_by_pull, MEANS, LOG_SIGMA, against=True), 20_000, steps
    )
    weight = (-log_ratio(solution)).exp()
    assert float(weight.mean()) == pytest.approx(1, abs=4 * float(weight.std()) / math.sqrt(len(weight)))


@EACH
def test_equal_drifts_have_a_rate_of_exactly_zero(solver: Solver) -> None:
    def equal(means: tuple[Tensor, ...], s: float, z: Tensor) -> tuple[Tensor, Tensor]:
        return prior_drift(means, s, z), prior_drift(means, s, z)

    solution = solved(solver, posterior_sde(equal, MEANS, LOG_SIGMA, against=True))
    assert torch.equal(log_ratio(solution), torch.zeros_like(solution.state))
    assert torch.equal(rate_of(solution), torch.zeros_like(solution.state))
    prior = solved(solver, prior_sde(prior_drift, MEANS, LOG_SIGMA))
    assert torch.equal(prior.state, solution.state)
    assert prior.running is None


@EACH
def test_the_rate_leaves_the_path_as_it_is(solver: Solver) -> None:
    with_ratio, without = (
        solved(solver, posterior_sde(apart_by_pull, MEANS, LOG_SIGMA, against=against)) for against in (True, False)
    )
    assert torch.equal(with_ratio.state, without.state)
    with pytest.raises(ValueError, match="against the noise"):
        log_ratio(without)


def test_the_rate_has_the_derivative_of_its_closed_form_by_the_diffusion() -> None:
    log_sigma = LOG_SIGMA.clone().requires_grad_()
    rate = rate_of(solved(SOLVERS["euler_heun"], posterior_sde(apart_by_means, MEANS, log_sigma), paths=1)).sum()
    (found,) = torch.autograd.grad(rate, log_sigma)
    torch.testing.assert_close(found, -2 * rate.detach())
