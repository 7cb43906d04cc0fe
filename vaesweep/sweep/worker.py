"""Training of one pack on a device: resume, train, save and report. Knows neither Ray nor MLflow.

checkpoints, by cell ──► groups of equal step ──► train_pack ──► finished files, checkpoints, events
"""

import contextlib
import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaesweep.data.domains import DataSet
from vaesweep.family import CellConfig, family
from vaesweep.sweep.cells import digest
from vaesweep.sweep.jobs import Event, PackJob, Report
from vaesweep.sweep.phases import Phase, phases_of
from vaesweep.sweep.storage import CHECKPOINTS, Storage, checkpoint_name, finished_name
from vaesweep.training import finished, memory
from vaesweep.training.loop import CellResult, continued_state, start_state, train_pack
from vaesweep.training.state import PackState, header, merge
from vaesweep.training.world import World, current_world

REPLACED_RETRIES = 8  # a second each
REPORT_SECONDS = 1.0  # the least between two events of a pack that trains in one process


def run_job(job: PackJob, data: DataSet, report: Report, device: torch.device) -> None:
    """Train every cell of `job` that has no finished file, from its latest checkpoint if there is one."""
    storage, owner = Storage(job.storage), family(job.family)
    configs = {cell: owner.config.model_validate_json(text) for cell, text in job.configs.items()}
    ended = [cell for cell in configs if storage.exists(finished_name(cell))]
    if ended:
        steps = next(iter(configs.values())).all_steps
        report(Event(job.pack, 0, steps, finished=ended))
    left = [cell for cell in configs if cell not in ended]
    if not left:
        return
    _Training(job, storage, configs, phases_of(job, data, configs, left, device), report).run(left)


@dataclass(frozen=True)
class _Training:
    """Training of a job's cells, as many at a time as fit; that number is halved where a device runs out of memory."""

    job: PackJob
    storage: Storage
    configs: Mapping[str, CellConfig]
    phases: Sequence[Phase]
    report: Report

    def run(self, cells: Sequence[str]) -> None:
        """Train until every one of `cells` has ended."""
        left, size = list(cells), min(phase.tuning.cells for phase in self.phases)
        notes = [note for phase in self.phases for note in phase.tuning.notes]
        while left:
            if notes:
                self.report(Event(self.job.pack, 0, self.configs[left[0]].all_steps, notes=notes))
            if self._train_from_checkpoints(left, size):
                return
            left = [cell for cell in left if not self.storage.exists(finished_name(cell))]
            size = max(1, min(size, len(left)) // 2)
            notes = [f"out of memory: going on with {size} cells at a time"]
            gc.collect()
            if self.phases[0].device.type == "cuda":
                torch.cuda.empty_cache()

    def _train_from_checkpoints(self, cells: Sequence[str], size: int) -> bool:
        """Train `cells` from their latest checkpoints; false where the device has run out of memory."""
        world = current_world()
        fresh = start_state(self.phases[0].problem, self.phases[0].of(cells), cells)
        done = 0
        for group in resumed(fresh, latest_states(self.storage, cells)):
            for start in range(0, len(group.cells), size):
                state = group.select(range(start, min(start + size, len(group.cells))))
                before = len(self.job.configs) - len(cells) + done
                listener = _PackWriter(self.job, state.cells, before, self.storage, self.configs, self.report, world)
                try:
                    self._train(state, listener, world)
                except (MemoryError, RuntimeError) as error:
                    if world.size > 1 or len(state.cells) == 1 or not memory.is_out_of_memory(error):
                        raise
                    return False
                listener.close()
                done += len(state.cells)
        return True

    def _train(self, state: PackState, listener: "_PackWriter", world: World) -> None:
        """Train the cells of `state` to their ends, after pretraining where it is not done."""
        *before, last = self.phases
        for phase in before if not state.begun else ():
            compiled, configs = phase.tuning.compiled, phase.of(state.cells)
            state = train_pack(phase.problem, configs, state, listener, world, compiled=compiled, pretraining=True)
            phase.free()
            state = continued_state(last.problem, last.of(state.cells), state) if state.cells else state
        if state.cells:
            train_pack(last.problem, last.of(state.cells), state, listener, world, compiled=last.tuning.compiled)
        if before:
            last.free()


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
            best[cell] = max(best.get(cell, (0, "")), (about.get("begun", 0) + about["step"], name))
    states = []
    for name in sorted({name for _, name in best.values()}):
        state = PackState.from_bytes(storage.read(name), f"{storage.uri}/{name}")
        states.append(state.select([i for i, cell in enumerate(state.cells) if best.get(cell, (0, ""))[1] == name]))
    return states


def resumed(fresh: PackState, states: Sequence[PackState]) -> Iterator[PackState]:
    """All cells of `fresh`, those of `states` in their stored state, grouped so that each group is at one step."""
    resumed_cells = {cell for state in states for cell in state.cells}
    new = [i for i, cell in enumerate(fresh.cells) if cell not in resumed_cells]
    groups: dict[tuple[int, int, tuple[int, ...]], list[PackState]] = {}
    for state in [*states, *([fresh.select(new)] if new else [])]:
        groups.setdefault((state.begun, state.step, state.evaluated), []).append(state)
    for group in groups.values():
        yield merge(group)


def checkpoint_header(storage: Storage, name: str) -> dict[str, Any]:
    """The JSON header of a checkpoint, read without its tensors."""
    length = int.from_bytes(storage.read(name, 8), "little")
    return header(storage.read(name, 8 + length), f"{storage.uri}/{name}")


def drop_spent_checkpoints(storage: Storage) -> None:
    """Delete checkpoints all of whose cells have finished files."""
    for name in storage.names(CHECKPOINTS):
        with contextlib.suppress(FileNotFoundError):  # another command has just replaced its own
            if all(storage.exists(finished_name(cell)) for cell in checkpoint_header(storage, name)["cells"]):
                storage.delete(name)


class _PackWriter:
    """Writes what the loop reports: files by the leading worker, events at most every `REPORT_SECONDS`.

    `cells` step together, and name their checkpoints; `before` cells of the job are done. Progress is
    reported for the job as a whole.
    """

    def __init__(
        self,
        job: PackJob,
        cells: Sequence[str],
        before: int,
        storage: Storage,
        configs: Mapping[str, CellConfig],
        report: Report,
        world: World,
    ) -> None:
        self._job, self._group, self._storage, self._configs = job, digest(cells), storage, configs
        self._before, self._cells = before, len(cells)
        self._report, self._world = report, world
        self._saved = self._reported_at = time.monotonic()
        self._name: str | None = None
        self._event = Event(job.pack, 0, next(iter(configs.values())).all_steps)

    def progress(self, state: PackState, latest: dict[str, Tensor]) -> None:
        """Add the newest points to the event, and report it if it is time."""
        trained = self._before * self._event.steps + self._cells * state.all_steps
        self._event.step = trained // len(self._job.configs)
        values = {name: value.tolist() for name, value in latest.items()}
        self._event.points.append((state.all_steps, list(state.cells), values))
        # Every worker must report at the same evaluations, so only a process alone may go by its own clock.
        if self._world.size > 1 or time.monotonic() - self._reported_at >= REPORT_SECONDS:
            self._report_event()

    def checkpoint(self, state: PackState) -> None:
        """Save a checkpoint, if the last one is old enough, and delete the one that it replaces."""
        if not self._world.leads or time.monotonic() - self._saved < self._job.checkpoint_seconds:
            return
        name = checkpoint_name(self._group, state.all_steps)
        self._storage.write(name, state.to_bytes())
        if self._name and self._name != name:
            self._storage.delete(self._name)
        self._name, self._saved = name, time.monotonic()

    def finished(self, result: CellResult) -> None:
        """Write the finished file, then add the cell to the event."""
        if self._world.leads:
            config = self._configs[result.cell].model_dump(mode="json")
            data = finished.to_bytes(result, self._job.family, config)
            self._storage.write(finished_name(result.cell), data)
        self._event.finished.append(result.cell)

    def close(self) -> None:
        """Report the last event, and delete the checkpoint: every cell of it has its finished file."""
        self._report_event()
        if self._name:
            self._storage.delete(self._name)

    def _report_event(self) -> None:
        self._report(self._event)
        self._event = Event(self._event.pack, self._event.step, self._event.steps)
        self._reported_at = time.monotonic()
