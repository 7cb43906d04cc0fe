"""The timeline of a command: what ran when and where, in seconds since its process began (`--timeline`).

The command's own laps follow each other; what runs beside them has spans of its own. Packs send theirs with their
events, by the clocks of their machines.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

GAP_SECONDS = 0.01  # between two spans that are one
START, SIZE = "process, imports, wait for a pack", "choice of size, compiling"  # of a pack, whenever it begins
FIRST_STEP, TRAINING, EVALUATION = "first step", "training", "final evaluation"  # of a pack
COMMAND = "command"  # where the laps of the command's own thread run


class Span(NamedTuple):
    """Something that ran `where`, from when to when, in seconds of the epoch."""

    where: str
    what: str
    began: float
    ended: float


class Laps:
    """Consecutive spans of one thread, each of which begins where the last one has ended."""

    def __init__(self, began: float | None = None) -> None:
        self._at = time.time() if began is None else began
        self._done: list[tuple[str, float, float]] = []

    def lap(self, what: str, until: float | None = None) -> None:
        """End the span that runs, now or at a moment before, and begin the next one."""
        ended = max(self._at, time.time() if until is None else until)
        if ended > self._at:
            self._done.append((what, self._at, ended))
        self._at = ended

    def take(self) -> list[tuple[str, float, float]]:
        """The spans since the last call: what, from when, to when."""
        done, self._done = self._done, []
        return done


class Timeline:
    """The spans of a command. May be added to from any thread."""

    def __init__(self) -> None:
        self.began = process_began()
        self._laps, self._spans = Laps(self.began), list[Span]()
        self._last: dict[str, int] = {}  # the number of each place's last span

    def lap(self, what: str) -> None:
        """End what the command's own thread has done since the last lap."""
        self._laps.lap(what)

    def add(self, where: str, spans: list[tuple[str, float, float]]) -> None:
        """Add spans of something else; one that goes on with what its place has done last makes that longer."""
        for what, began, ended in spans:
            place = self._last.get(where)
            if place is not None and (last := self._spans[place]).what == what and began - last.ended < GAP_SECONDS:
                self._spans[place] = last._replace(ended=max(last.ended, ended))
                continue
            self._last[where] = len(self._spans)
            self._spans.append(Span(where, what, began, ended))

    @contextmanager
    def span(self, where: str, what: str) -> Iterator[None]:
        """Context whose time is a span."""
        began = time.time()
        try:
            yield
        finally:
            self.add(where, [(what, began, time.time())])

    @property
    def spans(self) -> list[Span]:
        """What has been added, in the order in which it was."""
        return list(self._spans)

    def lines(self) -> list[str]:
        """A line a span: from, to, where, what; in the order in which they began, from when the process did."""
        self.add(COMMAND, self._laps.take())
        spans = sorted(self._spans, key=lambda span: (span.began, span.ended))
        width = max((len(span.where) for span in spans), default=0)
        return [
            f"{span.began - self.began:8.2f} {span.ended - self.began:8.2f}  {span.where:<{width}}  {span.what}"
            for span in spans
        ]


def process_began() -> float:
    """When this process began, in seconds of the epoch."""
    with contextlib.suppress(OSError, AttributeError, ValueError, IndexError):  # Linux says it to the hundredth
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    import psutil  # help pages do without it

    return float(psutil.Process().create_time())
