"""The one writer of MLflow: one run a cell under one parent a sweep, batched, off the training path.

Points come from workers as they train; when a cell has ended, its finished file fills in whatever is missing. A point,
(run, metric, step), is never written twice: of a run that is older than this process its logged steps are read first,
and where a call failed that may have written all the same, what it has written.

A store that fails is tried again, cell by cell and after growing pauses, and stops nothing.
"""

import contextlib
import json
import logging
import math
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vaesweep.errors import TrackingError, UserError
from vaesweep.family import family
from vaesweep.store_access import one_line
from vaesweep.sweep.backlog import Backlog, FileShelf, Point, Record
from vaesweep.sweep.cells import Cell
from vaesweep.sweep.store import BATCH, LONGEST_TAG, RunState, Store, TrackedRun
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell
from vaesweep.uris import masked
from vaesweep.vocabulary import (
    CONFIG_FILE,
    LOGGED_TABLES,
    MODEL_FILE,
    TABLE_FILE,
    Outcome,
    Tag,
    final,
    final_table,
    table_tag,
)

AGAIN = "when the store is back, the same command completes the runs without training again"
FLUSH_SECONDS = 5.0  # between two times that points are written of cells that train, where cells are few
FLUSH_SHARE = 20  # times as long as writing has taken is the least pause after it: it has a twentieth of a core
SILENT_SECONDS = 5.0  # after which the end of a command says what it waits for
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds after which a cell is tried again whose call has failed
LAST_SECONDS, LAST_PAUSES = 60.0, (0.5, 10.0)  # without success, after which the last attempt ends; between its tries

logger = logging.getLogger(__name__)


@dataclass
class _Ending:
    """The end of a cell's run: its status and tags, and whether the shelf has the finished cell.

    Nothing of a cell that waits for the store is held here: thousands may wait.
    """

    status: str
    tags: Mapping[str, str] = field(default_factory=dict)
    finished: bool = False
    filled: bool = False  # the finished cell's points are in the backlog
    steps: deque[Callable[[], None]] | None = None  # calls that are left, once all points are written


@dataclass
class _CellRun:
    """A cell's run and what of it is still to be written."""

    cell: Cell
    tags: Mapping[str, str]
    run: str | None  # of MLflow, where it has one
    written: dict[str, set[int]] | None = None  # steps by metric, sent or about to be; None: the run must be opened
    start: int | None = None  # of a run that is being made, in ms
    is_open: bool = False
    batch: list[Point] = field(default_factory=list)  # points that are being sent
    doubtful: bool = False  # the batch may have been written
    ending: _Ending | None = None
    completed: bool = False  # finished or diverged, and all of it written
    failures: int = 0
    retry_at: float = 0.0

    def has_finished(self) -> bool:
        """Whether the cell's finished file is known, which has all points that there are."""
        return self.completed or (self.ending is not None and self.ending.finished)


class Tracker:
    """Writes cells' runs from a thread of its own; the driver only adds to its backlog.

    Use as a context: leaving it waits until everything is written, and tries once more what could not be; Ctrl-C ends
    that. What is missing then is a `TrackingError`, which names it. Training is never stopped, and finished files hold
    all that MLflow lacks of their cells.
    """

    def __init__(
        self,
        store: Store,
        parent: str,
        cells: Sequence[Cell],
        tracked: Mapping[str, TrackedRun],
        tags: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._store, self._parent = store, parent
        runs = {cell: run.run_id for cell, run in tracked.items()}
        self._cells = {c.identity: _CellRun(c, tags[c.identity], runs.get(c.identity)) for c in cells}
        self._earlier = set(runs)  # cells with a run of an earlier command
        self._backlog, self._files = Backlog(), FileShelf()
        self._latest: tuple[bytes, FinishedCell] | None = None  # the record that was read last
        self._wake, self._leaving, self._given_up = threading.Event(), threading.Event(), threading.Event()
        self._lock = threading.Lock()  # of what an ending and the end of its writing both change
        self._failing = False
        self._error: Exception | None = None  # the last of the store
        self._defect: Exception | None = None  # of the thread itself
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)

    def __enter__(self) -> "Tracker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._wake.set()
        try:
            said_at = time.monotonic() + SILENT_SECONDS
            while self._thread.is_alive():
                self._thread.join(0.5)  # so that Ctrl-C is heard whichever thread it reaches
                if time.monotonic() > said_at and (left := sum(map(self._is_left, self._cells.values()))):
                    words = "waiting for the tracking store %s to take what is left of %d cells; Ctrl-C ends it: %s"
                    logger.warning(words, masked(self._store.uri), left, AGAIN)
                    said_at = time.monotonic() + LAST_SECONDS
        except KeyboardInterrupt:
            self._given_up.set()
            raise
        if self._defect:
            raise TrackingError(f"{one_line(self._defect)}; no finished cell is lost: {AGAIN}") from self._defect
        if missing := [name for name, cell in self._cells.items() if self._is_left(cell)]:
            names = f"{', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}"
            reason = one_line(self._error) if self._error else "unknown reason"
            raise TrackingError(
                f"{len(missing)} of {len(self._cells)} cells are not complete in MLflow ({names}): {reason}; "
                f"no finished cell is lost: {AGAIN}"
            ) from self._error

    def points(self, step: int, cells: Sequence[str], metrics: Mapping[str, Sequence[float]]) -> None:
        """Add new points of several cells at one step."""
        if not metrics:
            return
        now = _milliseconds()
        names = [sys.intern(name) for name in metrics]
        self._backlog.add(
            [
                (name, Record(step, now, dict(zip(names, values, strict=True))))
                for name, values in zip(cells, zip(*metrics.values(), strict=True), strict=True)
                if not self._cells[name].has_finished()  # else its finished file has them
            ]
        )

    def ended(self, cell: FinishedCell, file: bytes) -> None:
        """Complete a cell's run from its finished file, and close the run."""
        diverged = cell.diverged is not None
        tags = {Tag.OUTCOME: str(Outcome.DIVERGED if diverged else Outcome.FINISHED)}
        if diverged:
            tags[Tag.CAUSE] = masked(str(cell.cause))
        elif cell.cell in self._earlier:
            tags[Tag.CAUSE] = ""  # of an earlier failure, which counts no longer
        if cell.domains and len(domains := json.dumps(cell.domains)) <= LONGEST_TAG:
            tags[Tag.DOMAINS] = domains
        if cell.saturated:
            tags[Tag.SATURATED] = " ".join(cell.saturated)
        table = {LOGGED_TABLES: table_tag()} if _in_table(cell) else {}
        ending = _Ending("FAILED" if diverged else "FINISHED", _plain(tags) | table, finished=True)
        with self._lock:
            run = self._cells[cell.cell]
            if run.ending:
                self._fill(run, run.ending)  # whatever it had more
            self._files.put(cell.cell, file)
            self._files.put(_record_name(cell.cell), finished.to_bytes(replace(cell, weights={}, kept={})))
            run.completed = False
            self._end(cell.cell, ending)

    def failed(self, cell: str, cause: str) -> None:
        """Close the run of a cell that could not be trained to its end; the same command will try it again."""
        self._end(cell, _Ending("FAILED", _plain({Tag.OUTCOME: str(Outcome.FAILED), Tag.CAUSE: masked(cause)})))

    def interrupted(self) -> None:
        """Close all open runs, whose cells were stopped and can be resumed."""
        for name, cell in self._cells.items():
            if cell.ending is None and (cell.is_open or self._is_left(cell)):
                self._end(name, _Ending("KILLED"))

    def _end(self, cell: str, ending: _Ending) -> None:
        self._cells[cell].ending = ending
        self._wake.set()

    def _is_left(self, cell: _CellRun) -> bool:
        """Whether anything of a cell is still to be written."""
        return cell.ending is not None or bool(cell.batch) or self._backlog.has(cell.cell.identity)

    def _work(self) -> None:
        try:
            flush_at = time.monotonic() + FLUSH_SECONDS
            while not self._leaving.is_set():
                self._wake.wait(max(0.05, flush_at - time.monotonic()))
                self._wake.clear()
                now = time.monotonic()
                for cell in self._cells.values():
                    if (cell.ending or now >= flush_at) and cell.retry_at <= now and self._is_left(cell):
                        self._attempt(cell)
                    if self._leaving.is_set():
                        break
                if now >= flush_at:
                    flush_at = time.monotonic() + max(FLUSH_SECONDS, FLUSH_SHARE * (time.monotonic() - now))
            self._complete()
        except Exception as error:  # whatever it is, training goes on and the driver raises it at the end
            self._defect = error
            logger.warning("tracking has stopped, training goes on: %s", one_line(error))

    def _complete(self) -> None:
        """Write what is left, and try it again for a while where the store fails."""
        succeeded_at, pause = time.monotonic(), LAST_PAUSES[0]
        while left := [cell for cell in self._cells.values() if self._is_left(cell)]:
            for cell in left:
                if self._given_up.is_set() or (self._failing and not self._answers()):
                    break
                if self._attempt(cell):
                    succeeded_at = time.monotonic()
                elif time.monotonic() - succeeded_at > LAST_SECONDS:
                    break
            if self._given_up.is_set() or time.monotonic() - succeeded_at > LAST_SECONDS:
                return
            if self._failing:
                if pause == LAST_PAUSES[0]:
                    logger.warning(
                        "waiting for the tracking store %s, which takes no runs, at most %.0f s; Ctrl-C ends it",
                        masked(self._store.uri),
                        LAST_SECONDS,
                    )
                self._given_up.wait(pause)
                pause = min(2 * pause, LAST_PAUSES[1])
        with contextlib.suppress(Exception):  # whoever asks next will be told
            if self._store.restore(self._parent) is RunState.RESTORED:
                logger.warning("the sweep's run %s had been deleted; it is restored", self._parent)

    def _answers(self) -> bool:
        try:
            self._store.check()
        except UserError as error:
            self._error = error
            return False
        return True

    def _attempt(self, cell: _CellRun) -> bool:
        """Write what is left of a cell; false where the store fails, which is then tried again after a pause."""
        try:
            self._write_all(cell)
        except Exception as error:
            self._error = error
            cell.retry_at = time.monotonic() + min(LONGEST_PAUSE, FIRST_PAUSE * 2**cell.failures)
            cell.failures += 1
            if not self._failing:
                self._failing = True
                logger.warning("tracking fails and will be tried again, training goes on: %s", one_line(error))
            return False
        if cell.failures:
            cell.failures = 0
            for other in self._cells.values():  # what kept this one from being written may have kept others
                other.retry_at = 0.0
        if self._failing and not any(other.failures for other in self._cells.values()):
            self._failing = False
            logger.warning("tracking goes on")
        return True

    def _write_all(self, cell: _CellRun) -> None:
        if cell.failures and cell.run:
            self._revive(cell, cell.run)
        run, ending = self._opened(cell), cell.ending
        if ending:
            self._fill(cell, ending)
        self._write_points(cell, run)
        if ending is None:
            return
        if ending.steps is None:
            ending.steps = deque(self._steps(cell, run, ending))
        while ending.steps:
            ending.steps[0]()
            ending.steps.popleft()
        with self._lock:
            if cell.ending is not ending:
                return  # another has come meanwhile
            cell.ending, cell.is_open = None, False
            if ending.finished:
                cell.completed, cell.written = True, None
                for name in (cell.cell.identity, _record_name(cell.cell.identity)):
                    self._files.drop(name)

    def _fill(self, cell: _CellRun, ending: _Ending) -> None:
        """Add the points of a finished cell to the backlog."""
        if ending.finished and not ending.filled:
            name = cell.cell.identity
            self._backlog.add([(name, record) for record in _records_of(self._finished(name))])
            ending.filled = True

    def _finished(self, cell: str) -> FinishedCell:
        """A finished cell that waits, without its weights."""
        record = self._files.get(_record_name(cell))
        if self._latest is None or self._latest[0] != record:
            self._latest = record, finished.from_bytes(record, f"the record of cell {cell}", cell)
        return self._latest[1]

    def _revive(self, cell: _CellRun, run: str) -> None:
        """Take a run out of the trash, or have the cell begin another where it was deleted for good."""
        state, name = self._store.restore(run), cell.cell.identity
        if state is RunState.RESTORED:
            logger.warning("run %s of cell %s had been deleted; it is restored", run, name)
        elif state is RunState.LOST:
            without = "" if cell.ending and cell.ending.finished else ", without what was logged before"
            logger.warning("run %s of cell %s had been deleted for good; its cell has a new one%s", run, name, without)
            cell.run = cell.written = cell.start = None
            cell.doubtful = False
            if cell.ending:
                cell.ending.steps, cell.ending.filled = None, False

    def _opened(self, cell: _CellRun) -> str:
        """The cell's run; an older one is reopened, and its points are not written again."""
        if cell.run is not None and cell.written is not None:
            return cell.run
        if cell.run is None and cell.start is not None:
            cell.run = self._store.find_cell(cell.cell.identity, cell.start)  # the answer may have been lost
        if cell.run is None:
            cell.start = _milliseconds()
            cell.run = self._store.open_cell(cell.cell, self._parent, cell.tags, cell.start)
            self._store.configure(cell.run, cell.cell)
            cell.written = _by_metric((point.name, point.step) for point in cell.batch)
        else:
            points = self._store.reopen(cell.run, cell.cell)
            tags = {key: value for key, value in cell.tags.items() if key in (Tag.PACK, Tag.CODE)}
            if Tag.PACK in tags:  # it trains on; a cell that is only tracked late keeps what it was trained with
                self._store.tag(cell.run, tags)
            cell.written = _by_metric([*points, *((point.name, point.step) for point in cell.batch)])
        cell.is_open = True
        return cell.run

    def _write_points(self, cell: _CellRun, run: str) -> None:
        if cell.doubtful:
            names = list(dict.fromkeys(point.name for point in cell.batch))
            if self._store.points(run, names[:1]) & {cell.batch[0][:2]}:
                there = self._store.points(run, names)
                cell.batch = [point for point in cell.batch if point[:2] not in there]
            cell.doubtful = False
        while batch := cell.batch or self._next_batch(cell):
            cell.batch, cell.doubtful = batch, True
            self._store.log(run, batch)
            cell.batch, cell.doubtful = [], False
            if cell.ending is None and len(batch) < BATCH:
                return  # what has come meanwhile waits for the next flush, or none would end

    def _next_batch(self, cell: _CellRun) -> list[Point]:
        """The next points of a cell that are not written, as many as one call may hold."""
        assert cell.written is not None
        batch: list[Point] = []
        while record := self._backlog.pop(cell.cell.identity, BATCH - len(batch) if batch else sys.maxsize):
            for point in record.points():
                steps = cell.written.setdefault(point.name, set())
                if point.step not in steps:
                    steps.add(point.step)
                    batch.append(point)
        return batch

    def _steps(self, cell: _CellRun, run: str, ending: _Ending) -> Iterator[Callable[[], None]]:
        """The calls that end a run, each of which may be repeated."""
        name = cell.cell.identity
        if ending.finished:
            yield lambda: self._log_model(run, name)
            yield lambda: self._store.log_json(run, self._finished(name).config, CONFIG_FILE)
        if LOGGED_TABLES in ending.tags:
            yield lambda: self._store.log_json(
                run, final_table(_in_table(self._finished(name))), TABLE_FILE, indent=None
            )
        yield lambda: self._store.end(run, ending.status)
        if ending.tags:
            yield lambda: self._store.tag(run, ending.tags)  # last: the outcome is what counts

    def _log_model(self, run: str, cell: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, MODEL_FILE)
            path.write_bytes(self._files.get(cell))
            self._store.log_file(run, path)


def _record_name(cell: str) -> str:
    """The name on the shelf of what a finished file says, beside the file itself under the cell's."""
    return f"{cell}/record"


def _records_of(cell: FinishedCell) -> list[Record]:
    """All points of a finished cell: its history, less what was not measured in one of its phases, and final ones."""
    now, last = _milliseconds(), len(cell.evaluated) - 1
    records = [Record(step, now, {}) for step in cell.evaluated]
    for name, values in cell.history.items():
        for i, value in enumerate(values.tolist()):
            if not math.isnan(value) or (i == last and cell.diverged is not None):
                records[i].metrics[name] = value
    beside = _in_table(cell)
    finals = {final(*name.rsplit("/", 1)): value for name, value in cell.metrics.items() if name not in beside}
    return [*records, Record(cell.step, now, finals)]


def _in_table(cell: FinishedCell) -> dict[str, float]:
    """Those of a cell's final numbers, by `domain/metric`, that its run has in a table and not as metrics."""
    owner = family(cell.family)
    return {name: value for name, value in cell.metrics.items() if owner.in_table(name.rsplit("/", 1)[1])}


def _by_metric(points: Iterable[tuple[str, int]]) -> dict[str, set[int]]:
    steps: dict[str, set[int]] = {}
    for name, step in points:
        steps.setdefault(name, set()).add(step)
    return steps


def _plain(tags: Mapping[Tag, str]) -> dict[str, str]:
    return {str(key): value for key, value in tags.items()}


def _milliseconds() -> int:
    return int(time.time() * 1000)
