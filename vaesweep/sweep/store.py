"""One experiment of an MLflow store, with the calls that a sweep makes. Every call waits for the store."""

import contextlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path

from vaesweep.errors import TrackingError, UserError
from vaesweep.store_access import (
    Page,
    ReadRun,
    all_pages,
    first_answer,
    one_line,
    refusal,
    refuse_local_artifacts,
    runs_of_kind,
    within,
)
from vaesweep.sweep.backlog import Point
from vaesweep.sweep.cells import Cell, parameters
from vaesweep.sweep.store_location import creation_lock, local_artifacts, make_if_missing
from vaesweep.uris import is_local, masked
from vaesweep.vocabulary import MODEL_FILE, SWEEP_FILE, Outcome, RunKind, Tag, domains_of, outcome_of, runs_by_cell

# Two lines for each run that ends, with the store's URI and whatever password it has.
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"

PAGE = 1000  # runs that are read at once
LONGEST_TAG, LONGEST_PARAMETER = 5000, 6000  # characters of a value
PARENT_PARAMETERS = ("preset", "family")  # of the parent run, which cannot be changed
BATCH, PARAMETER_BATCH = 1000, 100  # the most metrics, and parameters, that one log_batch call may hold
PATIENCE = 60.0  # seconds for which a store that fails is tried again where nothing else is to be done meanwhile
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between two tries of those
LAST_WORD_SECONDS = 5.0  # that the end of a command which was interrupted waits for
LASTING = ("INVALID_PARAMETER_VALUE", "PERMISSION_DENIED", "RESOURCE_DOES_NOT_EXIST")  # errors that stay when repeated
NO_PLACE = (PermissionError, NotADirectoryError, FileNotFoundError, IsADirectoryError)
DEFECTS = (AssertionError, AttributeError, LookupError, NameError, TypeError)  # of a program, not of a store
UI_KIND = {"mlflow.experimentKind": "custom_model_development"}  # the UI shows runs and curves, not traces

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedRun:
    """A cell's run as MLflow has it. `domains` has the fingerprint of every domain that it was evaluated on."""

    run_id: str
    outcome: Outcome | None
    domains: Mapping[str, str] = field(default_factory=dict)


class RunState(Enum):
    """What has become of a run."""

    INTACT = "intact"
    RESTORED = "restored"  # somebody had put it into the trash
    LOST = "lost"  # deleted for good


class Store:
    """One experiment of a tracking store: finds, creates and fills runs."""

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri, self.experiment = uri, experiment
        self._read: dict[str, ReadRun] | None = None
        self._unsent: dict[str, list[Param]] = {}  # parameters of runs that wait for their next call
        self._artifacts: dict[str, ArtifactRepository] = {}  # of open runs
        with creation_lock(uri):
            make_if_missing(uri)
            self._client, self._experiment = first_answer(uri, self._connected, self._database_connection)
        if self._experiment is not None and self._experiment.lifecycle_stage == "deleted":
            raise UserError(
                f"experiment {experiment!r} lies in MLflow's trash: bring it back (mlflow experiments restore "
                f"--experiment-id {self._experiment.experiment_id}) or empty the trash (mlflow gc)"
            )
        if self._experiment is not None:
            self._check_experiment(self._experiment)

    def _connected(self) -> tuple[MlflowClient, Any]:
        client = MlflowClient(tracking_uri=self.uri)
        return client, client.get_experiment_by_name(self.experiment)

    def _database_connection(self) -> None:
        from mlflow.store.db.utils import create_sqlalchemy_engine  # takes a second to import

        create_sqlalchemy_engine(self.uri).connect().close()

    def check(self) -> None:
        """Raise `UserError` where the store does not answer, within seconds."""
        first_answer(self.uri, self._connected, self._database_connection)

    @cached_property
    def id(self) -> str:
        """The experiment's identity; the experiment is created if need be."""
        if self._experiment is not None:
            return str(self._experiment.experiment_id)
        place = local_artifacts(self.uri, self.experiment)
        try:
            identity = self._client.create_experiment(self.experiment, place, UI_KIND)
        except MlflowException:  # another driver may have made it meanwhile, or we with an answer that was lost
            if (experiment := self._client.get_experiment_by_name(self.experiment)) is None:
                raise
            identity = experiment.experiment_id
        experiment = self._client.get_experiment(identity)
        try:
            self._check_experiment(experiment)
        except UserError:  # it would keep the place for ever: leave its name to a better one
            self._client.rename_experiment(identity, f"{self.experiment} (refused {identity})")
            self._client.delete_experiment(identity)
            raise
        return str(identity)

    def cells(self) -> dict[str, TrackedRun]:
        """The run of every cell of the experiment, whichever sweep first ran it."""
        if self._experiment is None:
            return {}
        query = f"tags.`{Tag.KIND}` = '{RunKind.CELL}'"
        read = self._patiently(
            lambda: runs_of_kind(self.uri, [self.id], RunKind.CELL, lambda token: self._page(query, token))
        )
        runs = runs_by_cell(read)
        self._read = runs
        return {
            cell: TrackedRun(run.info.run_id, outcome_of(run), domains_of(run.data.tags, run.data.metrics))
            for cell, run in runs.items()
        }

    def take_read(self) -> dict[str, ReadRun] | None:
        """The runs that `cells` has read, by cell, whole, and as they were then; they are handed over once."""
        read, self._read = self._read, None
        return read

    def open_sweep(self, record: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """The parent run of the sweep with identity `record["sweep"]`, new or reopened, with its record stored."""
        opened: list[str] = []
        try:
            return self._patiently(lambda: self._open_sweep(record, tags, opened))
        except BaseException:
            for run_id in opened:
                with contextlib.suppress(Exception):
                    within(LAST_WORD_SECONDS, partial(self._client.set_terminated, run_id, "FAILED"))
            raise

    def check_sweep(self, record: Mapping[str, Any]) -> None:
        """Raise `UserError` where the parent run of a sweep, or of one of its cells, could not be opened or filled.

        Nothing is made of it: a store that has no such experiment yet is not asked.
        """
        if self._experiment is None:
            return
        self._check_place(self._experiment.artifact_location)
        if (run := self._patiently(lambda: self._parent(record["sweep"]))) is None:
            return
        self._check_place(run.info.artifact_uri)
        for name in PARENT_PARAMETERS:
            known = run.data.params.get(name, str(record[name]))
            if known != str(record[name])[:LONGEST_PARAMETER]:
                raise UserError(
                    f"the sweep of these cells is {name} {known} in the tracking store, run {run.info.run_id}, and not "
                    f"{record[name]}: name {known}, or give the sweep another cell"
                )

    def _parent(self, identity: str) -> Any:
        """The parent run of a sweep, None where there is none."""
        query = f"tags.`{Tag.KIND}` = '{RunKind.SWEEP}' and tags.`{Tag.SWEEP}` = '{identity}'"
        return next(self._search(query), None)

    def _check_place(self, uri: str) -> None:
        """Refuse a place of artifacts on this machine's disk that a store has from elsewhere."""
        refuse_local_artifacts(self.uri, uri, f"experiment {self.experiment!r}")
        if not is_local(uri):
            return
        folder = Path(local_file_uri_to_path(uri))
        beside = local_artifacts(self.uri, self.experiment)
        there = beside and Path(local_file_uri_to_path(beside))
        words = f"tracking store {masked(self.uri)}: experiment {self.experiment!r} keeps its artifacts at {folder}"
        if there and there.is_dir() and not folder.exists() and there != folder:
            raise UserError(f"{words}, where nothing is: move the store back, or link that place to {there}")
        parent = next((one for one in (folder, *folder.parents) if one.exists()), folder)
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise UserError(f"{words}, where nothing can be written: was the store moved? move it back, or link it")

    def _open_sweep(self, record: Mapping[str, Any], tags: Mapping[str, str], opened: list[str]) -> str:
        identity, began = record["sweep"], datetime.now(UTC).isoformat(timespec="seconds")
        run = self._parent(identity)
        if run is None:
            own = {Tag.KIND: RunKind.SWEEP, Tag.SWEEP: identity, **tags}
            run = self._client.create_run(
                self.id, tags=own, run_name=record.get("study") or f"{record['name']} {record['preset']}"
            )
            opened[:] = [run.info.run_id]
        else:
            opened[:] = [run.info.run_id]
            self._client.update_run(run.info.run_id, status="RUNNING")
        self._check_run(run)
        run_id = run.info.run_id
        params = [Param(key, str(record[key])) for key in PARENT_PARAMETERS]  # the same at every try
        self._client.log_batch(run_id, params=params, tags=[RunTag(str(Tag.BEGAN), began)])
        self._client.log_dict(run_id, dict(record), SWEEP_FILE)
        return run_id

    def end_sweep(self, run_id: str, status: str, patience: float = PATIENCE) -> None:
        """Set the final status of the parent run, restored where it was deleted. Raises `TrackingError`.

        Without `patience` a store that does not answer is given up within seconds.
        """

        def end() -> None:
            if self.restore(run_id) is RunState.LOST:
                raise UserError(f"the sweep's run {run_id} was deleted for good; the same command makes another")
            self.end(run_id, status)

        try:
            if not patience:
                within(LAST_WORD_SECONDS, end)
            else:
                self._patiently(end, patience)
        except UserError as error:
            raise TrackingError(str(error)) from None
        except Exception as error:
            raise TrackingError(str(refusal(self.uri, error))) from None

    def open_cell(self, cell: Cell, parent: str, tags: Mapping[str, str], start: int) -> str:
        """A new run of a cell that begins at `start`, in ms, by which it is found where the answer is lost."""
        name = " ".join(f"{key.split('.')[-1]}={_short(value)}" for key, value in cell.values.items()) or cell.identity
        own = {Tag.KIND: RunKind.CELL, Tag.CELL: cell.identity, Tag.PARENT: parent, Tag.FAMILY: cell.family, **tags}
        run = self._client.create_run(self.id, start_time=start, tags=own, run_name=name)
        self._check_run(run)
        return run.info.run_id

    def find_cell(self, cell: str, start: int) -> str | None:
        """The run of a cell that begins at `start`."""
        runs = self._search(f"tags.`{Tag.CELL}` = '{cell}' and attributes.start_time = {start}")
        return next((run.info.run_id for run in runs), None)

    def configure(self, run_id: str, cell: Cell, logged: Collection[str] = ()) -> None:
        """Log a cell's configuration as parameters, less those that are `logged`, which cannot be changed.

        The first of them go with the next points or tags of the run, or before its end: a call costs more than a value.
        """
        params = [Param(key, str(v)) for key, v in parameters(cell.config).items() if key not in logged]
        for start in range(PARAMETER_BATCH, len(params), PARAMETER_BATCH):
            self._client.log_batch(run_id, params=params[start : start + PARAMETER_BATCH])
        if params:
            self._unsent[run_id] = params[:PARAMETER_BATCH]

    def reopen(self, run_id: str, cell: Cell) -> set[tuple[str, int]]:
        """Mark a cell's run as running again and return the points that it has already, as (metric, step)."""
        run = self._client.get_run(run_id)
        self._check_run(run)
        self._client.update_run(run_id, status="RUNNING")
        self.configure(run_id, cell, run.data.params)  # in case its process died before it had
        if run_id in self._unsent:
            self._log_batch(run_id)
        return self.points(run_id, run.data.metrics)

    def points(self, run_id: str, names: Iterable[str]) -> set[tuple[str, int]]:
        """The points that a run has of some metrics, as (metric, step)."""
        return {(m.key, m.step) for name in names for m in self._client.get_metric_history(run_id, name)}

    def restore(self, run_id: str) -> RunState:
        """Take a run out of the trash if it lies there."""
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return RunState.LOST
            raise
        if run.info.lifecycle_stage != "deleted":
            return RunState.INTACT
        self._client.restore_run(run_id)
        return RunState.RESTORED

    def log(self, run_id: str, points: Sequence[Point]) -> None:
        """Write points in their order, in as few calls as the store allows.

        A call that fails may have written all the same: where its first point is there, others may be too.
        """
        metrics = iter([Metric(name, value, moment, step) for name, step, value, moment in points])
        while batch := list(islice(metrics, BATCH - len(self._unsent.get(run_id, ())))):
            self._log_batch(run_id, metrics=batch)

    def log_file(self, run_id: str, path: Path) -> None:
        """Store a file among a run's artifacts."""
        if (repository := self._artifacts.get(run_id)) is None:
            self._client.log_artifact(run_id, str(path))
        else:
            repository.log_artifact(str(path))

    def log_json(self, run_id: str, value: Mapping[str, Any], name: str, indent: int | None = 2) -> None:
        """Store a JSON value among a run's artifacts."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_text(json.dumps(value, indent=indent, default=str))
            self.log_file(run_id, path)

    def model(self, run_id: str) -> bytes | None:
        """The model artifact of a run; None where it has none that can be read."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                return Path(self._client.download_artifacts(run_id, MODEL_FILE, folder)).read_bytes()
            except (OSError, MlflowException):
                return None

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set a run's tags."""
        self._log_batch(run_id, tags=[RunTag(str(key), value[:LONGEST_TAG]) for key, value in tags.items()])

    def end(self, run_id: str, status: str) -> None:
        """Set a run's final status: FINISHED, FAILED or KILLED."""
        if run_id in self._unsent:
            self._log_batch(run_id)
        self._client.set_terminated(run_id, status)
        self._artifacts.pop(run_id, None)

    def _log_batch(self, run_id: str, metrics: Sequence[Metric] = (), tags: Sequence[RunTag] = ()) -> None:
        """Write metrics and tags, with the parameters that wait; a call that fails may be repeated with them."""
        self._client.log_batch(run_id, metrics=metrics, tags=tags, params=self._unsent.get(run_id, ()))
        self._unsent.pop(run_id, None)

    def _search(self, query: str) -> Iterator[Any]:
        return all_pages(lambda token: self._page(query, token))

    def _page(self, query: str, token: str | None) -> Page:
        page: Page = self._client.search_runs([self.id], query, max_results=PAGE, page_token=token)
        return page

    def _check_experiment(self, experiment: Any) -> None:
        refuse_local_artifacts(self.uri, experiment.artifact_location, f"experiment {self.experiment!r}")

    def _check_run(self, run: Any) -> None:
        place = run.info.artifact_uri
        refuse_local_artifacts(self.uri, place, f"run {run.info.run_id}")
        if is_local(place):  # elsewhere MLflow's client knows what a place needs; it asks for the run first
            self._artifacts[run.info.run_id] = get_artifact_repository(place, tracking_uri=self.uri)

    def _patiently(self, act: Callable[[], Result], patience: float = PATIENCE) -> Result:
        """The result of `act`, which may be done again: tried for a while where the store fails, then `UserError`."""
        deadline, pause = time.monotonic() + patience, FIRST_PAUSE
        while True:
            try:
                return act()
            except (UserError, *DEFECTS):
                raise
            except Exception as error:
                stays = isinstance(error, NO_PLACE) or getattr(error, "error_code", None) in LASTING
                if stays or time.monotonic() + pause > deadline:
                    raise refusal(self.uri, error) from None
                if pause == FIRST_PAUSE:
                    words = "tracking store %s fails (%s): waiting for it, at most %.0f s; Ctrl-C ends it"
                    logger.warning(words, masked(self.uri), one_line(error), patience)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def _short(value: object) -> str:
    """A value on an axis as a run's name shows it: one that was drawn has four digits."""
    return f"{value:.4g}" if isinstance(value, float) and len(str(value)) > 8 else str(value)
