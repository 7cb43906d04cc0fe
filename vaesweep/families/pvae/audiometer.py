"""A trained partial VAE as an audiometer's adviser: what to measure next, what to expect, and when to stop.

    age and what is measured ──► predictive ──► rule: the unmeasured threshold to measure next
                                     │ ──────► audiogram with intervals
                                     └ ──────► stopping criterion ──► estimated error ──► stop below the threshold

One step of thesis study A's sequential acquisition (section 3.2) with the stopping criterion of its section 3.3, both
exactly as in the evaluation of the cell in its sweep. A sweep never meets a listener unlike those it was trained on, so
every audiogram is compared with others that are drawn from the model itself and observed in the same dimensions: one
that is less likely than nearly all of these is no audiogram that the model expects.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from vaesweep.errors import UserError
from vaesweep.families.pvae.data.audiograms import COLUMNS, DIMS, THRESHOLDS
from vaesweep.families.pvae.data.partial import check
from vaesweep.families.pvae.evaluation import ADAPTIVE, AGE, SHIFTED, STOPPING_RULE, RuleName, stopping_name
from vaesweep.families.pvae.tasks.acquisition import Rule, start_mask
from vaesweep.families.pvae.tasks.calibration import Band, Calibration
from vaesweep.families.pvae.tasks.latent import LatentPredictor
from vaesweep.families.pvae.tasks.predictive import Predictive
from vaesweep.families.pvae.tasks.stopping import StoppingModel
from vaesweep.families.pvae.trained import TrainedPartialVae
from vaesweep.training.finished import FinishedCell

DRAWN = 400  # audiograms drawn from the model that a listener is compared with
DRAWN_SEED = 0
RARE = 0.01  # a listener is unlike the population where no more than this share of them is as unlikely
FEW = 0.1  # share of the samples below which an estimate rests on few


@dataclass(frozen=True)
class Advice:
    """Advice on one listener; arrays are `[14]`, in the order of `COLUMNS`, in dB HL.

    `next` is the column to measure next, absent where all are `measured`. `estimate` is the measured value or the
    predictive mean, between `low` and `high`, which are equal where it is measured. `error` is the estimated root mean
    squared error of the estimate over all fifteen numbers, dB; `stop` is whether it is below `threshold`, dB, after at
    least one measurement. `effective_samples` of the posterior carry the estimate. `warnings` are for people.
    """

    age: float
    next: str | None
    measured: np.ndarray
    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    error: float
    threshold: float
    stop: bool
    effective_samples: float
    warnings: tuple[str, ...]


class Audiometer:
    """Advises on partial audiograms by one trained cell.

    `threshold` is the estimated error in dB below which it advises to stop, unless `advise` is given another.
    """

    def __init__(
        self,
        predictor: LatentPredictor,
        samples: int,
        model_data: Tensor,
        rule: Rule,
        stopping: StoppingModel,
        threshold: float,
        calibration: Calibration | None = None,
    ) -> None:
        self._predictor, self._samples, self._rule, self._stopping = predictor, samples, rule, stopping
        self._model_data = model_data  # complete data drawn from the model, [DRAWN, dim]
        self.threshold = threshold
        self._calibration = calibration

    @classmethod
    def from_finished(cls, cell: FinishedCell, rule: RuleName = STOPPING_RULE) -> "Audiometer":
        """The adviser of a finished cell of family `pvae`; `rule`, one of `ADAPTIVE`, chooses what to measure next.

        Raises `UserError` where the cell did not acquire by that rule: a stopping criterion holds for the sequences of
        its own rule. Predictions are those of its acquisition configuration. The threshold is its configured one, or,
        where the costs of stopping too early and too late differ, the one fitted to them on the validation domain.
        """
        trained = TrainedPartialVae.restore(cell)
        if rule not in ADAPTIVE:
            raise UserError(f"rule {rule!r} does not decide by the prediction alone; use {' or '.join(ADAPTIVE)}")
        names = [*(field.name for field in fields(StoppingModel)), SHIFTED]
        criterion = {name: cell.kept[key] for name in names if (key := stopping_name(rule, name)) in cell.kept}
        if len(criterion) < len(names):
            raise UserError(
                f"cell {cell.cell} has no stopping criterion for the rule {rule!r}, which only training with that rule "
                "among acquisition.rules leaves; name such a cell of sweeps/acquisition_pvae.py"
            )
        acquisition = trained.config.acquisition
        model_data = trained.sample(DRAWN, DRAWN_SEED)
        equal_costs = acquisition.early_cost == acquisition.late_cost
        shifted = float(criterion.pop(SHIFTED))
        threshold = acquisition.threshold if equal_costs else shifted
        stopping = StoppingModel.from_tensors({name: value.unsqueeze(0) for name, value in criterion.items()})
        predictor, samples = trained.predictor, acquisition.samples
        calibration = Calibration.read(cell.kept, rule)
        return cls(predictor, samples, model_data, ADAPTIVE[rule], stopping, threshold, calibration)

    def calibration(self, threshold: float | None = None) -> list[Band]:
        """How it was on the validation listeners of the cell, by severity; empty where the cell's file does not say.

        `threshold` (dB) takes the place of the audiometer's own.
        """
        limit = self.threshold if threshold is None else threshold
        return [] if self._calibration is None else list(self._calibration.bands(limit))

    @torch.no_grad()
    def advise(self, x: np.ndarray, *, threshold: float | None = None, interval: float = 0.8) -> list[Advice]:
        """Advice on each of the partial audiograms `x` `[listener, 15]` in dB HL and years, NaN where not measured.

        `threshold` (dB) takes the place of the audiometer's own; `interval` is the share of the predictive
        distribution between `low` and `high`. Raises `UserError` where either is impossible, a value is implausible or
        an age is missing.
        """
        if not 0 < interval < 1:
            raise UserError(f"interval {interval:g} is not a share between 0 and 1, such as 0.8")
        limit = self.threshold if threshold is None else threshold
        if not 0 < limit < np.inf:
            raise UserError(f"threshold {limit:g} is not an error above 0 dB, such as 5")
        check(x, [f"listener {number}" for number in range(1, len(x) + 1)])
        data, rows = torch.from_numpy(x.astype(np.float32)), self._predictor.rows
        chunks = [data[start : start + rows] for start in range(0, len(x), rows)]
        return [advice for chunk in chunks for advice in self._advise(chunk, limit, interval)]

    def _advise(self, x: Tensor, threshold: float, interval: float) -> list[Advice]:
        observed = ~x.isnan()
        filled = x.nan_to_num()
        predictive = self._predictor.predict(filled, observed[None])
        ends = [predictive.quantile(share)[0] for share in ((1 - interval) / 2, (1 + interval) / 2)]
        if not all(bool(end.isfinite().all()) for end in ends) or bool(predictive.bound.isnan().any()):
            raise UserError("the cell's model gives no finite numbers of these listeners; name another cell")
        low, high = (torch.where(observed, filled, end)[:, :THRESHOLDS].numpy() for end in ends)
        estimate = predictive.complete(filled, observed[None])[0, :, :THRESHOLDS].numpy()
        scores = self._rule.scores(self._predictor, filled, observed[None], predictive, slice(0, len(x)))
        next_dims = scores[0].masked_fill(observed, -torch.inf).argmax(-1)
        measured = observed[:, :THRESHOLDS]
        counts = measured.sum(-1).tolist()
        errors = self._errors(predictive, observed, measured.sum(-1)).tolist()
        effective_samples = predictive.effective_samples[0].tolist()
        warnings = self._warnings(filled, observed, predictive)
        return [
            Advice(
                age=float(x[i, THRESHOLDS]),
                next=COLUMNS[next_dims[i]] if counts[i] < THRESHOLDS else None,
                measured=measured[i].numpy(),
                estimate=estimate[i],
                low=low[i],
                high=high[i],
                error=errors[i],
                threshold=threshold,
                stop=counts[i] == THRESHOLDS or (counts[i] > 0 and errors[i] < threshold),
                effective_samples=effective_samples[i],
                warnings=warnings[i],
            )
            for i in range(len(x))
        ]

    def _errors(self, predictive: Predictive, observed: Tensor, counts: Tensor) -> Tensor:
        """Estimated errors `[row]`, dB; a line may fall below zero, and there is no error where all is measured."""
        variance = predictive.variance.masked_fill(observed, 0.0)
        estimated = self._stopping.estimate_state(variance, predictive.bound, counts)[0]
        return estimated.clamp(min=0.0).masked_fill(counts == THRESHOLDS, 0.0)

    def _warnings(self, x: Tensor, observed: Tensor, predictive: Predictive) -> list[tuple[str, ...]]:
        """Warnings, which are reasons not to trust the advice, on each of the data `x` `[row, dim]`."""
        age_alone = start_mask(1, len(x), DIMS, AGE)
        ages = self._rarity(age_alone[0], self._predictor.predict(x, age_alone).bound[0]) <= RARE
        wholes = self._rarity(observed, predictive.bound[0]) <= RARE
        few = (predictive.effective_samples[0] < FEW * self._samples) & ~observed.all(-1)
        warnings = []
        for age, whole, rough, samples in zip(ages, wholes, few, predictive.effective_samples[0], strict=True):
            reasons = {
                "the training population hardly has listeners of this age": age,
                "age and measurements together are unlike the training population": whole & ~age,
                f"few of the model's samples agree with what is known ({samples:.1f} effective of {self._samples}): "
                "estimates are rough and intervals may be too narrow": rough,
            }
            warnings.append(tuple(words for words, holds in reasons.items() if holds))
        return warnings

    def _rarity(self, observed: Tensor, bound: Tensor) -> Tensor:
        """The share of the model's own audiograms that, `observed` `[row, dim]` alike, have no higher `bound`."""
        masks, mask_index = observed.unique(dim=0, return_inverse=True)
        model_bounds = torch.stack([self._bounds(self._model_data, mask) for mask in masks])
        return (model_bounds[mask_index] <= bound.unsqueeze(-1)).double().mean(-1)

    def _bounds(self, x: Tensor, mask: Tensor) -> Tensor:
        """The bounds `[row]` of `x` `[row, dim]`, observed in the dimensions `mask` `[dim]`."""
        chunks = x.split(self._predictor.rows)
        parts = [self._predictor.predict(chunk, mask.expand(1, len(chunk), -1)) for chunk in chunks]
        return torch.cat([part.bound[0] for part in parts])
