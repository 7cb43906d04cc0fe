"""Sequential acquisition: measure one dimension at a time, and record how the estimate of all of them improves.

Thesis study A, sections 3.2 and 3.3. The `given` dimensions (the age) are known from the start. Then, at every m:

    observed ──► predictor ──► estimate x̂ᵐ, its errors ──► rule: a score of every dimension ──► measure the largest

The information curve is the error against m = 0 … M (eqs. 4 and 5), its area the sum over m = 1 … M (eq. 6).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor

from vaesweep.families.pvae.tasks.predictive import Predictive, Predictor, RandomNumbers

INTERVAL = 0.8  # share of the predictive distribution between the ends of an interval whose coverage is judged


class Rule(Protocol):
    """A rule that decides which dimension to measure next."""

    def scores(self, predictor: Predictor, x: Tensor, observed: Tensor, predictive: Predictive, rows: slice) -> Tensor:
        """A score of every dimension, broadcastable to `[cell, row, dim]`; the largest unobserved one is measured.

        `x` holds the truth, of which a rule uses the observed part only. `rows` are the positions of these data among
        all that are acquired: the random numbers of a rule belong to a datum, however the data are split.
        """


class LargestVariance:
    """The largest predictive variance, in physical units (thesis eq. 3): thresholds compete in dB²."""

    def scores(self, predictor: Predictor, x: Tensor, observed: Tensor, predictive: Predictive, rows: slice) -> Tensor:
        """See `Rule`."""
        return predictive.variance


class ExpectedReduction:
    """The expected reduction of the summed squared error of all unobserved dimensions by measuring one of them.

    The best linear estimate of x_u from x_d leaves Var(x_u) − Cov(x_u, x_d)² / Var(x_d), so that the score is
    Σ_u Cov(x_u, x_d)² / Var(x_d), the dimension itself included: exact for a Gaussian, and a lower bound of the
    reduction otherwise. The criterion of Cohn, Ghahramani and Jordan (1996), A-optimality in experimental design. In
    physical units, in which RMSE is (thesis eq. 4): dB², or years² for an age that is not known.
    """

    def scores(self, predictor: Predictor, x: Tensor, observed: Tensor, predictive: Predictive, rows: slice) -> Tensor:
        """See `Rule`."""
        covariance = predictor.covariance(observed, predictive)
        variance = covariance.diagonal(dim1=-2, dim2=-1)
        shared = covariance.square().sum(-1)
        return torch.where(variance > 0, shared / variance, 0.0)


@dataclass(frozen=True)
class RandomOrder:
    """An order of its own for every datum, the same for every cell: the falling order of `priorities` `[row, dim]`."""

    priorities: Tensor

    @classmethod
    def of(cls, x: Tensor, seed: int) -> "RandomOrder":
        """Orders for the data `x` `[row, dim]`."""
        return cls(torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)).to(x.device))

    def scores(self, predictor: Predictor, x: Tensor, observed: Tensor, predictive: Predictive, rows: slice) -> Tensor:
        """See `Rule`."""
        return self.priorities[rows]


@dataclass(frozen=True)
class FixedOrder:
    """One order for all data: `order` `[cell, step]` of dimensions."""

    order: Tensor

    def scores(self, predictor: Predictor, x: Tensor, observed: Tensor, predictive: Predictive, rows: slice) -> Tensor:
        """See `Rule`."""
        cells, steps = self.order.shape
        falling = torch.arange(steps, 0, -1, device=x.device, dtype=x.dtype).expand(cells, -1)
        preference = torch.zeros(cells, x.shape[1], device=x.device, dtype=x.dtype)
        return preference.scatter(1, self.order.to(x.device), falling).unsqueeze(1)


@dataclass(frozen=True)
class ExpectedInformation:
    """The expected information reward of Ma et al. (2019), with the random numbers of every datum (`RandomNumbers`)."""

    draws: RandomNumbers

    def scores(self, predictor: Predictor, x: Tensor, observed: Tensor, predictive: Predictive, rows: slice) -> Tensor:
        """See `Rule`."""
        return predictor.information(x, observed, predictive, self.draws[rows])


@dataclass(frozen=True)
class Trace:
    """The results of acquiring every datum, at every m = 0 … M measurements beside the given dimensions.

    `order` `[cell, row, M]` are the dimensions measured. Of every estimate `[cell, row, M + 1]`: `rmse` in dB (eq. 4),
    `nll` the expected negative log-likelihood of all dimensions (eq. 5) and `unexplained` = -log p(x_U | x_O), both in
    nats of physical units, `bound` (see `Predictive`) and `effective_samples`. `variance` `[cell, row, M + 1, dim]`
    is the predictive variance, zero where observed. `clean_rmse` in dB is the error against the data before noise,
    where they are known. `covered`, where asked for, is the share of unobserved dimensions within their predictive
    intervals of `INTERVAL`, zero where all is observed.
    """

    order: Tensor
    rmse: Tensor
    nll: Tensor
    unexplained: Tensor
    bound: Tensor
    effective_samples: Tensor
    variance: Tensor
    clean_rmse: Tensor | None = None
    covered: Tensor | None = None

    @property
    def against_clean(self) -> "Trace":
        """The trace with the error against the data before noise as its `rmse`; these must be known."""
        if self.clean_rmse is None:
            raise ValueError("the data before noise are not known")
        return replace(self, rmse=self.clean_rmse)


def area(curve: Tensor) -> Tensor:
    """Area under an information curve `[..., M + 1]`, the sum over m = 1 … M (eq. 6): measurement·dB, or ·nats."""
    return curve[..., 1:].sum(-1)


@torch.no_grad()
def acquire(
    predictor: Predictor,
    x: Tensor,
    given: Sequence[int],
    rule: Rule,
    clean: Tensor | None = None,
    *,
    intervals: bool = False,
) -> Trace:
    """Acquire all dimensions of the complete data `x` `[row, dim]` (physical units), each cell by its own predictions.

    `given` are the dimensions that are known from the start. `clean` `[row, dim]` are the data before noise, which the
    trace's `clean_rmse` is against. With `intervals` it has the share of values that are `covered`.
    """
    starts = range(0, len(x), predictor.rows)
    acquired = _Acquired(predictor, x, clean, intervals)
    chunks = [_acquire(acquired, given, rule, slice(start, start + predictor.rows)) for start in starts]
    names = [f.name for f in fields(Trace) if getattr(chunks[0], f.name) is not None]
    return Trace(**{name: torch.cat([getattr(chunk, name) for chunk in chunks], dim=1) for name in names})


@dataclass(frozen=True)
class _Acquired:
    """The data that are acquired, and how they are judged."""

    predictor: Predictor
    x: Tensor
    clean: Tensor | None
    intervals: bool

    def judge(self, observed: Tensor, predictive: Predictive, rows: slice) -> dict[str, Tensor]:
        x, complete = self.x[rows], predictive.complete(self.x[rows], observed)
        expected = torch.einsum("crs,crs->cr", predictive.weights, predictive.log_densities(x).sum(-1))
        found = {
            "rmse": (x - complete).square().mean(-1).sqrt(),
            "nll": -expected,
            "unexplained": self.predictor.unexplained(x, observed, predictive),
            "bound": predictive.bound,
            "effective_samples": predictive.effective_samples,
            "variance": predictive.variance.masked_fill(observed, 0.0),
        }
        if self.clean is not None:
            found["clean_rmse"] = (self.clean[rows] - complete).square().mean(-1).sqrt()
        if self.intervals:
            below = predictive.below(x)
            inside = (below >= (1 - INTERVAL) / 2) & (below <= (1 + INTERVAL) / 2) & ~observed
            found["covered"] = inside.sum(-1).to(x.dtype) / (~observed).sum(-1).clamp(min=1)
        return found


def _acquire(acquired: _Acquired, given: Sequence[int], rule: Rule, rows: slice) -> Trace:
    predictor, x = acquired.predictor, acquired.x[rows]
    observed = start_mask(predictor.cells, len(x), x.shape[1], given).to(x.device)
    order, states = [], []
    steps = x.shape[1] - len(given)
    for m in range(steps + 1):
        predictive = predictor.predict(x, observed)
        states.append(acquired.judge(observed, predictive, rows))
        if m < steps:
            scores = rule.scores(predictor, x, observed, predictive, rows).expand(observed.shape)
            chosen = scores.masked_fill(observed, -torch.inf).argmax(-1, keepdim=True)
            observed = observed.scatter(-1, chosen, True)
            order.append(chosen.squeeze(-1))
    measured = {name: torch.stack([state[name] for state in states], dim=2) for name in states[0]}
    return Trace(order=torch.stack(order, dim=-1), **measured)


def start_mask(cells: int, rows: int, dims: int, given: Sequence[int]) -> Tensor:
    """The mask of dimensions observed before the first measurement: bool `[cell, row, dim]`."""
    observed = torch.zeros(cells, rows, dims, dtype=torch.bool)
    observed[..., list(given)] = True
    return observed


@torch.no_grad()
def single_best_order(predictor: Predictor, x: Tensor, given: Sequence[int], clean: Tensor | None = None) -> Tensor:
    """The greedy order for all data `[cell, M]`: at each step the dimension that leaves the lowest mean RMSE of `x`.

    Thesis section 4.5: "found by greedily optimizing the ordering at each step across a validation set". Where the data
    before noise are known, `clean` `[row, dim]`, it is their RMSE.
    """
    cells, dims = predictor.cells, x.shape[1]
    known = torch.zeros(cells, dims, dtype=torch.bool, device=x.device)
    known[:, list(given)] = True
    order = []
    for _ in range(dims - len(given)):
        errors = torch.full((cells, dims), torch.inf, device=x.device)
        for dim in range(dims):
            if bool(known[:, dim].all()):
                continue
            candidate = known.clone()
            candidate[:, dim] = True
            errors[:, dim] = _mean_rmse(predictor, x, candidate, x if clean is None else clean)
        chosen = errors.masked_fill(known, torch.inf).argmin(-1, keepdim=True)
        known = known.scatter(1, chosen, True)
        order.append(chosen.squeeze(1))
    return torch.stack(order, dim=1)


def _mean_rmse(predictor: Predictor, x: Tensor, known: Tensor, truth: Tensor) -> Tensor:
    """Mean RMSE `[cell]` against `truth` of all data, each observed in the dimensions `known` `[cell, dim]`."""
    total = torch.zeros(len(known), dtype=torch.float64, device=x.device)
    for chunk, true in zip(x.split(predictor.rows), truth.split(predictor.rows), strict=True):
        observed = known.unsqueeze(1).expand(-1, len(chunk), -1)
        estimate = predictor.predict(chunk, observed).complete(chunk, observed)
        total += (true - estimate).square().mean(-1).sqrt().double().sum(-1)
    return (total / len(x)).to(x)
