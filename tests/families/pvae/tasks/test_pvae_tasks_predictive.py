"""A predictive distribution is the mixture it says it is: moments, quantiles, densities and draws."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal

from vaesweep.families.pvae.tasks.predictive import Predictive, RandomNumbers

CELLS, ROWS, PARTS, DIMS = 2, 3, 4, 5
LEAST = 1e-3  # a right sampler fails a test of its distribution on one seed in a thousand


@pytest.fixture
def predictive() -> Predictive:
    draw = torch.Generator().manual_seed(0)
    weights = torch.rand(CELLS, ROWS, PARTS, generator=draw, dtype=torch.float64)
    mean, log_std = torch.randn(2, CELLS, ROWS, PARTS, DIMS, generator=draw, dtype=torch.float64)
    bound = torch.zeros(CELLS, ROWS, dtype=torch.float64)
    return Predictive(weights / weights.sum(-1, keepdim=True), 30 + 20 * mean, 6 * (0.5 * log_std).exp(), bound)


def reference(predictive: Predictive) -> MixtureSameFamily:
    """The mixtures of all dimensions, batch `[cell, row, dim]`."""
    parts = Normal(predictive.mean.movedim(-2, -1), predictive.std.movedim(-2, -1))
    weights = predictive.weights.unsqueeze(-2).expand(CELLS, ROWS, DIMS, PARTS)
    return MixtureSameFamily(Categorical(weights), parts)


def of_one(weights: list[float], mean: list[list[float]], std: list[list[float]], rows: int) -> Predictive:
    """The same predictive for each of two cells and `rows` data."""

    def shared(values: list) -> Tensor:
        tensor = torch.tensor(values, dtype=torch.float64)
        return tensor.expand(2, rows, *tensor.shape)

    return Predictive(shared(weights), shared(mean), shared(std), torch.zeros(2, rows, dtype=torch.float64))


def test_the_moments_are_those_of_the_mixture(predictive: Predictive) -> None:
    expected = reference(predictive)
    torch.testing.assert_close(predictive.expectation, expected.mean)
    torch.testing.assert_close(predictive.variance, expected.variance)


def test_one_part_is_a_gaussian() -> None:
    predictive = of_one([1.0], [[3.0, -2.0]], [[2.0, 0.5]], rows=1)
    assert predictive.expectation[0, 0].tolist() == [3.0, -2.0]
    assert predictive.variance[0, 0].tolist() == [4.0, 0.25]
    for share in (0.05, 0.5, 0.9):
        expected = stats.norm([3.0, -2.0], [2.0, 0.5]).ppf(share)
        np.testing.assert_allclose(predictive.quantile(share)[0, 0], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("share", [0.001, 0.05, 0.25, 0.5, 0.95])
def test_the_share_below_a_quantile_is_what_was_asked_for(predictive: Predictive, share: float) -> None:
    below = reference(predictive).cdf(predictive.quantile(share))
    torch.testing.assert_close(below, torch.full_like(below, share), rtol=0, atol=1e-9)


def test_a_quantile_is_found_between_parts_that_are_far_apart() -> None:
    predictive = of_one([0.3, 0.7], [[-100.0], [100.0]], [[1.0], [1.0]], rows=1)
    # Half of the left part's 0.3 is its median, and so is half of the right part's 0.7 above that.
    assert float(predictive.quantile(0.15)[0, 0]) == pytest.approx(-100, abs=1e-6)
    assert float(predictive.quantile(0.65)[0, 0]) == pytest.approx(100, abs=1e-6)


def test_densities_are_those_of_the_parts(predictive: Predictive) -> None:
    x = 40 * torch.randn(ROWS, DIMS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = stats.norm.logpdf(x[:, None], predictive.mean, predictive.std)
    torch.testing.assert_close(predictive.log_densities(x), torch.from_numpy(expected))


def test_the_effective_samples_count_parts_that_matter() -> None:
    even = of_one([0.25] * 4, [[0.0]] * 4, [[1.0]] * 4, rows=1)
    assert float(even.effective_samples[0, 0]) == pytest.approx(4)
    single = of_one([0.0, 1.0, 0.0], [[0.0]] * 3, [[1.0]] * 3, rows=1)
    assert float(single.effective_samples[0, 0]) == 1


def test_the_estimate_keeps_what_is_observed_and_ignores_what_is_not(predictive: Predictive) -> None:
    observed = torch.zeros(CELLS, ROWS, DIMS, dtype=torch.bool)
    observed[..., 1], observed[1, :, 3] = True, True
    x = torch.full((ROWS, DIMS), math.nan, dtype=torch.float64)
    x[:, 1], x[:, 3] = 7.0, 8.0
    estimate = predictive.complete(x, observed)
    assert (estimate[..., 1] == 7).all()
    assert (estimate[1, :, 3] == 8).all()
    assert torch.equal(estimate[0, :, [0, 2, 3, 4]], predictive.expectation[0, :, [0, 2, 3, 4]])


def drawn(predictive: Predictive, seed: int, number: int = 0) -> Tensor:
    shape = predictive.weights.shape[1], predictive.mean.shape[-1]
    return predictive.sample(RandomNumbers.of(torch.zeros(shape, dtype=torch.float64), number + 1, seed), number)


@pytest.mark.parametrize("number", [0, 2])
def test_draws_are_distributed_as_predicted(number: int) -> None:
    weights, mean, std = [0.5, 0.2, 0.3], [[0.0, 5.0], [3.0, 4.0], [10.0, 0.0]], [[1.0, 0.5], [4.0, 2.0], [0.5, 3.0]]
    samples = drawn(of_one(weights, mean, std, rows=4000), seed=0, number=number)[0].numpy()
    for dim in range(2):
        parts = stats.norm(np.array(mean)[:, dim], np.array(std)[:, dim])

        def below(values: np.ndarray, parts: stats.distributions.rv_frozen = parts) -> np.ndarray:
            return np.dot(parts.cdf(np.asarray(values)[..., None]), weights)

        assert stats.kstest(samples[:, dim], below).pvalue > LEAST


def test_all_dimensions_of_a_draw_come_from_one_part() -> None:
    rows = 3000
    samples = drawn(of_one([0.4, 0.6], [[-50.0, -80.0], [50.0, 80.0]], [[1.0, 1.0]] * 2, rows), seed=1)[0]
    assert torch.equal(samples[:, 0] > 0, samples[:, 1] > 0)
    assert stats.binomtest(int((samples[:, 0] > 0).sum()), rows, 0.6).pvalue > LEAST


def test_a_part_without_weight_is_never_drawn() -> None:
    samples = drawn(of_one([0.5, 0.0, 0.5, 0.0], [[0.0], [1e6], [0.0], [1e6]], [[1.0]] * 4, rows=2000), seed=2)
    assert float(samples.abs().max()) < 10


def test_cells_that_predict_the_same_draw_the_same() -> None:
    samples = drawn(of_one([0.3, 0.7], [[0.0, 1.0], [5.0, 2.0]], [[1.0, 1.0]] * 2, rows=50), seed=3)
    assert torch.equal(samples[0], samples[1])
    assert len(samples[0].unique(dim=0)) == 50, "every datum has numbers of its own"


def test_random_numbers_belong_to_data() -> None:
    x = torch.zeros(10, 3, dtype=torch.float64)
    every = RandomNumbers.of(x, 4, seed=5)
    assert len(every) == 4
    assert torch.equal(every.normal, RandomNumbers.of(x + 100, 4, seed=5).normal)
    assert not torch.equal(every.normal, RandomNumbers.of(x, 4, seed=6).normal)
    some = every[slice(3, 7)]
    assert torch.equal(some.uniform, every.uniform[3:7])
    assert torch.equal(some.normal, every.normal[3:7])
    assert len(some) == 4
    assert RandomNumbers.of(x.float(), 4, seed=5).normal.dtype == torch.float32
