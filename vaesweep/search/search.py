"""The declaration of a search: a family, its presets, a space and objectives, as a sweep declares its axes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from vaesweep.search.objectives import Objective
from vaesweep.search.space import Space
from vaesweep.sweep.cells import Preset, Sweep
from vaesweep.sweep.settings import Settings

Sampler = Literal["tpe", "gp", "random"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)


@dataclass(frozen=True)
class SearchPreset:
    """A size of a search: settings of every trial, trials in all and asked at once, seeds that confirm the choice."""

    base: Settings = field(default_factory=dict)
    trials: int = 24
    batch: int = 8
    confirm: int = 5


@dataclass(frozen=True)
class Search:
    """A search over training configurations of a family. `presets` may depend on what `--data` names."""

    name: str
    family: str
    presets: Callable[[str], Mapping[str, SearchPreset]]
    space: Space
    objectives: Sequence[Objective]
    default_preset: str = "smoke"
    default_data: str = "synthetic"

    @property
    def sweep(self) -> Sweep:
        """The sweep of one cell a preset that trials are made from: the preset's default."""

        def presets(data: str) -> dict[str, Preset]:
            return {name: Preset(preset.base) for name, preset in self.presets(data).items()}

        return Sweep(self.name, self.family, presets, self.default_preset, self.default_data)
