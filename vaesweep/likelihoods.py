"""Observation models: negative log-likelihoods in nats, elementwise, and their sums over what was observed."""

from torch import Tensor

from vaesweep.distributions import Gaussian


def gaussian_nll(x: Tensor, observation: Gaussian) -> Tensor:
    """-log N(x; mean, std^2) in nats, elementwise."""
    return -observation.log_prob(x)


def partial_distortion(nll: Tensor, observed: Tensor) -> Tensor:
    """Distortion over observed dimensions only (thesis eqs. 2.6 and 1 of study A): `[..., dim]` to `[...]`.

    What is unobserved contributes exactly nothing, neither to the value nor to any gradient, also where it is NaN.
    """
    return nll.masked_fill(~observed, 0.0).sum(-1)
