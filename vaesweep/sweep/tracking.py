"""The one writer of MLflow: one run a cell under one parent a sweep, batched, off the training path.

Points come from workers as they train; when a cell has ended, its finished file fills in whatever is missing. A point,
(run, metric, step), is never written twice: of a run that is older than this process its logged steps are read first.
"""

import json
import logging
import math
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

# Quiet the migrations of a fresh store, and tracebacks of errors that are raised to us anyway.
logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("mlflow").setLevel(logging.CRITICAL)

from mlflow.entities import Metric, Param, RunTag  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402

from vaesweep.errors import UserError  # noqa: E402
from vaesweep.sweep.cells import Cell, parameters  # noqa: E402
from vaesweep.sweep.store_location import check_server, creation_lock, local_artifacts  # noqa: E402
from vaesweep.training.finished import FinishedCell  # noqa: E402
from vaesweep.vocabulary import (  # noqa: E402
    CONFIG_FILE,
    MODEL_FILE,
    SWEEP_FILE,
    Outcome,
    RunKind,
    Tag,
    domains_of,
    final,
    outcome_of,
    runs_by_cell,
)

LONGEST_TAG = 5000  # characters of a tag's value
BATCH = 1000  # the most metrics that one log_batch call may hold
AGAIN = "when the store is back, the same command completes the runs without training again"
UI_KIND = {"mlflow.experimentKind": "custom_model_development"}  # the UI shows runs and curves, not traces
FLUSH_SECONDS = 5.0  # the longest that a point waits to be written

Point = tuple[str, int, float]  # metric, step, value


@dataclass(frozen=True)
class TrackedRun:
    """A cell's run as MLflow has it. `domains` has the fingerprint of every domain that it was evaluated on."""

    run_id: str
    outcome: Outcome | None
    domains: Mapping[str, str] = field(default_factory=dict)


class Store:
    """One experiment of a tracking store: finds, creates and fills runs. Every call waits for the store."""

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri, self.experiment = uri, experiment
        check_server(uri)
        try:
            with creation_lock(uri):
                self._client = MlflowClient(tracking_uri=uri)
                self._experiment = self._client.get_experiment_by_name(experiment)
        except MlflowException as error:
            raise UserError(f"the tracking store {uri} does not answer: {one_line(error)}") from None
        if self._experiment is not None and self._experiment.lifecycle_stage == "deleted":
            raise UserError(
                f"experiment {experiment!r} lies in MLflow's trash: bring it back (mlflow experiments restore "
                f"--experiment-id {self._experiment.experiment_id}) or empty the trash (mlflow gc)"
            )

    @cached_property
    def id(self) -> str:
        """The experiment's identity; the experiment is created if need be."""
        if self._experiment is None:
            return str(
                self._client.create_experiment(self.experiment, local_artifacts(self.uri, self.experiment), UI_KIND)
            )
        return str(self._experiment.experiment_id)

    def cells(self) -> dict[str, TrackedRun]:
        """The run of every cell of the experiment, whichever sweep first ran it."""
        if self._experiment is None:
            return {}
        runs = runs_by_cell(self._search(f"tags.`{Tag.KIND}` = '{RunKind.CELL}'"))
        return {
            cell: TrackedRun(run.info.run_id, outcome_of(run), domains_of(run.data.tags, run.data.metrics))
            for cell, run in runs.items()
        }

    def open_sweep(self, record: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """The parent run of the sweep with identity `record["sweep"]`, new or reopened, with its record stored."""
        identity = record["sweep"]
        query = f"tags.`{Tag.KIND}` = '{RunKind.SWEEP}' and tags.`{Tag.SWEEP}` = '{identity}'"
        run_id = next((run.info.run_id for run in self._search(query)), None)
        if run_id is None:
            own = {Tag.KIND: RunKind.SWEEP, Tag.SWEEP: identity, **tags}
            run = self._client.create_run(self.id, tags=own, run_name=f"{record['name']} {record['preset']}")
            run_id = run.info.run_id
        else:
            self._client.update_run(run_id, status="RUNNING")
        params = [Param(key, str(record[key])) for key in ("preset", "family")]  # the same at every try
        self._client.log_batch(run_id, params=params)
        self._client.log_dict(run_id, dict(record), SWEEP_FILE)
        return run_id

    def open_cell(self, cell: Cell, parent: str, tags: Mapping[str, str]) -> str:
        """A new run for a cell, with its configuration as parameters."""
        name = " ".join(f"{key.split('.')[-1]}={value}" for key, value in cell.values.items()) or cell.identity
        own = {Tag.KIND: RunKind.CELL, Tag.CELL: cell.identity, Tag.PARENT: parent, Tag.FAMILY: cell.family, **tags}
        run_id = self._client.create_run(self.id, tags=own, run_name=name).info.run_id
        self._log_configuration(run_id, cell)
        return run_id

    def reopen(self, run_id: str, cell: Cell) -> set[tuple[str, int]]:
        """Mark a cell's run as running again and return the points that it has already, as (metric, step)."""
        self._client.update_run(run_id, status="RUNNING")
        self._log_configuration(run_id, cell)  # in case its process died before it had
        names = self._client.get_run(run_id).data.metrics
        return {(m.key, m.step) for name in names for m in self._client.get_metric_history(run_id, name)}

    def _log_configuration(self, run_id: str, cell: Cell) -> None:
        params = parameters(cell.config)
        self._client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])

    def log(self, run_id: str, points: Sequence[Point]) -> None:
        """Write points, in as few calls as the store allows."""
        now = int(time.time() * 1000)
        metrics = iter([Metric(name, value, now, step) for name, step, value in points])
        while batch := list(islice(metrics, BATCH)):
            self._client.log_batch(run_id, metrics=batch)

    def log_file(self, run_id: str, path: Path) -> None:
        """Store a file among a run's artifacts."""
        self._client.log_artifact(run_id, str(path))

    def model(self, run_id: str) -> bytes | None:
        """The model artifact of a run; None where it has none that can be read."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                return Path(self._client.download_artifacts(run_id, MODEL_FILE, folder)).read_bytes()
            except (OSError, MlflowException):
                return None

    def log_json(self, run_id: str, value: dict[str, Any], name: str) -> None:
        """Store a JSON value among a run's artifacts."""
        self._client.log_dict(run_id, value, name)

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set a run's tags."""
        self._client.log_batch(run_id, tags=[RunTag(str(key), value[:LONGEST_TAG]) for key, value in tags.items()])

    def end(self, run_id: str, status: str) -> None:
        """Set a run's final status: FINISHED, FAILED or KILLED."""
        self._client.set_terminated(run_id, status)

    def _search(self, query: str) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_runs([self.id], query, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


class TrackingError(RuntimeError):
    """Failure of the tracking store; all that it lacks is in the finished files."""


class Tracker:
    """Writes cells' runs from a thread of its own; the driver only fills its queue.

    Use as a context: leaving it waits until everything is written. A store that fails does not stop the training, whose
    finished files hold all that MLflow lacks; it is a `TrackingError` when the context is left.
    """

    def __init__(
        self,
        store: Store,
        parent: str,
        cells: Sequence[Cell],
        tracked: Mapping[str, TrackedRun],
        tags: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._store, self._parent, self._tags = store, parent, tags
        self._cells = {cell.identity: cell for cell in cells}
        self._tracked = tracked
        self._runs: dict[str, str] = {}
        self._open: set[str] = set()
        self._written: dict[str, set[tuple[str, int]]] = {}
        self._waiting: dict[str, list[Point]] = {}
        self._queue: queue.Queue[Any] = queue.Queue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)

    def __enter__(self) -> "Tracker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._error:
            raise TrackingError(f"{one_line(self._error)}; no finished cell is lost: {AGAIN}") from self._error

    def points(self, step: int, cells: Sequence[str], metrics: Mapping[str, Sequence[float]]) -> None:
        """Add new points of several cells at one step."""
        self._queue.put(("points", step, list(cells), metrics))

    def ended(self, cell: FinishedCell, file: bytes) -> None:
        """Complete a cell's run from its finished file, and close the run."""
        self._queue.put(("ended", cell, file))

    def failed(self, cell: str, cause: str) -> None:
        """Close the run of a cell that could not be trained to its end; the same command will try it again."""
        self._queue.put(("failed", cell, cause))

    def interrupted(self) -> None:
        """Close all open runs, whose cells were stopped and can be resumed."""
        self._queue.put(("interrupted",))

    def _work(self) -> None:
        handlers: dict[str, Callable[..., None]] = {
            "points": self._points,
            "ended": self._ended,
            "failed": self._failed,
            "interrupted": self._interrupted,
        }
        due = time.monotonic() + FLUSH_SECONDS
        try:
            while True:
                try:
                    item = self._queue.get(timeout=max(0.05, due - time.monotonic()))
                    if item is None:
                        break
                    handlers[item[0]](*item[1:])
                except queue.Empty:
                    pass
                if time.monotonic() >= due:
                    self._flush()
                    due = time.monotonic() + FLUSH_SECONDS
            self._flush()
        except Exception as error:  # whatever it is, training goes on and the driver raises it at the end
            self._error = error
            logging.getLogger(__name__).warning("tracking has stopped, training goes on: %s", one_line(error))

    def _points(self, step: int, cells: Sequence[str], metrics: Mapping[str, Sequence[float]]) -> None:
        for i, cell in enumerate(cells):
            self._add(cell, [(name, step, values[i]) for name, values in metrics.items()])

    def _ended(self, cell: FinishedCell, file: bytes) -> None:
        run = self._run(cell.cell)
        self._add(cell.cell, list(_points_of(cell)))
        finals = {final(*name.rsplit("/", 1)): value for name, value in cell.metrics.items()}
        self._add(cell.cell, [(name, cell.step, value) for name, value in finals.items()])
        self._flush_cell(cell.cell)
        self._artifacts(run, cell, file)
        diverged = cell.diverged is not None
        tags = {Tag.OUTCOME: str(Outcome.DIVERGED if diverged else Outcome.FINISHED)}
        if diverged:
            tags[Tag.CAUSE] = str(cell.cause)
        elif cell.cell in self._tracked:
            tags[Tag.CAUSE] = ""  # of an earlier failure, which counts no longer
        if cell.domains and len(domains := json.dumps(cell.domains)) <= LONGEST_TAG:
            tags[Tag.DOMAINS] = domains
        if cell.saturated:
            tags[Tag.SATURATED] = " ".join(cell.saturated)
        self._end(cell.cell, "FAILED" if diverged else "FINISHED")
        self._store.tag(run, {str(key): value for key, value in tags.items()})  # last: the outcome is what counts

    def _artifacts(self, run: str, cell: FinishedCell, file: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, MODEL_FILE)
            path.write_bytes(file)
            self._store.log_file(run, path)
        self._store.log_json(run, cell.config, CONFIG_FILE)

    def _failed(self, cell: str, cause: str) -> None:
        run = self._run(cell)
        self._flush_cell(cell)
        self._end(cell, "FAILED")
        self._store.tag(run, {Tag.OUTCOME: Outcome.FAILED, Tag.CAUSE: cause})

    def _interrupted(self) -> None:
        self._flush()
        for cell in list(self._open):
            self._end(cell, "KILLED")

    def _end(self, cell: str, status: str) -> None:
        self._store.end(self._runs[cell], status)
        self._open.discard(cell)

    def _run(self, cell: str) -> str:
        """The cell's run; an older one is reopened, and its points are not written again."""
        if cell not in self._runs:
            tracked = self._tracked.get(cell)
            if tracked is None:
                self._runs[cell] = self._store.open_cell(self._cells[cell], self._parent, self._tags[cell])
                self._written[cell] = set()
            else:
                self._written[cell] = self._store.reopen(tracked.run_id, self._cells[cell])
                tags = {key: value for key, value in self._tags[cell].items() if key in (Tag.PACK, Tag.CODE)}
                if Tag.PACK in tags:  # it trains on; a cell that is only tracked late keeps what it was trained with
                    self._store.tag(tracked.run_id, tags)
                self._runs[cell] = tracked.run_id
            self._open.add(cell)
        return self._runs[cell]

    def _add(self, cell: str, points: Sequence[Point]) -> None:
        self._run(cell)
        written, waiting = self._written[cell], self._waiting.setdefault(cell, [])
        for name, step, value in points:
            if (name, step) not in written:
                written.add((name, step))
                waiting.append((name, step, value))

    def _flush_cell(self, cell: str) -> None:
        if points := self._waiting.pop(cell, []):
            self._store.log(self._run(cell), points)

    def _flush(self) -> None:
        for cell in list(self._waiting):
            self._flush_cell(cell)


def _points_of(cell: FinishedCell) -> Iterator[Point]:
    """The history of a finished cell, without what was not measured in one of its phases (`PackState.record`)."""
    last = len(cell.evaluated) - 1
    for name, values in cell.history.items():
        for i, value in enumerate(values.tolist()):
            if not math.isnan(value) or (i == last and cell.diverged is not None):
                yield name, cell.evaluated[i], value


def one_line(error: BaseException) -> str:
    """The first line of a store's error that is not empty, or its class; SQL and advice come after it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
