"""Ctrl-C and SIGTERM, which end a command alike at any moment: with a word, and 130 or 143.

Importing takes seconds, before any command can catch what interrupts it: `watch` is called as the first of it.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from vaesweep.errors import Terminated

INTERRUPTED, TERMINATED = 130, 143  # 128 and the signal's number, as shells have it
AGAIN_SECONDS = 0.05  # after which a signal is given again
WORD = "interrupted; the same command goes on from here"


def watch() -> None:
    """End this process with a word where a signal comes while it is imported; a notebook or a shell is left alone."""
    if hasattr(sys, "ps1") or sys.flags.interactive or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminate)
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not isinstance(error, KeyboardInterrupt):
            before(kind, error, traceback)
            return
        print(WORD, file=sys.stderr)
        raise SystemExit(code_of(error))

    sys.excepthook = hook
    unraised = sys.unraisablehook

    def again(lost: Any) -> None:
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            unraised(lost)
            return
        number = signal.SIGTERM if isinstance(lost.exc_value, Terminated) else signal.SIGINT
        # To the main thread itself, so that it is heard where that waits: a flag alone would be seen after the wait.
        timer = threading.Timer(AGAIN_SECONDS, signal.pthread_kill, [threading.main_thread().ident, number])
        timer.daemon = True
        timer.start()

    sys.unraisablehook = again  # a signal that met a destructor, where nothing can be raised, is given again


def terminate(*_: Any) -> None:
    """Raise `Terminated`: the handler of SIGTERM."""
    raise Terminated


def code_of(error: BaseException) -> int:
    """The exit code of a command that a signal has ended."""
    return TERMINATED if isinstance(error, Terminated) else INTERRUPTED


@contextmanager
def handled() -> Iterator[None]:
    """Context in which SIGTERM raises `Terminated`; threads other than the main one cannot ask for that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
