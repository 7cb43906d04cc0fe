"""The place of an SQLite store: one command at a time opens it, and what is made of it is made whole or not at all.

MLflow takes seconds to make a store's tables. They are made in a draft beside it, `<file>.<random>.part`, which is
renamed when it is complete; a command that dies meanwhile leaves a draft, which the next one deletes.
"""

import logging
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH

from vaesweep.errors import UserError
from vaesweep.store_access import StoreFile, one_line, store_file
from vaesweep.uris import SQLITE, masked, sqlite_file

PATIENCE = 120.0  # seconds; MLflow makes a new store's tables in some five
DRAFT, ASIDE = ".part", ".half-made"
SIDECARS = ("-journal", "-wal", "-shm")  # files of a transaction that is not over, which belong to one database file

# Quiet the migrations of a fresh store, repeated requests, and tracebacks of errors that are raised to us anyway.
logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("urllib3").setLevel(logging.ERROR)
logging.getLogger("mlflow").setLevel(logging.CRITICAL)
logger = logging.getLogger(__name__)


@contextmanager
def creation_lock(uri: str) -> Iterator[None]:
    """Context in which an SQLite store may be created: its folder exists, and no other command creates the same store.

    Two commands that find no tables would both create them, and MLflow's migrations fail where that happens. UserError
    where another command holds the store for minutes.
    """
    file = sqlite_file(uri)
    if file is None:
        yield
        return
    file = file.resolve()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file.with_name(f"{file.name}.lock"))
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        raise UserError(
            f"another command has been opening {masked(uri)} for {PATIENCE:.0f} s; end it, or remove {lock.lock_file}"
        ) from None
    except OSError as error:
        raise UserError(f"{file.parent}: no tracking store can be written there ({error.strerror})") from None
    try:
        yield
    finally:
        lock.release()


def make_if_missing(uri: str) -> None:
    """Make the SQLite store at `uri` where there is none, within its `creation_lock`; other stores are left alone.

    What an interrupted making has left behind is put right: drafts are deleted, and a store of an earlier version that
    was never complete is moved aside. Raises `UserError` where the file is something else, or nothing can be written.
    """
    file = sqlite_file(uri)
    if file is None:
        return
    file = file.resolve()
    draft_name = re.compile(rf"{re.escape(file.name)}\.[0-9a-f]{{8}}{re.escape(DRAFT)}({'|'.join(SIDECARS)})?")
    for path in file.parent.iterdir():
        if draft_name.fullmatch(path.name):
            path.unlink(missing_ok=True)  # nobody writes to it: whoever does has the lock
    condition = store_file(uri)
    if condition is StoreFile.COMPLETE:
        return
    if condition is StoreFile.ABSENT:
        _move_aside(file)  # what a file that was here once has left: SQLite would apply it to the new one
    else:
        logger.warning("%s was never made to its end and holds no run: it is now %s", file, _move_aside(file).name)
    _make(file)


def _make(file: Path) -> None:
    draft = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}{DRAFT}")
    try:
        draft.touch()  # where nothing can be written MLflow itself would try for minutes
        _make_tables(draft)
        _flush(draft)
        if not file.exists():  # as it would, were it made by a program that knows nothing of the lock
            draft.replace(file)
            _flush(file.parent)
    except Exception as error:
        raise UserError(
            f"tracking store {file}: it cannot be made ({one_line(error)}); make room, or name another"
        ) from None
    finally:
        for ending in ("", *SIDECARS):
            draft.with_name(draft.name + ending).unlink(missing_ok=True)


def _make_tables(file: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # takes a second to import

    SqlAlchemyStore(f"{SQLITE}{file}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()


def _move_aside(file: Path) -> Path:
    """Rename a file that is not wanted and what belongs to it, and return its new name."""
    aside = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}{ASIDE}")
    for ending in (*SIDECARS, ""):
        if (part := file.with_name(file.name + ending)).exists():
            part.replace(aside.with_name(aside.name + ending))
    return aside


def _flush(path: Path) -> None:
    """Have what was written to a file, or renamed in a folder, outlast a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def local_artifacts(uri: str, experiment: str) -> str | None:
    """URI of the folder of an experiment's artifacts beside an SQLite store; None for a server, which has its own."""
    file = sqlite_file(uri)
    return None if file is None else (file.resolve().parent / "mlflow-artifacts" / experiment).as_uri()
