"""The page of a sweep while it trains."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

NICENESS = 10  # of the process that draws


class LivePage:
    """Draws a sweep's page anew while it trains, in a process of its own: what fails there ends nothing.

    The next drawing begins after `least` seconds, or `share` times as many as the last one took.
    """

    def __init__(self, experiment: str, sweep: str, out: Path, least: float = 60.0, share: float = 30.0) -> None:
        self._words = [sys.executable, "-m", "vaesweep.cli.main", "report", experiment, "--sweep", sweep]
        self._words += ["--out", str(out)]
        self._least, self._share = least, share
        self._ended = threading.Event()
        self._drawing: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._draw_on, name="live page", daemon=True)

    def __enter__(self) -> "LivePage":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if (drawing := self._drawing) is not None:
            with contextlib.suppress(OSError):
                drawing.kill()
        self._thread.join(5.0)

    def _draw_on(self) -> None:
        pause = self._least
        while not self._ended.wait(pause):
            began = time.monotonic()
            with contextlib.suppress(OSError):  # no process can be had now
                quiet = subprocess.DEVNULL
                self._drawing = subprocess.Popen(
                    self._words, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
                )
                os.setpriority(os.PRIO_PROCESS, self._drawing.pid, NICENESS)
                self._drawing.wait()
            pause = max(self._least, self._share * (time.monotonic() - began))
