"""Messages between driver and workers: a pack to train, and events of its training."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from vaesweep.sweep.cells import Cell, Pack
from vaesweep.training.compiling import Compile


@dataclass(frozen=True)
class PackJob:
    """A pack as sent to a worker: configurations as JSON by cell, seconds between checkpoints, and the user's options.

    `pack_size` is the number of cells that train at once, where the user sets it; `share` the pack's part of a device;
    `data` the index of its data set among the sweep's; `domains` the fingerprint of every domain. Where `sources` are
    given the cells have been trained: they are evaluated with the weights in these finished files, by cell. `token` is
    a word of the driver's own, by which a worker knows its requests to split; without one a pack stays whole.
    """

    pack: str
    family: str
    configs: Mapping[str, str]
    storage: str
    checkpoint_seconds: float = 30.0
    pack_size: int | None = None
    compiling: Compile = "auto"
    share: float = 1.0
    data: int = 0
    domains: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] | None = None
    token: str | None = None

    @property
    def is_splittable(self) -> bool:
        """Whether the driver may ask for a part of the cells while they train."""
        return self.token is not None and self.sources is None

    def without(self, cells: Collection[str]) -> "PackJob":
        """This job with its other cells."""
        return replace(self, configs={cell: text for cell, text in self.configs.items() if cell not in cells})

    def to_json(self) -> str:
        """The job as JSON."""
        return json.dumps({**self.__dict__, "configs": dict(self.configs)})

    @classmethod
    def from_json(cls, text: str) -> "PackJob":
        """A job from its JSON."""
        return cls(**json.loads(text))


class ConfigTexts(Mapping[str, str]):
    """The configurations of a pack as JSON by cell, each written when it is asked for: packs that wait hold none."""

    def __init__(self, pack: Pack) -> None:
        self._cells: dict[str, Cell] = {cell.identity: cell for cell in pack.cells}

    def __getitem__(self, cell: str) -> str:
        return self._cells[cell].config.model_dump_json()

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)


@dataclass
class Event:
    """A worker's report: new points of cells, the step of the pack, and cells that have ended.

    `points` are (step, cells, {metric: a value a cell}), `notes` lines for the user, `released` cells that the pack
    trains no longer, with the step at which each is stored, `spans` what the pack's process has done: what, from when,
    to when, in seconds of the epoch. Events are for watching a run: results come from the finished files. `released` is
    the one word that the driver acts on.
    """

    pack: str
    step: int
    steps: int
    points: list[tuple[int, list[str], dict[str, list[float]]]] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    released: dict[str, int] = field(default_factory=dict)
    spans: list[tuple[str, float, float]] = field(default_factory=list)

    @property
    def is_note(self) -> bool:
        """Whether this tells of nothing but notes, before a step was taken."""
        return bool(self.notes) and not (self.step or self.points or self.finished or self.released or self.spans)

    def to_json(self) -> str:
        """The event as JSON."""
        return json.dumps(self.__dict__)

    @classmethod
    def from_json(cls, text: str) -> "Event":
        """An event from its JSON."""
        return cls(**json.loads(text))


Report = Callable[[Event], None]
