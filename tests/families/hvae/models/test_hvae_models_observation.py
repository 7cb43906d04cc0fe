"""Distributions of pixels are those of torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from vaesweep.families.hvae.models.observation import (
    LEVELS,
    OBSERVATIONS,
    SMALLEST,
    STEP,
    BernoulliPixels,
    GaussianPixels,
    LogisticPixels,
)

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


# --- grey pixels ------------------------------------------------------------------------------------------------


def logistic(draw: torch.Generator, log_scale: float = -1.0, dtype: torch.dtype = torch.float64) -> LogisticPixels:
    location = 1.5 * torch.randn(SHAPE, generator=draw, dtype=dtype)
    return LogisticPixels.of(torch.cat([location, torch.full_like(location, log_scale)], dim=1))


def every_level(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """All images of one level, `[256, 1, 1, 1]`."""
    return ((torch.arange(LEVELS, dtype=dtype) - 127.5) / 127.5).reshape(-1, 1, 1, 1)


def masses(pixels: LogisticPixels) -> torch.Tensor:
    """The probability of every level by differences of the logistic distribution, `[level, *pixels]`."""
    edges = every_level()[1:].reshape(-1, *[1] * pixels.location.dim()) - STEP / 2
    below = ((edges - pixels.location) / pixels.log_scale.exp()).sigmoid()
    ends = torch.zeros_like(below[:1]), torch.ones_like(below[:1])
    return torch.cat([ends[0], below, ends[1]]).diff(dim=0)


@pytest.mark.parametrize("log_scale", [-5.0, -1.0, 2.0])
def test_logistic_pixels_have_the_mass_of_the_logistic_distribution_around_their_level(
    log_scale: float, draw: torch.Generator
) -> None:
    location = logistic(draw, log_scale).location.reshape(-1, 1, 1, 1)
    pixels = LogisticPixels.of(torch.cat([location, torch.full_like(location, log_scale)], dim=1))
    expected = masses(pixels)
    found = torch.stack([-pixels.nll(level.expand_as(location)) for level in every_level()])
    sound = expected > 1e-9  # differences of sigmoids lose what is rarer to rounding
    assert sound.sum() > len(location)
    torch.testing.assert_close(found[sound.flatten(1)], expected[sound].log(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(pixels.entropy(), -torch.special.xlogy(expected, expected).sum(0), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("log_scale", [-20.0, -5.0, -1.0, 2.0, 10.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_likelihoods_of_all_levels_sum_to_one_and_none_is_above_one(
    log_scale: float, dtype: torch.dtype, draw: torch.Generator
) -> None:
    """What a Gaussian density has not: a pixel that is always the same is worth zero nats and never less."""
    for pixel in logistic(draw, log_scale, dtype).location.flatten():
        one = LogisticPixels.of(torch.stack([pixel, torch.full_like(pixel, log_scale)]).reshape(1, 2, 1, 1))
        nll = one.nll(every_level(dtype))
        assert float((-nll).double().exp().sum()) == pytest.approx(1, abs=1e-5)
        assert float(nll.min()) >= -1e-6


def test_samples_of_logistic_pixels_are_levels_as_often_as_they_are_likely(draw: torch.Generator) -> None:
    pixels, draws = logistic(draw, -3.0), 20_000
    samples = pixels.sample(torch.randn(draws, *SHAPE, generator=draw, dtype=torch.float64))
    level = (samples + 1) / STEP
    torch.testing.assert_close(level, level.round(), rtol=0, atol=1e-9)
    assert level.min() >= 0
    assert level.max() <= LEVELS - 1
    shares = torch.stack([(level.round() == number).double().mean(0) for number in range(LEVELS)])
    expected = masses(pixels)
    # Five standard errors of a share, of 15 000 shares; and one draw, for the rarest.
    assert ((shares - expected).abs() < 5 * (expected * (1 - expected) / draws).sqrt() + 2 / draws).all()
    mean = (expected * every_level()[..., None]).sum(0)
    assert ((pixels.mean - mean).abs() <= STEP / 2).all()


def test_sure_and_surprised_logistic_pixels_have_finite_likelihoods_and_gradients() -> None:
    parameters = torch.tensor([[-50.0, -1.0, 0.3, 50.0], [-40.0, SMALLEST, -8.0, 3.0]]).reshape(1, 2, 2, 2)
    parameters.requires_grad_()
    for level in (0, 128, 255):
        nll = LogisticPixels.of(parameters).nll(torch.full((1, 1, 2, 2), (level - 127.5) / 127.5))
        (slope,) = torch.autograd.grad(nll.sum(), parameters)
        assert nll.isfinite().all()
        assert slope.isfinite().all()


@pytest.mark.parametrize("kind", OBSERVATIONS.values())
def test_any_real_numbers_are_parameters(kind: type[GaussianPixels | BernoulliPixels | LogisticPixels]) -> None:
    found = kind.of(torch.randn(2, 3, kind.PARAMETERS, 4, 4))
    assert found.mean.shape == found.entropy().shape == (2, 3, 1, 4, 4)
    assert found.nll(torch.zeros(2, 3, 1, 4, 4)).shape == (2, 3)
