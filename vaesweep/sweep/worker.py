"""Training of one pack on a device: resume, train, save and report. Knows neither Ray nor MLflow.

checkpoints, by cell ──► groups of equal step ──► train_pack ──► finished files, checkpoints, events
"""

import contextlib
import errno
import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import torch
from torch import Tensor

from vaesweep.data.domains import DataSet
from vaesweep.family import CellConfig, family
from vaesweep.sweep import notice
from vaesweep.sweep.evaluation import Evaluation
from vaesweep.sweep.identity import digest
from vaesweep.sweep.jobs import Event, PackJob, Report
from vaesweep.sweep.phases import Phase, phases_of
from vaesweep.sweep.resume import check_finished, latest_states, resumed
from vaesweep.sweep.retries import saved_steps
from vaesweep.sweep.splits import is_requested, latter_half
from vaesweep.sweep.storage import Storage, checkpoint_name, finished_name
from vaesweep.sweep.timeline import EVALUATION, FIRST_STEP, SIZE, TRAINING, Laps
from vaesweep.training import finished, memory
from vaesweep.training.loop import CellResult, continued_state, start_state, train_pack
from vaesweep.training.state import PackState
from vaesweep.training.world import World, current_world

PERMANENT = {errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS}  # no pause mends these
FULL = {errno.ENOSPC, errno.EDQUOT}
WRITE_PAUSES = (1.0, 5.0, 30.0)  # seconds between attempts to write a finished file
REPORT_SECONDS = 1.0  # the least between two events of a pack that trains in one process
REQUEST_SECONDS = 2.0  # between two looks for a request to split
KEPT_CHECKPOINTS = 2  # the newest, and the one before it, should the newest be lost


def run_job(job: PackJob, data: DataSet, report: Report, device: torch.device, laps: Laps | None = None) -> None:
    """Train every cell of `job` that has no finished file, from its latest checkpoint if there is one.

    Where the job has `sources`, the cells have been trained before and are evaluated only. `laps` are those of this
    process so far.
    """
    storage, owner = Storage(job.storage), family(job.family)
    configs = {cell: owner.config.model_validate_json(text) for cell, text in job.configs.items()}
    steps = next(iter(configs.values())).all_steps
    if job.sources is not None:
        Evaluation(job, storage, configs, data, device).run(report)
        return
    ended, notes = check_finished(storage, configs)
    if ended or notes:
        report(Event(job.pack, 0, steps, finished=ended, notes=notes))
    left = [cell for cell in configs if cell not in ended]
    if not left:
        return
    laps = laps or Laps()
    notes = []
    taken = saved_steps(storage, left, notes)
    if notes:
        report(Event(job.pack, 0, steps, notes=notes))
    phases = phases_of(job, data, configs, left, device, 1 - taken / (len(left) * steps))
    laps.lap(SIZE)
    _Training(job, storage, configs, phases, report, laps).run(left)


class PackSplit(Exception):
    """The end of a pack of which some cells were released: `job` is what it goes on with, from its checkpoint."""

    def __init__(self, job: PackJob) -> None:
        super().__init__(job.pack)
        self.job = job


class _Ending(Enum):
    """Why cells train no longer."""

    FINISHED = auto()
    OUT_OF_MEMORY = auto()
    SPLIT = auto()


@dataclass
class _Training:
    """Training of a job's cells, as many at a time as fit; that number is halved where a device runs out of memory.

    `job` loses the cells that are released for other devices.
    """

    job: PackJob
    storage: Storage
    configs: Mapping[str, CellConfig]
    phases: Sequence[Phase]
    report: Report
    laps: Laps

    def run(self, cells: Sequence[str]) -> None:
        """Train until every one of `cells` has ended, or is released."""
        left, size = list(cells), min(phase.tuning.cells for phase in self.phases)
        notes = [note for phase in self.phases for note in phase.tuning.notes]
        while left:
            if notes:
                self.report(Event(self.job.pack, 0, self.configs[left[0]].all_steps, notes=notes))
            ending = self._train_from_checkpoints(left, size)
            if ending is _Ending.FINISHED:
                return
            own = [cell for cell in left if cell in self.job.configs]
            left, notes = [cell for cell in own if not self.storage.exists(finished_name(cell))], []
            if ending is _Ending.OUT_OF_MEMORY:
                size = max(1, min(size, len(left)) // 2)
                notes = [f"out of memory: going on with {size} cells at a time"]
            gc.collect()
            if self.phases[0].device.type == "cuda":
                torch.cuda.empty_cache()

    def _train_from_checkpoints(self, cells: Sequence[str], size: int) -> _Ending:
        """Train `cells` from their latest checkpoints, until all have ended or something is in the way."""
        world = current_world()
        fresh = start_state(self.phases[0].problem, self.phases[0].of(cells), cells)
        states, notes = latest_states(self.storage, cells)
        if notes:
            self.report(Event(self.job.pack, 0, self.configs[cells[0]].all_steps, notes=notes))
        waiting = dict.fromkeys(cells, 0) | {cell: state.all_steps for state in states for cell in state.cells}
        for group in resumed(fresh, states):
            for start in range(0, len(group.cells), size):
                state = group.select(range(start, min(start + size, len(group.cells))))
                for cell in state.cells:
                    del waiting[cell]
                listener = _PackWriter(
                    self.job, state.cells, waiting, self.storage, self.configs, self.report, world, self.laps
                )
                try:
                    self._train(state, listener, world)
                except (MemoryError, RuntimeError) as error:
                    if world.size > 1 or len(state.cells) == 1 or not memory.is_out_of_memory(error):
                        raise
                    return _Ending.OUT_OF_MEMORY
                except PackSplit as split:
                    self.job = split.job
                    return _Ending.SPLIT
                listener.close()
        return _Ending.FINISHED

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


class _PackWriter:
    """Writes what the loop reports: files by the leading worker, events at most every `REPORT_SECONDS`.

    `cells` step together, and name their checkpoints; `waiting` are those that train after them, with their steps so
    far. The job's others are done. Progress is reported for the job as a whole.
    """

    def __init__(
        self,
        job: PackJob,
        cells: Sequence[str],
        waiting: Mapping[str, int],
        storage: Storage,
        configs: Mapping[str, CellConfig],
        report: Report,
        world: World,
        laps: Laps,
    ) -> None:
        self._job, self._group, self._storage, self._configs = job, digest(cells), storage, configs
        self._waiting, self._cells = dict(waiting), len(cells)
        self._before = len(job.configs) - len(waiting) - len(cells)
        self._report, self._world = report, world
        self._laps, self._has_stepped, self._progressed_at = laps, False, 0.0
        self._saved = self._reported_at = self._asked_at = time.monotonic()
        self._names: list[str] = []  # of checkpoints that are kept, oldest first
        self._event = Event(job.pack, 0, next(iter(configs.values())).all_steps)

    def progress(self, state: PackState, latest: dict[str, Tensor]) -> None:
        """Add the newest points to the event, and report it if it is time."""
        self._note_step()
        self._progressed_at = time.time()
        trained = self._before * self._event.steps + self._cells * state.all_steps + sum(self._waiting.values())
        self._event.step = trained // len(self._job.configs)
        values = {name: value.tolist() for name, value in latest.items()}
        self._event.points.append((state.all_steps, list(state.cells), values))
        # Every worker must report at the same evaluations, so only a process alone may go by its own clock.
        if self._world.size > 1 or time.monotonic() - self._reported_at >= REPORT_SECONDS:
            self._report_event()

    def checkpoint(self, state: PackState) -> None:
        """Save a checkpoint, if the last one is old enough, and delete the one before the last.

        Where none need be old, it is saved at evaluations: files after every step would take longer than steps.
        Where notice was given that the machine ends, it is saved in any case, and `MachineEnds` is raised; where the
        driver asks the pack to split, `PackSplit` is.
        """
        self._note_step()
        if notice.is_given():
            saved = "saved" if self._save(state) else "could not be saved"
            if self._world.size == 1:  # reports of several wait for each other
                self._report_event()
            raise notice.MachineEnds(f"its machine ends soon: {saved} at step {state.all_steps}")
        if len(state.cells) + len(self._waiting) > 1 and self._is_asked_to_split():
            self._split(state)
        if not self._world.leads or time.monotonic() - self._saved < self._job.checkpoint_seconds:
            return
        if not self._job.checkpoint_seconds and not state.is_evaluated:
            return
        self._save(state)

    def _note_step(self) -> None:
        """End the lap of the first step."""
        if not self._has_stepped:
            self._laps.lap(FIRST_STEP)
            self._has_stepped = True

    def _save(self, state: PackState) -> bool:
        """Save a checkpoint, and delete all but the newest two; false where it cannot be written."""
        name, self._saved = checkpoint_name(self._group, state.all_steps), time.monotonic()
        if self._names and self._names[-1] == name:
            return True
        try:
            self._write_checkpoint(name, state.to_bytes(name))
        except OSError as error:  # training goes on, and the next checkpoint is tried when it is due
            self._event.notes.append(f"checkpoint {name} cannot be written ({error}): training goes on without it")
            return False
        self._names.append(name)
        self._keep(KEPT_CHECKPOINTS)
        return True

    def _write_checkpoint(self, name: str, content: bytes) -> None:
        try:
            self._storage.write(name, content)
        except OSError as error:
            if error.errno not in FULL or not self._keep(1):
                raise
            self._storage.write(name, content)  # the oldest has made room

    def _keep(self, newest: int) -> int:
        """Delete all checkpoints but the `newest`, and return the number of those deleted."""
        old = self._names[: len(self._names) - newest] if len(self._names) > newest else []
        self._names = self._names[len(old) :]
        for name in old:
            with contextlib.suppress(OSError):  # a spent one is deleted by the driver
                self._storage.delete(name)
        return len(old)

    def _is_asked_to_split(self) -> bool:
        """Whether the driver asks for a part of the cells, looked up now and then."""
        now = time.monotonic()
        if not self._job.is_splittable or self._world.size > 1 or now - self._asked_at < REQUEST_SECONDS:
            return False
        self._asked_at = now
        return is_requested(self._storage, self._job)

    def _split(self, state: PackState) -> None:
        """Release the latter half of the unfinished cells, those that wait first, and raise `PackSplit`.

        Released is what the driver knows to be: the report returns when it has taken the cells over.
        """
        steps = dict.fromkeys(state.cells, state.all_steps) | self._waiting
        if not self._save(state):
            self._asked_at += self._job.checkpoint_seconds  # no sooner than a checkpoint is due
            return
        released = latter_half(list(steps))
        kept = self._job.without(released)
        done = len(self._job.configs) - len(steps)
        trained = done * self._event.steps + sum(step for cell, step in steps.items() if cell in kept.configs)
        self._event.step = trained // len(kept.configs)
        self._event.released = {cell: steps[cell] for cell in released}
        self._event.notes.append(f"split, {len(released)} of {len(steps)} cells go to a free device")
        self._report_event()
        raise PackSplit(kept)

    def finished(self, result: CellResult) -> None:
        """Write the finished file, then add the cell to the event."""
        if self._progressed_at:  # the first cell since then
            self._laps.lap(TRAINING, until=self._progressed_at)
            self._laps.lap(EVALUATION)
            self._progressed_at = 0.0
        if self._world.leads:
            config = self._configs[result.cell].model_dump(mode="json")
            cell = finished.of_result(result, self._job.family, config, self._job.domains)
            self._write(finished_name(result.cell), finished.to_bytes(cell))
        self._event.finished.append(result.cell)

    def _write(self, name: str, data: bytes) -> None:
        """Write a file that must not be lost: where that fails it is tried again, each time after a longer pause."""
        for pause in WRITE_PAUSES:
            try:
                self._storage.write(name, data)
                return
            except OSError as error:
                if error.errno in PERMANENT:
                    raise
                self._event.notes.append(f"{name} cannot be written ({error}): tried again in {pause:g} s")
                self._report_event()
                time.sleep(pause)
        self._storage.write(name, data)

    def close(self) -> None:
        """Report the last event, and delete the checkpoints: every cell of them has its finished file."""
        self._laps.lap("finished files")
        self._report_event()
        self._keep(0)

    def _report_event(self) -> None:
        if self._progressed_at:
            self._laps.lap(TRAINING)  # a process that dies has told of what it did
        self._event.spans = self._laps.take()
        self._report(self._event)
        self._event = Event(self._event.pack, self._event.step, self._event.steps)
        self._reported_at = time.monotonic()
