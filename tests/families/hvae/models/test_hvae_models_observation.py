"""Distributions of pixels are those of torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from vaesweep.families.hvae.models.observation import OBSERVATIONS, BernoulliPixels, GaussianPixels

SHAPE = (5, 1, 3, 4)


@pytest.fixture
def draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def gaussian(draw: torch.Generator) -> tuple[GaussianPixels, Normal]:
    parameters = torch.randn(5, 2, 3, 4, generator=draw, dtype=torch.float64)
    return GaussianPixels.of(parameters), Normal(parameters[:, :1], parameters[:, 1:].exp())


def bernoulli(draw: torch.Generator) -> tuple[BernoulliPixels, Bernoulli]:
    logits = 3 * torch.randn(SHAPE, generator=draw, dtype=torch.float64)
    return BernoulliPixels.of(logits), Bernoulli(logits=logits)


def test_gaussian_pixels_are_normal(draw: torch.Generator) -> None:
    found, expected = gaussian(draw)
    x = torch.randn(SHAPE, generator=draw, dtype=torch.float64)
    torch.testing.assert_close(found.nll(x), -expected.log_prob(x).sum((1, 2, 3)))
    torch.testing.assert_close(found.entropy(), expected.entropy())
    torch.testing.assert_close(found.mean, expected.mean)


def test_bernoulli_pixels_are_bernoulli(draw: torch.Generator) -> None:
    found, expected = bernoulli(draw)
    x = torch.rand(SHAPE, generator=draw).round().double()
    torch.testing.assert_close(found.nll(x), -expected.log_prob(x).sum((1, 2, 3)))
    torch.testing.assert_close(found.entropy(), expected.entropy())
    torch.testing.assert_close(found.mean, expected.mean)


def test_the_likelihoods_of_all_binary_images_sum_to_one(draw: torch.Generator) -> None:
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).double().reshape(16, 1, 2, 2)
    found = BernoulliPixels.of(torch.randn(1, 1, 2, 2, generator=draw, dtype=torch.float64))
    assert float((-found.nll(every)).exp().sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("make", [gaussian, bernoulli])
def test_samples_have_the_distributions_mean_and_variance(make: object, draw: torch.Generator) -> None:
    found, expected = make(draw)  # type: ignore[operator]
    draws = 20_000
    samples = found.sample(torch.randn(draws, *SHAPE, generator=draw, dtype=torch.float64))
    error = expected.variance.sqrt() / math.sqrt(draws)
    assert ((samples.mean(0) - expected.mean).abs() < 5 * error).all()  # five standard errors, 60 pixels
    # A variance's relative standard error is sqrt((kurtosis - 1) / draws): 0.01 of a normal. A rare pixel's kurtosis
    # is 1 / p, so that its variance p (1 - p) has a standard error of sqrt(p / draws).
    slack = 5 * (expected.variance * 0.011 + (expected.variance / draws).sqrt() * isinstance(expected, Bernoulli))
    assert ((samples.var(0) - expected.variance).abs() < slack).all()


def test_binary_samples_are_zero_or_one_and_sure_pixels_are_sure(draw: torch.Generator) -> None:
    noise = torch.randn(1000, 1, 1, 2, generator=draw)
    samples = BernoulliPixels.of(torch.tensor([-200.0, 200.0]).expand(1000, 1, 1, 2)).sample(noise)
    assert torch.equal(samples, torch.tensor([0.0, 1.0]).expand_as(samples))


def test_sure_pixels_have_finite_likelihoods_entropies_and_gradients() -> None:
    logits = torch.tensor([-200.0, 200.0, -200.0, 200.0]).reshape(1, 1, 2, 2).requires_grad_()
    x = torch.tensor([0.0, 1.0, 1.0, 0.0]).reshape(1, 1, 2, 2)
    found = BernoulliPixels.of(logits)
    assert float(found.nll(x).detach()) == pytest.approx(400)
    assert float(found.entropy().detach().abs().max()) < 1e-6
    (found.nll(x).sum() + found.entropy().sum()).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", OBSERVATIONS.values())
def test_any_real_numbers_are_parameters(kind: type[GaussianPixels] | type[BernoulliPixels]) -> None:
    found = kind.of(torch.randn(2, 3, kind.PARAMETERS, 4, 4))
    assert found.mean.shape == found.entropy().shape == (2, 3, 1, 4, 4)
    assert found.nll(torch.zeros(2, 3, 1, 4, 4)).shape == (2, 3)
