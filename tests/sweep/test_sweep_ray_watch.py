"""A process of Ray that has died ends a command by a line, whether its main thread can be interrupted or not."""

import errno
import os
import signal
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
from vaesweep.errors import Terminated
from vaesweep.sweep import ray_watch
from vaesweep.sweep.ray_watch import Process, Watch
from vaesweep.sweep.runner import _terminate_as_interrupt

ROOT = Path(__file__).parents[2]
# A command whose main thread waits, or waits where no signal is heard, for what has died.
COMMAND = """
import ctypes, time
from vaesweep.cli.doors import exit_code
from vaesweep.sweep import ray_watch
from vaesweep.sweep.runner import _terminate_as_interrupt

ray_watch.Watch.__init__.__defaults__ = (0.05,)
ray_watch.LAST_SECONDS = 1.0
ray_watch._processes = lambda local: [ray_watch.Process("the head", lambda: False, 0.1)]

def run():
    with ray_watch.watched(local=False) as watch, _terminate_as_interrupt(watch):
        {waits}

raise SystemExit(exit_code(run))
"""
DEAF = """
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
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


def gone_for(seconds: float, patience: float) -> list[Process]:
    began = time.monotonic()
    return [Process("head", lambda: time.monotonic() - began > seconds, patience)]


WRITING = """
        try:
            time.sleep(60)
        finally:
            time.sleep(3)  # longer than what does not hear may last
            print("written", flush=True)
"""


@pytest.mark.parametrize("waits", ["time.sleep(60)", WRITING.strip(), DEAF.strip()], ids=["heard", "writes", "deaf"])
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
    assert done.stdout == ("written\n" if "written" in waits else "")
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
    watch = Watch(gone_for(0.3, 5.0), lambda: None, every=0.05)
    watch.start()
    watch.join(0.8)
    assert watch.is_alive()
    watch.stop()
    watch.join(5)
    assert watch.dead == ""


def test_leaving_ray_is_no_death_even_if_it_is_asked_meanwhile(interruptible: None) -> None:
    asked = threading.Event()

    def ask() -> bool:
        asked.set()
        time.sleep(0.5)
        return False

    watch = Watch([Process("head", ask, -1.0)], lambda: None, every=0.05)
    watch.start()
    assert asked.wait(5)
    watch.stop()
    watch.join(5)
    assert not watch.is_alive()
    assert watch.dead == ""


def test_a_socket_answers_while_its_process_listens() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = str(Path(folder, "socket"))
        assert not ray_watch._is_listening(path)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            assert ray_watch._is_listening(path)
        assert not ray_watch._is_listening(path)


def test_a_port_answers_while_its_process_listens() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        listening.listen()
        assert ray_watch._is_at("127.0.0.1", port, local=True)
    assert not ray_watch._is_at("127.0.0.1", port, local=True)
    assert not ray_watch._is_at("127.0.0.1", port, local=False)


def test_a_fault_of_the_one_who_asks_is_no_death(interruptible: None) -> None:
    def ask() -> bool:
        raise OSError(errno.EMFILE, "too many open files")

    watch = Watch([Process("head", ask, 0.0)], lambda: None, every=0.02)
    watch.start()
    watch.join(0.5)
    assert watch.is_alive()
    watch.stop()


def test_a_signal_that_all_processes_get_is_no_death_of_rays(interruptible: None) -> None:
    """As `kill -TERM -PGID`: what is sent to Ray too ends the command as a signal does."""
    watch = Watch(gone_for(60, 0.3), lambda: None, every=0.05)
    watch.start()
    with _terminate_as_interrupt(watch), pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)
    watch.join(5)
    assert watch.dead == ""


def test_a_termination_that_ray_hears_is_one() -> None:
    """Ray's own code raises `KeyboardInterrupt` for whatever a handler has raised within it."""

    def within_ray() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except Terminated:
            raise KeyboardInterrupt from None

    with pytest.raises(Terminated), _terminate_as_interrupt(None):
        within_ray()
    with pytest.raises(KeyboardInterrupt) as heard, _terminate_as_interrupt(None):
        signal.raise_signal(signal.SIGINT)
    assert not isinstance(heard.value, Terminated)


@pytest.mark.parametrize(("value", "seconds"), [(None, 60.0), ("300", 300.0), ("soon", 60.0)])
def test_a_head_may_be_away_for_as_long_as_ray_itself_waits(
    value: str | None, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv(ray_watch.RAYS_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(ray_watch.RAYS_VARIABLE, value)
    assert ray_watch._rays_patience() == seconds


def test_other_threads_have_no_watch() -> None:
    given: list[object] = []

    def run() -> None:
        with ray_watch.watched(local=True) as watch:
            given.append(watch)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert given == [None]
