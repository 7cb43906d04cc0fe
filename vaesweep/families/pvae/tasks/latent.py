"""Predictions by latent variables: many samples of q(z | x_O), unweighted or importance-weighted.

    x_O ──► q(z | x_O) ──► z_s ──► p(x | z_s) ──► mixture over s, weights 1/S or
                                                   w_s ∝ p(x_O | z_s) p(z_s) / q(z_s | x_O)

The plain estimate is the thesis' (section 3.2); the self-normalised weights are those of Mattei and Frellsen (2019),
with which the mixture tends to p(x_U | x_O) of the model whatever the amortised posterior is. The standard normal
numbers behind the samples are one scrambled Sobol sequence, the same for every cell and datum, so that models are
compared on common numbers and predictions do not change from call to call.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from vaesweep.distributions import Gaussian, TriangularGaussian, log_density, samples, total_kl
from vaesweep.families.pvae.tasks.predictive import Predictive, RandomNumbers, among_unobserved

LARGEST_CHUNK = 1 << 13  # samples decoded at once, all cells together: their activations stay in a core's cache
TAIL = 1e-6  # Sobol points are kept this far from 0 and 1, where the normal quantile is infinite

Posterior = Gaussian | TriangularGaussian


@dataclass(frozen=True)
class LatentModels:
    """A stack of trained models as three functions of standardised data, each vectorised over cells.

    `posterior(x, observed)` maps `[cell, row, dim]` to parameters `[cell, row, latent]`, `observation(z)`
    `[cell, ..., latent]` to `[cell, ..., dim]`, and `prior_log_prob(z)` `[cell, ..., latent]` to `[cell, ...]`.
    `prior` `[cell, sample, latent]` are samples of the priors, for predictions that use them.
    """

    cells: int
    latents: int
    posterior: Callable[[Tensor, Tensor], Posterior]
    observation: Callable[[Tensor], Gaussian]
    prior_log_prob: Callable[[Tensor], Tensor]
    prior: Tensor | None = None


class LatentPredictor:
    """Predicts with `samples` of the posterior of every model; `mean` and `std` `[dim]` undo the standardisation.

    Weighted predictions also use the samples of the prior that `models` has. Both then count as samples of one
    proposal, the mixture of posterior and prior in these shares (the balance heuristic, Veach and Guibas 1995): with
    little observed the approximate posterior may miss the mass of the true one, and the prior does not.
    """

    def __init__(
        self, models: LatentModels, mean: Tensor, std: Tensor, *, samples: int, weighted: bool, seed: int = 0
    ) -> None:
        self._models, self._mean, self._std, self._weighted = models, mean, std, weighted
        self._noise = normal_points(samples, models.latents, seed).to(mean)
        self.cells, self.dims = models.cells, len(mean)

    @property
    def rows(self) -> int:
        """See `Predictor`."""
        return max(1, LARGEST_CHUNK // (self.cells * (len(self._noise) + self._prior_count)))

    @property
    def _prior_count(self) -> int:
        prior = self._models.prior
        return 0 if prior is None or not self._weighted else prior.shape[1]

    def predict(self, x: Tensor, observed: Tensor) -> Predictive:
        """See `Predictor`. The bound is the samples' estimate of the ELBO, or the importance-weighted bound."""
        standardised = self._standardised(x, observed)
        p, log_prior, log_q = self._proposal(self._models.posterior(standardised, observed))
        densities = p.log_prob(standardised.unsqueeze(-2)).masked_fill(~observed.unsqueeze(-2), 0.0)
        log_ratio = densities.sum(-1) + log_prior - log_q
        if self._weighted:
            weights, bound = log_ratio.softmax(-1), log_ratio.logsumexp(-1) - math.log(log_ratio.shape[-1])
        else:
            weights, bound = torch.full_like(log_ratio, 1 / len(self._noise)), log_ratio.mean(-1)
        return Predictive(weights, self._mean + self._std * p.mean, self._std * p.log_std.exp(), bound)

    def _proposal(self, q: Posterior) -> tuple[Gaussian, Tensor, Tensor]:
        """p(x | z) `[cell, row, sample, dim]`, log p(z) and the proposal's log density `[cell, row, sample]`."""
        z, log_q = samples(q, self._noise)
        p, log_prior = self._models.observation(z), self._models.prior_log_prob(z)
        if not self._prior_count:
            return p, log_prior, log_q
        rows = z.shape[:2]
        prior_z, decoded, log_prior_of_prior = self._decoded_prior
        p = Gaussian(_append_shared(p.mean, decoded.mean), _append_shared(p.log_std, decoded.log_std))
        log_prior = torch.cat([log_prior, log_prior_of_prior.expand(*rows, -1)], -1)
        log_q = torch.cat([log_q, log_density(q, prior_z.expand(*rows, -1, -1))], -1)
        share = self._prior_count / log_q.shape[-1]
        return p, log_prior, torch.logaddexp(log_q + math.log1p(-share), log_prior + math.log(share))

    @cached_property
    def _decoded_prior(self) -> tuple[Tensor, Gaussian, Tensor]:
        """The prior's samples `[cell, 1, sample, latent]`, p(x | z) and log p(z) of each: the same for every row."""
        assert self._models.prior is not None
        z = self._models.prior.unsqueeze(1)
        return z, self._models.observation(z), self._models.prior_log_prob(z)

    def unexplained(self, x: Tensor, observed: Tensor, predictive: Predictive) -> Tensor:
        """See `Predictor`: dimensions are independent given z, so the joint density is a mixture of products."""
        missing = predictive.log_densities(x).masked_fill(observed.unsqueeze(-2), 0.0).sum(-1)
        return -torch.logsumexp(predictive.weights.log() + missing, dim=-1)

    def covariance(self, observed: Tensor, predictive: Predictive) -> Tensor:
        """See `Predictor`: given z, dimensions share nothing."""
        return among_unobserved(predictive.between + torch.diag_embed(predictive.within), observed)

    def information(self, x: Tensor, observed: Tensor, predictive: Predictive, draws: RandomNumbers) -> Tensor:
        """The expected information reward of Ma et al. (2019, eq. 9), every other unobserved dimension the target.

        R(d) = E KL(q(z | x_d, x_O) ‖ q(z | x_O)) − E KL(q(z | x_U, x_O) ‖ q(z | x_U∖d, x_O)), the expectations over
        `draws` of x_U from the predictive. Latent dimensions without information cancel.
        """
        before = self._posterior(x, observed)
        everything = torch.ones_like(observed)
        reward = torch.zeros(observed.shape, dtype=x.dtype, device=x.device)
        for number in range(len(draws)):
            imagined = torch.where(observed, x, predictive.sample(draws, number))
            full = self._posterior(imagined, everything)
            for dim in range(self.dims):
                candidate = torch.arange(self.dims, device=x.device) == dim
                gain = total_kl(self._posterior(imagined, observed | candidate), before)
                reward[..., dim] += gain - total_kl(full, self._posterior(imagined, everything & ~candidate))
        return reward.masked_fill(observed, 0.0) / len(draws)

    def _posterior(self, x: Tensor, observed: Tensor) -> Posterior:
        return self._models.posterior(self._standardised(x, observed), observed)

    def _standardised(self, x: Tensor, observed: Tensor) -> Tensor:
        """Standardised `[cell, row, dim]`, zero where nothing is observed."""
        return ((x - self._mean) / self._std).expand(observed.shape).masked_fill(~observed, 0.0)


def _append_shared(own: Tensor, shared: Tensor) -> Tensor:
    """Each row's own samples `[cell, row, sample, dim]`, then those that all rows share `[cell, 1, sample, dim]`."""
    return torch.cat([own, shared.expand(*own.shape[:2], -1, -1)], dim=2)


def normal_points(samples: int, dims: int, seed: int) -> Tensor:
    """Standard normal numbers `[sample, dim]` that fill the space evenly: a scrambled Sobol sequence of `seed`."""
    points = SobolEngine(dims, scramble=True, seed=seed).draw(samples, dtype=torch.float64)
    return torch.special.ndtri(points.clamp(TAIL, 1 - TAIL))
