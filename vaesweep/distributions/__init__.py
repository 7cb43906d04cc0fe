"""Distributions of latent variables: densities, reparameterised samples and KL divergences, elementwise.

Every function keeps its arguments' shape, so that leading cell axes need no care and rates stay unreduced.
"""

from vaesweep.distributions.base import Distribution
from vaesweep.distributions.bounded import Beta
from vaesweep.distributions.convolution import convolve
from vaesweep.distributions.gaussian import (
    LOG_TWO_PI,
    Gaussian,
    TriangularGaussian,
    gaussian_kl,
    log_density,
    samples,
    standard_gaussian,
    standard_kl,
    total_kl,
)
from vaesweep.distributions.positive import Gamma, LogNormal

__all__ = [
    "LOG_TWO_PI",
    "Beta",
    "Distribution",
    "Gamma",
    "Gaussian",
    "LogNormal",
    "TriangularGaussian",
    "convolve",
    "gaussian_kl",
    "log_density",
    "samples",
    "standard_gaussian",
    "standard_kl",
    "total_kl",
]
