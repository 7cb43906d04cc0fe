"""From scores to a predicted SI-SDR with an interval, calibrated on validation mixtures alone (thesis, Figure 3).

A half of the validation mixtures, drawn at random, fits a ridge regression of their SI-SDR on the standardised scores,
with a penalty that counts as one mixture. More of a score never predicts less: what falls with a score among so few
mixtures is no law, and would mislead on others. The other half gives the width of intervals by split conformal
prediction (Vovk, Gammerman and Shafer, 2005; Lei et al., 2018): of mixtures that are exchangeable with those of
validation at least the stated share lies within, whatever the model and the distribution of scores. That is a mean over
mixtures and over calibrations, and no promise for other mixtures. One whose scores lie further from those of the fitted
half than all of the other half is `unlike` them: of exchangeable mixtures at most one of n + 1 is.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from vaesweep.training.evaluate import ROWS
from vaesweep.training.problem import Uses

PENALTY = 1.0  # of the regression, in mixtures
KEPT = "trust"  # first part of the names of a calibration's tensors among what is kept with a cell
PREDICTED, ACHIEVED, UNLIKE = "predicted_si_sdr", "achieved_si_sdr", "unlike"  # kept of each mixture
METRICS = {
    "trust_correlation": "Pearson's, over mixtures: of predicted with achieved SI-SDR; 0 where one does not vary",
    "trust_bias": "dB: predicted less achieved SI-SDR, mean over mixtures",
    "trust_error": "dB: absolute difference of predicted and achieved SI-SDR, mean over mixtures",
    "trust_coverage": "share of the mixtures whose achieved SI-SDR lies in the interval of the predicted one",
    "trust_width": "dB: of the interval",
    "trust_unlike": "share of the mixtures that are unlike those of validation",
}


def mixtures_needed(level: float) -> int:
    """Validation mixtures without which there is no interval that holds the share `level`."""
    count = 4
    while math.ceil(level * (count - count // 2 + 1)) > count - count // 2:
        count += 1
    return count


@dataclass(frozen=True)
class Calibration:
    """What turns scores into a predicted SI-SDR, in float64; p scores, n mixtures that it was calibrated on.

    `centre`, `spread` and `slope` `[p]` are of the scores, `intercept` `[]` is in dB, `precision` `[p, p]` that of
    standardised scores; `residuals` `[n]`, dB, are sorted, and `farthest` `[]` is the largest distance among the n.
    """

    centre: Tensor
    spread: Tensor
    slope: Tensor
    intercept: Tensor
    precision: Tensor
    residuals: Tensor
    farthest: Tensor

    @classmethod
    def fit(cls, scores: Tensor, achieved: Tensor) -> "Calibration":
        """Calibrate with `scores` `[mixture, score]` and `achieved` `[mixture]`, dB, of four mixtures or more."""
        scores, achieved = scores.double().cpu(), achieved.double().cpu()
        order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(0))
        fitting, rest = order[: len(order) // 2], order[len(order) // 2 :]
        spread, centre = torch.std_mean(scores[fitting], 0, correction=0)
        spread = torch.where(spread > 1e-6 * centre.abs().clamp_min(1), spread, 1.0)
        standard, intercept = (scores[fitting] - centre) / spread, achieved[fitting].mean()
        precision = torch.linalg.inv(standard.T @ standard + PENALTY * torch.eye(scores.shape[-1], dtype=scores.dtype))
        slope = _rising(standard, achieved[fitting] - intercept)
        zero = torch.zeros((), dtype=torch.float64)
        first = cls(centre, spread, slope, intercept, precision, zero[None], zero)
        residuals = (achieved[rest] - first.predict(scores[rest])).abs().sort().values
        return cls(centre, spread, slope, intercept, precision, residuals, first.distance(scores[rest]).max())

    @classmethod
    def of(cls, kept: Mapping[str, Tensor]) -> "Calibration | None":
        """The calibration among what is `kept` with a cell; None where it has none."""
        names = {part.name: f"{KEPT}/{part.name}" for part in fields(cls)}
        return cls(**{part: kept[name] for part, name in names.items()}) if set(names.values()) <= set(kept) else None

    def tensors(self) -> dict[str, Tensor]:
        """What is kept with a cell, by name."""
        return {f"{KEPT}/{name}": value for name, value in vars(self).items()}

    def predict(self, scores: Tensor) -> Tensor:
        """The expected SI-SDR, dB, `[...]`, of mixtures with `scores` `[..., score]`."""
        return self.intercept + self._standard(scores) @ self.slope

    def distance(self, scores: Tensor) -> Tensor:
        """How far scores lie from those that the regression was fitted to: its leverage, `[...]`."""
        standard = self._standard(scores)
        return ((standard @ self.precision) * standard).sum(-1)

    def unlike(self, scores: Tensor) -> Tensor:
        """Whether mixtures are unlike all those that it was calibrated on, `[...]`."""
        return self.distance(scores) > self.farthest

    def half_width(self, level: float) -> float:
        """Half of the interval that holds at least the share `level` of exchangeable mixtures, dB; may be infinite."""
        rank = math.ceil(level * (len(self.residuals) + 1))
        return float(self.residuals[rank - 1]) if rank <= len(self.residuals) else math.inf

    def by_mixture(self, domain: str, scored: "Scored") -> dict[str, Tensor]:
        """What is kept of each mixture of a domain, by name."""
        predicted, unlike = self.predict(scored.scores), self.unlike(scored.scores)
        values = {PREDICTED: predicted, ACHIEVED: scored.achieved, UNLIKE: unlike}
        return {f"{ROWS}/{domain}/{name}": value.float() for name, value in values.items()}

    def _standard(self, scores: Tensor) -> Tensor:
        return (scores.double() - self.centre) / self.spread


def judge(predicted: Tensor, achieved: Tensor, unlike: Tensor, half_width: float) -> dict[str, Tensor]:
    """The metrics of a domain, `[]` each, from what is predicted and achieved of its mixtures `[mixture]`, dB."""
    error = predicted - achieved
    spreads = predicted.std(correction=0) * achieved.std(correction=0)
    covariance = ((predicted - predicted.mean()) * (achieved - achieved.mean())).mean()
    varies = bool(spreads > 1e-9)
    return {
        "trust_correlation": (covariance / spreads).clamp(-1, 1) if varies else torch.zeros_like(spreads),
        "trust_bias": error.mean(),
        "trust_error": error.abs().mean(),
        "trust_coverage": (error.abs() <= half_width).double().mean(),
        "trust_width": torch.full_like(spreads, 2 * half_width),
        "trust_unlike": unlike.double().mean(),
    }


def _rising(scores: Tensor, values: Tensor) -> Tensor:
    """The slopes of ridge regression, none negative, of centred `values` `[mixture]` on `scores` `[mixture, score]`."""
    from scipy.optimize import nnls  # takes half a second to import, which every sweep of separators would pay

    count = scores.shape[-1]
    rows = torch.cat([scores, math.sqrt(PENALTY) * torch.eye(count, dtype=scores.dtype)])
    return torch.from_numpy(nnls(rows.numpy(), torch.cat([values, values.new_zeros(count)]).numpy())[0])


class Scored(NamedTuple):
    """Mixtures of a domain: their `scores` `[cell, mixture, score]` and what was `achieved` `[cell, mixture]`, dB.

    Achieved is the SI-SDR of the modes, a mean over the audible sources; NaN where none is audible.
    """

    scores: Tensor
    achieved: Tensor

    def of(self, cell: int) -> "Scored":
        """Of one cell, in float64."""
        return Scored(self.scores[cell].double(), self.achieved[cell].double())

    @property
    def audible(self) -> "Scored":
        """Of one cell, the mixtures in which there is something to be heard."""
        heard = ~self.achieved.isnan()
        return Scored(self.scores[heard], self.achieved[heard])


def uses(scored: Mapping[str, Scored], valid: str, level: float) -> Uses:
    """Calibrations on the domain `valid`, metrics of all others, and what is predicted and achieved of each mixture.

    Nothing where `valid` has too few mixtures for intervals of the share `level`.
    """
    cells = range(len(scored[valid].achieved))
    if len(scored[valid].of(0).audible.achieved) < mixtures_needed(level):
        return Uses()
    calibrations = [Calibration.fit(*scored[valid].of(cell).audible) for cell in cells]
    metrics: list[dict[str, Tensor]] = []
    kept: list[dict[str, Tensor]] = []
    for cell, calibration in zip(cells, calibrations, strict=True):
        own = {domain: values.of(cell) for domain, values in scored.items()}
        metrics.append(dict(_metrics(calibration, own, valid, level)))
        rows = (calibration.by_mixture(domain, values) for domain, values in own.items())
        kept.append(calibration.tensors() | {name: value for values in rows for name, value in values.items()})
    return Uses(_stacked(metrics), _stacked(kept))


def _metrics(
    calibration: Calibration, scored: Mapping[str, Scored], valid: str, level: float
) -> Iterator[tuple[str, Tensor]]:
    half_width = calibration.half_width(level)
    for domain, values in scored.items():
        scores, achieved = values.audible
        if domain != valid and len(achieved):
            found = judge(calibration.predict(scores), achieved, calibration.unlike(scores), half_width)
            yield from ((f"{domain}/{name}", value) for name, value in found.items())


def _stacked(by_cell: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([own[name] for own in by_cell]) for name in by_cell[0]}
