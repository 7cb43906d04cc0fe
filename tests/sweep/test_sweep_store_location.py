"""Where a store is: commands that open a new SQLite store at the same time do not make its tables twice."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from vaesweep.errors import UserError
from vaesweep.sweep import store_location as store_place
from vaesweep.sweep.store_location import creation_lock, local_artifacts

OPEN = """
import sys, time
from vaesweep.sweep.tracking import Store
while time.time() < float(sys.argv[2]):
    pass
Store(sys.argv[1], sys.argv[3]).id
"""


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
