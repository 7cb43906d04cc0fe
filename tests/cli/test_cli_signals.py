"""Ctrl-C and SIGTERM at any moment: a word, 130 or 143, and no traceback."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vaesweep.cli import doors, signals
from vaesweep.errors import Terminated

ROOT = Path(__file__).parents[2]
CODES = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
SLEEPS = 60  # seconds, if nothing ends it
IMPORTING = """
import vaesweep.cli, os, signal
os.kill(os.getpid(), signal.{name})
import time; time.sleep(60)
"""
RUNNING = """
import os, signal
from vaesweep.cli.doors import exit_code
def run():
    os.kill(os.getpid(), signal.{name})
    import time; time.sleep(60)
raise SystemExit(exit_code(run, resumes=True))
"""


DESTROYING = """
import os, signal
from vaesweep.cli.doors import exit_code
class Held:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        sum(range(1000))
def run():
    held = Held()
    del held
    import time; time.sleep(60)
raise SystemExit(exit_code(run, resumes=True))
"""


@pytest.mark.parametrize("program", [IMPORTING, RUNNING, DESTROYING], ids=["importing", "running", "in a destructor"])
@pytest.mark.parametrize(("number", "code"), CODES, ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_a_command_with_a_word(program: str, number: signal.Signals, code: int) -> None:
    command = [sys.executable, "-c", program.format(name=number.name)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background commands ignore Ctrl-C
    try:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SLEEPS / 2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stderr) == (code, f"{signals.WORD}\n")


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (Terminated(), 143), (SystemExit(signal.SIGTERM), 143)]
)
def test_what_ends_a_command_says_its_code(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> int:
        raise error

    assert doors.exit_code(run, resumes=True) == code
    assert capsys.readouterr().err == f"{signals.WORD}\n"


def test_a_command_may_run_in_a_thread() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(doors.exit_code(lambda: 0)))
    thread.start()
    thread.join()
    assert codes == [0]


def test_a_commands_handler_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(signals, "terminate", lambda *_: None)  # another than importing has set
    assert doors.exit_code(lambda: int(signal.getsignal(signal.SIGTERM) is before)) == 0
    assert signal.getsignal(signal.SIGTERM) is before
