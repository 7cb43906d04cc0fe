"""The processes of Ray that a driver cannot be without: where one has died, the command ends by a line of ours.

Ray itself would try for a minute, print what its processes were doing, and abort. Both are asked by a connection that
says nothing: the head by its port, the raylet of this machine by its socket.

    a process is gone ──► SIGTERM to the main thread ──► it hears: what is known is written, then `RayDied`
                                                    └──► it waits within Ray for what has died: the process ends here
"""

import errno
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import ray

from vaesweep.errors import RayDied

LOOK_SECONDS, ANSWER_SECONDS = 4.0, 5.0
LOCAL_PATIENCE = 5.0  # seconds for which a process of this machine may not answer
RAYS_VARIABLE, RAYS_PATIENCE = "RAY_gcs_rpc_server_reconnect_timeout_s", 60.0  # after which Ray aborts
SHARE = 0.75  # of that, for which the head of a cluster may be away: it may come back
LAST_SECONDS = 12.0  # for the main thread to hear, and for Ray to be left
FAILED = 1
REFUSED = (errno.ECONNREFUSED, errno.ENOENT)  # nothing listens there
UNREACHABLE = (*REFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNRESET)

Ask = Callable[[], bool]  # whether a process is there; raises `OSError` where this one cannot ask


@dataclass(frozen=True)
class Process:
    """A process of Ray: its name for people, how it is asked, and for how many seconds it may be gone."""

    name: str
    ask: Ask
    patience: float


@contextmanager
def watched(local: bool) -> Iterator["Watch | None"]:
    """Context in which SIGTERM must raise and tell the watch, and that a death of Ray's processes ends by `RayDied`.

    Gives what watches, whose `stop` is called before Ray is left; None in threads other than the main one, which
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
            raise RayDied(watch.words) from None
        raise
    finally:
        watch.stop()


def _processes(local: bool) -> list[Process]:
    node = ray._private.worker._global_node
    if node is None:
        return []
    host, _, port = node.gcs_address.rpartition(":")
    path = node.raylet_socket_name
    where = "of this command's own Ray" if local else f"of the Ray cluster, at {node.gcs_address},"
    patience = LOCAL_PATIENCE if local else SHARE * _rays_patience()
    return [
        Process(f"the head process {where}", lambda: _is_at(host.strip("[]"), int(port), local), patience),
        Process("the raylet of this machine", lambda: _is_listening(path), LOCAL_PATIENCE),
    ]


def _rays_patience() -> float:
    try:
        return float(os.environ[RAYS_VARIABLE])
    except (KeyError, ValueError):
        return RAYS_PATIENCE


def _is_at(host: str, port: int, local: bool) -> bool:
    """Whether something listens at a port; of another machine, whether it can be reached at all."""
    return _is_there(lambda: socket.create_connection((host, port), ANSWER_SECONDS).close(), local)


def _is_listening(path: str) -> bool:
    """Whether something listens at a socket of this machine."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.settimeout(ANSWER_SECONDS)
        return _is_there(lambda: asked.connect(path), local=True)


def _is_there(connect: Callable[[], None], local: bool) -> bool:
    try:
        connect()
    except TimeoutError:
        return local  # this machine is only busy
    except OSError as error:
        if error.errno in (REFUSED if local else UNREACHABLE):
            return False
        raise
    return True


def _abandon() -> None:
    """End what this command has started of Ray."""
    if (node := ray._private.worker._global_node) is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)


class Watch(threading.Thread):
    """Asks processes in turn, and interrupts the main thread by SIGTERM where one is `dead`: its name.

    Where the main thread does not hear of it, this process is ended here, after `abandon`.
    """

    def __init__(self, processes: list[Process], abandon: Callable[[], None], every: float = LOOK_SECONDS) -> None:
        super().__init__(name="watch of Ray", daemon=True)
        self.dead = ""
        self._processes, self._abandon, self._every = processes, abandon, every
        self._gone: dict[str, float] = {}  # since when each has been gone, by the first look that found it so
        self._stopped, self._lock = threading.Event(), threading.Lock()

    @property
    def words(self) -> str:
        """What is told of the death."""
        return f"{self.dead} has died; no finished cell is lost: the same command goes on"

    def run(self) -> None:
        """Ask until it is stopped, or until one has died."""
        while self._processes and not self._stopped.wait(self._every):
            dead = next((process.name for process in self._processes if self._is_dead(process)), "")
            with self._lock:  # what is asked while Ray is being left says nothing
                if self._stopped.is_set():
                    return
                self.dead = dead
            if dead:
                self._interrupt()
                return

    def _interrupt(self) -> None:
        with suppress(ProcessLookupError):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        if not self._stopped.wait(LAST_SECONDS):
            self.end_process()

    def _is_dead(self, process: Process) -> bool:
        """Whether a process has been gone at each look for longer than it may be."""
        try:
            is_there = process.ask()
        except OSError:  # no more files can be opened here, or the like: nothing is known of it
            is_there = True
        now = time.monotonic()
        if is_there:
            self._gone.pop(process.name, None)
            return False
        return now - self._gone.setdefault(process.name, now) > process.patience

    def end_process(self) -> None:
        """End this process with the words, as Ray would without any."""
        cursor = "\x1b[?25h" if sys.stdout.isatty() else ""  # which a display may have hidden
        print(cursor, end="", flush=True)
        print(f"error: {self.words}", file=sys.stderr, flush=True)
        with suppress(Exception):
            self._abandon()
        os._exit(FAILED)

    def stop(self) -> None:
        """Ask no more, and end nothing: the main thread has heard, of a death or of a signal, or Ray is being left."""
        with self._lock:
            self._stopped.set()
