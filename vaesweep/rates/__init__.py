"""Rate control: the weight of each rate in the training objective, and its course over training.

The only place where an ELBO is re-weighted (thesis eq. 2 of study A, eq. 37 and section E.2 of study B).
`controls` holds one class a kind of control, `objective` applies their weights.
"""

from vaesweep.rates.base import Numbers, RateControl, State, stack_numbers
from vaesweep.rates.controls import Control, FixedBeta, LinearWarmup, SigmoidWarmup, TargetRate
from vaesweep.rates.objective import FreeNats, RateConfig, RatePolicy, Weights

__all__ = [
    "Control",
    "FixedBeta",
    "FreeNats",
    "LinearWarmup",
    "Numbers",
    "RateConfig",
    "RateControl",
    "RatePolicy",
    "SigmoidWarmup",
    "State",
    "TargetRate",
    "Weights",
    "stack_numbers",
]
