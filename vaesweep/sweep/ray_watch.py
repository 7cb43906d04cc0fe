"""The processes of Ray that a driver cannot be without: where one has died, the command ends by a line of ours.

Ray itself would try for a minute, print what its processes were doing, and abort. Both are asked by a connection that
says nothing: the head by its port, the raylet of this machine by its socket.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import ray

from vaesweep.errors import RayDied

LOOK_SECONDS, ANSWER_SECONDS = 4.0, 5.0
PATIENCE = 45.0  # seconds for which the head of a cluster may be away: it may come back, and Ray aborts after 60
LOCAL_PATIENCE = 4.0  # for which a process of this machine may not answer
LAST_SECONDS = 12.0  # for the main thread to end: it cannot where it waits in Ray for what has died
FAILED = 1

Ask = Callable[[], None]  # raises `OSError` where nothing answers


@contextmanager
def watched(local: bool) -> Iterator["Watch | None"]:
    """Context in which SIGTERM must raise, and that a death of Ray's processes ends by `RayDied`.

    Gives what watches, whose `leave` is called before Ray is left; None in threads other than the main one, which
    cannot be interrupted: there Ray has its own way.
    """
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    watch = Watch(_processes(local), _abandon if local else lambda: None)
    watch.start()
    try:
        yield watch
    except KeyboardInterrupt:
        if watch.dead:
            raise RayDied(_words(watch.dead)) from None
        raise
    finally:
        watch.end()


def _words(dead: str) -> str:
    return f"{dead} has died; no finished cell is lost: the same command goes on"


def _abandon() -> None:
    """End what this command has started of Ray."""
    if (node := ray._private.worker._global_node) is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)


def _processes(local: bool) -> dict[str, tuple[Ask, float]]:
    """How each process is asked, and for how long it may not answer, by its name for people."""
    node = ray._private.worker._global_node
    if node is None:
        return {}
    host, _, port = node.gcs_address.rpartition(":")
    path = node.raylet_socket_name
    where = "of this command's own Ray" if local else f"of the Ray cluster, at {node.gcs_address},"
    return {
        f"the head process {where}": (
            lambda: socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close(),
            LOCAL_PATIENCE if local else PATIENCE,
        ),
        "the raylet of this machine": (lambda: _ask_socket(path), LOCAL_PATIENCE),
    }


def _ask_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.settimeout(ANSWER_SECONDS)
        asked.connect(path)


class Watch(threading.Thread):
    """Asks processes in turn, and interrupts the main thread by SIGTERM where one is `dead`: its name.

    Where the main thread does not end by that, the process is ended here, after `abandon`.
    """

    def __init__(
        self, processes: dict[str, tuple[Ask, float]], abandon: Callable[[], None], every: float = LOOK_SECONDS
    ) -> None:
        super().__init__(name="watch of Ray", daemon=True)
        self.dead = ""
        self._processes, self._abandon, self._every = processes, abandon, every
        self._answered = dict.fromkeys(processes, time.monotonic())  # when each has answered last
        self._ended = threading.Event()

    def run(self) -> None:
        """Ask until the end, or until one has died."""
        if not self._processes:
            return
        while not self.dead:
            if self._ended.wait(self._every):
                return
            self.dead = next((name for name in self._processes if self._is_dead(name)), "")
        with suppress(ProcessLookupError):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        if not self._ended.wait(LAST_SECONDS):
            print(f"error: {_words(self.dead)}", file=sys.stderr, flush=True)
            with suppress(Exception):
                self._abandon()
            os._exit(FAILED)

    def _is_dead(self, name: str) -> bool:
        ask, patience = self._processes[name]
        try:
            ask()
            self._answered[name] = time.monotonic()
        except OSError:
            return time.monotonic() - self._answered[name] > patience
        return False

    def leave(self) -> None:
        """Ask no more, since Ray is going to be left; where something has died that may never end."""
        if not self.dead:
            self._ended.set()

    def end(self) -> None:
        """Ask no more, and end nothing."""
        self._ended.set()
