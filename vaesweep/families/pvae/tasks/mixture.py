"""The classical baselines: a mixture of Gaussians fitted to complete data, whose conditionals are exact.

    π_k, N(μ_k, Σ_k) ──condition on x_O──► r_k = p(k | x_O), N(μ_k + Σ_kO Σ_OO⁻¹ (x − μ_k)_O, …) ──► mixture over k

One component is the multivariate Gaussian, whose order of largest variance is the same for every datum. The
conditional of a mixture of Gaussians is one again (Bishop 2006, sections 2.3.1 and 2.3.9). All of it is in float64 and
standardised units. A Cholesky factor for each component depends on the set O alone and is computed once for all data
that share the set.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vaesweep.families.pvae.tasks.predictive import LOG_2PI, Predictive, RandomNumbers, among_unobserved

RIDGE = 1e-6  # added to a fitted covariance's diagonal, standardised units: a standard deviation of 0.001 at least
ITERATIONS = 1000  # of expectation maximisation, at most
LARGEST_CHUNK = 1280  # components conditioned at once, all cells together: their matrices stay in a core's cache
UNIT_DENSITY = 1 / math.sqrt(2 * math.pi)  # the standard deviation of a Gaussian whose log density is 0 at its mean


@dataclass(frozen=True)
class _Sets:
    """The distinct observed sets O of a batch, and Σ_OO of every component: `of` `[cell, row]` is each datum's set.

    `cell` `[set]` is the cell of a set, since cells share none, `precisions` `[set, component, dim, dim]` Σ_OO⁻¹ in its
    place and zero elsewhere, `log_scales` `[set, component]` half of log |2π Σ_OO|, and `std` `[set, component, dim]`
    the standard deviation of every dimension given x_O.
    """

    of: Tensor
    cell: Tensor
    precisions: Tensor
    log_scales: Tensor
    std: Tensor


class MixturePredictor:
    """Predicts with a stack of mixtures: one `cell` for each fit, one part of `Predictive` for each component.

    `weights` `[cell, component]`, `means` `[cell, component, dim]` and `covariances` `[cell, component, dim, dim]` are
    in standardised units, which `mean` and `std` `[dim]` undo.
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor, mean: Tensor, std: Tensor) -> None:
        self._log_weights, self._means, self._covariances = weights.double().log(), means.double(), covariances.double()
        self._mean, self._std = mean.double(), std.double()
        self._scales = torch.linalg.cholesky(self._covariances)
        self._precisions = torch.cholesky_inverse(self._scales)
        self.cells, self.components, self.dims = means.shape

    @property
    def rows(self) -> int:
        """See `Predictor`."""
        return max(1, LARGEST_CHUNK // (self.cells * self.components))

    def predict(self, x: Tensor, observed: Tensor) -> Predictive:
        """See `Predictor`. The bound is log p(x_O) itself, and all is in float64, whatever `x` is.

        An observed dimension is predicted by its value with unit density: its standard deviation is 1/√(2π), such that
        its log density is zero. The likelihoods that `Predictive` gives are therefore those of unobserved dimensions.
        """
        sets = self._sets(observed)
        mask = observed.unsqueeze(-2)
        deviation = (self._standardised(x).unsqueeze(-2) - self._means.unsqueeze(-3)).masked_fill(~mask, 0.0)
        weighted = (sets.precisions[sets.of] @ deviation.unsqueeze(-1)).squeeze(-1)
        shift = torch.einsum("crki,ckij->crkj", weighted, self._covariances)
        joint = self._log_weights.unsqueeze(-2) - sets.log_scales[sets.of] - 0.5 * (deviation * weighted).sum(-1)
        mean = self._mean + self._std * (self._means.unsqueeze(-3) + shift)
        return Predictive(
            weights=joint.softmax(-1),
            mean=torch.where(mask, x.double().unsqueeze(-2), mean),
            std=(self._std * sets.std)[sets.of].masked_fill(mask, UNIT_DENSITY),
            bound=joint.logsumexp(-1),
        )

    def unexplained(self, x: Tensor, observed: Tensor, predictive: Predictive) -> Tensor:
        """See `Predictor`: log p(x_O) − log p(x), and the units of x_U."""
        units = self._std.log().expand(observed.shape).masked_fill(observed, 0.0).sum(-1)
        joint, _ = self._complete(self._standardised(x))
        return (predictive.bound - joint.logsumexp(-1) + units).masked_fill(observed.all(-1), 0.0)

    def covariance(self, observed: Tensor, predictive: Predictive) -> Tensor:
        """See `Predictor`: within the components, Σ − Σ_·O Σ_OO⁻¹ Σ_O·, and between their means."""
        sets = self._sets(observed)
        covariances = self._covariances[sets.cell]
        conditional = (covariances - covariances @ sets.precisions @ covariances) * (
            self._std.unsqueeze(-1) * self._std
        )
        within = torch.einsum("crk,crkde->crde", predictive.weights, conditional[sets.of])
        return among_unobserved(predictive.between + within, observed)

    def information(self, x: Tensor, observed: Tensor, predictive: Predictive, draws: RandomNumbers) -> Tensor:
        """See `Predictor`. The component k is the latent variable of Ma et al., and the remainder is in closed form.

        I(x_d; x_U∖d | x_O) = I(x_d; x_U∖d | k, x_O) + E KL(p(k | x_d, x_O) ‖ p(k | x_O)) − E KL(p(k | x) ‖ p(k | x_∖d))

        With one component only the first term remains. The expectations are means over `draws` of x_U from its joint
        conditional; their difference may leave the sum a little below zero.
        """
        sets = self._sets(observed)
        ratio = (sets.std[sets.of] * _diagonal(self._precisions).sqrt().unsqueeze(-3)).log()
        within = torch.einsum("crk,crkd->crd", predictive.weights, ratio)
        between = torch.zeros_like(within)
        for number in range(len(draws) if self.components > 1 else 0):
            z = self._draw_unobserved(x, observed, predictive, sets, draws, number)
            between += self._information_of_component(z, predictive) / len(draws)
        return (within + between).masked_fill(observed, 0.0)

    def _sets(self, observed: Tensor) -> _Sets:
        cell = torch.arange(self.cells, device=observed.device)[:, None, None].expand(*observed.shape[:2], 1)
        keys, of = torch.unique(torch.cat([cell, observed], -1).flatten(0, 1), dim=0, return_inverse=True)
        cell, inside = keys[:, 0], keys[:, None, 1:].bool()
        both = (inside.unsqueeze(-1) & inside.unsqueeze(-2)).double()
        covariances = self._covariances[cell]
        factors, _ = torch.linalg.cholesky_ex(covariances * both + torch.diag_embed((~inside).double()))
        eye = torch.eye(self.dims, dtype=torch.float64, device=observed.device).expand_as(factors)
        inverse = torch.linalg.solve_triangular(factors, eye, upper=False) * both
        precisions = inverse.mT @ inverse
        explained = ((precisions @ covariances) * covariances).sum(-2)
        return _Sets(
            of=of.reshape(observed.shape[:2]),
            cell=cell,
            precisions=precisions,
            log_scales=_log_diagonal(factors) + 0.5 * LOG_2PI * inside.double().sum(-1),
            std=(_diagonal(covariances) - explained).sqrt(),
        )

    def _standardised(self, x: Tensor) -> Tensor:
        return (x.double() - self._mean) / self._std

    def _draw_unobserved(
        self, x: Tensor, observed: Tensor, predictive: Predictive, sets: _Sets, draws: RandomNumbers, number: int
    ) -> Tensor:
        """One draw of x_U from p(x_U | x_O) beside x_O, `[cell, row, dim]` in standardised units.

        A draw y of the whole component, moved to agree with what is observed: y + Σ_·O Σ_OO⁻¹ (x − y)_O.
        """
        part = predictive.part(draws, number)
        cell = torch.arange(self.cells, device=x.device).unsqueeze(-1)
        normal = draws.normal[:, number].double().unsqueeze(-1)
        unconditional = self._means[cell, part] + (self._scales[cell, part] @ normal).squeeze(-1)
        standardised = self._standardised(x)
        deviation = (standardised - unconditional).masked_fill(~observed, 0.0).unsqueeze(-1)
        shift = (self._covariances[cell, part] @ (sets.precisions[sets.of, part] @ deviation)).squeeze(-1)
        return torch.where(observed, standardised, unconditional + shift)

    def _complete(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """log π_k N(z; μ_k, Σ_k) of standardised data `z` `[..., row, dim]`, and Σ_k⁻¹ (z − μ_k)."""
        deviation = z.unsqueeze(-2) - self._means.unsqueeze(-3)
        weighted = torch.einsum("crki,ckij->crkj", deviation, self._precisions)
        log_scales = _log_diagonal(self._scales) + 0.5 * LOG_2PI * self.dims
        return (self._log_weights - log_scales).unsqueeze(-2) - 0.5 * (deviation * weighted).sum(-1), weighted

    def _information_of_component(self, z: Tensor, predictive: Predictive) -> Tensor:
        """The information of z_d on the component beyond x_O, less that beyond z_∖d: `[cell, row, dim]` of `z`.

        Both are KL(p(k | z_d, ·) ‖ p(k | ·)) = Σ_k p(k | z_d, ·) log p(z_d | k, ·) / p(z_d | ·).
        """
        log_densities = predictive.log_densities(self._mean + self._std * z)  # log p(z_d | k, x_O)
        joint = predictive.weights.log().unsqueeze(-1) + log_densities
        gain = (joint.softmax(-2) * log_densities).sum(-2) - joint.logsumexp(-2)
        complete, weighted = self._complete(z)
        precision = _diagonal(self._precisions).unsqueeze(-3)
        # log p(z_d | k, z_∖d), but for a constant that cancels
        log_conditional = 0.5 * (precision.log() - weighted.square() / precision)
        posterior = complete.log_softmax(-1)
        # log p(z_d | z_∖d), Σ_k p(k | z) / p(z_d | k, z_∖d)
        evidence = -(posterior.unsqueeze(-1) - log_conditional).logsumexp(-2)
        return gain - torch.einsum("crk,crkd->crd", posterior.exp(), log_conditional) + evidence


def _diagonal(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1)


def _log_diagonal(factors: Tensor) -> Tensor:
    """Half the log determinant of the matrices whose Cholesky factors are `factors` `[..., dim, dim]`."""
    return _diagonal(factors).log().sum(-1)


def fit_mixtures(x: np.ndarray, components: int, seeds: Sequence[int]) -> MixturePredictor:
    """Fit a mixture of `components` Gaussians with full covariances once for each of the `seeds`, a cell each.

    Maximum likelihood by expectation maximisation (scikit-learn) on `x` `[row, dim]` (physical units), standardised by
    its own mean and standard deviation. A seed decides where the fit starts.
    """
    from sklearn.mixture import GaussianMixture  # with pandas a second, which every sweep of partial VAEs would pay

    mean, std = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    fits = [
        GaussianMixture(components, reg_covar=RIDGE, max_iter=ITERATIONS, random_state=seed).fit((x - mean) / std)
        for seed in seeds
    ]
    weights, means, covariances = (
        torch.from_numpy(np.stack([getattr(fit, name) for fit in fits]))
        for name in ("weights_", "means_", "covariances_")
    )
    return MixturePredictor(weights, means, covariances, torch.from_numpy(mean), torch.from_numpy(std))
