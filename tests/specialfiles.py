"""What is no regular file, under any name, for tests of loaders, which must refuse it at once; and a bomb in gzip."""

import contextlib
import gzip
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

KINDS = {
    "folder": "a folder",
    "pipe": "a named pipe",
    "link to a pipe": "a named pipe",
    "socket": "a socket",
    "endless device": "a device",
    "link to itself": "symbolic links",
}
special_files = pytest.mark.parametrize("kind", KINDS)
MEMBER = 2**26  # bytes that a member of a bomb unzips to


def make_special(path: Path, kind: str) -> str:
    """Put a special file at `path`; what a refusal should call it."""
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link to a pipe":
            os.mkfifo(path.with_name("the pipe itself"))
            path.symlink_to("the pipe itself")
        case "socket":
            bind(path)
        case "endless device":
            path.symlink_to("/dev/zero")
        case "link to itself":
            path.symlink_to(path.name)
    return KINDS[kind]


def bind(path: Path) -> None:
    """Put a socket at `path`, which may be longer than the address of a socket can be."""
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Context that a hanging call leaves with a `TimeoutError`."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"not done within {seconds} seconds")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def bomb(start: bytes, filling: bytes, members: int) -> bytes:
    """Some megabytes of gzip that unzip to `start` and then `members` times 64 MiB of `filling`, again and again."""
    member = gzip.compress((filling * (MEMBER // len(filling) + 1))[:MEMBER], 9)
    return gzip.compress(start) + member * members
