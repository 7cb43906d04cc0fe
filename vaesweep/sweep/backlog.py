"""Points that wait to be written, of many cells: in memory up to a bound, beyond it in a file.

Training adds to it from the driver's own thread and never waits for the store; the writer takes from it.
"""

import contextlib
import json
import logging
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

MEMORY_POINTS = 200_000  # that are kept in memory, some seventy bytes each
MEMORY_BYTES = 2**24  # of finished files that are kept in memory

logger = logging.getLogger(__name__)


class Point(NamedTuple):
    """A value of a metric at a step. `time` is in ms: by it a store knows a point that is sent again for the same."""

    name: str
    step: int
    value: float
    time: int


class Record(NamedTuple):
    """The points of one cell at one step."""

    step: int
    time: int
    metrics: dict[str, float]

    def points(self) -> Iterator[Point]:
        """Its points, one by one."""
        for name, value in self.metrics.items():
            yield Point(name, self.step, value, self.time)


class Slot(NamedTuple):
    """A place in the spill file."""

    start: int
    length: int


class Spill:
    """Bytes in a temporary file that has no name, and so goes with the process."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="vaesweep-")  # noqa: SIM115
        self._slots = 0

    def write(self, data: bytes) -> Slot:
        """Append `data`, and return where it is. Raises `OSError` where the disk is full."""
        start = self._file.seek(0, 2)
        try:
            self._file.write(data)
            self._file.flush()
        except OSError:
            self._file.truncate(start)
            raise
        self._slots += 1
        return Slot(start, len(data))

    def read(self, slot: Slot) -> bytes:
        """The bytes at a slot."""
        self._file.seek(slot.start)
        return self._file.read(slot.length)

    def free(self, slot: Slot) -> None:
        """Forget the bytes at a slot. The file is emptied with its last one."""
        self._slots -= 1
        if not self._slots:
            self._file.truncate(0)


@dataclass
class _Queue:
    """The records of a cell in the order in which they came: first those in the file, then those in memory."""

    slots: deque[Slot] = field(default_factory=deque)
    records: deque[Record] = field(default_factory=deque)
    first: deque[Record] = field(default_factory=deque)  # of the slot that was taken last


class Backlog:
    """Records of cells, first in first out for each cell. May be used from several threads."""

    def __init__(self, memory_points: int = MEMORY_POINTS) -> None:
        self._bound = memory_points
        self._queues: dict[str, _Queue] = {}
        self._spill: Spill | None = None
        self._lock = threading.Lock()
        self.points_in_memory = 0

    def add(self, records: Iterable[tuple[str, Record]]) -> None:
        """Add the next records of cells."""
        with self._lock:
            for cell, record in records:
                self._queues.setdefault(cell, _Queue()).records.append(record)
                self.points_in_memory += len(record.metrics)
            if self.points_in_memory > self._bound:
                self._move_to_file()

    def pop(self, cell: str, most: int) -> Record | None:
        """The next record of a cell, if it has one and that has at most `most` points."""
        with self._lock:
            queue = self._queues.get(cell)
            if queue is None:
                return None
            if not queue.first and queue.slots:
                assert self._spill is not None
                slot = queue.slots.popleft()
                queue.first.extend(_decoded(self._spill.read(slot)))
                self._spill.free(slot)
                self.points_in_memory += sum(len(record.metrics) for record in queue.first)
            records = queue.first or queue.records
            if not records or len(records[0].metrics) > most:
                return None
            record = records.popleft()
            self.points_in_memory -= len(record.metrics)
            if not (queue.first or queue.slots or queue.records):
                del self._queues[cell]
            return record

    def has(self, cell: str) -> bool:
        """Whether points of a cell wait."""
        return cell in self._queues

    def _move_to_file(self) -> None:
        """Write what is in memory to the file, cell by cell; where that fails it stays, since nothing may be lost."""
        try:
            self._spill = self._spill or Spill()
            for queue in self._queues.values():
                if queue.records:
                    queue.slots.append(self._spill.write(_encoded(queue.records)))
                    self.points_in_memory -= sum(len(record.metrics) for record in queue.records)
                    queue.records.clear()
        except OSError as error:
            self._bound *= 2
            logger.warning(
                "points wait for the tracking store in memory, since no file takes them (%s)", error.strerror
            )


class FileShelf:
    """Contents of files that wait to be written, in memory up to a bound, beyond it in a file."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._left = memory_bytes
        self._spill: Spill | None = None
        self._contents: dict[str, bytes | Slot] = {}
        self._lock = threading.Lock()

    def put(self, name: str, data: bytes) -> None:
        """Keep a file's content, in place of what there is under its name."""
        with self._lock:
            self._drop(name)
            self._contents[name] = data
            self._left -= len(data)
            if self._left < 0:
                with contextlib.suppress(OSError):  # then it stays in memory, since nothing may be lost
                    self._spill = self._spill or Spill()
                    self._contents[name] = self._spill.write(data)
                    self._left += len(data)

    def get(self, name: str) -> bytes:
        """The content that is kept under a name."""
        with self._lock:
            content = self._contents[name]
            if isinstance(content, bytes):
                return content
            assert self._spill is not None
            return self._spill.read(content)

    def drop(self, name: str) -> None:
        """Forget the content that is kept under a name, if there is any."""
        with self._lock:
            self._drop(name)

    def _drop(self, name: str) -> None:
        content = self._contents.pop(name, None)
        if isinstance(content, bytes):
            self._left += len(content)
        elif content is not None:
            assert self._spill is not None
            self._spill.free(content)


def _encoded(records: Iterable[Record]) -> bytes:
    return json.dumps(list(records)).encode()


def _decoded(data: bytes) -> list[Record]:
    return [Record(*values) for values in json.loads(data)]
