"""Calibration by severity: where listeners of a mean threshold are stopped, and how often intervals hold of them.

A stopping criterion and intervals that are right on average are not right for everybody: most listeners hear well, and
those are what the average is of. Kept with a cell is what the validation rows that it acquired came to, row by row, so
that any threshold can be asked for.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vaesweep.families.pvae.data.audiograms import THRESHOLDS
from vaesweep.families.pvae.tasks.acquisition import Trace
from vaesweep.families.pvae.tasks.stopping import StoppingModel, first_below

CALIBRATION = "calibration"  # begins the names of kept tensors
BANDS = (20.0, 35.0)  # dB HL: the mean thresholds between which listeners are told apart
STAGES = (1, 3, 6)  # measurements after which the coverage of intervals is told


@dataclass(frozen=True)
class Band:
    """Validation listeners of a range of mean thresholds, `low` to below `high` dB HL.

    `too_early` is the share of them that is stopped at a true error not below the threshold; `coverage` by number of
    measurements the share of their unmeasured thresholds that lies in the interval. NaN where there are no `listeners`.
    """

    low: float
    high: float
    listeners: int
    too_early: float
    coverage: Mapping[int, float]

    @property
    def label(self) -> str:
        """The range in words."""
        if self.low == -torch.inf:
            return f"below {self.high:g} dB HL"
        return f"{self.low:g} dB HL and more" if self.high == torch.inf else f"{self.low:g} to {self.high:g} dB HL"


@dataclass(frozen=True)
class Calibration:
    """Of validation rows their mean threshold `severity` `[cell, row]`, dB HL, and numbers at m = 0 … M measurements.

    The latter are `[cell, row, M + 1]`: the true error `rmse` and its `estimate`, dB, and the share of unmeasured
    thresholds that is `covered` by its interval.
    """

    severity: Tensor
    rmse: Tensor
    estimate: Tensor
    covered: Tensor

    def to_tensors(self) -> dict[str, Tensor]:
        """All that `from_tensors` needs, by name, the cell first, in half precision."""
        return {field.name: getattr(self, field.name).half() for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Calibration":
        """The calibration whose `to_tensors` these are."""
        return cls(**{field.name: tensors[field.name].float() for field in fields(cls)})

    @classmethod
    def read(cls, kept: Mapping[str, Tensor], rule: str) -> "Calibration | None":
        """That of sequences by `rule` among the `kept` tensors of one cell; files of earlier versions have none."""
        names = {field.name: f"{CALIBRATION}/{rule}/{field.name}" for field in fields(cls)}
        if not all(key in kept for key in names.values()):
            return None
        return cls.from_tensors({name: kept[key].unsqueeze(0) for name, key in names.items()})

    def bands(self, threshold: float) -> Iterator[Band]:
        """The bands of the first cell, where it stops at an estimated error below `threshold`, dB."""
        stop = first_below(self.estimate, threshold)
        over = self.rmse.gather(-1, stop.unsqueeze(-1)).squeeze(-1)[0] >= threshold
        ends = (-torch.inf, *BANDS, torch.inf)
        for low, high in itertools.pairwise(ends):
            own = (self.severity[0] >= low) & (self.severity[0] < high)
            coverage = {m: float(self.covered[0, own, m].mean()) for m in STAGES}
            yield Band(low, high, int(own.sum()), float(over[own].float().mean()), coverage)


def calibrate(x: Tensor, trace: Trace, model: StoppingModel) -> Calibration:
    """The calibration of a stopping `model` on the `trace` of validation data `x` `[row, dim]`, with its intervals."""
    if trace.covered is None:
        raise ValueError("the trace does not say which intervals have held")
    severity = x[:, :THRESHOLDS].mean(-1).expand(len(trace.rmse), -1)
    estimate = model.estimate(trace).clamp(min=0.0)
    return Calibration(severity, trace.rmse, estimate, trace.covered)
