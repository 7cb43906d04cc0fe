"""Elastic packs: jobs that wait, devices that are idle, and requests to the packs that lag to split.

queue empty, a pack lags ──► placeholders of one pack's resources ──► one is placed: a device is idle
                                      │                                     │
                        demand that an autoscaler sees             request to the pack ──► job of its released cells

A placeholder is a placement group of the driver's job, and vanishes with the driver however that ends.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.search_generator import SearchGenerator
from ray.util import placement_group, remove_placement_group
from ray.util.placement_group import PlacementGroup

from vaesweep.sweep.jobs import Event, PackJob
from vaesweep.sweep.splits import request_name, split
from vaesweep.sweep.storage import Storage

WORTH_SECONDS = 120.0  # that a pack must take still for a part of it to start anew elsewhere: some four starts
LOOK_SECONDS = 1.0  # between two looks for idle devices


class JobQueue(Searcher):
    """Jobs that wait for a device, which Tune asks for one by one. More may come as long as any runs."""

    def __init__(self, jobs: Iterable[PackJob], config_of: Callable[[PackJob], dict[str, Any]]) -> None:
        super().__init__()
        self._jobs, self._config_of = deque(jobs), config_of
        self._live: set[str] = set()  # trials that have not ended for good

    def __getstate__(self) -> dict[str, Any]:
        """An empty state: Tune pickles its searcher into its files, and this one is of use to its driver only."""
        return {}

    @property
    def waiting(self) -> int:
        """The number of jobs that wait."""
        return len(self._jobs)

    def add(self, job: PackJob) -> None:
        """Put a job at the end."""
        self._jobs.append(job)

    def suggest(self, trial_id: str) -> Any:
        """The configuration of a trial of the next job; `None` where there is none, though one may come."""
        if self._jobs:
            self._live.add(trial_id)
            return self._config_of(self._jobs.popleft())
        return None if self._live else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Count a trial no longer that has ended for good."""
        self._live.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: no run goes on from Tune's files."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing."""


class Trials(SearchGenerator):
    """The trials of a queue's jobs, at most `at_once` at a time. It counts as finished while no job waits.

    A process that has trained a pack is kept for the next one, which starts 2 s of imports sooner. Where none waits
    Tune would keep it too, and hold its device, which is idle: unless there is no next one.
    """

    def __init__(self, queue: JobQueue, at_once: int) -> None:
        super().__init__(ConcurrencyLimiter(queue, at_once))
        self.queue = queue

    def is_finished(self) -> bool:
        """Whether there is no job that could be asked for now; there may be one later."""
        return bool(super().is_finished()) or not self.queue.waiting


class Placeholders(Protocol):
    """Requests for the resources of one pack each."""

    def placed(self) -> int:
        """The number of those that a device has been found for, which they hold."""

    def drop(self, number: int) -> None:
        """Drop some, placed ones first."""

    def keep(self, number: int) -> None:
        """Add some, or drop some, placed ones last, until there are `number`."""


class PlacementGroups:
    """Placeholders on Ray."""

    def __init__(self, resources: Mapping[str, float]) -> None:
        self._resources = dict(resources)
        self._groups: list[tuple[PlacementGroup, ray.ObjectRef]] = []  # placed ones first

    def placed(self) -> int:
        """The number of those that a device has been found for, which they hold."""
        if not self._groups:
            return 0
        references = [reference for _, reference in self._groups]
        placed, _ = ray.wait(references, num_returns=len(references), timeout=0)
        self._groups.sort(key=lambda group: group[1] not in placed)
        return len(placed)

    def drop(self, number: int) -> None:
        """Drop some, placed ones first."""
        dropped, self._groups = self._groups[:number], self._groups[number:]
        for group, _ in dropped:
            remove_placement_group(group)

    def keep(self, number: int) -> None:
        """Add some, or drop some, placed ones last, until there are `number`."""
        while len(self._groups) > number:
            remove_placement_group(self._groups.pop()[0])
        while len(self._groups) < number:
            group = placement_group([self._resources])
            self._groups.append((group, group.ready()))


@dataclass
class _Pace:
    """The progress of a pack since a moment: its mean steps then, and at its last event, in seconds and steps."""

    began: float
    first: int
    now: float
    step: int
    steps: int

    def remaining(self, now: float) -> float | None:
        """Seconds that the pack takes still; `None` where it has not progressed since that moment."""
        if self.step <= self.first:
            return None
        left = (self.steps - self.step) * (self.now - self.began) / (self.step - self.first)
        return max(0.0, left - (now - self.now))


class Splitter:
    """Asks running packs for half of their cells while devices are idle, the one with the most time to go first.

    At most `at_once` packs run at once or are asked for.
    """

    def __init__(self, queue: JobQueue, storage: Storage, placeholders: Placeholders, at_once: int) -> None:
        self._queue, self._storage, self._placeholders, self._at_once = queue, storage, placeholders, at_once
        self._paces: dict[str, _Pace] = {}
        self._asked: dict[str, str] = {}  # by pack, the name of its request
        self._looked_at = 0.0
        self._yielded = 0  # placeholders that were dropped for trials that wait, whose place new ones would take

    def event(self, event: Event) -> None:
        """Learn a pack's pace from its event."""
        now = time.monotonic()
        if event.points:
            pace = self._paces.setdefault(event.pack, _Pace(now, event.step, now, event.step, event.steps))
            pace.now, pace.step = now, event.step

    def restarted(self, pack: str) -> None:
        """Forget the pace of a pack that starts again."""
        self._paces.pop(pack, None)

    def answered(self, job: PackJob, event: Event) -> tuple[PackJob, PackJob]:
        """Queue the cells that a pack has released; what is left of its job, and the new one."""
        now = time.monotonic()
        kept, released = split(job, list(event.released))
        self._withdraw(job.pack)
        self._paces[job.pack] = _Pace(now, event.step, now, event.step, event.steps)
        self._queue.add(released)
        return kept, released

    def is_due(self) -> bool:
        """Whether it is time for another look for idle devices."""
        return time.monotonic() - self._looked_at >= LOOK_SECONDS

    def look(self, running: Mapping[str, PackJob], pending: Collection[str], unfinished: Mapping[str, int]) -> None:
        """Ask packs to split for which there are idle devices, and hold out for as many as could be used.

        `running` and `pending` are the packs that have a trial; `unfinished` counts the cells of those that can split.
        """
        self._looked_at = now = time.monotonic()
        for pack in set(self._asked) - {*running, *pending}:
            self._withdraw(pack)
        remaining = {pack: self._remaining(pack, now) for pack, cells in unfinished.items() if cells > 1}
        lagging = {pack: seconds for pack, seconds in remaining.items() if seconds is None or seconds >= WORTH_SECONDS}
        for pack in self._asked:
            lagging.pop(pack, None)
        if pending:
            placed = self._placeholders.placed()
            self._placeholders.drop(placed)
            self._yielded += placed
        else:
            self._yielded = 0
            known = {pack: seconds for pack, seconds in lagging.items() if seconds is not None}
            for pack in sorted(known, key=known.__getitem__, reverse=True)[: self._placeholders.placed()]:
                if self._ask(running[pack]):
                    self._placeholders.drop(1)
                    del lagging[pack]
        room = self._at_once - len(running) - len(pending) - len(self._asked) - self._yielded
        spare = sum(unfinished[pack] - 1 for pack in lagging)
        self._placeholders.keep(0 if self._queue.waiting else max(0, min(room, spare)))

    def close(self) -> None:
        """Drop all placeholders and requests."""
        for pack in list(self._asked):
            self._withdraw(pack)
        self._placeholders.keep(0)

    def _remaining(self, pack: str, now: float) -> float | None:
        return self._paces[pack].remaining(now) if pack in self._paces else None

    def _ask(self, job: PackJob) -> bool:
        """Ask the pack of `job` to split; false where the storage does not take the request."""
        name = request_name(job)
        try:
            self._storage.write(name, b"split")
        except OSError:
            return False
        self._asked[job.pack] = name
        return True

    def _withdraw(self, pack: str) -> None:
        if name := self._asked.pop(pack, None):
            with contextlib.suppress(OSError):
                self._storage.delete(name)
