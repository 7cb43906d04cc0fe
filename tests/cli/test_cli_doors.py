"""Whatever ends a command is told in one line, of a length that can be read, with nothing in it that nobody sees."""

import argparse
import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from vaesweep.cli import doors
from vaesweep.environment import NO_HOME
from vaesweep.errors import LONGEST_LINE, RoundFailed, TrackingError, UserError, cause_of, line_of

ROOT = Path(__file__).parents[2]
SQL = "SELECT experiments.experiment_id FROM experiments"
LOCKED = OperationalError(SQL, {}, sqlite3.OperationalError("database is locked"))


@given(st.text())
def test_a_line_is_one_line_that_can_be_printed(text: str) -> None:
    line = line_of(text)
    assert len(line.splitlines()) <= 1
    assert len(line) <= LONGEST_LINE
    assert all(one.isprintable() or one.isspace() for one in line if ord(one) < 256)
    line.encode()


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=200))
def test_a_line_says_all_words_of_a_short_text(text: str) -> None:
    assert line_of(text).split() == text.split()


def test_of_a_long_text_the_end_is_told_too() -> None:
    line = line_of("begin " + "x" * 5000 + " name another folder")
    assert line.startswith("begin")
    assert "…" in line
    assert line.endswith("name another folder")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/out/a.png"), "No space left on device: /out/a.png"),
        (PermissionError(errno.EACCES, "Permission denied", b"/x"), "Permission denied: /x"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"), "Invalid cross-device link: a → b"),
        (OSError("odd"), "odd"),
        (LOCKED, "database is locked"),
        (KeyError(), "KeyError"),
        (ValueError("a\nb\x1b[31m"), "a b?[31m"),
    ],
)
def test_a_cause_is_told_in_its_own_words(error: Exception, said: str) -> None:
    assert cause_of(error) == said


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("a\nb"), 2, ["error: a b"]),
        (TrackingError("gone"), 1, ["tracking failed: gone"]),
        (RoundFailed("all failed"), 1, ["all failed"]),
        (OSError(errno.ENOSPC, "No space left on device", "/out/a.png"), 1, ["No space left", "/out/a.png", "room"]),
        (LOCKED, 1, ["database is locked"]),
        (sqlite3.DatabaseError("file is not a database"), 1, ["file is not a database"]),
        (MlflowException(f"(sqlite3.OperationalError) disk I/O error\n[SQL: {SQL}]"), 1, ["disk I/O error"]),
        (MemoryError(), 1, ["memory"]),
        (RecursionError("maximum recursion depth exceeded"), 1, ["RecursionError", "fault of the program"]),
        (KeyError("a" * 5000), 1, ["KeyError", "fault of the program", "test_cli_doors.py"]),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 1, ["invalid start byte"]),
        (ValueError("\x1b]0;title\x07\n\nx"), 1, ["ValueError"]),
        (OSError(errno.EIO, "Input/output error", "sqlite://u:s3cret@h/x"), 1, ["Input/output error"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_ends_a_command_is_told_in_one_line(
    error: Exception,
    code: int,
    said: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run() -> int:
        raise error

    assert doors.exit_code(run) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert all(words in line for words in said), line
    assert len(line) <= LONGEST_LINE
    assert line.isprintable()
    assert not any(word in line for word in ("[SQL", "s3cret", "sqlalche.me"))
    faults = list(tmp_path.glob("vaesweep-*.traceback"))
    assert len(faults) == ("fault of the program" in line)
    assert not faults or ("Traceback" in faults[0].read_text() and str(faults[0]) in line)


@pytest.mark.parametrize("uri", ["s3://bucket/x", "gs://bucket", "file:///tmp/x", "http://host/x", "s3:bucket"])
def test_a_folder_that_is_named_by_a_uri_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match=r"--out .*must be a folder of this machine"):
        doors.local_paths(argparse.Namespace(out=Path(uri)))


def test_a_user_whom_no_one_has_given_a_home_gets_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(RuntimeError):
        Path.home()
    doors.own_surroundings()
    assert Path.home() == Path(NO_HOME)


def test_a_folder_of_the_users_home_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert doors.local_paths(argparse.Namespace(out=Path("~/a"))).out == tmp_path / "a"


IMPORT = """
from vaesweep.cli.doors import exit_code
def run():
    import os, matplotlib
    print(os.getcwd(), os.environ.get("MATPLOTLIBRC"), os.environ.get("MPLCONFIGDIR"))
    return 0
raise SystemExit(exit_code(run))
"""


@pytest.mark.parametrize(
    ("file", "variables"),
    [
        ("matplotlibrc", {}),
        ("my/matplotlibrc", {"MATPLOTLIBRC": "my"}),
        ("my/rc", {"MATPLOTLIBRC": "my/rc"}),
        ("config/matplotlibrc", {"MPLCONFIGDIR": "config"}),
        ("home/.config/matplotlib/matplotlibrc", {}),
        ("other", {"MPLBACKEND": "no such back end"}),
    ],
)
def test_matplotlib_can_be_imported_whatever_a_user_has_set(
    file: str, variables: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_bytes(b"font.size: 12 # \xff\xfe\n")
    own = {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), **variables}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MPL", "XDG_"))} | own
    done = subprocess.run([sys.executable, "-c", IMPORT], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = [variables.get(name) for name in ("MATPLOTLIBRC", "MPLCONFIGDIR")]
    assert done.stdout.split() == [str(tmp_path), *map(str, seen)]
