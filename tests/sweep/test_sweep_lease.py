"""Two commands do not train the same cells; what a dead one held is free at once, or when it has been silent."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from pyarrow import fs

from vaesweep.errors import UserError
from vaesweep.sweep import lease as lease_module
from vaesweep.sweep.lease import LEASES, CellsHeld, lease
from vaesweep.sweep.storage import Storage

HOLD = """
import sys, time
from vaesweep.sweep.lease import lease
from vaesweep.sweep.storage import Storage
with lease(Storage(sys.argv[1]), "toy", sys.argv[2:]):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(folder: Path, *cells: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *cells], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A storage that is not on a local disk, as far as leases can tell; holders beat and die fast."""
    storage = Storage(str(tmp_path))
    monkeypatch.setattr(Storage, "folder", None)
    monkeypatch.setattr(lease_module, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(lease_module, "SILENT_SECONDS", 0.5)
    assert isinstance(storage._fs, fs.LocalFileSystem)
    return storage


def test_cells_that_another_process_holds_are_refused_and_others_are_not(tmp_path: Path) -> None:
    process = hold(tmp_path, "a", "b")
    try:
        storage = Storage(str(tmp_path))
        with pytest.raises(UserError, match=f"1 cells of this sweep, such as b, .* by process {process.pid}"):
            with lease(storage, "toy", ["b", "c"]):
                pass
        with lease(storage, "toy", ["c", "d"]):
            assert len(storage.names(LEASES, ".json")) == 2
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert len(list((tmp_path / LEASES).glob("*.json"))) == 1


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_dead_process_held_is_free_at_once(tmp_path: Path, end: signal.Signals) -> None:
    process = hold(tmp_path, "a")
    os.kill(process.pid, end)
    process.wait()
    with lease(Storage(str(tmp_path)), "toy", ["a"]):
        assert len(list((tmp_path / LEASES).glob("*.json"))) == 1
    assert not list((tmp_path / LEASES).glob("*.json"))


def test_nothing_is_held_where_nothing_is_to_be_done(tmp_path: Path) -> None:
    with lease(Storage(str(tmp_path)), "toy", []):
        assert not (tmp_path / LEASES).exists()


def test_a_lease_that_is_no_json_holds_nothing(tmp_path: Path) -> None:
    process = hold(tmp_path, "a")
    try:
        (file,) = (tmp_path / LEASES).glob("*.json")
        file.write_text("{")
        with lease(Storage(str(tmp_path)), "toy", ["a"]):
            pass
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def test_a_holder_elsewhere_that_beats_is_alive(away: Storage) -> None:
    with lease(away, "toy", ["a"]):
        with pytest.raises(UserError, match="are being trained by process"):
            with lease(away, "toy", ["a"]):
                pass
        assert len(away.names(LEASES, ".json")) == 1, "who was refused holds nothing"
    assert away.names(LEASES, ".json") == []


def test_a_holder_elsewhere_that_has_been_silent_is_dead(away: Storage) -> None:
    about = {"cells": ["a"], "pid": 1, "host": "gone", "since": "yesterday", "beat": 7}
    away.write(f"{LEASES}/dead.json", json.dumps(about).encode())
    with lease(away, "toy", ["a"]):
        (name,) = away.names(LEASES, ".json")
        assert name != f"{LEASES}/dead.json"


def test_of_many_that_claim_the_same_cells_elsewhere_at_once_one_gets_them(
    away: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "SILENT_SECONDS", 30.0)  # a busy machine makes nobody dead
    together = Barrier(4)

    def claim() -> bool:
        together.wait()
        try:
            with lease(away, "toy", ["a", "b"]):
                together.wait()
            return True
        except CellsHeld:
            together.wait()
            return False

    for _ in range(5):
        with ThreadPoolExecutor(4) as pool:
            got = [claimed.result() for claimed in [pool.submit(claim) for _ in range(4)]]
        assert sum(got) == 1
        assert away.names(LEASES, ".json") == []
