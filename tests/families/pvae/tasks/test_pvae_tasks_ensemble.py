"""An ensemble of models is the mixture of them: of Gaussian mixtures, exactly the mixture of all their components."""

import pytest
import torch

from vaesweep.families.pvae.tasks.acquisition import ExpectedReduction, LargestVariance, Rule, acquire
from vaesweep.families.pvae.tasks.ensemble import Ensemble
from vaesweep.families.pvae.tasks.mixture import MixturePredictor
from vaesweep.families.pvae.tasks.predictive import RandomNumbers

DIMS, COMPONENTS, MEMBERS, ROWS = 5, 3, 2, 40


Parts = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # weights, means, covariances, each with the cell first
SCALE = (torch.arange(DIMS, dtype=torch.float64), 1.0 + torch.arange(DIMS, dtype=torch.float64))


@pytest.fixture(scope="module")
def parts() -> Parts:
    draw = torch.Generator().manual_seed(0)
    weights = torch.rand(MEMBERS, COMPONENTS, generator=draw, dtype=torch.float64)
    means = 2 * torch.randn(MEMBERS, COMPONENTS, DIMS, generator=draw, dtype=torch.float64)
    roots = torch.randn(MEMBERS, COMPONENTS, DIMS, DIMS, generator=draw, dtype=torch.float64)
    covariances = roots @ roots.mT + 0.3 * torch.eye(DIMS, dtype=torch.float64)
    return weights / weights.sum(-1, keepdim=True), means, covariances


@pytest.fixture(scope="module")
def members(parts: Parts) -> MixturePredictor:
    return MixturePredictor(*parts, *SCALE)


@pytest.fixture(scope="module")
def whole(parts: Parts) -> MixturePredictor:
    """All components of all members in one mixture."""
    weights, means, covariances = (part.flatten(0, 1).unsqueeze(0) for part in parts)
    return MixturePredictor(weights / MEMBERS, means, covariances, *SCALE)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    return 4 * torch.randn(ROWS, DIMS, generator=draw, dtype=torch.float64)


def test_it_predicts_what_the_mixture_of_all_components_predicts(
    members: MixturePredictor, whole: MixturePredictor, x: torch.Tensor
) -> None:
    draw = torch.Generator().manual_seed(2)
    observed = (torch.rand(ROWS, DIMS, generator=draw) < 0.5).unsqueeze(0)
    ensemble = Ensemble(members)
    one, other = ensemble.predict(x, observed), whole.predict(x, observed)
    torch.testing.assert_close(one.expectation, other.expectation)
    torch.testing.assert_close(one.variance, other.variance)
    torch.testing.assert_close(one.quantile(0.3), other.quantile(0.3))
    torch.testing.assert_close(one.bound, other.bound)
    torch.testing.assert_close(ensemble.covariance(observed, one), whole.covariance(observed, other))
    torch.testing.assert_close(ensemble.unexplained(x, observed, one), whole.unexplained(x, observed, other))


@pytest.mark.parametrize("rule", [LargestVariance(), ExpectedReduction()])
def test_it_acquires_as_one_cell(
    members: MixturePredictor, whole: MixturePredictor, x: torch.Tensor, rule: Rule
) -> None:
    one, other = (acquire(model, x, (4,), rule) for model in (Ensemble(members), whole))
    assert torch.equal(one.order, other.order)
    torch.testing.assert_close(one.rmse, other.rmse)


def test_equal_members_say_together_what_each_says_alone(parts: Parts, x: torch.Tensor) -> None:
    alone = MixturePredictor(*(part[:1] for part in parts), *SCALE)
    twice = MixturePredictor(*(torch.cat([part[:1], part[:1]]) for part in parts), *SCALE)
    observed = (torch.arange(DIMS) < 2).expand(1, ROWS, DIMS)
    draws = RandomNumbers.of(x, 4, seed=3)
    both = Ensemble(twice)
    one, other = both.predict(x, observed), alone.predict(x, observed)
    torch.testing.assert_close(one.expectation, other.expectation)
    torch.testing.assert_close(one.variance, other.variance)
    torch.testing.assert_close(
        both.information(x, observed, one, draws), alone.information(x, observed, other, draws), rtol=1e-6, atol=1e-8
    )
