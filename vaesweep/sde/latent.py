"""Latent SDEs: a prior and a posterior process that share one scalar diffusion (Li et al. 2020; thesis eqs. 2.7-2.9).

    prior      dz = h_p(z, s) ds + sigma dW
    posterior  dz = h_q(z, s; context) ds + sigma dW,    u = (h_q - h_p) / sigma

The KL divergence between the processes, the path rate, is the expectation of the integral of |u|^2 / 2 over depth along
the posterior (Girsanov), in nats; it is integrated beside the state, elementwise. The diffusion is constant, learnt and
the same for all dimensions (thesis, CD-VAE, section 3), so that Ito and Stratonovich solutions are one. In finite steps
the sum in the integral's place is a divergence too, of the steps' own chains, of solvers with an `exact_rate` alone.
"""

from collections.abc import Callable

from torch import Tensor

from vaesweep.sde.solve import Solution
from vaesweep.sde.terms import Sde, Tensors, Terms

Drift = Callable[[Tensors, float, Tensor], Tensor]  # tensors, depth, state
Drifts = Callable[[Tensors, float, Tensor], tuple[Tensor, Tensor]]  # prior's and posterior's, evaluated together


def prior_sde(drift: Drift, tensors: Tensors, log_sigma: Tensor) -> Sde:
    """The prior process; `log_sigma` is one number. `tensors` are what the drift depends on, as the field sees them."""

    def field(tensors: Tensors, s: float, z: Tensor) -> Terms:
        sigma, *own = tensors
        return Terms(drift(tuple(own), s, z), sigma)

    return Sde(field, (log_sigma.exp(), *tensors), additive=True)


def posterior_sde(drifts: Drifts, tensors: Tensors, log_sigma: Tensor, *, against: bool = False) -> Sde:
    """The posterior process, beside which `running` integrates |u|^2 / 2: its path rate, in nats, elementwise.

    `drifts` gives the drifts of prior and posterior at one state, `[batch, *latent]` each. With `against` the solution
    also has the Ito integral of u dW, for `log_ratio`. Equal drifts give a rate of exactly zero.
    """

    def field(tensors: Tensors, s: float, z: Tensor) -> Terms:
        sigma, inverse, *own = tensors
        prior, posterior = drifts(tuple(own), s, z)
        u = (posterior - prior) * inverse
        return Terms(posterior, sigma, 0.5 * u.square(), u if against else None)

    return Sde(field, (log_sigma.exp(), (-log_sigma).exp(), *tensors), additive=True)


def log_ratio(solution: Solution) -> Tensor:
    """log q(path) / p(path) of a posterior's path given its start, in nats, elementwise `[batch, *latent]`.

    The sum of |u|^2 ds / 2 + u dW. Of Euler-Maruyama it is exact: the ratio of the densities of its two Markov chains,
    whatever the step. ValueError of a solution without `against`.
    """
    if solution.running is None or solution.against is None:
        raise ValueError("a log density ratio needs the path rate and the integral against the noise")
    return solution.running + solution.against
