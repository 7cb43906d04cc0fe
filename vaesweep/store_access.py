"""Calls to a tracking store that its writer and its reader both make.

The first one is refused in one line where it fails, within seconds where nothing answers. Runs are read by pages.

The calls themselves are MLflow's own, so that whatever MLflow reaches can be reached: behind proxies, with credentials
and private certificates, in databases. They are passed in, since only the writer and the reader of runs know MLflow.
"""

import contextvars
import gc
import math
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from vaesweep.environment import variables
from vaesweep.errors import UserError, cause_of, line_of
from vaesweep.uris import DATABASE_SCHEMES, is_local, is_server, masked, scheme_of, sqlite_file
from vaesweep.vocabulary import Tag

PROBE_SECONDS = 15.0  # within which a server must answer, and the lock of a file must end
LOCK_SECONDS = 0.5  # for which SQLite waits in one go, and cannot be interrupted
MAKING_TRIES, MAKING_SECONDS = 30, 1.0  # of a database whose tables are being made
ALREADY_MADE = r"already exists|unique ?violation|unique constraint|duplicate key|schema \(found version None"
LONGEST_REASON = 200  # characters of a store's own words
NO_ACCESS = ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED")  # MLflow's codes of errors
# MLflow itself would try for minutes. It reads these at every call.
SHORT_REQUESTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": f"{PROBE_SECONDS - 1:.0f}",
    "MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT": f"{PROBE_SECONDS - 1:.0f}",
}
# What fails is tried again by whoever calls, who can be interrupted, and says what is waited for.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # two bars a file would stand between our lines
PACKAGES = ("mlflow", "sqlalchemy", "sqlite3", "requests", "urllib3", "alembic")  # whose errors are a store's
PROXIES = ("http", "https", "all")  # whose variables a client of a server reads
SQLITE_HEADER = b"SQLite format 3\0"
USED_TABLES = ("runs", "_alembic_tmp_runs", "metrics", "params")  # which have rows in a store that was ever used

Answer = TypeVar("Answer")


class Page(Protocol):
    """One page of MLflow's answers: a list with the token of the next page."""

    token: str | None

    def __iter__(self) -> Iterator[Any]: ...


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The name of a run, its experiment and status; when it began, and ended if it has, in ms; where its files are."""

    run_id: str
    experiment_id: str
    status: str
    start_time: int
    end_time: int | None
    artifact_uri: str


@dataclass(frozen=True, slots=True)
class RunData:
    """Tags, parameters and last values of metrics, by name; the last step of these, and their newest time, in ms."""

    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    last_step: int
    last_time: int


@dataclass(frozen=True, slots=True)
class ReadRun:
    """The parts of an MLflow run that we use, under its names for them, in a fifth of its memory."""

    info: RunInfo
    data: RunData


class _Texts:
    """Texts that many runs have, each kept once."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def of(self, text: str) -> str:
        """The text that is kept of equal ones."""
        return self._texts.setdefault(text, text)

    def all_of(self, values: dict[str, str]) -> dict[str, str]:
        """The same names and values, as they are kept."""
        return {self.of(name): self.of(text) for name, text in values.items()}


def all_pages(search: Callable[[str | None], Page]) -> Iterator[Any]:
    """All results of `search(page_token)`, page after page."""
    token: str | None = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def read_runs(search: Callable[[str | None], Page]) -> list[ReadRun]:
    """All runs of `search(page_token)`, each text of theirs kept once."""
    texts = _Texts()

    def info(run: Any) -> RunInfo:
        experiment, status = texts.of(run.info.experiment_id), texts.of(run.info.status)
        times = run.info.start_time or 0, run.info.end_time
        return RunInfo(run.info.run_id, experiment, status, *times, run.info.artifact_uri)

    def data(run: Any) -> RunData:
        points = run.data._metric_objs  # with steps and times, which `run.data.metrics` leaves out
        return RunData(
            texts.all_of(run.data.tags),
            texts.all_of(run.data.params),
            {texts.of(point.key): point.value for point in points},
            max([point.step for point in points], default=0),
            max([point.timestamp for point in points], default=0),
        )

    with _no_collector():
        return [ReadRun(info(run), data(run)) for run in all_pages(search)]


def runs_of_kind(
    uri: str, experiments: Collection[str], kind: str, search: Callable[[str | None], Page]
) -> list[ReadRun]:
    """All active runs of a kind in experiments, given by their identities; the newest first.

    Those of an SQLite file are read from its tables, a tenth of the time that `search(page_token)` takes, by MLflow,
    which is asked of any other store, and of a file whose tables are not those that are known here.
    """
    if (file := sqlite_file(uri)) is not None:
        with suppress(sqlite3.Error), closing(_opened(file, "ro")) as database, _no_collector():
            return _runs_in(database, experiments, kind)
    return read_runs(search)


def _runs_in(database: sqlite3.Connection, experiments: Collection[str], kind: str) -> list[ReadRun]:
    """What `runs_of_kind` gives, in the order in which MLflow gives it."""
    chosen = (
        "with chosen as (select runs.* from runs join tags using (run_uuid) where lifecycle_stage = 'active' "
        f"and experiment_id in ({','.join('?' * len(experiments))}) and key = ? and value = ?)"
    )
    values = (*map(int, experiments), str(Tag.KIND), str(kind))
    texts = _Texts()
    database.execute("begin")  # one state of all tables
    columns = "run_uuid, experiment_id, status, start_time, end_time, artifact_uri"
    found = database.execute(f"{chosen} select {columns} from chosen order by start_time desc, run_uuid", values)
    infos = [
        RunInfo(run, texts.of(str(of)), texts.of(status), began or 0, end, place)
        for run, of, status, began, end, place in found
    ]
    tags: dict[str, dict[str, str]] = {info.run_id: {} for info in infos}
    params: dict[str, dict[str, str]] = {info.run_id: {} for info in infos}
    for table, of_run in (("tags", tags), ("params", params)):
        rows = f"{chosen} select run_uuid, {table}.key, {table}.value from chosen join {table} using (run_uuid)"
        for run, key, value in database.execute(rows, values):
            of_run[run][texts.of(key)] = texts.of(value)
    metrics: dict[str, dict[str, float]] = {info.run_id: {} for info in infos}
    last_steps, last_times = dict.fromkeys(metrics, 0), dict.fromkeys(metrics, 0)
    columns = "run_uuid, m.key, m.value, m.is_nan, m.step, m.timestamp"
    rows = f"{chosen} select {columns} from chosen join latest_metrics m using (run_uuid)"
    for run, key, value, is_nan, step, moment in database.execute(rows, values):
        of_metrics = metrics[run]
        if not of_metrics:
            last_steps[run], last_times[run] = step, moment
        of_metrics[texts.of(key)] = math.nan if is_nan else value
        last_steps[run], last_times[run] = max(last_steps[run], step), max(last_times[run], moment)
    return [
        ReadRun(info, RunData(tags[run], params[run], metrics[run], last_steps[run], last_times[run]))
        for run, info in ((info.run_id, info) for info in infos)
    ]


def _opened(file: Path, mode: str, seconds: float = 5.0) -> sqlite3.Connection:
    """A connection to an SQLite file that is there, which waits so long for a lock."""
    return sqlite3.connect(f"file:{quote(str(file.resolve()))}?mode={mode}", uri=True, timeout=seconds)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Context in which Python looks for no cycles: it would go through all that was read, at every page and more."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class StoreFile(Enum):
    """The condition of an SQLite store's file."""

    ABSENT = "absent"
    HALF_MADE = "half made"  # its making was interrupted; it has never held a run
    COMPLETE = "complete"


def first_answer(uri: str, call: Callable[[], Answer], connect: Callable[[], object]) -> Answer:
    """The answer of a store to its first `call`; `connect` is tried before where the store is a database.

    A server must answer within `PROBE_SECONDS`. A database must accept a connection within them and may then take its
    time, since MLflow may have to make its tables. Raises `UserError` where the store fails.
    """
    try:
        if is_server(uri):
            return within(PROBE_SECONDS, call)
        if scheme_of(uri) in DATABASE_SCHEMES and scheme_of(uri) != "sqlite":
            within(PROBE_SECONDS, connect)
            return once_made(call)
        return call()
    except UserError:
        raise
    except Exception as error:
        raise refusal(uri, error) from None


def once_made(call: Callable[[], Answer], tries: int = MAKING_TRIES) -> Answer:
    """The answer of a database, whose tables another command may be making at this moment."""
    for _ in range(tries):
        try:
            return call()
        except Exception as error:
            if not re.search(ALREADY_MADE, str(error), re.IGNORECASE):
                raise
            time.sleep(MAKING_SECONDS)
    return call()


def within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """What `call` returns or raises, or `TimeoutError`: then its thread is left behind, since nothing can end it."""
    answer: Future[Answer] = Future()

    def ask() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    with short_requests():
        threading.Thread(target=contextvars.copy_context().run, args=(ask,), name="first call", daemon=True).start()
        try:
            return answer.result(timeout=seconds)
        except TimeoutError as error:
            raise TimeoutError(str(error) or f"nothing within {seconds:.0f} s") from None


def short_requests() -> AbstractContextManager[None]:
    """Context in which MLflow's client gives up after seconds, whatever the user has set for other calls."""
    return variables(SHORT_REQUESTS)


def refusal(uri: str, error: BaseException) -> UserError:
    """The line that says why a store cannot be used, and what would be right."""
    where, text, reason = f"tracking store {masked(uri)}", str(error), one_line(error)
    if schema := re.search(r"out-of-date database schema \(found version (\w+)", text):
        return _other_schema(uri, schema[1])
    if isinstance(error, ModuleNotFoundError):
        return UserError(f"{where}: a package that it needs is not installed ({error}); install it with pip")
    if reason.startswith("Invalid url"):
        return UserError(f"{where}: this is no URI; quote what is special in a password, as %2F for / and %40 for @")
    if "MLFLOW_ALLOW_FILE_STORE" in text:
        return UserError(f"{where}: MLflow uses a folder only where MLFLOW_ALLOW_FILE_STORE=true; name sqlite:///FILE")
    if distrust := re.search(r"certificate verify failed: ([^(\"']+)", text):
        return UserError(
            f"{where}: its certificate is not trusted ({distrust[1].strip()}); name the file of its authority in "
            "MLFLOW_TRACKING_SERVER_CERT_PATH"
        )
    if re.search(r"error code 40[13] ", text) or getattr(error, "error_code", None) in NO_ACCESS:
        return UserError(
            f"{where} refuses us ({reason}); check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            f"MLFLOW_TRACKING_TOKEN{proxy_hint(uri)}"
        )
    if "is locked" in text:
        right = "another process writes to it: try again when that has ended"
        return UserError(f"{where} cannot be used ({reason}); {right}")
    kind = "server" if is_server(uri) else "store"
    if isinstance(error, TimeoutError | ConnectionError) or _network_cause(text):
        right = proxy_hint(uri) or "; start it, or name another by MLFLOW_TRACKING_URI"
        return UserError(f"{where}: no {kind} answers ({reason}){right}")
    return UserError(f"{where} cannot be used ({reason}){proxy_hint(uri) or _right(text)}")


def _right(text: str) -> str:
    if "readonly" in text or "read-only" in text:
        return "; it cannot be written to: name another by MLFLOW_TRACKING_URI, or a copy of it"
    return "; name another by MLFLOW_TRACKING_URI"


def is_of_store(error: BaseException) -> bool:
    """Whether an error is one that a tracking store's client raises of its store."""
    return type(error).__module__.partition(".")[0] in PACKAGES


@contextmanager
def refusals(uri: Callable[[], str]) -> Iterator[None]:
    """Context in which the store at `uri()` is read: its client's errors come within seconds, as `UserError`."""
    try:
        with short_requests():
            yield
    except Exception as error:
        if not is_of_store(error):
            raise
        raise refusal(uri(), error) from None


def one_line(error: BaseException) -> str:
    """What a store's error says first, or its class, without secrets; SQL and advice follow it."""
    if "API request to" in str(error) and (cause := _network_cause(str(error))):
        return cause  # which many layers of retries have wrapped
    if isinstance(error, OSError) or getattr(error, "orig", None) is not None:
        return line_of(masked(cause_of(error)), LONGEST_REASON)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    line = masked(re.sub(r"^\(\w+(?:\.\w+)+\) ", "", lines[0]))  # (sqlite3.OperationalError) …
    line = line if len(line) <= LONGEST_REASON else re.split(r"[.:] (?=[A-Z])", line)[0]
    return line_of(line, LONGEST_REASON)


def proxy_hint(uri: str) -> str:
    """What a line adds on a server that is asked by way of a proxy, as environment variables say; empty if none is."""
    url = urlsplit(uri)
    proxies = getproxies_environment()
    name = next((name for name in PROXIES if name in proxies and name in (url.scheme, "all")), None)
    if name is None or not url.hostname or proxy_bypass_environment(url.netloc.rpartition("@")[2]):
        return ""
    return f"; {name.upper()}_PROXY={masked(proxies[name])} stands between: add {url.hostname} to NO_PROXY"


def _network_cause(text: str) -> str | None:
    cause = re.search(r"\[Errno -?\d+\] ([^'\")\]]+)|(Read timed out)", text)
    return (cause[1] or cause[2]).strip() if cause else None


def refuse_local_artifacts(uri: str, location: str, owner: str) -> None:
    """Refuse a server that keeps the artifacts of `owner` on its own disk: its client would write to this machine's."""
    if is_server(uri) and is_local(location):
        raise UserError(
            f"tracking store {masked(uri)}: {owner} keeps its artifacts at {location}, which would be a place on the "
            "disk of this machine; start the server with --serve-artifacts or --artifacts-destination, and take "
            "another experiment, since one keeps the place that it was made with"
        )


def store_file(uri: str) -> StoreFile:
    """The condition of the file of the SQLite store at `uri`.

    Raises `UserError` where it is a file of something else, or has the schema of another version of MLflow.
    """
    file = sqlite_file(uri)
    if file is None or not file.exists():
        return StoreFile.ABSENT
    if not file.is_file():
        raise UserError(f"{file} is not a file: name another tracking store")
    try:
        with file.open("rb") as stream:
            header = stream.read(len(SQLITE_HEADER))
        if header not in (b"", SQLITE_HEADER):
            raise UserError(f"{file} is not an SQLite database; it is left as it is: name another tracking store")
        return _once_unlocked(uri, file)
    except (OSError, sqlite3.DatabaseError) as error:
        if "is locked" in str(error):  # MLflow itself would try for minutes
            raise refusal(uri, TimeoutError(f"database is locked for more than {PROBE_SECONDS:.0f} s")) from None
        raise UserError(f"{file} cannot be read as a tracking store ({error}); name another, or a backup") from None


def _once_unlocked(uri: str, file: Path) -> StoreFile:
    """The condition of a database, which another process may keep locked for `PROBE_SECONDS`; Ctrl-C ends the wait."""
    deadline = time.monotonic() + PROBE_SECONDS
    while True:
        try:
            with closing(_opened(file, "rw", LOCK_SECONDS)) as database:
                return _condition(uri, file, database)
        except sqlite3.OperationalError as error:
            if "is locked" not in str(error) or time.monotonic() > deadline:
                raise


def _condition(uri: str, file: Path, database: sqlite3.Connection) -> StoreFile:
    tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
    if not tables:
        return StoreFile.HALF_MADE
    if "experiments" not in tables:
        raise UserError(f"{file} is a database of something else ({', '.join(sorted(tables)[:3])}): name another file")

    def rows(table: str) -> bool:
        return table in tables and database.execute(f"select 1 from {table} limit 1").fetchone() is not None

    revisions = (
        database.execute("select version_num from alembic_version").fetchall() if rows("alembic_version") else []
    )
    made = revisions and "runs" in tables and rows("experiments")
    if not made and not any(rows(table) for table in USED_TABLES):
        return StoreFile.HALF_MADE
    if "runs" not in tables:
        raise UserError(f"{file} has lost its table of runs; name another tracking store, or a backup of it")
    if revisions and _latest_revision() not in (None, revisions[0][0]):
        raise _other_schema(uri, revisions[0][0])
    return StoreFile.COMPLETE


def _other_schema(uri: str, revision: str) -> UserError:
    if revision == "None" or revision in _revisions():
        return UserError(
            f"tracking store {masked(uri)} has the schema of an older MLflow ({revision}); make a backup of it, "
            f"then run: mlflow db upgrade {masked(uri)}"
        )
    return UserError(
        f"tracking store {masked(uri)} has the schema of a newer MLflow than the one installed here ({revision}); "
        "install that one: pip install --upgrade mlflow"
    )


def _latest_revision() -> str | None:
    """The schema that the installed MLflow writes."""
    latest = set(_revisions()) - set(_revisions().values())
    return latest.pop() if len(latest) == 1 else None


@cache
def _revisions() -> dict[str, str]:
    """The schemas that the installed MLflow knows, each with the one before it."""
    package = find_spec("mlflow")
    folders = package.submodule_search_locations if package else None
    known: dict[str, str] = {}
    for folder in folders or ():
        for file in Path(folder, "store", "db_migrations", "versions").glob("*.py"):
            entries = dict(re.findall(r"^(revision|down_revision) *(?::.*)?= *['\"](\w+)['\"]", file.read_text(), re.M))
            if "revision" in entries:
                known[entries["revision"]] = entries.get("down_revision", "")
    return known
