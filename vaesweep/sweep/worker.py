"""What happens on a device: resume, train, save and report one pack. Knows neither Ray nor MLflow.

checkpoints, by cell ──► groups of equal step ──► train_pack ──► finished files, checkpoints, events
"""

import contextlib
import gc
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vaesweep.data.domains import DataSet
from vaesweep.families import CellConfig, family
from vaesweep.sweep.cells import digest
from vaesweep.sweep.storage import CHECKPOINTS, Storage, checkpoint_name, finished_name
from vaesweep.training import finished, memory
from vaesweep.training.fit import Compile, Fit, fit
from vaesweep.training.loop import CellResult, start_state, train_pack
from vaesweep.training.problem import Problem
from vaesweep.training.state import PackState, header, merge
from vaesweep.training.timing import clock
from vaesweep.training.world import World, current_world

REPLACED_RETRIES = 8  # a second each


@dataclass(frozen=True)
class PackOrder:
    """A pack as it travels to a worker: configurations as JSON by cell, how often to save, and what was asked for.

    `pack_size` is how many cells train at once, where the user says it; `share` the part of a device that the pack has.
    """

    pack: str
    family: str
    configs: dict[str, str]
    storage: str
    checkpoint_seconds: float = 30.0
    report_seconds: float = 1.0
    pack_size: int | None = None
    compiling: Compile = "auto"
    share: float = 1.0

    def to_json(self) -> str:
        """The order as one JSON value."""
        return json.dumps(self.__dict__)

    @classmethod
    def from_json(cls, text: str) -> "PackOrder":
        """An order read back."""
        return cls(**json.loads(text))


@dataclass
class Event:
    """What a worker tells the driver: new points of cells, where the pack is, and cells that have ended.

    `points` are (step, cells, {metric: a value a cell}), `notes` lines for whoever watches; what is said here is for
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


def run_order(order: PackOrder, data: DataSet, report: Report, device: torch.device) -> None:
    """Train every cell of `order` that has no finished file, from its latest checkpoint if there is one."""
    storage, owner = Storage(order.storage), family(order.family)
    configs = {cell: owner.config.model_validate_json(text) for cell, text in order.configs.items()}
    ended = [cell for cell in configs if storage.exists(finished_name(cell))]
    steps = next(iter(configs.values())).training.steps
    if ended:
        report(Event(order.pack, 0, steps, finished=ended))
    left = [cell for cell in configs if cell not in ended]
    if not left:
        return
    problem = owner.problem(configs[left[0]], data, device)
    _Training(order, storage, configs, problem, report).run(left, fitted(order, problem, configs, left))


def fitted(order: PackOrder, problem: Problem, configs: Mapping[str, CellConfig], cells: Sequence[str]) -> Fit:
    """What suits this device; workers that share a pack do as the leading one has found."""
    world, chosen = current_world(), [configs[cell] for cell in cells]
    if world.size > 1 and not world.leads:
        found = Fit(0, compiled=False)
    else:
        # Of packs on a cluster's CPUs, no more share a node than it has CPUs.
        share = order.share if problem.device.type == "cuda" else max(order.share, 1 / (os.cpu_count() or 1))
        limit = memory.room(problem.device, share)
        found = fit(
            problem,
            chosen,
            chosen[0].training.steps,
            limit,
            clock(problem.device),
            size=order.pack_size,
            compiling=order.compiling,
        )
    if world.size == 1:
        return found
    agreed = world.sum(torch.tensor([found.cells, int(found.compiled)], device=problem.device)).tolist()
    return replace(found, cells=agreed[0], compiled=bool(agreed[1]))


@dataclass(frozen=True)
class _Training:
    """Cells on their way to finished files, as many at a time as fit; what a device has no memory for is halved."""

    order: PackOrder
    storage: Storage
    configs: Mapping[str, CellConfig]
    problem: Problem
    report: Report

    def run(self, cells: Sequence[str], fit: Fit) -> None:
        """Train until every one of `cells` has ended."""
        left, size, notes = list(cells), fit.cells, list(fit.notes)
        while left:
            if notes:
                steps = self.configs[left[0]].training.steps
                self.report(Event(self.order.pack, 0, steps, notes=notes))
            if self._go_on(left, size, compiled=fit.compiled):
                return
            left = [cell for cell in left if not self.storage.exists(finished_name(cell))]
            size = max(1, min(size, len(left)) // 2)
            notes = [f"out of memory: going on with {size} cells at a time"]
            gc.collect()
            if self.problem.device.type == "cuda":
                torch.cuda.empty_cache()

    def _go_on(self, cells: Sequence[str], size: int, *, compiled: bool) -> bool:
        """Train `cells` from their latest checkpoints; false where the device has run out of memory."""
        world = current_world()
        fresh = start_state(self.problem, [self.configs[cell] for cell in cells], cells)
        done = 0
        for whole in resumed(fresh, latest_states(self.storage, cells)):
            for start in range(0, len(whole.cells), size):
                state = whole.select(range(start, min(start + size, len(whole.cells))))
                before = len(self.order.configs) - len(cells) + done
                listener = _Scribe(self.order, state.cells, before, self.storage, self.configs, self.report, world)
                configs = [self.configs[cell] for cell in state.cells]
                try:
                    train_pack(self.problem, configs, state, listener, world, compiled=compiled)
                except (MemoryError, RuntimeError) as error:
                    if world.size > 1 or len(configs) == 1 or not memory.ran_out(error):
                        raise
                    return False
                listener.close()
                done += len(configs)
        return True


def latest_states(storage: Storage, cells: Sequence[str]) -> list[PackState]:
    """The furthest state that any checkpoint holds of each of `cells`, cells of one file together."""
    for _ in range(REPLACED_RETRIES):
        try:
            return _read_latest(storage, cells)
        except (
            FileNotFoundError
        ):  # a process whose driver was killed lives on for seconds, and has just replaced its own
            time.sleep(1.0)
    return _read_latest(storage, cells)


def _read_latest(storage: Storage, cells: Sequence[str]) -> list[PackState]:
    best: dict[str, tuple[int, str]] = {}
    for name in storage.names(CHECKPOINTS):
        about = checkpoint_header(storage, name)
        for cell in set(about["cells"]) & set(cells):
            best[cell] = max(best.get(cell, (0, "")), (about["step"], name))
    states = []
    for name in sorted({name for _, name in best.values()}):
        state = PackState.from_bytes(storage.read(name), f"{storage.uri}/{name}")
        states.append(state.select([i for i, cell in enumerate(state.cells) if best.get(cell, (0, ""))[1] == name]))
    return states


def resumed(fresh: PackState, states: Sequence[PackState]) -> Iterator[PackState]:
    """All cells of `fresh`, those of `states` as they were left, grouped so that each group is at one step."""
    known = {cell for state in states for cell in state.cells}
    unknown = [i for i, cell in enumerate(fresh.cells) if cell not in known]
    groups: dict[tuple[int, tuple[int, ...]], list[PackState]] = {}
    for state in [*states, *([fresh.select(unknown)] if unknown else [])]:
        groups.setdefault((state.step, state.evaluated), []).append(state)
    for group in groups.values():
        yield merge(group)


def checkpoint_header(storage: Storage, name: str) -> dict[str, Any]:
    """What a checkpoint says of itself, without its tensors."""
    length = int.from_bytes(storage.read(name, 8), "little")
    return header(storage.read(name, 8 + length), f"{storage.uri}/{name}")


def drop_spent_checkpoints(storage: Storage) -> None:
    """Delete checkpoints all of whose cells have finished files; they serve nobody."""
    for name in storage.names(CHECKPOINTS):
        with contextlib.suppress(FileNotFoundError):  # another command has just replaced its own
            if all(storage.exists(finished_name(cell)) for cell in checkpoint_header(storage, name)["cells"]):
                storage.delete(name)


class _Scribe:
    """Writes down what the loop tells: files by the leading worker, events at most every `report_seconds`.

    `cells` step together, and name their checkpoints; `before` cells of the order have had their turn. What is told of
    the progress is of the order as a whole.
    """

    def __init__(
        self,
        order: PackOrder,
        cells: Sequence[str],
        before: int,
        storage: Storage,
        configs: Mapping[str, CellConfig],
        report: Report,
        world: World,
    ) -> None:
        self._order, self._group, self._storage, self._configs = order, digest(cells), storage, configs
        self._before, self._cells = before, len(cells)
        self._report, self._world = report, world
        self._saved = self._told = time.monotonic()
        self._name: str | None = None
        self._event = Event(order.pack, 0, next(iter(configs.values())).training.steps)

    def progress(self, state: PackState, latest: dict[str, Tensor]) -> None:
        """Note the newest points, and tell them if it is time."""
        trained = self._before * self._event.steps + self._cells * state.step
        self._event.step = trained // len(self._order.configs)
        values = {name: value.tolist() for name, value in latest.items()}
        self._event.points.append((state.step, list(state.cells), values))
        # Every worker must tell at the same evaluations, so only a process alone may go by its own clock.
        if self._world.size > 1 or time.monotonic() - self._told >= self._order.report_seconds:
            self._tell()

    def checkpoint(self, state: PackState) -> None:
        """Save, if the last time is long enough ago, and drop what the new file replaces."""
        if not self._world.leads or time.monotonic() - self._saved < self._order.checkpoint_seconds:
            return
        name = checkpoint_name(self._group, state.step)
        self._storage.write(name, state.to_bytes())
        if self._name and self._name != name:
            self._storage.delete(self._name)
        self._name, self._saved = name, time.monotonic()

    def finished(self, result: CellResult) -> None:
        """Write the finished file, then tell."""
        if self._world.leads:
            config = self._configs[result.cell].model_dump(mode="json")
            data = finished.to_bytes(result, self._order.family, config)
            self._storage.write(finished_name(result.cell), data)
        self._event.finished.append(result.cell)

    def close(self) -> None:
        """Tell what is left, and drop the checkpoint: every cell of it has its finished file."""
        self._tell()
        if self._name:
            self._storage.delete(self._name)

    def _tell(self) -> None:
        self._report(self._event)
        self._event = Event(self._event.pack, self._event.step, self._event.steps)
        self._told = time.monotonic()
