"""Messages between driver and workers: a pack to train, and events of its training."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from vaesweep.training.autotune import Compile


@dataclass(frozen=True)
class PackJob:
    """A pack as it travels to a worker: configurations as JSON by cell, how often to save, and what was asked for.

    `pack_size` is how many cells train at once, where the user says it; `share` the part of a device that the pack has.
    """

    pack: str
    family: str
    configs: dict[str, str]
    storage: str
    checkpoint_seconds: float = 30.0
    pack_size: int | None = None
    compiling: Compile = "auto"
    share: float = 1.0

    def to_json(self) -> str:
        """The job as one JSON value."""
        return json.dumps(self.__dict__)

    @classmethod
    def from_json(cls, text: str) -> "PackJob":
        """A job read back."""
        return cls(**json.loads(text))


@dataclass
class Event:
    """News from a worker: new points of cells, where the pack is, and cells that have ended.

    `points` are (step, cells, {metric: a value a cell}), `notes` lines for whoever watches. Events are for
    watching: the finished file is what counts.
    """

    pack: str
    step: int
    steps: int
    points: list[tuple[int, list[str], dict[str, list[float]]]] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """The event as one JSON value."""
        return json.dumps(self.__dict__)

    @classmethod
    def from_json(cls, text: str) -> "Event":
        """An event read back."""
        return cls(**json.loads(text))


Report = Callable[[Event], None]
