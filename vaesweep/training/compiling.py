"""Whether a training step is compiled, and what this machine knows of compiling it.

One process of a machine compiles a structure for the first time. The others wait and take what it has left in torch's
cache, all at once and in a third of the time or less. How long that took and what it gained stands beside the cache, a
small file a structure, so that later packs know whether it pays.
"""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from vaesweep.packing import structure

Compile = Literal["auto", "always", "never"]

AGAIN = 0.3  # of the time of compiling takes whoever finds it in torch's cache, about
PATIENCE = 900.0  # seconds that a process waits for another one that compiles the same
MOST_HELD = 3  # structures whose compiled steps a process holds: torch keeps eight versions of a function
OTHER_SETTINGS = (
    "steps",
    "evaluate_every",
    "schedule",
    "warm_up",
    "early_stopping",
    "pruning",
)  # of training: not the step's

_held: set[str] = set()  # names of structures that this process has compiled


@dataclass(frozen=True)
class Compiled:
    """What was found of a compiled step: the seconds that compiling takes the next time, and times as fast a step."""

    seconds: float
    ratio: float


class SharedCompiling:
    """The compiling of one structure, by all processes of this machine that have the same cache.

    What compiling gains is that of the structure. What is in the cache is of a number of `cells`: a pack of another one
    is compiled anew.
    """

    def __init__(self, config: Any, device: str, cells: int) -> None:
        import torch

        parts = structure(config)
        training = {name: value for name, value in parts.get("training", {}).items() if name not in OTHER_SETTINGS}
        about = [type(config).__name__, parts | {"training": training, "pretraining": None}, device, torch.__version__]
        self._cells = cells
        self.name = sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def known(self) -> Compiled | None:
        """What an earlier process has found, if one has."""
        try:
            return Compiled(**json.loads(self._file(".json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def remember(self, seconds: float, ratio: float) -> None:
        """Keep what was found for processes that come later."""
        expected = seconds if self.known() else AGAIN * seconds
        draft = self._file(f".{uuid.uuid4().hex}.part")
        with contextlib.suppress(OSError):
            draft.write_text(json.dumps(asdict(Compiled(expected, ratio))))
            draft.replace(self._file(".json"))
            self._marker.touch()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Context in which no other process of this machine compiles this for the first time.

        What is in the cache is taken from it by as many as want it.
        """
        from filelock import FileLock, Timeout

        self._make_room()
        lock = FileLock(self._file(".lock"))
        with contextlib.suppress(OSError, Timeout):  # then several compile it, as they can
            if not self._marker.exists():
                self._file(".lock").parent.mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=PATIENCE)
                if self._marker.exists():  # by the one that was waited for
                    lock.release()
        try:
            yield
        finally:
            lock.release()

    def _make_room(self) -> None:
        """Drop compiled steps of other structures, where this process holds many."""
        import torch

        if self.name not in _held and len(_held) >= MOST_HELD:
            torch._dynamo.reset()
            _held.clear()
        _held.add(self.name)

    @property
    def _marker(self) -> Path:
        """The file that says that the cache has it."""
        return self._file(f"-{self._cells}.compiled")

    def _file(self, ending: str) -> Path:
        return _cache() / f"vaesweep-{self.name}{ending}"


def _cache() -> Path:
    """The folder in which torch keeps what it has compiled."""
    if folder := os.environ.get("TORCHINDUCTOR_CACHE_DIR"):
        return Path(folder)
    from torch._inductor.runtime.cache_dir_utils import cache_dir  # takes a second to import

    return Path(cache_dir())
