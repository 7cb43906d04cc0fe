"""The notice that the machine of a pack ends soon: the pack saves itself at its next step, and goes on elsewhere.

It comes as SIGTERM to the pack's process, or from whoever else calls `give`. A second SIGTERM ends the process.
"""

import contextlib
import ctypes
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_given, _listening = threading.Event(), threading.Event()
_previous: Any = signal.SIG_DFL  # the handler that was there before


class MachineEnds(Exception):
    """Raised in a pack that has saved itself, since its machine ends soon."""


def give() -> None:
    """Give notice to the pack of this process."""
    _given.set()


def is_given() -> bool:
    """Whether the machine ends soon."""
    return _given.is_set()


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Context in which SIGTERM to this process gives notice; it may be entered in any thread."""
    _given.clear()
    _listening.set()
    if threading.current_thread() is threading.main_thread():
        _install()
    else:  # only the main thread may set handlers: it does so as soon as it runs Python code
        ctypes.pythonapi.Py_AddPendingCall(_PENDING, None)
    try:
        yield
    finally:
        _listening.clear()


def _install(_: object = None) -> int:
    global _previous
    if signal.getsignal(signal.SIGTERM) is not _handle:
        _previous = signal.signal(signal.SIGTERM, _handle)
    return 0


def _handle(number: int, frame: FrameType | None) -> None:
    signal.signal(number, _previous)
    if _listening.is_set():
        give()
    else:
        signal.raise_signal(number)


_PENDING = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(_install)
