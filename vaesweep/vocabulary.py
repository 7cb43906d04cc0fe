"""Every name that MLflow shows, in one place: tags, metrics, artifacts (docs/tracking.md lists them with units).

The writer (`vaesweep.sweep`) and the reader (`vaesweep.analysis`) share this module and nothing else: the names, the
store's URI, and the choice of a cell's run among several.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from vaesweep.uris import check_store

DATUM = "datum"  # the unit that all nats are counted per; the parameter `datum.second` says how many seconds it has


class Tag(StrEnum):
    """Tags of parent and cell runs. Runs are found again by them, never by name."""

    KIND = "vaesweep.kind"  # Kind
    SWEEP = "vaesweep.sweep"  # identity of the sweep (parent) or of the sweep that first ran the cell
    CELL = "vaesweep.cell"  # hashed configuration of the cell
    BEGAN = "vaesweep.began"  # when the last command, or round of a search, began on a sweep: ISO 8601 in UTC
    PACK = "vaesweep.pack"  # the pack in which it last trained
    FAMILY = "vaesweep.family"
    CODE = "vaesweep.code"  # package version and git commit
    DATA = "vaesweep.data"  # fingerprint of what is trained on: the training and validation domains
    DOMAINS = "vaesweep.domains"  # JSON: fingerprint of every domain that the cell was evaluated on
    OUTCOME = "vaesweep.outcome"  # Outcome, set when the cell ends
    CAUSE = "vaesweep.cause"  # why a cell diverged or failed, with its step
    SATURATED = "vaesweep.saturated"  # names of rates whose target could not be reached
    BEST = "vaesweep.best"  # of a logged model: by which metrics its cell is the best of the sweep, metric@domain
    PARENT = "mlflow.parentRunId"


class RunKind(StrEnum):
    """The kind of a run: the sweep as a whole or one of its cells."""

    SWEEP = "sweep"
    CELL = "cell"


class Outcome(StrEnum):
    """The end of a cell. Finished and diverged cells are not run again; a failed one is."""

    FINISHED = "finished"
    DIVERGED = "diverged"
    FAILED = "failed"


SETTLED = (Outcome.FINISHED, Outcome.DIVERGED)  # cells that are not run again
PREFERENCE = {None: 0, Outcome.FAILED: 1, Outcome.DIVERGED: 2, Outcome.FINISHED: 3}  # of a cell's runs, by outcome


class _Data(Protocol):
    @property
    def tags(self) -> Mapping[str, str]: ...


class _Info(Protocol):
    @property
    def start_time(self) -> int: ...


class TaggedRun(Protocol):
    """The parts of an MLflow run that tell its cell, its outcome and its start."""

    @property
    def data(self) -> _Data: ...

    @property
    def info(self) -> _Info: ...


Run = TypeVar("Run", bound=TaggedRun)


def outcome_of(run: TaggedRun) -> Outcome | None:
    """The outcome of a run's cell; `None` where it has not ended, or where the tag is none of `Outcome`'s."""
    tag = run.data.tags.get(Tag.OUTCOME)
    return Outcome(tag) if tag in set(Outcome) else None


def domains_of(tags: Mapping[str, str], metrics: Iterable[str]) -> dict[str, str]:
    """Fingerprints of the domains that a run's cell was evaluated on, by name; runs of release 0.1 have names only."""
    try:
        domains = json.loads(tags.get(Tag.DOMAINS, "null"))
    except ValueError:
        domains = None
    if isinstance(domains, dict):
        return {str(name): str(data) for name, data in domains.items()}
    return {place[0]: "" for name in metrics if (place := split_final(name)) and place[1] == "elbo"}


def runs_by_cell(runs: Iterable[Run]) -> dict[str, Run]:
    """The run that counts of every cell: finished before diverged, failed and not ended ones; of equals the newest.

    An experiment may hold several of a cell: sweeps share cells, and drivers die between making and filling a run.
    """
    chosen: dict[str, Run] = {}
    for run in runs:
        cell = run.data.tags.get(Tag.CELL)
        if cell is not None and (cell not in chosen or _rank(run) > _rank(chosen[cell])):
            chosen[cell] = run
    return chosen


def _rank(run: TaggedRun) -> tuple[int, int]:
    return PREFERENCE[outcome_of(run)], run.info.start_time or 0


SWEEP_FILE = "sweep.json"  # artifact of the parent run: name, preset, command, axes, cells, domains (SweepRecord)
RECORD_DIGEST = "digest"  # of the record, in it
MODEL_FILE = "model.safetensors"  # artifact of a cell run: the trained weights
CONFIG_FILE = "config.json"  # artifact of a cell run: its canonical configuration
TABLE_FILE = "metrics.json"  # artifact of a cell run: those of its final numbers that are no metrics of the run
LOGGED_TABLES = "mlflow.loggedArtifacts"  # tag of a run: its tables, by which MLflow's pages find them
TABLE_COLUMNS = ("domain", "metric", "value")


def record_digest(record: Mapping[str, Any]) -> str:
    """The SHA-256 of a sweep's record but its digest, in hex digits: what `RECORD_DIGEST` must be."""
    values = {key: value for key, value in record.items() if key != RECORD_DIGEST}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=list).encode()).hexdigest()


STORE_OPTION, STORE_VARIABLE = "--tracking-uri", "MLFLOW_TRACKING_URI"


def store_uri(given: str | None = None) -> str:
    """URI of the tracking store: as `given`, `MLFLOW_TRACKING_URI`, or an SQLite file below the working directory.

    Raises `UserError` where MLflow does not take it.
    """
    named = os.environ.get(STORE_VARIABLE)
    uri = given or named or "sqlite:///results/mlflow.db"
    check_store(uri, STORE_OPTION if given else STORE_VARIABLE)
    return uri


def final(domain: str, metric: str) -> str:
    """Name of a final number of one domain: `test/nhanes.test/distortion`."""
    return f"test/{domain}/{metric}"


def table_tag() -> str:
    """The value of `LOGGED_TABLES` of a run with the table `TABLE_FILE`."""
    return json.dumps([{"path": TABLE_FILE, "type": "table"}])


def has_table(tags: Mapping[str, str]) -> bool:
    """Whether a run has the table `TABLE_FILE`, by its tags."""
    try:
        return any(table["path"] == TABLE_FILE for table in json.loads(tags.get(LOGGED_TABLES, "[]")))
    except (ValueError, TypeError, KeyError):
        return False


def final_table(numbers: Mapping[str, float]) -> dict[str, Any]:
    """Final numbers by `domain/metric` as a table in MLflow's form; what is not finite is a text, as JSON has none."""
    rows = [(*name.rsplit("/", 1), value if math.isfinite(value) else str(value)) for name, value in numbers.items()]
    return {"columns": TABLE_COLUMNS, "data": rows}


def numbers_of_table(text: str) -> dict[tuple[str, str], float]:
    """The numbers of a table's text, by domain and metric. Raises `ValueError` where it is none of ours."""
    try:
        table = json.loads(text)
        if tuple(table["columns"]) != TABLE_COLUMNS:
            raise ValueError(f"its columns are {table['columns']}")
        return {(str(domain), str(metric)): float(value) for domain, metric, value in table["data"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is no table of final numbers ({error!r})") from error


def split_final(name: str) -> tuple[str, str] | None:
    """`(domain, metric)` of a final number's name, `None` for any other metric."""
    prefix, _, rest = name.partition("/")
    domain, _, metric = rest.rpartition("/")
    return (domain, metric) if prefix == "test" and domain and metric else None
