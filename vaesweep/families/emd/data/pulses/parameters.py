"""Parameters of a source: each pulse's frequency, amplitude, phase, delay and scale (thesis, appendix K.1).

Each number is a uniform draw that is keyed by (index, speaker, sine, parameter) and then stretched to the condition's
range. Conditions thus share the draws of an index: with one more sine the others stay, and another noise changes none.
"""

import math
from enum import IntEnum

import numpy as np
import torch

from vaesweep.data.counters import Stream, uniform
from vaesweep.families.emd.data.pulses.conditions import PulseCondition


class Parameter(IntEnum):
    """The last axis of a table of parameters; the numbers are part of the key."""

    FUNDAMENTAL = 0  # Hz
    AMPLITUDE = 1
    PHASE = 2  # of the fundamental at the segment's start, radians
    DELAY = 3  # the envelope's peak, s after the segment's start
    SCALE = 4  # standard deviation of the envelope, s


PARAMETERS = tuple(parameter.name.lower() for parameter in Parameter)
_SINES, _SPEAKERS = 2**16, 2**32  # counters between a sine and the next, a speaker and the next


def draw_parameters(condition: PulseCondition, indices: np.ndarray) -> np.ndarray:
    """The parameters `[row, speaker, sine, 5]`, float64, of the samples `indices` `[row]`.

    The peak lies in the segment, so that at least half of the pulse does (K.1). No parameter depends on the noise.
    """
    counters = (
        _SPEAKERS * torch.arange(len(condition.speakers))[:, None, None]
        + _SINES * torch.arange(condition.sines)[:, None]
        + torch.arange(len(Parameter))
    )
    index = torch.as_tensor(indices, dtype=torch.int64)[:, None, None, None]
    low, high = _ranges(condition)
    return low + (high - low) * uniform(Stream.PARAMETERS, index, counters).numpy()


def _ranges(condition: PulseCondition) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest value of every parameter, each `[speaker, 1, 5]`."""
    shared = {
        Parameter.AMPLITUDE: condition.amplitude,
        Parameter.PHASE: (0.0, math.tau),
        Parameter.DELAY: (0.0, condition.seconds),
        Parameter.SCALE: condition.scale,
    }
    ranges = [
        [(shared | {Parameter.FUNDAMENTAL: fundamentals})[parameter] for parameter in Parameter]
        for fundamentals in condition.speakers
    ]
    low, high = np.moveaxis(np.array(ranges), -1, 0)[:, :, None]
    return low, high
