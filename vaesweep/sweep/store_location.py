"""The place of a tracking store: a server that must answer, or an SQLite file in a folder that must exist."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from vaesweep.errors import UserError

SQLITE = "sqlite:///"
PATIENCE = 120.0  # seconds; MLflow makes a new store's tables in some five


def check_server(uri: str) -> None:
    """Refuse a server that does not answer, at once: MLflow itself would try for minutes."""
    if not uri.startswith(("http://", "https://")):
        return
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=15).close()
    except urllib.error.HTTPError:
        return  # it answers, whatever it thinks of that page
    except OSError as error:
        raise UserError(f"MLFLOW_TRACKING_URI {uri}: no server answers ({error}); start it, or unset it") from None


@contextmanager
def creation_lock(uri: str) -> Iterator[None]:
    """Context in which an SQLite store may be created: its folder exists, and no other command creates the same store.

    Two commands that find no tables would both create them, and MLflow's migrations fail where that happens. UserError
    where another command holds the store for minutes.
    """
    if not uri.startswith(SQLITE):
        yield
        return
    file = _file(uri)
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file.with_name(f"{file.name}.lock"))
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        raise UserError(
            f"another command has been opening {uri} for {PATIENCE:.0f} s; end it, or remove {lock.lock_file}"
        ) from None
    try:
        yield
    finally:
        lock.release()


def local_artifacts(uri: str, experiment: str) -> str | None:
    """URI of the folder of an experiment's artifacts beside an SQLite store; None for a server, which has its own."""
    return (_file(uri).parent / "mlflow-artifacts" / experiment).as_uri() if uri.startswith(SQLITE) else None


def _file(uri: str) -> Path:
    return Path(uri.removeprefix(SQLITE)).resolve()
