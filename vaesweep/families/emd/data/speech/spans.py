"""Ranges that the properties of mixtures are drawn from."""

from typing import Self

import numpy as np
from pydantic import model_validator

from vaesweep.packing import Frozen


class Span(Frozen):
    """A range that something is drawn from, uniformly."""

    low: float
    high: float

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"begins at {self.low:g} and ends at {self.high:g}; give low the smaller number")
        return self

    def at(self, share: np.ndarray | float) -> np.ndarray:
        """The values that lie at the `share` in [0, 1] of it."""
        return self.low + (self.high - self.low) * np.asarray(share)
