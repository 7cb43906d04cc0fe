"""The space of a search: a distribution for each dotted key, checked before anything is asked or trained."""

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vaesweep.errors import UserError
from vaesweep.packing import structure
from vaesweep.sweep.settings import PRETRAINING, Settings, build, check_key, combine

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from vaesweep.family import CellConfig, Family

BETWEEN = 0.381966  # the share of a range at which it is tried beside its ends: no round number


class Distribution(ABC):
    """The values of one key that a search may try."""

    @abstractmethod
    def check(self, key: str) -> None:
        """Refuse a distribution that has no values, with a `UserError` that names its key."""

    @abstractmethod
    def tried(self) -> Sequence[Any]:
        """The values that the family's check is tried with: both ends of a range and one between, or all choices."""

    @abstractmethod
    def of_optuna(self) -> "BaseDistribution":
        """The distribution as Optuna samples it."""


@dataclass(frozen=True)
class Range(Distribution):
    """Numbers from `low` to `high`, both included: evenly or, with `log`, evenly in their logarithms."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def check(self, key: str) -> None:
        """Refuse ends that are no numbers, are out of order or one, or have no logarithm."""
        ends = (self.low, self.high)
        if any(isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end) for end in ends):
            raise UserError(f"space {key}: {self.low} to {self.high} is no range; its ends are two finite numbers")
        if self.whole and any(end != int(end) for end in ends):
            raise UserError(f"space {key}: {self.low} to {self.high} is no range of integers; give it whole ends")
        if self.log and self.low <= 0:
            raise UserError(f"space {key}: {self.low:g} has no logarithm; let the range begin above 0")
        if self.low == self.high:
            raise UserError(f"space {key}: {self.low:g} to {self.high:g} is one value; fix it by --set instead")
        if self.low > self.high:
            raise UserError(f"space {key}: the range {self.low:g} to {self.high:g} is empty; give the lower end first")

    def tried(self) -> Sequence[float]:
        if self.log:
            between = math.exp(math.log(self.low) + BETWEEN * (math.log(self.high) - math.log(self.low)))
        else:
            between = self.low + BETWEEN * (self.high - self.low)
        return (self.low, round(between) if self.whole else between, self.high)

    def of_optuna(self) -> "BaseDistribution":
        from optuna.distributions import FloatDistribution, IntDistribution  # takes a second, and no help page needs it

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice(Distribution):
    """One of some values, which have no order."""

    values: tuple[Any, ...]

    def check(self, key: str) -> None:
        """Refuse no choices, one alone, and what is no number or word."""
        if not self.values:
            raise UserError(f"space {key}: an empty list leaves nothing to choose from; give it two values or more")
        if len(self.values) == 1:
            raise UserError(f"space {key}: {self.values[0]} is the only choice; fix it by --set instead")
        if wrong := [v for v in self.values if v is not None and not isinstance(v, bool | int | float | str)]:
            raise UserError(f"space {key}: {wrong[0]} is no choice; choices are numbers, words, true, false or null")
        if any(value in self.values[:i] for i, value in enumerate(self.values)):
            raise UserError(f"space {key}: the same choice stands in its list twice")

    def tried(self) -> Sequence[Any]:
        return self.values

    def of_optuna(self) -> "BaseDistribution":
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)


Space = Mapping[str, Distribution]  # by dotted key


def uniform(low: float, high: float) -> Range:
    """Numbers from `low` to `high`."""
    return Range(low, high)


def loguniform(low: float, high: float) -> Range:
    """Positive numbers from `low` to `high`, whose logarithms are uniform."""
    return Range(low, high, log=True)


def integers(low: int, high: int, *, log: bool = False) -> Range:
    """Integers from `low` to `high`."""
    return Range(low, high, log=log, whole=True)


def choice(values: Sequence[Any]) -> Choice:
    """One of `values`."""
    return Choice(tuple(values))


def without_fixed(space: Space, settings: Settings) -> dict[str, Distribution]:
    """The space less the keys that the user has set. Raises `UserError` where a list is set, or nothing is left."""
    for key, value in settings.items():
        if isinstance(value, list):
            raise UserError(f"--set {key}: a search has no axes; give one value, or a distribution in its space")
    left = {key: distribution for key, distribution in space.items() if key not in settings}
    if not left:
        raise UserError("every key of the space is fixed by --set: nothing is left to search")
    return left


def check_space(owner: "Family", base: Settings, space: Space) -> None:
    """Refuse a space with an unknown key, an empty range, or values that the family refuses beside `base`."""
    loading: Hashable = owner.loading(build(owner.config, base))
    for key, distribution in space.items():
        try:
            prefix = f"{PRETRAINING}." if key.startswith(f"{PRETRAINING}.") else ""
            check_key(owner.config, key.removeprefix(prefix), prefix)
        except UserError as error:
            raise UserError(f"space: {error}") from None
        if key.rpartition(".")[2] == "seed":
            raise UserError(f"space {key}: seeds are drawn, not chosen; the choice is confirmed on fresh ones")
        distribution.check(key)
        for config in configurations(owner, base, key, distribution):
            if owner.loading(config) != loading:
                raise UserError(f"space {key}: it changes what is loaded; the trials of a search share their data")


def configurations(owner: "Family", base: Settings, key: str, distribution: Distribution) -> list["CellConfig"]:
    """Configurations of `base` with the values of one key that are tried, each checked by the family."""
    configs = []
    for value in distribution.tried():
        try:
            config = build(owner.config, combine(base, {key: value}))
            owner.check(config)
        except UserError as error:
            raise UserError(f"space {key}={value}: {error}") from None
        configs.append(config)
    return configs


def is_packed(owner: "Family", base: Settings, key: str, distribution: Distribution) -> bool:
    """Whether trials that differ in `key` alone train in one pack."""
    shapes = [structure(config) for config in configurations(owner, base, key, distribution)]
    return all(shape == shapes[0] for shape in shapes)
