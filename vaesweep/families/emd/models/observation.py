"""Distortions of a decoded signal: the observation model of a separator, or an objective in its place.

Thesis, study B, sections H (Bayesian linear regression) and I (multivariate Cauchy); the Student-t is that of its
author's later work (PRESS, arXiv 2507.09768). SI-SDR and log-MSE are no
likelihoods: with them a distortion is in dB, and what adds it to a rate in nats is no bound on anything.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from vaesweep.families.emd.models.latents import log_positive
from vaesweep.likelihoods import BlrPrior, blr_nll, cauchy_nll, log_mse, si_sdr, student_t_nll
from vaesweep.packing import Frozen


class Blr(BlrPrior):
    """Bayesian linear regression on the estimate, whose scale does not matter: nats."""

    kind: Literal["blr"] = "blr"


class Cauchy(Frozen):
    """A multivariate Cauchy distribution with a scale for every sample, which the decoder gives too: nats."""

    kind: Literal["cauchy"] = "cauchy"


class StudentT(Frozen):
    """A multivariate Student-t distribution, otherwise as Cauchy's, of which it is the general case: nats."""

    kind: Literal["student_t"] = "student_t"
    dof: float = Field(4.0, gt=0, description="degrees of freedom: 1 is Cauchy's distribution, many a Gaussian")


class SiSdr(Frozen):
    """The negative scale-invariant signal-to-distortion ratio: dB, an objective only."""

    kind: Literal["si_sdr"] = "si_sdr"


class LogMse(Frozen):
    """The logarithm of the mean squared error: dB, an objective only."""

    kind: Literal["log_mse"] = "log_mse"


LikelihoodConfig = Annotated[Blr | Cauchy | StudentT | SiSdr | LogMse, Field(discriminator="kind")]


def outputs(config: Blr | Cauchy | StudentT | SiSdr | LogMse) -> int:
    """Numbers that the decoder gives a sample of an estimate."""
    return 2 if isinstance(config, Cauchy | StudentT) else 1


def distortion(config: Blr | Cauchy | StudentT | SiSdr | LogMse) -> Callable[..., Tensor]:
    """The distortion of a signal: `(true, *decoded)`, each `[..., time]` and broadcast, to `[...]`, smaller is better.

    `decoded` are as many tensors as `outputs` says, the estimated signal first.
    """
    match config:
        case Blr():
            return lambda s, estimate: blr_nll(s, estimate, config)
        case Cauchy():
            return lambda s, location, raw: cauchy_nll(s, location, log_positive(raw))
        case StudentT():
            return lambda s, location, raw: student_t_nll(s, location, log_positive(raw), config.dof)
        case SiSdr():
            return lambda s, estimate: -si_sdr(s, estimate)
        case LogMse():
            return log_mse
