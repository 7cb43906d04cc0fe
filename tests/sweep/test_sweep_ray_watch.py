"""A process of Ray that has died ends a command by a line, whether its main thread can be interrupted or not."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from vaesweep.cli import signals
from vaesweep.sweep import ray_watch
from vaesweep.sweep.ray_watch import Ask, Watch

ROOT = Path(__file__).parents[2]
# A command whose main thread waits, or waits where no signal is heard, for what has died.
COMMAND = """
import ctypes, time
from vaesweep.cli.doors import exit_code
from vaesweep.sweep import ray_watch

def dies():
    raise ConnectionRefusedError

ray_watch.LOOK_SECONDS, ray_watch.LAST_SECONDS = 0.05, 1.0
ray_watch._processes = lambda local: {{"the head": (dies, 0.1)}}

def run():
    with ray_watch.watched(local=False):
        {waits}

raise SystemExit(exit_code(run))
"""
DEAF = """
        while True:
            try:
                ctypes.CDLL(None).usleep(60_000_000)
            except KeyboardInterrupt:
                pass
"""


@pytest.fixture
def interruptible() -> Iterator[None]:
    with signals.handled():
        yield


def silent_for(seconds: float) -> Ask:
    began = time.monotonic()

    def ask() -> None:
        if time.monotonic() - began < seconds:
            raise ConnectionRefusedError

    return ask


@pytest.mark.parametrize("waits", ["time.sleep(60)", DEAF.strip()], ids=["heard", "not heard"])
def test_a_command_ends_with_a_line(waits: str) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND.format(waits=waits)],
        capture_output=True,
        text=True,
        timeout=50,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    line = "error: the head has died; no finished cell is lost: the same command goes on\n"
    assert (done.returncode, done.stderr) == (ray_watch.FAILED, line)
    assert time.monotonic() - began < 30


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_sweep_whose_ray_has_died_ends_and_the_same_command_goes_on(command: Any, name: str) -> None:
    """The head's death is not heard by the main thread, which waits for the head within Ray."""
    settings = ("training.steps=6000", "training.evaluate_every=100")
    process = command.start("--checkpoint-every", "1", settings=settings)
    deadline = time.monotonic() + 60
    while not command.checkpoints() and time.monotonic() < deadline:
        time.sleep(0.2)
    (one,) = [one for one in psutil.Process(process.pid).children() if Path(one.exe()).name == name]
    one.kill()
    died = time.monotonic()
    _, said = process.communicate(timeout=50)
    assert process.returncode == ray_watch.FAILED
    assert said.splitlines()[-1].endswith("has died; no finished cell is lost: the same command goes on")
    assert said.splitlines()[-1].startswith(f"error: the {'raylet' if name == 'raylet' else 'head process'} of this ")
    assert time.monotonic() - died < 40
    again = command.run(settings=settings)
    assert again.returncode == 0, again.stderr
    assert len(command.finished()) == 4
    points = command.points()
    assert len(points) == len(set(points))


def test_who_answers_again_in_time_has_not_died(interruptible: None) -> None:
    watch = Watch({"head": (silent_for(0.3), 5.0)}, lambda: None, every=0.05)
    watch.start()
    watch.join(0.8)
    assert watch.is_alive()
    watch.end()
    watch.join(5)
    assert watch.dead == ""


def test_leaving_ray_is_no_death(interruptible: None) -> None:
    watch = Watch({"head": (silent_for(60), 0.5)}, lambda: None, every=0.05)
    watch.start()
    watch.leave()
    watch.join(5)
    assert not watch.is_alive()
    assert watch.dead == ""


def test_a_socket_answers_while_its_process_listens() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = str(Path(folder, "socket"))
        with pytest.raises(OSError, match="No such file"):
            ray_watch._ask_socket(path)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            ray_watch._ask_socket(path)
        with pytest.raises(ConnectionRefusedError):
            ray_watch._ask_socket(path)


def test_other_threads_have_no_watch() -> None:
    given: list[object] = []

    def run() -> None:
        with ray_watch.watched(local=True) as watch:
            given.append(watch)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert given == [None]
