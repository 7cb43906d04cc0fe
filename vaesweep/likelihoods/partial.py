"""Partial data: Gaussian negative log-likelihoods in nats, elementwise, and their sums over what was observed."""

from torch import Tensor

from vaesweep.distributions import Gaussian


def gaussian_nll(x: Tensor, observation: Gaussian) -> Tensor:
    """-log N(x; mean, std^2) in nats, elementwise."""
    return -observation.log_prob(x)


def partial_distortion(x: Tensor, observed: Tensor, observation: Gaussian) -> Tensor:
    """-log p(x_O | z) over observed dimensions only (thesis eqs. 2.6 and 1 of study A): `[..., dim]` to `[...]`.

    Unobserved dimensions contribute exactly nothing, neither to the value nor to a gradient, whatever `x` holds there.
    `x` is replaced before the density and not only its term after it: a zero gradient times NaN is NaN.
    """
    nll = gaussian_nll(x.masked_fill(~observed, 0.0), observation)
    return nll.masked_fill(~observed, 0.0).sum(-1)
