"""Mixtures of Gaussian pulses, keyed by index (thesis, study B, appendices K.1 and M).

`conditions` says what may be drawn, `parameters` draws it, `audio` renders it, `domains` names rows of it. All
randomness comes from `vaesweep.data.counters`.
"""

from vaesweep.families.emd.data.pulses.audio import noise, render
from vaesweep.families.emd.data.pulses.conditions import (
    CONDITIONS,
    SHIFTS,
    TRAINING,
    NoiseKind,
    PulseCondition,
    shifted,
)
from vaesweep.families.emd.data.pulses.domains import FORMS, SplitRows, load, splits
from vaesweep.families.emd.data.pulses.parameters import PARAMETERS, draw_parameters

__all__ = [
    "CONDITIONS",
    "FORMS",
    "PARAMETERS",
    "SHIFTS",
    "TRAINING",
    "NoiseKind",
    "PulseCondition",
    "SplitRows",
    "draw_parameters",
    "load",
    "noise",
    "render",
    "shifted",
    "splits",
]
