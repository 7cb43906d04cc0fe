"""What happens on a device: resume, train, save and report one pack. Knows neither Ray nor MLflow.

checkpoints, by cell ──► groups of equal step ──► train_pack ──► finished files, checkpoints, events
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vaesweep.data.domains import DataSet
from vaesweep.families import CellConfig, family
from vaesweep.sweep.cells import digest
from vaesweep.sweep.storage import CHECKPOINTS, Storage, checkpoint_name, finished_name
from vaesweep.training import finished
from vaesweep.training.loop import CellResult, start_state, train_pack
from vaesweep.training.state import PackState, header, merge
from vaesweep.training.world import World, current_world

REPLACED_RETRIES = 8  # a second each


@dataclass(frozen=True)
class PackOrder:
    """A pack as it travels to a worker: configurations as JSON by cell, and how often to save."""

    pack: str
    family: str
    configs: dict[str, str]
    storage: str
    checkpoint_seconds: float = 30.0
    report_seconds: float = 1.0

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

    `points` are (step, cells, {metric: a value a cell}); what is said here is for watching: the finished file is what
    counts.
    """

    pack: str
    step: int
    steps: int
    points: list[tuple[int, list[str], dict[str, list[float]]]] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)

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
    fresh = start_state(problem, [configs[cell] for cell in left], left)
    world = current_world()
    for state in resumed(fresh, latest_states(storage, left)):
        listener = _Scribe(order, digest(state.cells), storage, configs, report, world)
        train_pack(problem, [configs[cell] for cell in state.cells], state, listener, world)
        listener.close()


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

    `group` names the cells that step together, and their checkpoints.
    """

    def __init__(
        self,
        order: PackOrder,
        group: str,
        storage: Storage,
        configs: Mapping[str, CellConfig],
        report: Report,
        world: World,
    ) -> None:
        self._order, self._group, self._storage, self._configs = order, group, storage, configs
        self._report, self._world = report, world
        self._saved = self._told = time.monotonic()
        self._name: str | None = None
        self._event = Event(order.pack, 0, next(iter(configs.values())).training.steps)

    def progress(self, state: PackState, latest: dict[str, Tensor]) -> None:
        """Note the newest points, and tell them if it is time."""
        self._event.step = state.step
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
