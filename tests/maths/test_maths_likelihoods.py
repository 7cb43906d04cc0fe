"""The partial likelihood counts what was observed: all of it, and nothing else, whatever stands in the gaps."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from vaesweep.distributions import Gaussian
from vaesweep.likelihoods import gaussian_nll, partial_distortion

SHAPE = (3, 8, 5)


@pytest.fixture
def data() -> tuple[Tensor, Tensor, Gaussian]:
    draw = torch.Generator().manual_seed(0)
    x, mean, log_std = torch.randn((3, *SHAPE), generator=draw, dtype=torch.float64)
    observed = torch.rand(SHAPE, generator=draw) < 0.5
    return x, observed, Gaussian(mean, log_std)


def test_it_is_the_sum_over_observed_dimensions(data: tuple[Tensor, Tensor, Gaussian]) -> None:
    x, observed, observation = data
    density = Normal(observation.mean, observation.log_std.exp()).log_prob(x)
    torch.testing.assert_close(partial_distortion(x, observed, observation), -(density * observed).sum(-1))


def test_wholly_observed_it_is_the_full_negative_log_likelihood(data: tuple[Tensor, Tensor, Gaussian]) -> None:
    x, observed, observation = data
    full = partial_distortion(x, torch.ones_like(observed), observation)
    assert torch.equal(full, gaussian_nll(x, observation).sum(-1))


def test_wholly_unobserved_it_is_zero(data: tuple[Tensor, Tensor, Gaussian]) -> None:
    x, observed, observation = data
    none = partial_distortion(x, torch.zeros_like(observed), observation)
    assert torch.equal(none, torch.zeros(SHAPE[:-1], dtype=torch.float64))


@pytest.mark.parametrize("gap", [math.nan, math.inf, -math.inf, 1e300])
def test_what_stands_in_the_gaps_changes_neither_value_nor_gradient(
    data: tuple[Tensor, Tensor, Gaussian], gap: float
) -> None:
    x, observed, observation = data
    mean, log_std = observation.mean.requires_grad_(), observation.log_std.requires_grad_()

    def value_and_gradients(x: Tensor) -> list[Tensor]:
        x = x.clone().requires_grad_()
        value = partial_distortion(x, observed, Gaussian(mean, log_std))
        return [value.detach(), *torch.autograd.grad(value.sum(), [x, mean, log_std])]

    clean, gappy = value_and_gradients(x), value_and_gradients(x.masked_fill(~observed, gap))
    for one, other in zip(clean, gappy, strict=True):
        assert torch.equal(one, other)
    for gradient in gappy[1:]:
        assert torch.equal(gradient[~observed], torch.zeros_like(gradient[~observed]))


def test_observing_one_dimension_more_adds_that_dimensions_nll(data: tuple[Tensor, Tensor, Gaussian]) -> None:
    x, observed, observation = data
    without, beside = observed.clone(), observed.clone()
    without[..., 2], beside[..., 2] = False, True
    added = partial_distortion(x, beside, observation) - partial_distortion(x, without, observation)
    torch.testing.assert_close(added, gaussian_nll(x, observation)[..., 2], rtol=1e-10, atol=1e-10)
