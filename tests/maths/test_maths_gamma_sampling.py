"""Gamma and beta samples have their distributions, exact gradients, and stay finite at any concentration in use."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch import Tensor

from vaesweep.distributions import Beta, Gamma
from vaesweep.distributions.gamma_sampling import PROPOSALS, first_accepted, log_gamma_sample, log_sample_gradient

SAMPLES = 20_000


def noise(seed: int, samples: int = SAMPLES, kind: type[Gamma] | type[Beta] = Gamma) -> Tensor:
    return torch.randn(samples, *kind.NOISE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("c", [0.2, 0.5, 1.0, 1.7, 8.0, 300.0, 1e4])
def test_gamma_samples_pass_kolmogorov_smirnov(c: float) -> None:
    z, _ = Gamma(torch.tensor(c)).draw(noise(0))
    assert stats.kstest(z.double().numpy(), stats.gamma(c).cdf).pvalue > 1e-3  # one seed in a thousand would fail


@pytest.mark.parametrize("c", [1e-6, 1e-3, 0.05])
def test_the_logarithms_of_samples_too_small_for_a_float_have_their_distribution(c: float) -> None:
    log_z = log_gamma_sample(torch.tensor(c), noise(1)).double().numpy()

    def below(log_z: np.ndarray) -> np.ndarray:
        small = np.exp(c * log_z - special.gammaln(c + 1))  # the distribution function's limit at zero
        return np.where(log_z < -30, small, special.gammainc(c, np.exp(log_z)))

    # Float32 rounds a uniform number near one to multiples of 6e-8, and its logarithm is divided by c.
    assert stats.kstest(log_z, below).pvalue > 1e-3


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.5, 0.5), (0.3, 4.0), (20.0, 3.0), (1e3, 1e4)])
def test_beta_samples_pass_kolmogorov_smirnov(a: float, b: float) -> None:
    z, _ = Beta(torch.tensor(a), torch.tensor(b)).draw(noise(2, kind=Beta))
    assert stats.kstest(z.double().numpy(), stats.beta(a, b).cdf).pvalue > 1e-3


@pytest.mark.parametrize("c", [1.0, 1.3, 2.0, 10.0, 1e3])
def test_all_proposals_are_rejected_less_than_once_in_ten_millions(c: float) -> None:
    d = c - 1 / 3

    def accepted(x: float) -> float:
        v = (1 + x / math.sqrt(9 * d)) ** 3
        return math.exp(d - d * v + d * math.log(v)) / math.sqrt(2 * math.pi)

    share, _ = integrate.quad(accepted, -math.sqrt(9 * d) * (1 - 1e-12), 40, points=[0.0], limit=200)
    assert (1 - share) ** PROPOSALS < 1e-7
    assert share > 0.951


def proposals(*reject: float) -> Iterator[tuple[Tensor, Tensor]]:
    return ((torch.tensor(float(i)), torch.tensor(q)) for i, q in enumerate(reject))


def test_one_uniform_number_decides_all_proposals_and_is_uniform_afterwards() -> None:
    uniform = torch.rand(SAMPLES, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    chosen, left = first_accepted(proposals(0.7, 0.4, 0.9), uniform)  # the last one stands, accepted or not
    counts = torch.bincount(chosen.long(), minlength=3).numpy()
    assert stats.chisquare(counts, SAMPLES * np.array([0.3, 0.7 * 0.6, 0.7 * 0.4])).pvalue > 1e-3
    for i in range(3):
        assert stats.kstest(left[chosen == i].numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("uniform", [0.0, 1e-30, 0.5, 1.0])
@pytest.mark.parametrize("reject", [0.0, 1e-30, 0.5, 1 - 6e-8, 1.0])
def test_no_uniform_number_and_no_probability_makes_a_sample_infinite(reject: float, uniform: float) -> None:
    _, left = first_accepted(proposals(reject, reject), torch.tensor([uniform]))
    assert left.log().isfinite().all()


@pytest.mark.parametrize("c", [0.1, 0.5, 1.0, 4.0, 50.0])
def test_gradients_of_moments_are_unbiased(c: float) -> None:
    # E z = c and E z² = c (c + 1).
    concentration = torch.full((100_000,), c, dtype=torch.float64, requires_grad=True)
    z, _ = Gamma(concentration).draw(noise(4, 100_000).double())
    for moment, exact in ((z, 1.0), (z.square(), 2 * c + 1)):
        (each,) = torch.autograd.grad(moment.sum(), concentration, retain_graph=True)
        error = float(each.std()) / math.sqrt(len(each))
        # Five standard errors, and what torch's approximation may be off by.
        assert float(each.mean()) == pytest.approx(exact, abs=5 * error + 5e-4 * exact)


@pytest.mark.parametrize(("a", "b"), [(0.4, 0.7), (1.0, 1.0), (6.0, 2.0)])
def test_gradients_of_a_beta_mean_are_unbiased(a: float, b: float) -> None:
    parameters = torch.tensor([[a], [b]], dtype=torch.float64).expand(2, 100_000).clone().requires_grad_()
    z, _ = Beta(*parameters).draw(noise(5, 100_000, Beta).double())
    (each,) = torch.autograd.grad(z.sum(), parameters)
    error = each.std(-1) / math.sqrt(each.shape[-1])
    exact = torch.tensor([b, -a], dtype=torch.float64) / (a + b) ** 2
    assert ((each.mean(-1) - exact).abs() < 5 * error + 5e-4 * exact.abs()).all()


@pytest.mark.parametrize("c", [0.01, 0.3, 1.0, 7.0, 200.0])
def test_a_samples_gradient_holds_its_distribution_function_still(c: float) -> None:
    quantiles = np.array([0.01, 0.2, 0.5, 0.8, 0.95])
    width = 1e-5 * c
    log_z = [np.log(special.gammaincinv(c + shift, quantiles)) for shift in (-width, 0.0, width)]
    difference = torch.from_numpy((log_z[2] - log_z[0]) / (2 * width))
    found = log_sample_gradient(torch.full((5,), c, dtype=torch.float64), torch.from_numpy(log_z[1]))
    torch.testing.assert_close(found, difference, rtol=1e-3, atol=0)


def test_the_gradients_limit_at_zero_joins_torchs_approximation() -> None:
    c = torch.tensor([0.01, 0.5, 3.0], dtype=torch.float64)
    edge = math.log(1e-10)
    below, above = (log_sample_gradient(c, torch.full_like(c, edge + shift)) for shift in (-1e-9, 1e-9))
    torch.testing.assert_close(below, above, rtol=1e-6, atol=0)


EXTREMES = torch.logspace(-6, 4, 21)


@pytest.mark.parametrize("weight", [1.0, 1e3])
def test_gamma_draws_are_finite_in_value_and_gradient_from_one_millionth_to_ten_thousand(weight: float) -> None:
    c = EXTREMES.clone().requires_grad_()
    z, log_q = Gamma(c).draw(torch.randn(SAMPLES, 21, *Gamma.NOISE, generator=torch.Generator().manual_seed(6)))
    estimate = log_q - Gamma(torch.tensor(0.5)).log_prob(z)
    (gradient,) = torch.autograd.grad(weight * estimate.sum() / SAMPLES + z.sum() + Gamma(c).kl(Gamma(c + 1)).sum(), c)
    assert (z >= 0.99e-30).all()
    for values in (z, log_q, estimate, gradient):
        assert values.isfinite().all()


def test_beta_draws_are_finite_in_value_and_gradient_from_one_millionth_to_ten_thousand() -> None:
    a, b = (x.clone().requires_grad_() for x in torch.meshgrid(EXTREMES, EXTREMES, indexing="ij"))
    z, log_q = Beta(a, b).draw(torch.randn(1000, 21, 21, *Beta.NOISE, generator=torch.Generator().manual_seed(7)))
    flat = Beta(torch.ones_like(a), torch.ones_like(b))
    kl = Beta(a, b).kl(flat)
    gradients = torch.autograd.grad((log_q - flat.log_prob(z) + z).sum() + kl.sum(), [a, b])
    assert ((z >= 0) & (z <= 1)).all()
    for values in (log_q, kl, *gradients):
        assert values.isfinite().all()


def test_two_tiny_concentrations_still_choose_a_side() -> None:
    tiny = torch.full((SAMPLES,), 1e-6)
    z, _ = Beta(tiny, 3 * tiny).draw(noise(8, kind=Beta))
    assert float(z.mean()) == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / SAMPLES))
