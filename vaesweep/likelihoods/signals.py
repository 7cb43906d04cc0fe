"""Distances of an estimated signal from the true one: `[..., time]` and `[..., time]` to `[...]`, any axes broadcast.

Negative log-likelihoods in nats a signal (thesis, study B, sections H and I), and measures in dB (section G). All have
finite values and gradients for silent signals and for perfect estimates.
"""

import math

import torch
from pydantic import Field
from torch import Tensor

from vaesweep.packing import Frozen

SILENT = 1e-20  # a signal with less energy has no direction
LEAST_RATIO = 1e-12  # energy ratios lie between this and its inverse: 120 dB
TAPS = 512  # of BSS-eval's distortion filter
LOADING = 1e-10  # of a source's energy, added to its correlation's diagonal: signals without high frequencies have none


class BlrPrior(Frozen):
    """p(σ²) = Inv-Gamma(a0, b0) and p(γ | σ²) = N(mu0, σ² / lambda0) of s = γ ŝ + ε, ε ~ N(0, σ² I) (section H).

    The thesis gives no numbers. It asks for small `a0` and `b0` and for a `lambda0` far below the energies of signal
    and estimate, and compares it to a constant that keeps a logarithm finite (H.1): hence 1e-8. Its distortions
    (table 2) say that signals had a standard deviation of some 0.03, an energy of 30 in three seconds: there the
    likelihood stops to reward a better fit beyond 90 dB. `mu0` zero prefers no sign and no scale.
    """

    a0: float = Field(1e-8, gt=0, description="shape of the noise variance's prior")
    b0: float = Field(1e-8, gt=0, description="scale of the noise variance's prior, squared units of the signal")
    mu0: float = Field(0.0, description="prior mean of the regression coefficient")
    lambda0: float = Field(1e-8, gt=0, description="prior precision of the regression coefficient in units of 1/σ²")


def blr_nll(s: Tensor, estimate: Tensor, prior: BlrPrior) -> Tensor:
    """-log p(s | estimate) of Bayesian linear regression in nats a signal, all constants included (eq. 55).

    b_T of eq. 53 is formed from the residual, ‖s - μ_T ŝ‖² + λ_0 (μ_T - μ_0)², which equals s's + μ_0² λ_0 - μ_T² λ_T
    but does not cancel when the fit is good.
    """
    time = s.shape[-1]
    precision = estimate.square().sum(-1) + prior.lambda0
    coefficient = (prior.lambda0 * prior.mu0 + (s * estimate).sum(-1)) / precision
    residual = (s - coefficient.unsqueeze(-1) * estimate).square().sum(-1)
    shape = prior.a0 + time / 2
    scale = prior.b0 + 0.5 * (residual + prior.lambda0 * (coefficient - prior.mu0).square())
    constant = 0.5 * (time * math.log(2 * math.pi) - math.log(prior.lambda0)) - prior.a0 * math.log(prior.b0)
    return constant + math.lgamma(prior.a0) - math.lgamma(shape) + 0.5 * precision.log() + shape * scale.log()


def student_t_nll(s: Tensor, location: Tensor, log_scale: Tensor, dof: float) -> Tensor:
    """-log p(s) of the multivariate Student-t distribution in nats a signal, with Σ = diag(exp(2 log_scale)).

    One heavy-tailed variable of `time` dimensions and `dof` degrees of freedom, not `time` independent ones; 1 is the
    Cauchy distribution (eq. 70), many a Gaussian. All arguments are `[..., time]`, and a `log_scale` `[..., 1]` is one
    for all steps.
    """
    time = s.shape[-1]
    distance = ((s - location) * (-log_scale).exp()).square().sum(-1)
    constant = math.lgamma(0.5 * dof) + 0.5 * time * math.log(dof * math.pi) - math.lgamma(0.5 * (dof + time))
    log_volume = log_scale.expand(*log_scale.shape[:-1], time).sum(-1)
    return constant + log_volume + 0.5 * (dof + time) * (distance / dof).log1p()


def cauchy_nll(s: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
    """-log p(s) of the multivariate Cauchy distribution in nats a signal (eq. 70): Student-t with one degree."""
    return student_t_nll(s, location, log_scale, 1.0)


def si_sdr(s: Tensor, estimate: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB, larger is better: the negative of eqs. 43 and 48.

    Both signals are scaled to unit energy first, so that the value depends on neither scale. It lies between -120 and
    120 dB; a silent signal or a silent estimate has -120.
    """
    s, estimate = unit(s), unit(estimate)
    cosine = (s * estimate).sum(-1)
    distortion = (cosine.unsqueeze(-1) * s - estimate).square().sum(-1)
    # A silent estimate has no distortion either, which must not make it a good one.
    distortion = torch.where(estimate.square().sum(-1) < 0.5, 1.0, distortion)
    return 10 * ((cosine.square() + LEAST_RATIO).log10() - (distortion + LEAST_RATIO).log10())


def si_sdr_improvement(s: Tensor, estimate: Tensor, mixture: Tensor) -> Tensor:
    """The estimate's SI-SDR less that of the unprocessed `mixture`, in dB (SI-SDRi)."""
    return si_sdr(s, estimate) - si_sdr(s, mixture)


def sdr(s: Tensor, estimate: Tensor, taps: int = TAPS) -> Tensor:
    """Signal-to-distortion ratio of BSS-eval's third version in dB, larger is better (Vincent et al. 2006).

    What a filter of `taps` numbers makes of the source counts as source, and the filter is the one that comes closest
    to the estimate; so the value depends on no linear coloration either. float64, and within 120 dB, as `si_sdr`.
    """
    s, estimate = unit(s.double()), unit(estimate.double())
    length = s.shape[-1] + taps - 1  # of the filtered source; nothing wraps around
    source, observed = torch.fft.rfft(s, length), torch.fft.rfft(estimate, length)
    correlation = torch.fft.irfft(source.abs().square(), length)[..., :taps]
    cross = torch.fft.irfft(source.conj() * observed, length)[..., :taps]
    place = torch.arange(taps, device=s.device)
    loading = LOADING * torch.eye(taps, dtype=s.dtype, device=s.device)
    factor = torch.linalg.cholesky(correlation[..., (place.unsqueeze(-1) - place).abs()] + loading)
    distortion_filter = torch.cholesky_solve(cross.unsqueeze(-1), factor).squeeze(-1)
    target = torch.fft.irfft(torch.fft.rfft(distortion_filter, length) * source, length)
    distortion = (target - torch.nn.functional.pad(estimate, (0, taps - 1))).square().sum(-1)
    distortion = torch.where(estimate.square().sum(-1) < 0.5, 1.0, distortion)  # silence is no good estimate
    return 10 * ((target.square().sum(-1) + LEAST_RATIO).log10() - (distortion + LEAST_RATIO).log10())


def log_mse(s: Tensor, estimate: Tensor) -> Tensor:
    """Logarithm of the mean squared error in dB, 10 log10, smaller is better; -120 dB for a perfect estimate."""
    return 10 * ((s - estimate).square().mean(-1) + LEAST_RATIO).log10()


def unit(signal: Tensor) -> Tensor:
    """`signal` `[..., time]` scaled to unit energy; zero, with a finite gradient, where there is next to none."""
    return signal * signal.square().sum(-1, keepdim=True).clamp_min(SILENT).rsqrt()
