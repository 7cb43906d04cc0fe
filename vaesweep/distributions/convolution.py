"""Distributions of sums of independent variables (thesis, study B, end of section F): the adaptive prior of eq. 5."""

from collections.abc import Sequence
from functools import reduce
from typing import Protocol, Self, TypeVar


class Summable(Protocol):
    """A kind of distribution that is closed under the addition of independent variables."""

    def plus(self, other: Self) -> Self:
        """The distribution of the sum of two independent variables."""


D = TypeVar("D", bound=Summable)


def convolve(parts: Sequence[D]) -> D:
    """The distribution of z_1 + … + z_n for independent z_i of `parts`, elementwise: Gaussians, or gammas.

    Means and variances of Gaussians add, and so do concentrations of gammas with one rate. ValueError of no parts,
    TypeError of mixed kinds and of kinds without a closed form.
    """
    if not parts:
        raise ValueError("a convolution needs at least one distribution")
    kinds = {type(part) for part in parts}
    if len(kinds) > 1 or not hasattr(parts[0], "plus"):
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(f"sums of {names} have no closed form; sums of Gaussians alone and of gammas alone have one")
    return reduce(lambda total, part: total.plus(part), parts)
