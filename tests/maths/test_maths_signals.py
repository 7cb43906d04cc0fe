"""Signal likelihoods agree with integrals and with scipy; SI-SDR with its definition; all stay finite at the edges."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchmetrics.functional.audio import signal_distortion_ratio
from voices import voice

from vaesweep.likelihoods import BlrPrior, blr_nll, cauchy_nll, log_mse, sdr, si_sdr, si_sdr_improvement, student_t_nll

PRIOR = BlrPrior(a0=1.5, b0=0.7, mu0=0.8, lambda0=0.4)
Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "blr": lambda s, estimate: blr_nll(s, estimate, BlrPrior()),
    "cauchy": lambda s, estimate: cauchy_nll(s, estimate, torch.zeros_like(estimate)),
    "student_t": lambda s, estimate: student_t_nll(s, estimate, torch.zeros_like(estimate), 4.0),
    "si_sdr": si_sdr,
    "sdr": sdr,
    "log_mse": log_mse,
}


def signals(time: int, snr: float, seed: int = 0, batch: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """Standard normal signals and their estimates with an error of `snr` dB, float64."""
    draw = torch.Generator().manual_seed(seed)
    s, error = torch.randn((2, *batch, time), generator=draw, dtype=torch.float64)
    return s, s + 10 ** (-snr / 20) * error


# Bayesian linear regression


def test_blr_is_the_integral_over_coefficient_and_noise_variance() -> None:
    s, estimate = signals(3, 3.0)
    x, y = s.numpy(), estimate.numpy()
    variance_prior = stats.invgamma(PRIOR.a0, scale=PRIOR.b0)

    def joint(coefficient: float, log_variance: float) -> float:
        std = math.exp(0.5 * log_variance)
        likelihood = np.prod(np.exp(-0.5 * ((x - coefficient * y) / std) ** 2) / (math.sqrt(2 * math.pi) * std))
        given = stats.norm.pdf(coefficient, PRIOR.mu0, std / math.sqrt(PRIOR.lambda0))
        return float(likelihood * given * variance_prior.pdf(std**2) * std**2)

    grid = np.linspace(-6, 8, 71), np.linspace(-25, 25, 401)  # the trapezoidal rule: smooth, and zero at all ends
    values = np.array([[joint(c, v) for c in grid[1]] for v in grid[0]])
    evidence = np.trapezoid(np.trapezoid(values, grid[1], axis=1), grid[0])
    assert float(blr_nll(s, estimate, PRIOR)) == pytest.approx(-math.log(evidence), abs=1e-4)


def test_blr_is_a_multivariate_t_distribution() -> None:
    s, estimate = signals(6, 5.0, batch=(4,))
    for x, y in zip(s.numpy(), estimate.numpy(), strict=True):
        spread = PRIOR.b0 / PRIOR.a0 * (np.eye(6) + np.outer(y, y) / PRIOR.lambda0)
        exact = stats.multivariate_t(PRIOR.mu0 * y, spread, df=2 * PRIOR.a0).logpdf(x)
        found = blr_nll(torch.from_numpy(x), torch.from_numpy(y), PRIOR)
        assert float(found) == pytest.approx(-exact, rel=1e-10)


def test_blr_is_written_out_as_in_equations_52_to_55() -> None:
    s, estimate = signals(200, 10.0)
    a0, b0, mu0, lambda0 = PRIOR.a0, PRIOR.b0, PRIOR.mu0, PRIOR.lambda0
    energy, product, target = float(estimate @ estimate), float(estimate @ s), float(s @ s)
    lambda_t, mu_t = energy + lambda0, (lambda0 * mu0 + product) / (energy + lambda0)
    a_t, b_t = a0 + 100, b0 + 0.5 * (target + mu0**2 * lambda0 - mu_t**2 * lambda_t)
    log_p = -100 * math.log(2 * math.pi) + 0.5 * math.log(lambda0 / lambda_t) + a0 * math.log(b0) - a_t * math.log(b_t)
    log_p += math.lgamma(a_t) - math.lgamma(a0)
    assert float(blr_nll(s, estimate, PRIOR)) == pytest.approx(-log_p, rel=1e-10)


@pytest.mark.parametrize("scale", [1e-2, -3.0, 40.0])
def test_rescaling_the_estimate_is_rescaling_the_prior(scale: float) -> None:
    s, estimate = signals(50, 10.0)
    moved = PRIOR.model_copy(update={"mu0": PRIOR.mu0 / scale, "lambda0": PRIOR.lambda0 * scale**2})
    torch.testing.assert_close(blr_nll(s, scale * estimate, moved), blr_nll(s, estimate, PRIOR), rtol=1e-10, atol=0)


@pytest.mark.parametrize("scale", [0.1, -5.0])
def test_under_a_weak_prior_only_one_factor_of_the_scale_is_left_whatever_the_length(scale: float) -> None:
    # Eq. 66: one half of log ŝ'ŝ beside T halves of the scale-free term.
    for time in (100, 10_000):
        s, estimate = signals(time, 10.0)
        change = blr_nll(s, scale * estimate, BlrPrior()) - blr_nll(s, estimate, BlrPrior())
        # T/2 times λ_0 μ_T² / s's, at most 1e-8 · 10² · 10 / 2, is what the prior still weighs.
        assert float(change) == pytest.approx(math.log(abs(scale)), abs=1e-5)


def test_per_step_blr_and_the_squared_sine_differ_by_a_constant_as_signals_grow_longer() -> None:
    # Eqs. 66 to 68, H.1: 2/T L_BLR - log(1 - cos²) forgets the estimate at the rate log T / T.
    gaps = []
    for time in (100, 1_000, 10_000, 100_000):
        s, good = signals(time, 20.0)
        _, bad = signals(time, 0.0)
        apart = [
            2 / time * blr_nll(s, one, BlrPrior()) - (1 - torch.cosine_similarity(s, one, dim=-1) ** 2).log()
            for one in (good, 3 * bad)
        ]
        gaps.append(abs(float(apart[0] - apart[1])))
        exact = abs(math.log(float((good @ good) / (9 * bad @ bad)))) / time
        assert gaps[-1] == pytest.approx(exact, rel=1e-4)
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-4


def test_blr_and_si_sdr_pull_a_long_estimate_the_same_way() -> None:
    s, estimate = signals(20_000, 10.0)
    estimate.requires_grad_()
    (by_blr,) = torch.autograd.grad(blr_nll(s, estimate, BlrPrior()), estimate)
    (by_si_sdr,) = torch.autograd.grad(-si_sdr(s, estimate), estimate)
    assert float(torch.cosine_similarity(by_blr, by_si_sdr, dim=0)) > 0.9999


@pytest.mark.parametrize("setting", [{"a0": 0.0}, {"b0": -1.0}, {"lambda0": 0.0}, {"mu0": math.nan}])
def test_an_improper_prior_is_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        BlrPrior(**setting)


# Cauchy


def test_cauchy_is_scipys_multivariate_t_with_one_degree_of_freedom() -> None:
    s, location = signals(5, 2.0, batch=(4,))
    log_scale = torch.linspace(-1.0, 0.7, 5, dtype=torch.float64)
    exact = [
        stats.multivariate_t(m, np.diag(np.exp(2 * log_scale.numpy())), df=1).logpdf(x)
        for m, x in zip(location.numpy(), s.numpy(), strict=True)
    ]
    torch.testing.assert_close(cauchy_nll(s, location, log_scale), -torch.tensor(exact))


@pytest.mark.parametrize("dof", [0.5, 1.0, 4.0, 300.0])
def test_student_t_is_scipys_multivariate_t(dof: float) -> None:
    s, location = signals(6, 5.0, batch=(4,))
    log_scale = torch.linspace(-1, 1, 6, dtype=torch.float64)
    exact = [
        stats.multivariate_t(mean, np.diag(np.exp(2 * log_scale.numpy())), df=dof).logpdf(x)
        for x, mean in zip(s.numpy(), location.numpy(), strict=True)
    ]
    torch.testing.assert_close(student_t_nll(s, location, log_scale, dof), -torch.tensor(exact))


def test_cauchy_is_student_t_with_one_degree_of_freedom() -> None:
    s, location = signals(4000, 10.0, batch=(3,))
    log_scale = torch.linspace(-1, 1, 4000, dtype=torch.float64)
    assert torch.equal(cauchy_nll(s, location, log_scale), student_t_nll(s, location, log_scale, 1.0))


def test_student_t_with_many_degrees_of_freedom_is_gaussian() -> None:
    s, location = signals(50, 5.0)
    gaussian = -torch.distributions.Normal(location, 2.0).log_prob(s).sum()
    found = student_t_nll(s, location, torch.tensor([2.0], dtype=torch.float64).log(), 1e9)
    torch.testing.assert_close(found, gaussian, rtol=1e-6, atol=0)


def test_one_step_of_the_multivariate_cauchy_is_the_univariate_one() -> None:
    s = torch.linspace(-9, 9, 50, dtype=torch.float64)
    exact = torch.from_numpy(-stats.cauchy(0.3, 2.0).logpdf(s.numpy()))
    torch.testing.assert_close(
        cauchy_nll(s.unsqueeze(-1), torch.tensor([0.3]), torch.tensor([2.0]).double().log()), exact
    )


# SI-SDR


@pytest.mark.parametrize("snr", [-20.0, 0.0, 30.0])
def test_si_sdr_is_that_of_torchmetrics(snr: float) -> None:
    audio = pytest.importorskip("torchmetrics.functional.audio")
    s, estimate = signals(4000, snr, batch=(3,))
    s, estimate = s + 0.3, 2 * estimate - 0.5
    exact = audio.scale_invariant_signal_distortion_ratio(estimate, s)
    torch.testing.assert_close(si_sdr(s, estimate), exact, rtol=0, atol=1e-6)


def test_si_sdr_is_the_ratio_of_equation_43_and_the_projection_of_equation_48() -> None:
    s, estimate = signals(1000, 7.0)
    alpha = (s @ estimate) / (s @ s)
    ratio = 10 * ((alpha * s).square().sum() / (alpha * s - estimate).square().sum()).log10()
    projection = -10 * (torch.cosine_similarity(s, estimate, dim=0) ** -2 - 1).log10()
    torch.testing.assert_close(si_sdr(s, estimate), ratio, rtol=0, atol=1e-8)
    torch.testing.assert_close(si_sdr(s, estimate), projection, rtol=0, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-6, -2.0, 1e6])
def test_si_sdr_depends_on_neither_scale_nor_sign(scale: float) -> None:
    s, estimate = (x.float() for x in signals(1000, 40.0))
    for one in (si_sdr(s, scale * estimate), si_sdr(scale * s, estimate)):
        torch.testing.assert_close(one, si_sdr(s, estimate), rtol=0, atol=1e-3)


def test_a_right_angle_to_the_signal_sets_the_ratio_exactly() -> None:
    s = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    for snr in (-30.0, 0.0, 12.5):
        error = 10 ** (-snr / 20) * torch.tensor([0.0, 0.0, -1.0, 1.0], dtype=torch.float64)
        assert float(si_sdr(s, 5 * (s + error))) == pytest.approx(snr, abs=1e-8)


def test_the_mixture_itself_improves_nothing_and_the_improvement_is_a_difference() -> None:
    s, estimate = signals(1000, 20.0)
    _, mixture = signals(1000, 5.0, seed=0)
    assert float(si_sdr_improvement(s, mixture, mixture)) == 0
    assert float(si_sdr_improvement(s, estimate, mixture)) == pytest.approx(15, abs=0.5)


@pytest.mark.parametrize(
    ("s", "estimate", "value"),
    [
        (torch.zeros(100), torch.ones(100), -120.0),
        (torch.ones(100), torch.zeros(100), -120.0),
        (torch.zeros(100), torch.zeros(100), -120.0),
        (torch.ones(100), torch.ones(100), 120.0),
    ],
    ids=["silent signal", "silent estimate", "both silent", "perfect"],
)
def test_si_sdr_has_a_defined_value_where_the_ratio_has_none(s: Tensor, estimate: Tensor, value: float) -> None:
    assert float(si_sdr(s, estimate)) == pytest.approx(value, abs=0.1)


# BSS-eval's SDR


@pytest.mark.parametrize("rate", [8000, 16000])
def test_sdr_is_that_of_torchmetrics(rate: int) -> None:
    """An error, a coloration, an echo within the filter, and one beyond it."""
    source, other = (torch.tensor(voice(seed, 1.5, rate)).double() for seed in (0, 1))
    estimates = [source + 0.3 * other, torch.nn.functional.pad(source.diff(), (1, 0)) + 0.05 * other]
    estimates += [-3 * source + 0.4 * source.roll(delay) + 0.01 * other for delay in (100, 4000)]
    for estimate in estimates:
        expected = float(signal_distortion_ratio(estimate, source, load_diag=1e-10))
        assert float(sdr(source, estimate)) == pytest.approx(expected, abs=1e-3)


def test_sdr_counts_what_a_filter_makes_of_a_source_as_source() -> None:
    source, other = (torch.tensor(voice(seed)).double() for seed in (0, 1))
    source[-4000:] = 0  # what an echo has beyond the signal's end is missing from it
    other = other * (source.norm() / other.norm())
    echo = source + torch.nn.functional.pad(source, (300, 0))[: len(source)]
    assert float(si_sdr(source, echo)) < 3
    assert float(sdr(source, echo + 0.01 * other)) > 40
    late = source + torch.nn.functional.pad(source, (3000, 0))[: len(source)]
    assert float(sdr(source, late)) < 6


def test_sdr_by_a_filter_of_one_number_is_si_sdr() -> None:
    s, estimate = signals(500, 7.0, batch=(3, 2))
    torch.testing.assert_close(sdr(s, estimate, taps=1), si_sdr(s, estimate), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("s", "estimate", "value"),
    [
        (torch.zeros(900), torch.ones(900), -120.0),
        (torch.ones(900), torch.zeros(900), -120.0),
        (torch.zeros(900), torch.zeros(900), -120.0),
    ],
    ids=["silent signal", "silent estimate", "both silent"],
)
def test_sdr_of_silence_is_the_least(s: Tensor, estimate: Tensor, value: float) -> None:
    assert float(sdr(s, estimate)) == pytest.approx(value, abs=0.1)


def test_sdr_of_a_source_without_high_frequencies_is_that_of_its_error() -> None:
    """Its correlation matrix has no inverse in float64."""
    time = torch.arange(8000, dtype=torch.float64) / 8000
    s = torch.stack([torch.sin(2 * math.pi * f * time) * torch.exp(-((time - 0.5) ** 2) / 0.02) for f in (300, 150)])
    assert sdr(s, s + 0.1 * s.flip(0)).tolist() == pytest.approx([20.0, 20.0], abs=0.01)


# Mean squared error


def test_log_mse_is_the_error_in_decibels() -> None:
    s = signals(1000, 0.0)[0]
    for decibels in (-40.0, 0.0, 17.0):
        assert float(log_mse(s, s + 10 ** (decibels / 20))) == pytest.approx(decibels, abs=1e-6)


# All of them


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("signal", [0.0, 1e-12, 1.0, 1e4], ids=lambda x: f"signal {x}")
@pytest.mark.parametrize("kind", ["silent", "whisper", "perfect", "opposite", "loud", "unrelated"])
def test_values_and_gradients_are_finite_in_float32(name: str, signal: float, kind: str) -> None:
    first, second = (x.float() for x in torch.randn(2, 24_000, generator=torch.Generator().manual_seed(0)))
    s = signal * first
    estimates = {
        "silent": torch.zeros_like(s),
        "whisper": 1e-11 * second,
        "perfect": s.clone(),
        "opposite": -s,
        "loud": 1e6 * second,
        "unrelated": second,
    }
    estimate = estimates[kind].requires_grad_()
    value = LOSSES[name](s, estimate)
    (gradient,) = torch.autograd.grad(value, estimate)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_float32_follows_float64_up_to_sixty_decibels(name: str) -> None:
    s, estimate = signals(24_000, 60.0, batch=(3,))
    exact, rounded = [], []
    for found, dtype in ((exact, torch.float64), (rounded, torch.float32)):
        leaf = estimate.to(dtype).requires_grad_()
        values = LOSSES[name](s.to(dtype), leaf)
        found += [values.detach().double(), torch.autograd.grad(values.sum(), leaf)[0].double()]
    # Three roundings of a likelihood of 1e5 nats, or 1e-4 dB; an error of a thousandth of the signal is itself rounded
    # to some 6e-5, and so is the gradient.
    torch.testing.assert_close(rounded[0], exact[0], rtol=2e-7, atol=1e-4)
    assert float((rounded[1] - exact[1]).norm() / exact[1].norm()) < 2e-4


@pytest.mark.parametrize("name", LOSSES)
def test_mapped_over_cells_and_broadcast_over_pairs_it_is_a_loop(name: str) -> None:
    s, estimate = signals(64, 3.0, batch=(2, 3))
    loop = torch.stack([torch.stack([LOSSES[name](a, b) for b in estimate[0]]) for a in s[0]])
    torch.testing.assert_close(LOSSES[name](s[0].unsqueeze(1), estimate[0].unsqueeze(0)), loop)
    mapped = torch.vmap(LOSSES[name])(s, estimate)
    torch.testing.assert_close(mapped, torch.stack([LOSSES[name](a, b) for a, b in zip(s, estimate, strict=True)]))
