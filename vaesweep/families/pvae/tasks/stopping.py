"""Stopping criteria: a linear estimate of the error from the model's own uncertainty says when to stop measuring.

Thesis study A, section 3.3, "Uncertainty quantification for stopping" and "Absolute offset error". At every m:

    variance of every dimension (eq. 3), bound, m ──► ridge regression ──► ê ──► stop at the first m with ê < τ

s is where the true error e first falls below τ and ŝ where ê does, both in 1 … M, and M where they never do. Sequences
are judged by |s − ŝ| (eq. 7). All regressions, indices and shares are over m = 1 … M: to stop before any measurement
is not considered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from vaesweep.families.pvae.tasks.acquisition import Trace

STRENGTHS = tuple(10.0**power for power in np.arange(-8.0, 1.5, 0.5))  # λ of `StoppingModel`
ROUNDING = 1e-6  # a standard deviation this small beside a feature's magnitude is float32's rounding, not variation


def state_features(variance: Tensor, bound: Tensor, measurements: Tensor | int) -> Tensor:
    """Features of partial data, float64 `[..., dim + 2]`: the variance of every dimension, the bound and m.

    `variance` `[..., dim]` is the predictive variance in dB² (years² of the age), zero where observed, `bound` `[...]`
    is in nats, and `measurements` (broadcastable to `[...]`) counts measurements beside the given dimensions.
    """
    count = torch.as_tensor(measurements, device=bound.device).expand(bound.shape)
    return torch.cat([variance.double(), bound.double().unsqueeze(-1), count.double().unsqueeze(-1)], dim=-1)


@dataclass(frozen=True)
class StoppingModel:
    """Linear estimates of the RMSE (dB), one of every cell; every tensor is float64 and has the cell first.

    ê = intercept + Σ coefficients · (feature − mean) / std. `mean` and `std` `[cell, feature]` are those of the
    features (see `state_features`) of the validation set's states; `coefficients` `[cell, feature]` and `intercept`
    `[cell]` are in dB. `strength` `[cell]` is the λ in Σ (e − ê)² / n + λ ‖coefficients‖², by leave-one-out of single
    states; it is per state, so that it does not grow with their number n.

    A feature without variation on the validation set has coefficient zero, whatever it is later; so have given
    dimensions, which are always observed.
    """

    coefficients: Tensor
    intercept: Tensor
    mean: Tensor
    std: Tensor
    strength: Tensor

    @classmethod
    def fit(cls, validation: Trace) -> "StoppingModel":
        """The thesis' uncertainty quantification: all features, of `validation`'s states m = 1 … M."""
        return cls._fit(validation, torch.ones(validation.variance.shape[-1] + 2, dtype=torch.bool))

    @classmethod
    def fit_measurements(cls, validation: Trace) -> "StoppingModel":
        """The thesis' baseline, m as the only feature: a single stopping index for all data of a cell."""
        used = torch.zeros(validation.variance.shape[-1] + 2, dtype=torch.bool)
        used[-1] = True
        return cls._fit(validation, used)

    @classmethod
    def _fit(cls, validation: Trace, used: Tensor) -> "StoppingModel":
        features = _features(validation)[:, :, 1:].flatten(1, 2).cpu()
        errors = validation.rmse[:, :, 1:].flatten(1, 2).double().cpu()
        fits = [_ridge(x, e, used) for x, e in zip(features, errors, strict=True)]
        joined = {name: torch.stack([fit[name] for fit in fits]) for name in fits[0]}
        return cls.from_tensors({name: tensor.to(validation.rmse.device) for name, tensor in joined.items()})

    def estimate(self, trace: Trace) -> Tensor:
        """The estimated RMSE of every state, dB, `[cell, row, M + 1]`; at m = 0 the line's extension."""
        return self._apply(_features(trace))

    def estimate_state(self, variance: Tensor, bound: Tensor, measurements: Tensor | int) -> Tensor:
        """The estimated RMSE of single states, dB, `[cell, ...]`; arguments as of `state_features`, cell first."""
        return self._apply(state_features(variance, bound, measurements))

    def _apply(self, values: Tensor) -> Tensor:
        slopes = self.coefficients / self.std
        start = self.intercept - (slopes * self.mean).sum(-1)
        return torch.einsum("c...f,cf->c...", values, slopes) + start.reshape(-1, *[1] * (values.dim() - 2))

    def to_tensors(self) -> dict[str, Tensor]:
        """All that `from_tensors` needs, by name, the cell first."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "StoppingModel":
        """The model whose `to_tensors` these are."""
        return cls(**tensors)


def _features(trace: Trace) -> Tensor:
    """Features of every state, `[cell, row, M + 1, dim + 2]`."""
    return state_features(trace.variance, trace.bound, torch.arange(trace.bound.shape[-1], device=trace.bound.device))


def _ridge(features: Tensor, errors: Tensor, used: Tensor) -> dict[str, Tensor]:
    """The regression of one cell: `features` `[state, feature]`, `errors` `[state]`, and which features are `used`."""
    from sklearn.linear_model import RidgeCV  # takes a second, which every sweep of partial VAEs would pay

    mean, std = features.mean(0), features.std(0, correction=0)
    active = used & (std > ROUNDING * features.abs().amax(0))
    std = std.where(active, 1.0)
    standard = (features - mean) / std * active
    ridge = RidgeCV(alphas=len(features) * np.array(STRENGTHS)).fit(standard.numpy(), errors.numpy())
    return {
        "coefficients": torch.as_tensor(ridge.coef_) * active,
        "intercept": torch.tensor(ridge.intercept_, dtype=torch.float64),
        "mean": mean,
        "std": std,
        "strength": torch.tensor(ridge.alpha_ / len(features), dtype=torch.float64),
    }


def first_below(errors: Tensor, threshold: float | Tensor) -> Tensor:
    """The first m in 1 … M at which `errors` `[cell, row, M + 1]` are below `threshold`, else M: `[cell, row]`.

    One threshold, or one of every cell `[cell]`; both in dB. Of true errors this is s, the oracle's stopping index.
    """
    limit = torch.as_tensor(threshold, dtype=torch.float64, device=errors.device).reshape(-1, 1, 1)
    going_on = ~(errors[..., 1:-1] < limit)
    return 1 + going_on.cumprod(-1).sum(-1)


def constant_index(rmse: Tensor, threshold: float) -> Tensor:
    """The one stopping index of every cell with the lowest mean |s − ŝ| on `rmse` `[cell, row, M + 1]`: `[cell]`.

    It is the median of s, the earlier one of two. It uses s of a validation set, where the linear model of m
    (`StoppingModel.fit_measurements`) uses mean errors only.
    """
    return first_below(rmse, threshold).median(-1).values


class StopOutcome(IntEnum):
    """The outcome of a criterion at some m: two where it declares the sequence done, plus one where it is done."""

    TRUE_NEGATIVE = 0
    FALSE_NEGATIVE = 1  # continued though done
    FALSE_POSITIVE = 2  # stopped before it was done
    TRUE_POSITIVE = 3


@dataclass(frozen=True)
class StopResult:
    """The stops of sequences of up to `measurements` M: `true_index` s and `estimated_index` ŝ in 1 … M.

    `rmse` is the true error (dB) at ŝ. These tensors are `[cell, row]`; means over data are `[cell]`, float64.
    """

    true_index: Tensor
    estimated_index: Tensor
    rmse: Tensor
    measurements: int

    @classmethod
    def of(cls, rmse: Tensor, threshold: float, estimated_index: Tensor) -> "StopResult":
        """Stop at `estimated_index` (broadcastable to `[cell, row]`); `rmse` `[cell, row, M + 1]` is the true error.

        With `first_below(rmse, threshold)` as the index this is the oracle.
        """
        true = first_below(rmse, threshold)
        index = estimated_index.expand(true.shape)
        return cls(true, index, rmse.gather(-1, index.unsqueeze(-1)).squeeze(-1), rmse.shape[-1] - 1)

    @property
    def offset(self) -> Tensor:
        """ŝ − s in measurements, `[cell, row]`: negative where stopped too early, positive where too late."""
        return self.estimated_index - self.true_index

    @property
    def outcomes(self) -> Tensor:
        """The `StopOutcome` at every m = 1 … M, `[cell, row, M]`: done is m ≥ s, declared done is m ≥ ŝ."""
        m = torch.arange(1, self.measurements + 1, device=self.true_index.device)
        declared, done = (m >= index.unsqueeze(-1) for index in (self.estimated_index, self.true_index))
        return 2 * declared.long() + done.long()

    def share(self, outcome: StopOutcome) -> Tensor:
        """The share of `outcome` among all data and m = 1 … M, `[cell]`."""
        return (self.outcomes == outcome).double().mean((-2, -1))

    @property
    def mean_absolute_offset(self) -> Tensor:
        """O of thesis eq. 7, measurements."""
        return self.offset.abs().double().mean(-1)

    @property
    def mean_offset(self) -> Tensor:
        """Mean ŝ − s, measurements."""
        return self.offset.double().mean(-1)

    @property
    def mean_estimated_index(self) -> Tensor:
        """Mean ŝ."""
        return self.estimated_index.double().mean(-1)

    @property
    def mean_rmse(self) -> Tensor:
        """Mean true error at ŝ, dB."""
        return self.rmse.double().mean(-1)

    def mean_cost(self, early_cost: float, late_cost: float) -> Tensor:
        """The mean cost of a datum, where each measurement too early or too late costs so much."""
        early, late = ((sign * self.offset).clamp(min=0).double().mean(-1) for sign in (-1, 1))
        return early_cost * early + late_cost * late


def shifted_threshold(estimated: Tensor, rmse: Tensor, threshold: float, early_cost: float, late_cost: float) -> Tensor:
    """The threshold nearest to `threshold` that, applied to `estimated`, has the lowest mean cost: dB, `[cell]`.

    Thesis section 4.4, asymmetric costs. `estimated` and true errors `rmse` are `[cell, row, M + 1]` of a validation
    set; s stays where `rmse` falls below `threshold`. The minimum is exact: the cost (`StopResult.mean_cost`) changes
    only where the threshold passes the lowest estimate so far of some datum at some m < M, and there by one
    measurement, less late where m ≥ s and earlier otherwise. So it is counted between all of these values.
    """
    values, order = estimated[..., 1:-1].double().cummin(-1).values.flatten(1).sort(-1)
    m = torch.arange(1, rmse.shape[-1] - 1, device=rmse.device)
    early = (m < first_below(rmse, threshold).unsqueeze(-1)).flatten(1).gather(-1, order)
    too_early, not_late = _count(early), _count(~early)
    cost = early_cost * too_early + late_cost * (not_late[:, -1:] - not_late)
    infinite = torch.full_like(cost[:, :1], torch.inf)
    above, up_to = torch.cat([-infinite, values], dim=-1), torch.cat([values, infinite], dim=-1)
    nearest = up_to.clamp(max=threshold).maximum(above.nextafter(infinite))
    cost = cost.masked_fill(above == up_to, torch.inf)
    shift = (nearest - threshold).abs().masked_fill(cost > cost.amin(-1, keepdim=True), torch.inf)
    return nearest.gather(-1, shift.argmin(-1, keepdim=True)).squeeze(-1)


def _count(mask: Tensor) -> Tensor:
    """The number of true values among the first k, k = 0 … n: `[..., n]` to `[..., n + 1]`."""
    return torch.nn.functional.pad(mask.cumsum(-1, dtype=torch.float64), (1, 0))


@dataclass(frozen=True)
class Correlations:
    """Pearson correlations with the true RMSE over all data and m = 1 … M, each `[cell]` (thesis Figure 4).

    Of m, the mean variance of all dimensions (zero where observed), the bound and the linear estimate.
    """

    measurements: Tensor
    variance: Tensor
    bound: Tensor
    estimate: Tensor

    @classmethod
    def of(cls, trace: Trace, model: StoppingModel) -> "Correlations":
        """Correlations on the states of `trace`, all from m = 1."""
        m = torch.arange(trace.rmse.shape[-1], device=trace.rmse.device)
        predictors = m.expand(trace.rmse.shape), trace.variance.mean(-1), trace.bound, model.estimate(trace)
        return cls(*(pearson(predictor[..., 1:], trace.rmse[..., 1:]) for predictor in predictors))


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """Pearson correlation `[cell]` of `x` and `y`, `[cell, ...]` both, within each cell; zero where one is constant."""
    a, b = (values.double().flatten(1) for values in (x, y))
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    scale = a.norm(dim=-1) * b.norm(dim=-1)
    return (a * b).sum(-1) / scale.where(scale > 0, 1.0)
