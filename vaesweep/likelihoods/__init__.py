"""Observation models: negative log-likelihoods in nats of partial data and of signals; measures of signals in dB."""

from vaesweep.likelihoods.partial import gaussian_nll, partial_distortion
from vaesweep.likelihoods.signals import (
    BlrPrior,
    blr_nll,
    cauchy_nll,
    log_mse,
    sdr,
    si_sdr,
    si_sdr_improvement,
    student_t_nll,
)

__all__ = [
    "BlrPrior",
    "blr_nll",
    "cauchy_nll",
    "gaussian_nll",
    "log_mse",
    "partial_distortion",
    "sdr",
    "si_sdr",
    "si_sdr_improvement",
    "student_t_nll",
]
