"""Tracking servers: whatever MLflow's client reaches a sweep reaches; what it does not is refused within seconds."""

import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from mlflow_server import Server, basic, self_signed, serving, silence

from vaesweep import store_access
from vaesweep.analysis.runs import client_of, log_files
from vaesweep.errors import UserError
from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.store_access import StoreFile
from vaesweep.sweep import store as store_module
from vaesweep.sweep.cells import Cell
from vaesweep.sweep.store import Store
from vaesweep.sweep.tracking import Tracker
from vaesweep.training.finished import FinishedCell
from vaesweep.vocabulary import MODEL_FILE, SWEEP_FILE, Outcome, Tag

CELL = Cell(PartialVaeCell(), "pvae", "data", {"seed": 0})
RECORD = {"sweep": "sweep", "name": "a sweep", "family": "pvae", "preset": "small"}
USER, PASSWORD, TOKEN = "somebody", "s3cret/word", "t0ken"
CLIENT_VARIABLES = ("MLFLOW_TRACKING_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "NETRC", "REQUESTS_CA_BUNDLE")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of whoever runs the tests, and no patience."""
    for name in list(os.environ):
        if name.upper().startswith(CLIENT_VARIABLES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(store_module, "PATIENCE", 0.0)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as server:
        yield server


def track(uri: str) -> None:
    """What a small sweep does with its store."""
    store = Store(uri, "a sweep")
    parent = store.open_sweep(RECORD, {})
    with Tracker(store, parent, [CELL], store.cells(), {CELL.identity: {}}) as tracker:
        tracker.points(10, [CELL.identity], {"valid/rate": [1.0]})
        tracker.ended(finished(), b"weights")
    store.end_sweep(parent, "FINISHED")


def finished() -> FinishedCell:
    config = PartialVaeCell().model_dump(mode="json")
    return FinishedCell(CELL.identity, "pvae", config, 20, {"a.test/elbo": -3.0}, None, (), (20,), {}, {}, {})


def assert_tracked(server: Server) -> None:
    parent, cell = server.runs.values()
    assert (parent["info"]["status"], cell["info"]["status"]) == ("FINISHED", "FINISHED")
    assert cell["tags"][Tag.OUTCOME] == Outcome.FINISHED
    assert server.points(cell["info"]["run_id"]) == [("valid/rate", 10), ("test/a.test/elbo", 20)]
    assert {name.rpartition("/")[2] for name in server.files} == {SWEEP_FILE, MODEL_FILE, "config.json"}


def refused(act: Callable[[], object], seconds: float = 16.0) -> str:
    """The one line with which something is refused, within so many seconds."""
    begun = time.monotonic()
    with pytest.raises(UserError) as error:
        act()
    assert time.monotonic() - begun < seconds
    assert "\n" not in str(error.value)
    return str(error.value)


# Servers that are reached


def test_a_sweep_is_tracked_by_a_server_and_found_there_again(server: Server) -> None:
    uri = f"http://127.0.0.1:{server.port}"
    track(uri)
    assert_tracked(server)
    assert Store(uri, "a sweep").cells()[CELL.identity].outcome is Outcome.FINISHED
    assert client_of(uri).get_experiment_by_name("a sweep") is not None


def in_uri(server: Server, folder: Path) -> tuple[str, Mapping[str, str]]:
    return f"http://{USER}:{PASSWORD.replace('/', '%2F')}@127.0.0.1:{server.port}", {}


def by_variables(server: Server, folder: Path) -> tuple[str, Mapping[str, str]]:
    own = {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    return f"http://127.0.0.1:{server.port}", own


def by_token(server: Server, folder: Path) -> tuple[str, Mapping[str, str]]:
    return f"http://127.0.0.1:{server.port}", {"MLFLOW_TRACKING_TOKEN": TOKEN}


def by_netrc(server: Server, folder: Path) -> tuple[str, Mapping[str, str]]:
    file = folder / "netrc"
    file.write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    file.chmod(0o600)
    return f"http://127.0.0.1:{server.port}", {"NETRC": str(file)}


@pytest.mark.parametrize("way", [in_uri, by_variables, by_token, by_netrc])
def test_a_server_with_a_login_takes_credentials_in_every_way_of_mlflows_client(
    way: Callable[[Server, Path], tuple[str, Mapping[str, str]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with serving(Server(credentials=(basic(USER, PASSWORD), f"Bearer {TOKEN}"))) as server:
        uri, variables = way(server, tmp_path)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        track(uri)
        assert_tracked(server)
        client_of(uri)
    printed = capfd.readouterr()
    assert "s3cret" not in printed.out + printed.err


@pytest.mark.parametrize("open_store", [lambda uri: Store(uri, "a sweep"), client_of], ids=["writer", "reader"])
def test_a_server_with_a_login_refuses_without_credentials_and_names_the_variables(
    open_store: Callable[[str], object],
) -> None:
    with serving(Server(credentials=(basic(USER, PASSWORD),))) as server:
        message = refused(lambda: open_store(f"http://{USER}:wrong-word@127.0.0.1:{server.port}"), 5)
    assert "MLFLOW_TRACKING_USERNAME" in message
    assert "401" in message or "UNAUTHENTICATED" in message
    assert "wrong-word" not in message
    assert server.changes() == []


@pytest.mark.parametrize("trust", ["authority", "anybody"])
def test_a_server_with_a_private_certificate_is_reached(
    trust: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    if trust == "authority":
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    with serving(Server(), certificate) as server:
        track(f"https://127.0.0.1:{server.port}")
        assert_tracked(server)
        client_of(f"https://127.0.0.1:{server.port}")


@pytest.mark.parametrize("open_store", [lambda uri: Store(uri, "a sweep"), client_of], ids=["writer", "reader"])
def test_a_certificate_that_is_not_trusted_is_refused_with_the_variable_that_names_its_authority(
    open_store: Callable[[str], object], tmp_path: Path
) -> None:
    with serving(Server(), self_signed(tmp_path)) as server:
        message = refused(lambda: open_store(f"https://127.0.0.1:{server.port}"), 5)
    assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in message


def test_a_server_behind_a_proxy_is_reached_by_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is known to nobody; the proxy, which is the server here, is asked for it."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.port}")
    track("http://tracking.invalid:5000")
    assert_tracked(server)
    client_of("http://tracking.invalid:5000")


# Servers that are not


@pytest.mark.parametrize("open_store", [lambda uri: Store(uri, "a sweep"), client_of], ids=["writer", "reader"])
@pytest.mark.parametrize("login", ["", f"{USER}:s3cret@"], ids=["without login", "with login"])
def test_a_server_that_is_not_there_is_refused_at_once(open_store: Callable[[str], object], login: str) -> None:
    with silence() as port:
        pass
    message = refused(lambda: open_store(f"http://{login}127.0.0.1:{port}"), 6)
    assert "no server answers (Connection refused)" in message
    assert f"127.0.0.1:{port}" in message
    assert "s3cret" not in message


@pytest.mark.parametrize("open_store", [lambda uri: Store(uri, "a sweep"), client_of], ids=["writer", "reader"])
def test_a_password_that_is_not_quoted_is_refused_with_what_would_be_right(open_store: Callable[[str], object]) -> None:
    message = refused(lambda: open_store(f"http://{USER}:{PASSWORD}@127.0.0.1:1"), 6)
    assert "%2F" in message
    assert PASSWORD not in message


@pytest.mark.parametrize("open_store", [lambda uri: Store(uri, "a sweep"), client_of], ids=["writer", "reader"])
def test_a_server_that_never_answers_is_given_up_after_a_while(
    open_store: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_access, "PROBE_SECONDS", 1.0)
    with silence() as port:
        message = refused(lambda: open_store(f"http://127.0.0.1:{port}"), 4)
    assert "no server answers (nothing within 1 s)" in message


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up_after_fifteen_seconds() -> None:
    with silence() as port:
        assert "within 15 s" in refused(lambda: Store(f"http://127.0.0.1:{port}", "a sweep"), 16)


@pytest.mark.parametrize(
    "uri",
    [
        "uc:http://127.0.0.1:1",
        "nothing-known://user:s3cret@host/store",
        "mysql://user:s3cret@127.0.0.1:1/store",
        "postgresql://user:s3cret@127.0.0.1:1/store",
        "databricks://no-such-profile",
        "mlruns-folder",
    ],
)
@pytest.mark.parametrize("open_store", [lambda uri: Store(uri, "a sweep"), client_of], ids=["writer", "reader"])
def test_stores_of_all_kinds_are_refused_in_one_line_without_their_password(
    open_store: Callable[[str], object], uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "s3cret" not in refused(lambda: open_store(uri))


OPENERS = [lambda uri: Store(uri, "a sweep"), client_of, lambda uri: store_access.store_file(uri)]


@pytest.mark.parametrize("open_store", OPENERS, ids=["writer", "reader", "status"])
def test_a_file_that_another_process_keeps_locked_is_given_up_after_a_while(
    open_store: Callable[[str], object], store_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_access, "PROBE_SECONDS", 1.0)
    with closing(sqlite3.connect(store_file, isolation_level=None)) as other:
        other.execute("begin exclusive")
        message = refused(lambda: open_store(f"sqlite:///{store_file}"), 6)
        assert "locked for more than 1 s" in message
        assert "try again when that has ended" in message
    open_store(f"sqlite:///{store_file}")


def test_a_file_that_another_process_locks_for_a_moment_is_waited_for(store_file: Path) -> None:
    with closing(sqlite3.connect(store_file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("begin exclusive")
        release = threading.Timer(1.5, lambda: other.execute("rollback"))
        release.start()
        assert store_access.store_file(f"sqlite:///{store_file}") is StoreFile.COMPLETE
        release.join()


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
@pytest.mark.parametrize("open_store", OPENERS[:2], ids=["writer", "reader"])
def test_a_database_without_its_driver_is_refused_at_once(
    open_store: Callable[[str], object], driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, driver, None)
    message = refused(lambda: open_store(f"postgresql+{driver}://u:s3cret@127.0.0.1:1/store"), 6)
    assert f"{driver} halted" in message
    assert "s3cret" not in message
    assert "install it with pip" in message


def test_a_database_whose_host_is_silent_is_given_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_access, "PROBE_SECONDS", 0.2)
    message = refused(
        lambda: store_access.first_answer("postgresql://u:s3cret@host/store", lambda: 1, lambda: time.sleep(5)), 3
    )
    assert "no store answers (nothing within 0 s)" in message
    assert "u:***@host" in message


def test_a_database_may_take_its_time_once_it_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow makes a fresh one's tables in its first call."""
    monkeypatch.setattr(store_access, "PROBE_SECONDS", 0.2)

    def make_tables() -> str:
        time.sleep(0.5)
        return "made"

    assert store_access.first_answer("postgresql://u:p@host/store", make_tables, lambda: None) == "made"


def test_a_database_whose_tables_another_command_is_just_making_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_access, "MAKING_SECONDS", 0.01)
    refusals = [
        '(psycopg2.errors.UniqueViolation) duplicate key value violates "pg_type"',
        "schema (found version None)",
    ]

    def call() -> str:
        if refusals:
            raise RuntimeError(refusals.pop(0))
        return "made"

    assert store_access.first_answer("postgresql://u:p@host/store", call, lambda: None) == "made"
    refusals = ["duplicate key"] * 100
    with pytest.raises(UserError, match="cannot be used \\(duplicate key\\)"):
        store_access.first_answer("postgresql://u:p@host/store", call, lambda: None)


@pytest.mark.parametrize("before", [{}, {"MLFLOW_HTTP_REQUEST_TIMEOUT": "7", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}])
def test_the_users_own_limits_are_as_they_were_after_the_first_call(
    server: Server, before: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tuple(store_access.SHORT_REQUESTS)
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    Store(f"http://127.0.0.1:{server.port}", "a sweep")
    with silence() as port:
        pass
    refused(lambda: Store(f"http://127.0.0.1:{port}", "a sweep"))
    assert {name: os.environ[name] for name in names if name in os.environ} == before


# What a server says of places on this disk


PLACES = ["file:///{}", "/{}", "{}", "file:{}", "FILE:///{}", "./{}"]


@pytest.mark.parametrize("place", PLACES)
def test_a_server_whose_artifacts_would_lie_on_this_disk_is_refused_before_anything_is_written(
    server: Server, place: str, tmp_path: Path
) -> None:
    server.add_experiment("a sweep", place.format(str(tmp_path).lstrip("/")))
    message = refused(lambda: Store(f"http://127.0.0.1:{server.port}", "a sweep"))
    assert "--serve-artifacts" in message
    assert server.changes() == []
    assert not list(tmp_path.glob("*/artifacts"))


@pytest.mark.parametrize("place", PLACES)
def test_a_new_experiment_with_such_a_place_is_refused_and_leaves_its_name_free(place: str, tmp_path: Path) -> None:
    with serving(Server(artifacts=place.format(str(tmp_path).lstrip("/")))) as server:
        uri = f"http://127.0.0.1:{server.port}"
        assert "--serve-artifacts" in refused(lambda: Store(uri, "a sweep").open_sweep(RECORD, {}))
        assert server.runs == {}
        assert server.experiment("a sweep") is None
        server.artifacts = "mlflow-artifacts:/{}"
        track(uri)
        assert_tracked(server)


def test_a_run_with_such_a_place_is_refused_and_no_file_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / SWEEP_FILE
    file.write_text("precious")
    with serving(Server(run_artifacts=tmp_path.as_uri())) as server:
        uri = f"http://127.0.0.1:{server.port}"
        assert "--serve-artifacts" in refused(lambda: Store(uri, "a sweep").open_sweep(RECORD, {}))
        (run,) = server.runs
        assert "--serve-artifacts" in refused(lambda: log_files(run, [file], uri))
        assert "runs/log-batch" not in " ".join(server.changes())
    assert file.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [file]


def test_a_local_store_has_its_artifacts_on_this_disk(store_file: Path) -> None:
    store = Store(f"sqlite:///{store_file}", "local artifacts")
    assert store.open_sweep(RECORD, {})
    assert store_file.with_name("mlflow-artifacts").is_dir()
