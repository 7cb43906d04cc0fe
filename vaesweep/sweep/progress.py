"""Progress of a running sweep: bars on a terminal, or a line at intervals in a log."""

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vaesweep.sweep.telling import tell

if TYPE_CHECKING:  # `vaesweep status` takes durations from here, and shall not wait for torch
    from vaesweep.sweep.cells import Pack
    from vaesweep.sweep.jobs import Event

LOG_SECONDS = 10.0  # between lines where there is no terminal, at first
LOG_SHARE = 0.05  # later lines come after this share of the time spent, so that a long sweep stays readable


class ProgressDisplay:
    """Shows events as they come. Use as a context."""

    def __init__(self, console: Console, packs: "Sequence[Pack]", done: int, total: int) -> None:
        self._console, self._total, self._done, self._diverged = console, total, done, 0
        self._steps: dict[str, int] = {}
        self._resumed_at: dict[str, int] = {}  # steps that a checkpoint held, which took none of this command's time
        self._interval = {p.identity: p.cells[0].config.training.evaluate_every for p in packs}
        self._all_steps = {p.identity: p.cells[0].config.all_steps for p in packs}
        self._sizes = {p.identity: len(p.cells) for p in packs}
        self._numbers = {p.identity: number for number, p in enumerate(packs, 1)}
        self._started = time.monotonic()
        self._logged_at = self._started - LOG_SECONDS
        self._latest: dict[str, str] = {}
        self._bars = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._cells = self._bars.add_task("cells", total=total, completed=done, note="")

    def __enter__(self) -> "ProgressDisplay":
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def event(self, event: "Event") -> None:
        """Show a worker's event."""
        for note in event.notes:
            self.note(event.pack, note)
        self._steps[event.pack] = max(event.step, self._steps.get(event.pack, 0))
        if event.points:
            before = event.points[0][0] - self._interval.get(event.pack, 0)
            self._resumed_at.setdefault(event.pack, max(0, before))
            self._latest[event.pack] = describe(event.points[-1][2])
        if event.pack not in self._tasks:
            name = f"pack {self._numbers.get(event.pack, 0)}"
            self._tasks[event.pack] = self._bars.add_task(name, total=event.steps, note="")
        self._bars.update(
            self._tasks[event.pack], completed=self._steps[event.pack], note=self._latest.get(event.pack, "")
        )
        self._log()

    def split(self, pack: str, other: str, released: Mapping[str, int]) -> None:
        """Count the cells that `pack` has released, with their steps so far, as those of a pack of their own."""
        self._numbers[other] = len(self._numbers) + 1
        self._sizes[other] = len(released)
        self._sizes[pack] -= len(released)
        for by_pack in (self._interval, self._all_steps):
            by_pack[other] = by_pack[pack]
        self._steps[other] = sum(released.values()) // len(released)
        self._resumed_at[other] = min(self._steps[other], self._resumed_at.get(pack, 0))

    def note(self, pack: str, note: str) -> None:
        """Print a line about a pack."""
        tell(self._console, f"pack {self._numbers.get(pack, 0)}: {note}")

    def ended(self, cell: str, cause: str | None = None) -> None:
        """Count a cell that has ended; it diverged where there is a `cause`, which is printed at once."""
        self._done += 1
        if cause is not None:
            self._diverged += 1
            tell(self._console, f"cell {cell} diverged: {cause}")
        note = f"{self._diverged} diverged" if self._diverged else ""
        self._bars.update(self._cells, completed=self._done, note=note)

    def _pause(self, now: float) -> float:
        return max(LOG_SECONDS, LOG_SHARE * (now - self._started))

    def _of_all_cells(self, by_pack: Mapping[str, int]) -> int:
        """The sum over cells of numbers that their packs have."""
        return sum(self._sizes.get(pack, 1) * number for pack, number in by_pack.items())

    def _log(self) -> None:
        now = time.monotonic()
        if self._console.is_terminal or now - self._logged_at < self._pause(now):
            return
        self._logged_at = now
        steps, all_steps = self._of_all_cells(self._steps), max(1, self._of_all_cells(self._all_steps))
        share, own_steps = steps / all_steps, steps - self._of_all_cells(self._resumed_at)
        spent = now - self._started
        left = (
            f", about {duration(spent * (all_steps - steps) / own_steps)} left" if own_steps > 0.02 * all_steps else ""
        )
        notes = "; ".join(f"pack {self._numbers.get(p, 0)}: {text}" for p, text in self._latest.items())
        tell(
            self._console,
            f"{duration(spent)}: {self._done}/{self._total} cells, {share:.0%} of the steps{left} ({notes})",
        )


def describe(metrics: Mapping[str, Sequence[float]]) -> str:
    """The range of rates of a pack's cells and the median of their negative ELBOs, in one short phrase."""
    rates, elbos = metrics.get("valid/rate", []), metrics.get("valid/elbo", [])
    if not rates:
        return ""
    low, high = min(rates), max(rates)
    span = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    return f"rate {span} nats, median -ELBO {-median(elbos):.4g}"


def duration(seconds: float) -> str:
    """Seconds in words: `45 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{max(0, seconds):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
