"""Retries of a pack: without end as long as it progresses, a few in a row where it does not.

A night on a cluster that takes its machines back may kill a pack many times, each time further on. A pack that dies at
one place for ever should cost minutes.
"""

import contextlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from vaesweep.sweep.resume import checkpoint_header
from vaesweep.sweep.storage import CHECKPOINTS, Storage

RETRIES = 3  # times in a row that a pack is tried again which has not progressed


@dataclass(frozen=True, order=True)
class Progress:
    """The part of a pack's training that is stored: cells that have ended, and steps in checkpoints of the others."""

    ended: int = 0
    steps: int = 0


class Retries:
    """The failures of packs, counted since each has last progressed."""

    def __init__(self, most: int = RETRIES) -> None:
        self._most = most
        self._furthest: dict[str, Progress] = {}
        self._failures: Counter[str] = Counter()

    def restart(self, pack: str) -> None:
        """Begin anew with a pack that has other cells now, whose progress is measured in others."""
        self._furthest.pop(pack, None)
        self._failures.pop(pack, None)

    def failed(self, pack: str, progress: Progress) -> bool:
        """Count a failure of a pack that has come as far as `progress`; whether it is to be tried again."""
        if progress > self._furthest.get(pack, Progress()):
            self._furthest[pack], self._failures[pack] = progress, 0
        self._failures[pack] += 1
        return self._failures[pack] <= self._most


def saved_steps(storage: Storage, cells: Collection[str], notes: list[str]) -> int:
    """The steps that checkpoints hold of `cells`, added up; lines about damaged ones are added to `notes`."""
    steps: Counter[str] = Counter()
    for name in storage.names(CHECKPOINTS):
        with contextlib.suppress(FileNotFoundError):  # another pack has just replaced its own
            about = checkpoint_header(storage, name, notes)
            for cell in set(about.get("cells", ())) & set(cells):
                steps[cell] = max(steps[cell], about.get("begun", 0) + about["step"])
    return steps.total()
