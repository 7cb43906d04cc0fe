"""Messages between driver and workers: a pack to train, and events of its training."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from vaesweep.training.compiling import Compile


@dataclass(frozen=True)
class PackJob:
    """A pack as sent to a worker: configurations as JSON by cell, seconds between checkpoints, and the user's options.

    `pack_size` is the number of cells that train at once, where the user sets it; `share` the pack's part of a device;
    `data` the index of its data set among the sweep's; `domains` the fingerprint of every domain. Where `sources` are
    given the cells have been trained: they are evaluated with the weights in these finished files, by cell.
    """

    pack: str
    family: str
    configs: dict[str, str]
    storage: str
    checkpoint_seconds: float = 30.0
    pack_size: int | None = None
    compiling: Compile = "auto"
    share: float = 1.0
    data: int = 0
    domains: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] | None = None

    def to_json(self) -> str:
        """The job as JSON."""
        return json.dumps(self.__dict__)

    @classmethod
    def from_json(cls, text: str) -> "PackJob":
        """A job from its JSON."""
        return cls(**json.loads(text))


@dataclass
class Event:
    """A worker's report: new points of cells, the step of the pack, and cells that have ended.

    `points` are (step, cells, {metric: a value a cell}), `notes` lines for the user. Events are for watching
    a run: results come from the finished files.
    """

    pack: str
    step: int
    steps: int
    points: list[tuple[int, list[str], dict[str, list[float]]]] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """The event as JSON."""
        return json.dumps(self.__dict__)

    @classmethod
    def from_json(cls, text: str) -> "Event":
        """An event from its JSON."""
        return cls(**json.loads(text))


Report = Callable[[Event], None]
