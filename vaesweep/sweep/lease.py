"""Leases of cells, so that two commands do not train the same ones: kept while a command runs, free when it dies.

    <storage>/leases/<id>.json   who holds which cells; <id>.lock, on a local disk, is locked by the holder

On a local disk the lock is the operating system's, which frees it when its holder dies. Elsewhere the holder counts up
a number in its file, and is dead when that stands still: no clocks are compared. Of two that claim the same cells at
once, the one whose file comes first gets them.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vaesweep.errors import UserError
from vaesweep.sweep.storage import Storage

LEASES = "leases"
BEAT_SECONDS = 10.0  # between two beats of a holder that is not on a local disk
SILENT_SECONDS = 25.0  # without a beat, after which a holder is dead


class CellsHeld(UserError):
    """The refusal of cells that a command which is alive holds."""


@contextlib.contextmanager
def lease(storage: Storage, sweep: str, cells: Collection[str]) -> Iterator[None]:
    """Hold `cells` of `sweep` while the context lasts.

    Raises `CellsHeld` where a command that is alive holds one of them.
    """
    if not cells:
        yield
        return
    name = uuid.uuid4().hex[:16]
    about = {"sweep": sweep, "pid": os.getpid(), "host": socket.gethostname(), "beat": 0, "cells": sorted(cells)}
    about["since"] = datetime.now(UTC).isoformat(timespec="seconds")
    hold = _held_by_lock if storage.folder else _held_by_beats
    with hold(storage, name, about):
        yield


@contextlib.contextmanager
def _held_by_lock(storage: Storage, name: str, about: dict[str, Any]) -> Iterator[None]:
    assert storage.folder is not None
    folder = storage.folder / LEASES
    folder.mkdir(parents=True, exist_ok=True)
    own = FileLock(folder / f"{name}.lock")
    with FileLock(folder / "all.lock"):  # one command looks at a time
        for other in sorted(folder.glob("*.json")):
            if _lock_is_held(other.with_suffix(".lock")):
                _refuse_overlap(_read(other.read_bytes()), about)
            else:
                other.unlink(missing_ok=True)
                other.with_suffix(".lock").unlink(missing_ok=True)
        own.acquire(timeout=0)
        storage.write(f"{LEASES}/{name}.json", json.dumps(about).encode())
    try:
        yield
    finally:
        Path(folder, f"{name}.json").unlink(missing_ok=True)
        own.release()
        Path(own.lock_file).unlink(missing_ok=True)


def _lock_is_held(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


@contextlib.contextmanager
def _held_by_beats(storage: Storage, name: str, about: dict[str, Any]) -> Iterator[None]:
    file, ended = f"{LEASES}/{name}.json", threading.Event()
    about["holds"] = False
    storage.write(file, json.dumps(about).encode())
    beats = threading.Thread(target=_beat, args=(storage, file, about, ended), name="lease", daemon=True)
    beats.start()  # one that waits is alive too
    try:
        _wait_for_dead(storage, file, about)
        about["holds"] = True
        storage.write(file, json.dumps(about).encode())
        yield
    finally:
        ended.set()
        beats.join(BEAT_SECONDS)  # or it would write the file anew
        with contextlib.suppress(OSError):
            storage.delete(file)


def _wait_for_dead(storage: Storage, file: str, about: dict[str, Any]) -> None:
    """Return when all that hold or claim one of the cells have been silent for long, and take what they have left.

    Raises `CellsHeld` where one is alive that holds them, or that claims them too and whose file comes first.
    """
    wanted = set(about["cells"])
    known = {other: value for other, value in _others(storage, file).items() if wanted & set(value["cells"])}
    heard = dict.fromkeys(known, time.monotonic())
    while known:
        if time.monotonic() - min(heard.values()) > SILENT_SECONDS:
            dead = min(known, key=heard.__getitem__)
            storage.delete(dead)
            del known[dead], heard[dead]
            continue
        time.sleep(BEAT_SECONDS / 10)
        now = _others(storage, file)
        for other in list(known):
            if other not in now:
                del known[other], heard[other]
            elif now[other]["beat"] != known[other]["beat"]:
                if now[other]["holds"] or other < file:
                    _refuse_overlap(now[other], about)
                known[other], heard[other] = now[other], time.monotonic()


def _beat(storage: Storage, file: str, about: dict[str, Any], ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        about["beat"] += 1
        with contextlib.suppress(OSError):  # the storage is away for a while: the next beat may reach it
            storage.write(file, json.dumps(about).encode())


def _others(storage: Storage, own: str) -> dict[str, dict[str, Any]]:
    others: dict[str, dict[str, Any]] = {}
    for name in storage.names(LEASES, ".json"):
        with contextlib.suppress(FileNotFoundError):
            if name != own:
                others[name] = _read(storage.read(name))
    return others


def _read(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
        return {"pid": "?", "host": "?", "since": "?", "beat": 0, "holds": True, **value, "cells": list(value["cells"])}
    except (ValueError, KeyError, TypeError):
        return {"pid": "?", "host": "?", "since": "?", "beat": 0, "holds": True, "cells": []}


def _refuse_overlap(other: dict[str, Any], about: dict[str, Any]) -> None:
    shared = sorted(set(other["cells"]) & set(about["cells"]))
    if shared:
        raise CellsHeld(
            f"{len(shared)} cells of this sweep, such as {shared[0]}, are being trained by process {other['pid']} on "
            f"{other['host']} since {other['since']}: wait until it has ended, or end it"
        )
