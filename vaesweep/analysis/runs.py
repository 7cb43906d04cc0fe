"""A sweep read back from MLflow: its record, its cells and their final numbers.

Runs are found by the tags of the tracking vocabulary, never by name. Only cells that the parent run's
record lists count: an experiment may hold the cells of several sweeps, and sweeps may share cells.
"""

import difflib
import json
import logging
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient, get_tracking_uri
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path

from vaesweep.data.domains import Role
from vaesweep.errors import UserError, line_of
from vaesweep.store_access import (
    ReadRun,
    RunInfo,
    StoreFile,
    all_pages,
    first_answer,
    one_line,
    refuse_local_artifacts,
    runs_of_kind,
    store_file,
)
from vaesweep.uris import is_local, sqlite_file
from vaesweep.vocabulary import (
    RECORD_DIGEST,
    SWEEP_FILE,
    TABLE_FILE,
    RunKind,
    Tag,
    has_table,
    numbers_of_table,
    record_digest,
    runs_by_cell,
    split_final,
)

PAGE = 1000
MOST_PASSED = 20  # parent runs without a record that are passed over
MISSING = "missing"  # outcome of a cell that was never started
RUNNING = "running"  # outcome of a cell that has not ended
SETTLED_METRIC, SKIPPED_METRIC = "train/settled", "train/skipped"  # at the last evaluation
BETA = "beta."  # begins the columns of the weights of rates at the last evaluation
INFINITE = 1e308  # MLflow stores infinity as 1.8e308
READERS = 16  # threads that fetch tables of runs from a server
TARGET = re.compile(r"rates\.(?P<rate>.+)\.target")
Finals = Mapping[tuple[str, str], float]  # final numbers of a cell, by domain and metric

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DomainRecord:
    """A domain that every cell was evaluated on; `rows` is 0 where the record does not say how many it has."""

    name: str
    role: Role
    rows: int = 0


@dataclass(frozen=True)
class SweepRecord:
    """The record of a sweep in its parent run. `cells` maps a cell's hash to its value on every axis."""

    sweep: str
    name: str
    family: str
    preset: str
    command: str
    axes: dict[str, list[Any]]
    cells: dict[str, dict[str, Any]]
    domains: tuple[DomainRecord, ...]
    data: str = ""  # what `--data` named
    data_sets: int = 1  # that its cells train on
    steps: dict[str, int] = field(default_factory=dict)  # of every cell, where the record says them
    fingerprint: str = ""  # of the data
    summary: tuple[str, ...] = ()  # of the data, in lines

    @classmethod
    def from_json(cls, text: str) -> "SweepRecord":
        """Read the text of `sweep.json`. Raises `UserError` where something is missing."""
        try:
            raw = json.loads(text)
            if raw.get(RECORD_DIGEST, record_digest(raw)) != record_digest(raw):  # release 0.1 had none
                raise ValueError("its content is not what was written")
            return cls(
                **{key: str(raw[key]) for key in ("sweep", "name", "family", "preset", "command")},
                axes=dict(raw["axes"]),
                cells={cell["cell"]: dict(cell["values"]) for cell in raw["cells"]},
                data=str(raw.get("data", {}).get("spec", "")),
                data_sets=max(1, len(str(raw.get("data", {}).get("fingerprint", "")).split())),
                domains=tuple(_domain(domain) for domain in raw["domains"]),
                fingerprint=str(raw.get("data", {}).get("fingerprint", "")),
                summary=tuple(map(str, raw.get("data", {}).get("summary", ()))),
                steps={cell["cell"]: int(cell["steps"]) for cell in raw["cells"] if "steps" in cell},
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{SWEEP_FILE} is not a sweep's record ({error!r}); was it edited by hand?") from error


def _domain(raw: Mapping[str, Any]) -> DomainRecord:
    return DomainRecord(raw["name"], Role(raw["role"]), int(raw.get("rows", 0)))


@dataclass(frozen=True)
class Runs:
    """One sweep as tracked.

    `run_id` is the parent run's, `run_ids` maps a cell to its own; `began` is when the last command began, `code` the
    versions of the code that have trained cells. `cells` has one row a listed cell: cell, outcome
    (finished, diverged, failed, running or missing), cause, saturated (names of the rates whose target was out of
    reach), settled (whether the rate controls were at the last evaluation, None where there was none), skipped (steps
    that were not taken), a column for every axis, every target and the seed, and `beta.` with the name of a rate for
    its last weight. `finals` has one row a final number: cell, domain, metric, value. `params` has the settings of a
    cell as MLflow has them, texts by dotted key.
    """

    record: SweepRecord
    run_id: str
    cells: pd.DataFrame
    finals: pd.DataFrame
    run_ids: dict[str, str] = field(default_factory=dict)
    params: dict[str, dict[str, str]] = field(default_factory=dict)
    experiment_id: str = ""
    began: str = ""
    code: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Which sweep this is, in one line: its identity, its preset and its command."""
        record = self.record
        return line_of(f"sweep {record.sweep}, preset {record.preset}: {record.command}")


def read(
    experiment: str,
    tracking_uri: str | None = None,
    sweep: str | None = None,
    known: Mapping[str, ReadRun] | None = None,
) -> Runs:
    """Read one sweep of `experiment`: the last used that has a record, or the one whose identity is `sweep`.

    `known` are the runs of the experiment's cells, where somebody has just read them.

    Raises `UserError` when the store, the experiment, the sweep or every one of its cells is missing.
    """
    client = client_of(tracking_uri)
    experiment_id = _experiment_id(client, experiment)
    parent, record = _recorded(client, _parents(client, experiment, experiment_id, sweep))
    every = runs_by_cell(search_runs(client, [experiment_id], RunKind.CELL)) if known is None else known
    cell_runs = {cell: run for cell, run in every.items() if cell in record.cells}
    if not cell_runs:
        raise UserError(
            f"experiment {experiment!r} holds none of the {len(record.cells)} cells of sweep {record.sweep}; "
            "run the sweep first, or wait for its first cell"
        )
    return replace(
        assemble(record, parent.info.run_id, cell_runs, tables_of(client, cell_runs)),
        experiment_id=str(experiment_id),
        began=parent.data.tags.get(Tag.BEGAN, ""),
    )


def assemble(
    record: SweepRecord, run_id: str, cell_runs: Mapping[str, ReadRun], tables: Mapping[str, Finals] | None = None
) -> Runs:
    """The sweep of a record whose parent run is `run_id`, with the run of every cell that has one.

    `tables` are the final numbers of cells that are no metrics of their runs, where these have been read.
    """
    code = dict.fromkeys(run.data.tags.get(Tag.CODE, "") for run in cell_runs.values())
    ids = {cell: run.info.run_id for cell, run in cell_runs.items()}
    params = {cell: run.data.params for cell, run in cell_runs.items()}
    return Runs(
        record,
        run_id,
        _cells_frame(record, cell_runs),
        _finals_frame(cell_runs, tables or {}),
        ids,
        params,
        code=tuple(filter(None, code)),
    )


def tables_of(client: MlflowClient, cell_runs: Mapping[str, ReadRun]) -> dict[str, Finals]:
    """The final numbers, by cell, that runs have in a table and not as metrics; said where one cannot be read."""
    having = {cell: run.info for cell, run in cell_runs.items() if has_table(run.data.tags)}
    if not having:
        return {}
    faults: list[str] = []

    def read_table(info: RunInfo) -> Finals | None:
        try:
            return numbers_of_table(_table_text(client, info))
        except (OSError, ValueError, MlflowException) as error:
            faults.append(f"run {info.run_id}: {one_line(error)}")
            return None

    with ThreadPoolExecutor(READERS, "tables") as threads:
        tables = dict(zip(having, threads.map(read_table, having.values()), strict=True))
    if faults:
        logger.warning("%s of %d cells cannot be read, whose metrics lack: %s", TABLE_FILE, len(faults), faults[0])
    return {cell: table for cell, table in tables.items() if table is not None}


def _table_text(client: MlflowClient, info: RunInfo) -> str:
    if is_local(info.artifact_uri):
        return Path(local_file_uri_to_path(info.artifact_uri), TABLE_FILE).read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        repository = get_artifact_repository(info.artifact_uri, tracking_uri=client.tracking_uri)
        return Path(repository.download_artifacts(TABLE_FILE, folder)).read_text("utf-8")


def log_files(run_id: str, paths: Iterable[Path], tracking_uri: str | None = None, folder: str | None = None) -> None:
    """Log files as artifacts of a run, in a `folder` of its artifacts, or at their top."""
    client = client_of(tracking_uri)
    refuse_local_artifacts(client.tracking_uri, client.get_run(run_id).info.artifact_uri, f"run {run_id}")
    for path in paths:
        client.log_artifact(run_id, str(path), folder)


def client_of(tracking_uri: str | None) -> MlflowClient:
    """An MLflow client of a store that answers, which logs warnings only.

    Raises `UserError` where it does not. A missing SQLite file is refused, since MLflow would create one.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # not of each request that is repeated
    uri = tracking_uri or get_tracking_uri()
    if (file := sqlite_file(uri)) and store_file(uri) is not StoreFile.COMPLETE:
        raise UserError(f"there is no tracking store {file}; run a sweep first, or name another store by its URI")

    def connected() -> MlflowClient:
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
        return client

    return first_answer(uri, connected, lambda: _connect(uri))


def _connect(uri: str) -> None:
    from mlflow.store.db.utils import create_sqlalchemy_engine  # takes a second to import

    create_sqlalchemy_engine(uri).connect().close()


def search_runs(client: MlflowClient, experiments: Iterable[str], kind: RunKind) -> list[ReadRun]:
    """All active runs of one kind in experiments, given by their identities; the newest first."""
    ids = list(experiments)
    return runs_of_kind(
        client.tracking_uri,
        ids,
        kind,
        lambda token: client.search_runs(
            ids,
            filter_string=f"tags.`{Tag.KIND}` = '{kind}'",
            max_results=PAGE,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        ),
    )


def experiment_names(client: MlflowClient) -> dict[str, str]:
    """Names of all active experiments by their identities."""
    experiments = all_pages(lambda token: client.search_experiments(max_results=PAGE, page_token=token))
    return {str(experiment.experiment_id): experiment.name for experiment in experiments}


def _experiment_id(client: MlflowClient, name: str) -> str:
    ids = {known: identity for identity, known in experiment_names(client).items()}
    if name not in ids:
        raise UserError(f"there is no experiment {name!r} in this tracking store; {suggestion(name, list(ids))}")
    return ids[name]


def suggestion(name: str, names: list[str]) -> str:
    """The nearest of the `names` that there are to one that is not, or some of them."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"it has {', '.join(sorted(names)[:10]) or 'none'}"


def _parents(client: MlflowClient, experiment: str, experiment_id: str, sweep: str | None) -> list[ReadRun]:
    """The parent runs of an experiment, or those of one sweep; the last used first, and at least one."""
    parents = sorted(search_runs(client, [experiment_id], RunKind.SWEEP), key=last_used, reverse=True)
    if wanted := [run for run in parents if sweep is None or run.data.tags.get(Tag.SWEEP) == sweep]:
        return wanted
    if not parents:
        raise UserError(f"experiment {experiment!r} holds no sweep; run one with this experiment's name first")
    sweeps = list(dict.fromkeys(run.data.tags.get(Tag.SWEEP, "") for run in parents))
    raise UserError(f"experiment {experiment!r} holds no sweep {sweep!r}; {suggestion(str(sweep), sweeps)}")


def last_used(parent: ReadRun) -> float:
    """When a command last began or ended on a sweep, by its parent run, in ms."""
    began = command_began(parent)
    return max(parent.info.start_time, parent.info.end_time or 0, began.timestamp() * 1000 if began else 0)


def command_began(parent: ReadRun) -> datetime | None:
    """When the last command began on a sweep, as its parent run has it since release 0.2."""
    try:
        began = datetime.fromisoformat(parent.data.tags.get(Tag.BEGAN, ""))
    except ValueError:
        return None
    return began if began.tzinfo else began.replace(tzinfo=UTC)


def _recorded(client: MlflowClient, parents: Sequence[ReadRun]) -> tuple[ReadRun, SweepRecord]:
    """The first parent run that has a record, with that. Raises `UserError` of the first of them where none has."""
    fault: UserError | None = None
    for parent in parents[:MOST_PASSED]:
        try:
            return parent, record_of(client, parent)
        except UserError as error:
            fault = fault or error
    assert fault is not None
    raise fault


def record_of(client: MlflowClient, parent: ReadRun) -> SweepRecord:
    """The record that a sweep's parent run holds. Raises `UserError` where it cannot be read, or is another sweep's."""
    record = SweepRecord.from_json(_artifact_text(client, parent.info.run_id, SWEEP_FILE))
    if record.sweep != parent.data.tags.get(Tag.SWEEP, record.sweep):
        raise UserError(f"{SWEEP_FILE} of run {parent.info.run_id} is the record of another sweep, {record.sweep}")
    return record


def _artifact_text(client: MlflowClient, run_id: str, name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(client.download_artifacts(run_id, name, folder)).read_text("utf-8")
        except (OSError, MlflowException, UnicodeError) as error:
            raise UserError(
                f"run {run_id} has no readable {name} ({one_line(error)}); "
                "is this the machine, and the folder, that the sweep was started from?"
            ) from error


def _cells_frame(record: SweepRecord, cell_runs: Mapping[str, ReadRun]) -> pd.DataFrame:
    return pd.DataFrame([_cell_row(cell, values, cell_runs.get(cell)) for cell, values in record.cells.items()])


def _cell_row(cell: str, values: dict[str, Any], run: ReadRun | None) -> dict[str, Any]:
    tags = run.data.tags if run else {}
    params = run.data.params if run else {}
    metrics = run.data.metrics if run else {}
    constants = {key: value for key, value in params.items() if key == "seed" or TARGET.fullmatch(key)}
    return {
        "cell": cell,
        "outcome": tags.get(Tag.OUTCOME, RUNNING if run else MISSING),
        "cause": tags.get(Tag.CAUSE, ""),
        "saturated": tags.get(Tag.SATURATED, ""),
        "settled": bool(metrics[SETTLED_METRIC]) if SETTLED_METRIC in metrics else None,
        "skipped": metrics.get(SKIPPED_METRIC, 0.0),
        **{name.removeprefix("train/"): value for name, value in metrics.items() if name.startswith(f"train/{BETA}")},
        **constants,
        **{axis: json.dumps(value) if isinstance(value, list | dict) else value for axis, value in values.items()},
    }


def _finals_frame(cell_runs: Mapping[str, ReadRun], tables: Mapping[str, Finals]) -> pd.DataFrame:
    rows = []
    for cell, run in cell_runs.items():
        table = tables.get(cell, {})  # the newer word, where a run of an earlier release has both
        rows += [
            (cell, *place, float("inf") * (1 if value > 0 else -1) if abs(value) > INFINITE else value)
            for name, value in run.data.metrics.items()
            if (place := split_final(name)) and place not in table
        ]
        rows += [(cell, *place, value) for place, value in table.items()]
    return pd.DataFrame(rows, columns=["cell", "domain", "metric", "value"])
