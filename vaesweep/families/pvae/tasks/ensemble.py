"""Ensembles: the mixture of the predictions of a pack's cells, as if one of them, at random, had generated the datum.

p(x) = (1/C) Σ_c p_c(x), so that p(x_U | x_O) = Σ_c w_c p_c(x_U | x_O) with w_c ∝ p_c(x_O): a cell's share follows from
its density of the observed part, its bound. Seeds of one configuration agree where there are data and differ where
there are none, which the mixture's variance then shows.
"""

import math

import torch
from torch import Tensor

from vaesweep.families.pvae.tasks.predictive import Predictive, Predictor, RandomNumbers, among_unobserved


class Ensemble:
    """The mixture of all cells of `members`, as a predictor of one cell."""

    def __init__(self, members: Predictor) -> None:
        self._members = members
        self.cells, self.dims = 1, members.dims

    @property
    def rows(self) -> int:
        """See `Predictor`."""
        return self._members.rows

    def predict(self, x: Tensor, observed: Tensor) -> Predictive:
        """See `Predictor`; the parts are those of all members."""
        members = self._members.predict(x, observed.expand(self._members.cells, -1, -1))
        weights = members.weights * torch.softmax(members.bound, dim=0).unsqueeze(-1)
        weights, mean, std = (
            v.transpose(0, 1).flatten(1, 2).unsqueeze(0) for v in (weights, members.mean, members.std)
        )
        bound = members.bound.logsumexp(0, keepdim=True) - math.log(self._members.cells)
        return Predictive(weights, mean, std, bound)

    def unexplained(self, x: Tensor, observed: Tensor, predictive: Predictive) -> Tensor:
        """See `Predictor`."""
        shares, members = self._split(predictive)
        mask = observed.expand(self._members.cells, -1, -1)
        return -(shares.log() - self._members.unexplained(x, mask, members)).logsumexp(0, keepdim=True)

    def covariance(self, observed: Tensor, predictive: Predictive) -> Tensor:
        """See `Predictor`: within the members, weighted by their shares, and between their expectations."""
        shares, members = self._split(predictive)
        mask = observed.expand(self._members.cells, -1, -1)
        within = torch.einsum("cr,crde->rde", shares, self._members.covariance(mask, members))
        deviation = members.expectation - predictive.expectation
        between = torch.einsum("cr,crd,cre->rde", shares, deviation, deviation)
        return among_unobserved((within + between).unsqueeze(0), observed)

    def information(self, x: Tensor, observed: Tensor, predictive: Predictive, draws: RandomNumbers) -> Tensor:
        """See `Predictor`: the members' mean, weighted by their shares; their disagreement is left out."""
        shares, members = self._split(predictive)
        mask = observed.expand(self._members.cells, -1, -1)
        return (shares.unsqueeze(-1) * self._members.information(x, mask, members, draws)).sum(0, keepdim=True)

    def _split(self, predictive: Predictive) -> tuple[Tensor, Predictive]:
        """The members' shares `[cell, row]` and their own predictives, out of the joint one."""
        cells = self._members.cells
        weights, mean, std = (
            value.squeeze(0).unflatten(1, (cells, -1)).transpose(0, 1)
            for value in (predictive.weights, predictive.mean, predictive.std)
        )
        shares = weights.sum(-1).clamp(min=torch.finfo(weights.dtype).tiny)
        bound = shares.log() + predictive.bound + math.log(cells)
        return shares, Predictive(weights / shares.unsqueeze(-1), mean, std, bound)
