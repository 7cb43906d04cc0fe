"""Where a store is: it is made by one command at a time, whole or not at all, and never over something else."""

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from vaesweep import store_access
from vaesweep.analysis.runs import client_of
from vaesweep.cli import main as cli
from vaesweep.errors import UserError
from vaesweep.store_access import StoreFile, refusal
from vaesweep.store_access import store_file as condition_of
from vaesweep.sweep import store_location as store_place
from vaesweep.sweep.store_location import creation_lock, local_artifacts, make_if_missing
from vaesweep.sweep.tracking import Store

OPEN = """
import sys, time
from vaesweep.sweep.tracking import Store
while time.time() < float(sys.argv[2]):
    pass
Store(sys.argv[1], sys.argv[3]).id
"""

# Makes one store after another in a folder of its own, each in a process that is killed after so many seconds, or whose
# files may not grow beyond so many bytes. `vaesweep` makes it as this version does, `mlflow` as earlier ones did.
MAKE = """
import os, resource, signal, sys, time
from pathlib import Path
from vaesweep.sweep.store_location import creation_lock, make_if_missing
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
folder, way, limit, *numbers = sys.argv[1:]
for number in numbers:
    file = Path(folder, number, "mlflow.db")
    file.parent.mkdir()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(file.with_name("said"), os.O_WRONLY | os.O_CREAT), 2)
        if limit == "bytes":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), int(number)))
        try:
            if way == "mlflow":
                SqlAlchemyStore(f"sqlite:///{file}", "./mlruns")
            else:
                with creation_lock(f"sqlite:///{file}"):
                    make_if_missing(f"sqlite:///{file}")
        except BaseException as error:
            print(error, file=sys.stderr, flush=True)
        os._exit(0)
    if limit == "seconds":
        time.sleep(float(number))
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
SECONDS = 6.0  # within which a store is made, on a busy machine too


def make_stores(folder: Path, way: str, limit: str, numbers: list[str]) -> list[Path]:
    """The files of stores whose making was cut off, whether or not they are there."""
    done = subprocess.run(
        [sys.executable, "-c", MAKE, str(folder), way, limit, *numbers], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return [folder / number / "mlflow.db" for number in numbers]


class CopiedTables:
    """Stands for the making of tables, which takes seconds: copies those of a store that is there, or half of them."""

    def __init__(self, source: Path) -> None:
        self.content = source.read_bytes()
        self.failure: BaseException | None = None

    def __call__(self, draft: Path) -> None:
        draft.write_bytes(self.content if self.failure is None else self.content[:100_000])
        if self.failure is not None:
            draft.with_name(f"{draft.name}-journal").write_bytes(b"of a transaction")
            raise self.failure


@pytest.fixture
def quick(pristine_store: Path, monkeypatch: pytest.MonkeyPatch) -> CopiedTables:
    """Stores are made in no time."""
    tables = CopiedTables(pristine_store)
    monkeypatch.setattr(store_place, "_make_tables", tables)
    return tables


def uri_of(file: Path) -> str:
    return f"sqlite:///{file}"


def make(file: Path) -> None:
    with creation_lock(uri_of(file)):
        make_if_missing(uri_of(file))


def change(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def revisions(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as database:
        return [name for (name,) in database.execute("select version_num from alembic_version")]


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def others(file: Path) -> set[str]:
    """The endings of the files beside a store, less its lock."""
    return {path.suffix for path in file.parent.iterdir()} - {".lock", ".db", ""}


# One command at a time


@pytest.mark.slow
def test_three_commands_open_a_new_store_at_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    start = time.time() + 25  # importing MLflow takes seconds on a busy machine
    commands = [
        subprocess.Popen([sys.executable, "-c", OPEN, uri, str(start), name], stderr=subprocess.PIPE, text=True)
        for name in ("one", "two", "three")
    ]
    for command in commands:
        _, said = command.communicate(timeout=180)
        assert command.returncode == 0, said


def test_a_store_that_another_command_holds_is_waited_for_and_then_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_place, "PATIENCE", 0.05)
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    with creation_lock(uri):
        assert (tmp_path / "new").is_dir()
        with pytest.raises(UserError, match="another command has been opening"), creation_lock(uri):
            pass
    with creation_lock(uri):
        pass
    with FileLock(tmp_path / "new" / "mlflow.db.lock").acquire(timeout=0):
        pass


def test_a_server_has_no_lock_and_knows_its_artifacts_itself() -> None:
    with creation_lock("http://nowhere:5000"):
        assert local_artifacts("http://nowhere:5000", "one") is None


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(UserError, match="no tracking store can be written there"):
        make(tmp_path / "results" / "mlflow.db")


# Whole or not at all


def test_a_store_is_made_complete_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    assert condition_of(uri_of(file)) is StoreFile.ABSENT
    make(file)
    assert condition_of(uri_of(file)) is StoreFile.COMPLETE
    assert others(file) == set()
    assert revisions(file) == [store_access._latest_revision()]
    assert Store(uri_of(file), "one").id  # which MLflow finds complete too
    before = digest(file)
    make(file)
    assert digest(file) == before


@pytest.mark.parametrize(
    "moments",
    [pytest.param(3, id="3 moments"), pytest.param(20, id="20 moments", marks=pytest.mark.slow)],
)
def test_a_store_whose_making_was_killed_is_made_by_the_next_command(
    moments: int, tmp_path: Path, quick: CopiedTables
) -> None:
    numbers = [f"{0.05 + SECONDS * (i / moments) ** 2:.3f}" for i in range(moments)]
    files = make_stores(tmp_path, "vaesweep", "seconds", numbers)
    assert any(not file.exists() for file in files)
    for file in files:
        assert condition_of(uri_of(file)) in (StoreFile.ABSENT, StoreFile.COMPLETE)
        make(file)
        assert condition_of(uri_of(file)) is StoreFile.COMPLETE
        assert others(file) == set()
        assert MlflowClient(uri_of(file)).get_experiment("0") is not None


@pytest.mark.parametrize(
    "moments",
    [pytest.param(3, id="3 moments"), pytest.param(20, id="20 moments", marks=pytest.mark.slow)],
)
def test_a_store_that_an_earlier_version_left_half_made_is_moved_aside_and_made_anew(
    moments: int, tmp_path: Path, quick: CopiedTables, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = [f"{0.05 + 2.0 * i / moments:.3f}" for i in range(moments)]
    files = make_stores(tmp_path, "mlflow", "seconds", numbers)
    there = [file for file in files if file.exists() and condition_of(uri_of(file)) is StoreFile.HALF_MADE]
    assert there
    for file in there:
        with pytest.raises(UserError, match="no tracking store"):
            client_of(uri_of(file))
        caplog.clear()
        make(file)
        assert condition_of(uri_of(file)) is StoreFile.COMPLETE
        assert others(file) >= {".half-made"}
        (line,) = [record.getMessage() for record in caplog.records]
        assert str(file) in line
        assert "\n" not in line
        assert MlflowClient(uri_of(file)).get_experiment("0") is not None


@pytest.mark.slow
def test_a_disk_that_is_full_while_a_store_is_made_is_said_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    sizes = [str(int(4096 * 1.4**i)) for i in range(20)]  # up to 2 MB; a store has 0.8
    files = make_stores(tmp_path, "vaesweep", "bytes", sizes)
    assert files[-1].exists()
    for file in files[:10]:
        assert not file.exists()
    for file in files:
        assert others(file) == set()
        if not file.exists():
            (line,) = file.with_name("said").read_text().splitlines()
            assert "it cannot be made" in line
        else:
            assert condition_of(uri_of(file)) is StoreFile.COMPLETE


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (OSError(28, "No space left on device"), UserError),
        (MlflowException("(sqlite3.OperationalError) database or disk is full\n[SQL: create table]\n"), UserError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=["no space", "database full", "Ctrl-C"],
)
def test_a_making_that_fails_leaves_nothing_and_the_next_one_succeeds(
    failure: BaseException,
    raised: type[BaseException],
    tmp_path: Path,
    quick: CopiedTables,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick.failure = failure
    file = tmp_path / "mlflow.db"
    with pytest.raises(raised) as error:
        make(file)
    if raised is UserError:
        assert "\n" not in str(error.value)
        assert "make room" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db.lock"]
    quick.failure = None
    make(file)
    assert condition_of(uri_of(file)) is StoreFile.COMPLETE


def test_drafts_of_a_store_are_swept_up_and_those_of_others_stay(tmp_path: Path, quick: CopiedTables) -> None:
    mine = ["mlflow.db.12345678.part", "mlflow.db.12345678.part-journal", "mlflow.db.0123abcd.part-wal"]
    theirs = ["other.db.12345678.part", "mlflow.dbx.12345678.part", "mlflow.db.bak", "mlflow.db.old.partial"]
    for name in (*mine, *theirs):
        (tmp_path / name).write_bytes(b"half of it")
    make(tmp_path / "mlflow.db")
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock", *theirs}


@pytest.mark.parametrize("ending", store_place.SIDECARS)
def test_a_transaction_of_a_file_that_is_gone_is_not_applied_to_the_new_one(
    ending: str, tmp_path: Path, quick: CopiedTables
) -> None:
    old = tmp_path / f"mlflow.db{ending}"
    old.write_bytes(b"of another database")
    make(tmp_path / "mlflow.db")
    assert not old.exists()
    assert condition_of(uri_of(tmp_path / "mlflow.db")) is StoreFile.COMPLETE


# What was half made


def empty(file: Path) -> None:
    file.write_bytes(b"")


def without_tables(file: Path) -> None:
    file.unlink()
    change(file, "pragma user_version = 1")


def with_its_first_tables(file: Path) -> None:
    file.unlink()
    change(file, "create table experiments (experiment_id integer)", "create table runs (run_uuid text)")


def without_a_revision(file: Path) -> None:
    change(file, "delete from alembic_version")


def without_the_table_of_revisions(file: Path) -> None:
    change(file, "drop table alembic_version")


def without_the_table_of_runs(file: Path) -> None:
    change(file, "drop table runs")


def in_the_middle_of_a_migration(file: Path) -> None:
    change(
        file,
        "create table _alembic_tmp_runs (run_uuid text)",
        "drop table runs",
        "delete from experiments",
        "update alembic_version set version_num = 'df50e92ffc5e'",
    )


HALF_MADE = [
    empty,
    without_tables,
    with_its_first_tables,
    without_a_revision,
    without_the_table_of_revisions,
    without_the_table_of_runs,
    in_the_middle_of_a_migration,
]


def half_made(folder: Path, pristine_store: Path, damage: Callable[[Path], None]) -> Path:
    """A store in `folder` that holds no run and was never made to its end."""
    file = folder / "mlflow.db"
    shutil.copy(pristine_store, file)
    change(file, "delete from runs")
    damage(file)
    return file


@pytest.mark.parametrize("damage", HALF_MADE)
def test_a_half_made_store_is_moved_aside_with_a_line_and_made_anew(
    damage: Callable[[Path], None],
    tmp_path: Path,
    pristine_store: Path,
    quick: CopiedTables,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = digest(file := half_made(tmp_path, pristine_store, damage))
    file.with_name("mlflow.db-shm").write_bytes(b"")
    make(file)
    (aside,) = tmp_path.glob("mlflow.db.*.half-made")
    assert digest(aside) == before
    assert not file.with_name("mlflow.db-shm").exists()
    assert condition_of(uri_of(file)) is StoreFile.COMPLETE
    assert Store(uri_of(file), "first").cells() == {}
    assert f"it is now {aside.name}" in caplog.text


@pytest.mark.parametrize("damage", HALF_MADE)
def test_whoever_only_reads_refuses_a_half_made_store_and_leaves_it(
    damage: Callable[[Path], None], tmp_path: Path, pristine_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest(file := half_made(tmp_path, pristine_store, damage))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri_of(file))
    with pytest.raises(UserError, match="no tracking store"):
        client_of(uri_of(file))
    assert cli.main(["ui"]) == 2
    assert digest(file) == before


@pytest.mark.parametrize("damage", [without_a_revision, without_the_table_of_revisions, without_the_table_of_runs])
def test_a_store_with_runs_is_never_moved_aside_whatever_it_lacks(
    damage: Callable[[Path], None], tmp_path: Path, pristine_store: Path
) -> None:
    file = tmp_path / "mlflow.db"
    shutil.copy(pristine_store, file)
    columns = "run_uuid, key, value, timestamp, step, is_nan"
    change(
        file,
        "insert into runs (run_uuid, experiment_id) values ('one', 1)",
        f"insert into metrics ({columns}) values ('one', 'm', 1, 1, 1, 0)",
    )
    damage(file)
    before = digest(file)
    with pytest.raises(UserError) as error:
        Store(uri_of(file), "first")
    assert "\n" not in str(error.value)
    assert "backup" in str(error.value)
    assert digest(file) == before
    assert list(tmp_path.glob("*.half-made")) == []


# What is no store


def text(file: Path) -> None:
    file.write_text("id,value\n1,2\n")


def short(file: Path) -> None:
    file.write_bytes(b"SQLite")


def damaged(file: Path) -> None:
    file.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 64)


def of_another_program(file: Path) -> None:
    change(file, "create table studies (id integer)", "create table alembic_version (version_num text)")


def folder(file: Path) -> None:
    file.mkdir()


def pipe(file: Path) -> None:
    os.mkfifo(file)


@pytest.mark.parametrize("write", [text, short, damaged, of_another_program, folder, pipe])
def test_what_is_no_store_is_refused_in_one_line_and_left_alone(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mlflow.db"
    write(file)
    before = digest(file) if file.is_file() else ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri_of(file))
    for act in (lambda: Store(uri_of(file), "one"), lambda: client_of(uri_of(file))):
        with pytest.raises(UserError, match=str(file)) as error:
            act()
        assert "\n" not in str(error.value)
        assert "name another" in str(error.value)
    assert cli.main(["ui"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (digest(file) if file.is_file() else "") == before
    assert others(file) == set()


# Another version's schema


@pytest.fixture
def older(tmp_path: Path, pristine_store: Path) -> Path:
    """A store as the MLflow before the last change of its schema has left it."""
    file = tmp_path / "mlflow.db"
    shutil.copy(pristine_store, file)
    previous = store_access._revisions()[str(store_access._latest_revision())]
    change(file, f"update alembic_version set version_num = '{previous}'")
    return file


def refusals(file: Path) -> list[str]:
    """What writer and reader say of a store, which they leave as it is."""
    before, messages = digest(file), []
    for act in (lambda: Store(uri_of(file), "first"), lambda: client_of(uri_of(file))):
        with pytest.raises(UserError) as error:
            act()
        messages.append(str(error.value))
    assert digest(file) == before
    return messages


def test_a_store_of_an_older_schema_says_how_to_upgrade_it_and_to_make_a_backup(older: Path) -> None:
    for message in refusals(older):
        assert f"mlflow db upgrade {uri_of(older)}" in message
        assert "backup" in message
        assert "answer" not in message
        assert "\n" not in message


def test_a_store_of_an_older_schema_that_lacks_a_table_is_not_upgraded_unasked(older: Path) -> None:
    """MLflow would do it at once, and without a backup."""
    with closing(sqlite3.connect(older)) as database:
        names = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
    change(older, f"drop table {next(name for name in names if name.startswith('trace'))}")
    assert all("backup" in message for message in refusals(older))


def test_a_store_of_a_newer_schema_says_that_mlflow_must_be_newer(older: Path) -> None:
    change(older, "update alembic_version set version_num = 'ffffffffffff'")
    for message in refusals(older):
        assert "newer MLflow" in message
        assert "db upgrade" not in message


def test_what_mlflow_says_of_the_schema_of_a_database_becomes_the_same_line() -> None:
    latest = str(store_access._latest_revision())
    said = f"Detected out-of-date database schema (found version {latest}, but expected x). Take a backup"
    message = str(refusal("postgresql://user:s3cret@host/store", MlflowException(said)))
    assert "mlflow db upgrade postgresql://user:***@host/store" in message
    assert "backup" in message


def test_the_schemas_that_are_known_are_mlflows_own() -> None:
    from mlflow.store.db.utils import _get_latest_schema_revision

    assert store_access._latest_revision() == _get_latest_schema_revision()
