"""Latent variables, as encoder and masker of a separator return them: numbers, or parameters of a distribution.

Thesis, study B, section F (eqs. 38-42) for distributions and priors, line 1541 for the positive parameters. A kind says
how many numbers an element of the latent variable takes, and what they mean; the networks know neither.

Where a network gives zeros, a distribution is its prior. The thesis has a plain softplus, under which zeros give a
scale or a concentration of 0.69, and the encoder, which has no bias, cannot do better for all signals: a Gaussian
encoding's rate is then at least 0.11 nats an element, a gamma's 0.06, which is all of R_z = 4.08 in the first row of
its table 2.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vaesweep.distributions import Beta, Distribution, Gamma, Gaussian, LogNormal
from vaesweep.families.emd.models.flows import FlowPrior

EncodingKind = Literal["deterministic", "gaussian", "log_normal", "gamma"]
MaskKind = Literal["relu", "sigmoid", "exp", "log_normal", "beta"]  # the first three are deterministic

LEAST_POSITIVE = 1e-6  # thesis line 1541
GAMMA_PRIOR = 0.5  # concentration; thesis line 1355
LARGEST_MASK = 1e3  # what a decoder makes of larger ones: 60 dB of gain, beyond which nothing is separated better

Variable = Tensor | Distribution


@dataclass(frozen=True)
class Latent:
    """One kind of latent variable: `parameters` numbers an element, of which `read` makes numbers or a distribution.

    `noise` is what a draw of one element needs (`Distribution.NOISE`), and `prior` the standard prior in the shape of a
    sample; both are None where the variable is deterministic.
    """

    parameters: int
    read: Callable[..., Variable]
    noise: tuple[int, ...] | None = None
    prior: Callable[[Tensor], Distribution] | None = None

    def variable(self, raw: Tensor) -> Variable:
        """The variable of `raw` `[..., parameters · channels, frames]`, each parameter `[..., channels, frames]`.

        Where products are in bfloat16 the numbers of a distribution still are float32.
        """
        raw = raw.float() if raw.dtype is torch.bfloat16 else raw
        return self.read(*raw.unflatten(-2, (self.parameters, -1)).unbind(-3))


@dataclass(frozen=True)
class Draw:
    """A variable `q`, a sample `value` of it, and the sample's log density, which numbers do not have."""

    q: Variable
    value: Tensor
    log_q: Tensor | None

    def rate(self, prior: Distribution | FlowPrior, *, analytic: bool) -> Tensor:
        """KL(q ‖ prior) in nats, in the shape of `value`: in closed form where there is one, else by the one sample."""
        assert not isinstance(self.q, Tensor)
        assert self.log_q is not None
        if analytic and not isinstance(prior, FlowPrior):
            return self.q.kl(prior)
        return self.log_q - prior.log_prob(self.value)


def draw(q: Variable, noise: Tensor | None) -> Draw:
    """A reparameterised sample by standard normal `noise` `[*shape, *NOISE]`; numbers are their own sample."""
    if isinstance(q, Tensor):
        return Draw(q, q, None)
    assert noise is not None, "a distribution is drawn from by noise"
    return Draw(q, *q.draw(noise))


def point(q: Variable) -> Tensor:
    """The value of `q` that a deployed separator takes: no sample, but the distribution's `point`."""
    return q if isinstance(q, Tensor) else q.point


def positive(raw: Tensor, at_zero: float = 1.0) -> Tensor:
    """Shifted softplus: any number to one of at least 1e-6 (thesis line 1541), zero to `at_zero`."""
    return nn.functional.softplus(raw + math.log(math.expm1(at_zero))).clamp_min(LEAST_POSITIVE)


def log_positive(raw: Tensor) -> Tensor:
    """The logarithm of `positive`, as scales are kept."""
    return positive(raw).log()


def encoding_latent(kind: EncodingKind, parts: int = 1) -> Latent:
    """The encodings of a kind; of `parts` signals whose encodings add up to one that has the standard prior.

    Variances and concentrations add, so a part has 1 / `parts` of the whole's, in its prior and where a network gives
    zeros. Log-normal encodings have no such parts.
    """
    match kind:
        case "deterministic":
            return Latent(1, lambda raw: raw)
        case "gaussian":
            log_std = -0.5 * math.log(parts)
            return Latent(
                2,
                lambda mean, raw: Gaussian(mean, log_positive(raw) + log_std),
                noise=Gaussian.NOISE,
                prior=lambda like: Gaussian(torch.zeros_like(like), torch.full_like(like, log_std)),
            )
        case "log_normal":
            return _log_normal(0.0)
        case "gamma":
            prior = GAMMA_PRIOR / parts
            return Latent(
                1,
                lambda raw: Gamma(positive(raw, prior)),
                noise=Gamma.NOISE,
                prior=lambda like: Gamma(torch.full_like(like, prior)),
            )


def mask_latent(kind: MaskKind, location: float) -> Latent:
    """The masks of a kind; `location` is that of the log-normal prior, whose scale is 1."""
    match kind:
        case "relu":
            return Latent(1, torch.relu)
        case "sigmoid":
            return Latent(1, torch.sigmoid)
        case "exp":
            return Latent(1, lambda raw: raw.clamp_max(math.log(LARGEST_MASK)).exp())
        case "log_normal":
            return _log_normal(location)
        case "beta":
            return Latent(
                2,
                lambda a, b: Beta(positive(a), positive(b)),
                noise=Beta.NOISE,
                prior=lambda like: Beta(torch.ones_like(like), torch.ones_like(like)),
            )


def _log_normal(location: float) -> Latent:
    """Log-normal variables whose prior has this location, and scale 1."""
    return Latent(
        2,
        lambda log_mean, raw: LogNormal(log_mean, log_positive(raw)),
        noise=LogNormal.NOISE,
        prior=lambda like: LogNormal(torch.full_like(like, location), torch.zeros_like(like)),
    )
