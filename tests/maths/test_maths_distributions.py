"""Gaussians: densities and divergences agree with torch.distributions, with Monte Carlo and with finite differences."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from vaesweep.distributions import (
    Gaussian,
    TriangularGaussian,
    gaussian_kl,
    log_density,
    samples,
    standard_gaussian,
    standard_kl,
    total_kl,
)

SHAPE = (2, 7, 3)


def drawn(seed: int, shape: tuple[int, ...] = SHAPE) -> Gaussian:
    draw = torch.Generator().manual_seed(seed)
    mean, log_std = torch.randn((2, *shape), generator=draw, dtype=torch.float64)
    return Gaussian(2 * mean, log_std)


def reference(gaussian: Gaussian) -> Normal:
    return Normal(gaussian.mean, gaussian.log_std.exp())


def test_log_density_is_that_of_torch_distributions() -> None:
    gaussian, z = drawn(0), 3 * drawn(1).mean
    torch.testing.assert_close(gaussian.log_prob(z), reference(gaussian).log_prob(z), rtol=1e-12, atol=1e-12)


def test_density_integrates_to_one() -> None:
    gaussian = Gaussian(torch.tensor(0.7, dtype=torch.float64), torch.tensor(-0.4, dtype=torch.float64))
    grid = torch.linspace(-15, 15, 4001, dtype=torch.float64)
    # The trapezoidal rule is exact to rounding for a function this smooth that vanishes at both ends.
    assert float(torch.trapezoid(gaussian.log_prob(grid).exp(), grid)) == pytest.approx(1.0, abs=1e-12)


def test_kl_is_that_of_torch_distributions() -> None:
    q, p = drawn(0), drawn(1)
    torch.testing.assert_close(gaussian_kl(q, p), kl_divergence(reference(q), reference(p)), rtol=1e-10, atol=1e-12)


def test_kl_from_the_standard_prior_is_its_textbook_form() -> None:
    q = drawn(0)
    textbook = 0.5 * (q.mean.square() + (2 * q.log_std).exp() - 1 - 2 * q.log_std)
    torch.testing.assert_close(gaussian_kl(q, standard_gaussian(q.mean)), textbook, rtol=1e-12, atol=1e-12)


def test_kl_is_positive_and_exactly_zero_between_equals() -> None:
    q, p = drawn(0), drawn(1)
    assert (gaussian_kl(q, p) > 0).all()
    assert torch.equal(gaussian_kl(q, q), torch.zeros(SHAPE, dtype=torch.float64))


def test_one_samples_log_ratio_has_the_analytic_kl_as_its_mean() -> None:
    q, p = drawn(0, (5,)), drawn(1, (5,))
    noise = torch.randn(200_000, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    z, log_q = q.draw(noise)
    estimates = log_q - p.log_prob(z)
    error = estimates.std(0) / math.sqrt(len(noise))
    # Five standard errors in five places: a right estimator fails one seed in 300 000.
    assert ((estimates.mean(0) - gaussian_kl(q, p)).abs() < 5 * error).all()
    assert (estimates < 0).any(), "one sample may be negative; only its mean may not"


def test_samples_have_the_mean_and_the_standard_deviation_asked_for() -> None:
    gaussian = drawn(3, (4,))
    noise = torch.randn(100_000, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    z, std = gaussian.sample(noise), gaussian.log_std.exp()
    root = math.sqrt(len(noise))
    assert ((z.mean(0) - gaussian.mean).abs() < 5 * std / root).all()
    assert ((z.std(0) - std).abs() < 5 * std / (math.sqrt(2) * root)).all()


@pytest.mark.parametrize("function", [torch.sin, torch.square, lambda z: (z - 1).abs()], ids=["sin", "square", "abs"])
def test_reparameterised_gradient_is_the_finite_difference_of_the_same_draws(
    function: Callable[[Tensor], Tensor],
) -> None:
    noise = torch.randn(50, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    start = drawn(6, (3,))

    def mean_of(parameters: Tensor) -> Tensor:
        return function(Gaussian(*parameters).sample(noise)).mean()

    parameters = torch.stack([start.mean, start.log_std]).requires_grad_()
    (gradient,) = torch.autograd.grad(mean_of(parameters), parameters)
    width = 1e-6  # a central difference in float64: truncation about 1e-12, rounding about 1e-10
    for place in [(i, j) for i in range(2) for j in range(3)]:
        shift = torch.zeros_like(parameters)
        shift[place] = width
        with torch.no_grad():
            difference = (mean_of(parameters + shift) - mean_of(parameters - shift)) / (2 * width)
        assert float(gradient[place]) == pytest.approx(float(difference), rel=1e-7, abs=1e-8)


def test_reparameterised_gradient_is_unbiased_for_a_moment_known_in_closed_form() -> None:
    # E z² = mean² + std², whose gradients are 2 mean and, by log std, 2 std².
    start = drawn(7, (4,))
    noise = torch.randn(400_000, 4, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    z = start.sample(noise)
    by_mean, by_log_std = 2 * z, 2 * z * (z - start.mean)
    for values, exact in ((by_mean, 2 * start.mean), (by_log_std, 2 * (2 * start.log_std).exp())):
        error = values.std(0) / math.sqrt(len(noise))
        assert ((values.mean(0) - exact).abs() < 5 * error).all()
    mean, log_std = start.mean.requires_grad_(), start.log_std.requires_grad_()
    second_moment = Gaussian(mean, log_std).sample(noise).square().mean(0).sum()
    found = torch.autograd.grad(second_moment, [mean, log_std])
    torch.testing.assert_close(found[0], by_mean.mean(0), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found[1], by_log_std.mean(0), rtol=1e-10, atol=1e-10)


# Full covariance


def triangular(seed: int, batch: tuple[int, ...] = (7,), dims: int = 4) -> TriangularGaussian:
    torch.manual_seed(seed)
    below = torch.randn(*batch, dims, dims, dtype=torch.float64).tril(-1)
    return TriangularGaussian(
        torch.randn(*batch, dims, dtype=torch.float64), 0.5 * torch.randn(*batch, dims, dtype=torch.float64), below
    )


def as_torch(q: TriangularGaussian) -> MultivariateNormal:
    return MultivariateNormal(q.mean, scale_tril=q.factor)


def test_a_full_gaussians_sample_has_the_density_of_torch_distributions() -> None:
    q = triangular(0)
    z, terms = q.draw(torch.randn(7, 4, dtype=torch.float64))
    torch.testing.assert_close(terms.sum(-1), as_torch(q).log_prob(z))


def test_many_samples_are_single_samples_of_the_same_noise() -> None:
    noise = torch.randn(9, 4, dtype=torch.float64)
    for q in (triangular(0), Gaussian(triangular(0).mean, triangular(0).log_std)):
        z, log_prob = samples(q, noise)
        assert z.shape == (7, 9, 4)
        for i, one in enumerate(noise):
            single, terms = q.draw(one.expand(7, 4))
            torch.testing.assert_close(z[:, i], single)
            torch.testing.assert_close(log_prob[:, i], terms.sum(-1))


def test_the_kl_of_full_gaussians_is_that_of_torch_distributions() -> None:
    q, p = triangular(0), triangular(1)
    torch.testing.assert_close(total_kl(q, p), kl_divergence(as_torch(q), as_torch(p)))
    standard = MultivariateNormal(torch.zeros(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(standard_kl(q).sum(-1), kl_divergence(as_torch(q), standard))


def test_a_full_gaussian_without_correlations_is_the_diagonal_one() -> None:
    full = triangular(0)
    full = TriangularGaussian(full.mean, full.log_std, torch.zeros_like(full.below))
    diagonal = Gaussian(full.mean, full.log_std)
    torch.testing.assert_close(standard_kl(full), standard_kl(diagonal))
    other = Gaussian(full.log_std, full.mean)
    same = TriangularGaussian(full.log_std, full.mean, torch.zeros_like(full.below))
    torch.testing.assert_close(total_kl(full, same), total_kl(diagonal, other))


@pytest.mark.parametrize("full", [False, True])
def test_the_density_of_many_samples_is_that_of_a_multivariate_normal(full: bool) -> None:
    draw = torch.Generator().manual_seed(5)
    mean, log_std = torch.randn(2, 4, 3, generator=draw, dtype=torch.float64).unbind(0)
    below = torch.randn(4, 3, 3, generator=draw, dtype=torch.float64).tril(-1)
    q = TriangularGaussian(mean, log_std, below) if full else Gaussian(mean, log_std)
    factor = q.factor if isinstance(q, TriangularGaussian) else torch.diag_embed(log_std.exp())
    z = torch.randn(4, 6, 3, generator=draw, dtype=torch.float64)
    expected = MultivariateNormal(mean.unsqueeze(1), scale_tril=factor.unsqueeze(1)).log_prob(z)
    torch.testing.assert_close(log_density(q, z), expected)
