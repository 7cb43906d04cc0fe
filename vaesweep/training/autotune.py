"""Choice of the number of cells that train at once on a device, and of compiling their step, by measurement.

    1, 4, 16, 64 … cells ──► seconds a step, bytes ──► the size that finishes all cells first ──► compiled?

The choice changes the time that a pack takes, and its numbers by float32 rounding only.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vaesweep.training.compiling import Compile, Compiled, SharedCompiling
from vaesweep.training.config import TrainableConfig
from vaesweep.training.memory import Meter, is_out_of_memory
from vaesweep.training.problem import Problem
from vaesweep.training.stack import stackable
from vaesweep.training.timing import Clock, operations, step_seconds

GROWTH = 4  # between two sizes that are measured
FEW_STEPS = 100  # a run of fewer is over before a choice could pay
FALLING = 1.25  # a size whose cells take this much longer than the best one's ends the search
AS_FAST = 1.1  # times the fastest's time, which is no more than a busy machine does to a measurement
OPERATION_SECONDS = 0.33  # of compiling an operation of a forward pass, about, on a CPU core
EXPECTED_RATIO = 2.0  # times as fast a compiled step is, before it was measured
MARGIN = 1.25  # times the time of compiling: what a pack must save by it to be worth it
FASTER = 0.9  # a compiled step is kept where it takes at most this share of the time


@dataclass(frozen=True)
class MeasuredSize:
    """One measured size: `seconds` a step of `cells` together, and the bytes they take beyond those in use before."""

    cells: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Tuning:
    """The choice for a pack: cells at once, compiled or not, and the reasons in words."""

    cells: int
    compiled: bool
    notes: tuple[str, ...] = ()


def autotune(
    problem: Problem,
    configs: Sequence[TrainableConfig],
    steps: int,
    limit: float,
    clock: Clock,
    *,
    size: int | None = None,
    compiling: Compile = "auto",
) -> Tuning:
    """The choice for cells of one structure that have `steps` steps to go, within `limit` bytes of memory.

    A `size` that is given is taken as it is.
    """
    if not stackable(model := problem.build()):
        notes = (f"{type(model).__name__} cannot be stacked: one cell at a time",) if len(configs) > 1 else ()
        return Tuning(1, compiled=False, notes=notes)
    requested = min(size or len(configs), len(configs))
    if steps < FEW_STEPS and compiling != "always":
        return Tuning(requested, compiled=False)
    measurements = [] if size else list(measure_sizes(problem, configs, limit, clock))
    cells = requested if size else best_size(measurements, len(configs), limit)
    notes = (
        () if cells == len(configs) else (f"{cells} of {len(configs)} cells at a time{_reason(measurements, limit)}",)
    )
    seconds = next((measurement.seconds for measurement in measurements if measurement.cells == cells), None)
    left = steps * math.ceil(len(configs) / cells)
    compiled, compile_notes = _decide_compiling(problem, configs[:cells], left, seconds, clock, compiling)
    return Tuning(cells, compiled, (*notes, *compile_notes))


def measure_sizes(
    problem: Problem, configs: Sequence[TrainableConfig], limit: float, clock: Clock
) -> Iterator[MeasuredSize]:
    """Measured sizes, from one cell up to all of `configs`.

    Ends early where the next size would not fit `limit`, or where cells take longer the more of them there are.
    """
    meter = Meter(problem.device)
    measurements: list[MeasuredSize] = []
    for size in _sizes(len(configs)):
        if measurements and _estimate_bytes(measurements, size) > limit:
            return
        meter.restart()
        try:
            seconds = step_seconds(problem, configs[:size], clock)
        except (MemoryError, RuntimeError) as error:
            if measurements and is_out_of_memory(error):
                return
            raise
        measurements.append(MeasuredSize(size, seconds, meter.peak()))
        yield measurements[-1]
        if seconds / size > FALLING * min(measurement.seconds / measurement.cells for measurement in measurements):
            return


def best_size(measurements: Sequence[MeasuredSize], cells: int, limit: float = math.inf) -> int:
    """The smallest size that finishes `cells` cells, one group after the other, about as soon as the fastest does.

    A smaller one takes less memory and has its first cells finished sooner. Where the search ended at the limit of
    memory, the largest size that fits it, spread evenly over the groups.
    """
    totals = {
        measurement.cells: math.ceil(cells / measurement.cells) * measurement.seconds for measurement in measurements
    }
    best = min(size for size, total in totals.items() if total <= AS_FAST * min(totals.values()))
    if best != measurements[-1].cells or best == cells:
        return best
    most = max((size for size in range(best, cells + 1) if _estimate_bytes(measurements, size) <= limit), default=1)
    return math.ceil(cells / math.ceil(cells / most))


def _decide_compiling(
    problem: Problem,
    configs: Sequence[TrainableConfig],
    steps: int,
    seconds: float | None,
    clock: Clock,
    compiling: Compile,
) -> tuple[bool, tuple[str, ...]]:
    """Whether to compile for so many `steps` of these cells, which take `seconds` each as they are; notes on that."""
    if compiling == "never":
        return False, ()
    plain = step_seconds(problem, configs, clock) if seconds is None else seconds
    shared, wanted = SharedCompiling(configs[0], problem.device.type, len(configs)), compiling == "always"
    estimate = Compiled(compile_seconds(problem), EXPECTED_RATIO)
    if not wanted and not is_worth(plain * steps, shared.known() or estimate):
        return False, ()
    try:
        with shared.alone():
            if not wanted and (known := shared.known()) and not is_worth(plain * steps, known):
                return False, (f"not compiled: {known.ratio:.1f} times as fast a step, as was found before",)
            began = clock()
            fast = step_seconds(problem, configs, clock, compiled=True)
            took = clock() - began
            shared.remember(took, plain / fast)
    except Exception as error:  # no C++ compiler, no Triton, or a model that cannot be traced: it trains all the same
        return False, (f"not compiled ({type(error).__name__}: {_first_line(error)})",)
    ratio = f"{plain / fast:.1f} times as fast a step, after {took:.0f} s of compiling"
    if compiling == "auto" and fast > FASTER * plain:
        return False, (f"not compiled: {ratio}",)
    return True, (f"compiled: {ratio}",)


def is_worth(plain_seconds: float, known: Compiled) -> bool:
    """Whether steps that take so long as they are save more by being compiled than compiling takes."""
    if known.ratio * FASTER < 1.0:
        return False
    return plain_seconds * (1.0 - 1.0 / known.ratio) > MARGIN * known.seconds


def compile_seconds(problem: Problem) -> float:
    """Estimated seconds of compiling a step. A module may be called many times, so calls are counted, not modules."""
    return OPERATION_SECONDS * operations(problem)


def _sizes(cells: int) -> list[int]:
    sizes = [1]
    while sizes[-1] * GROWTH < cells:
        sizes.append(sizes[-1] * GROWTH)
    return sizes if sizes[-1] == cells else [*sizes, cells]


def _estimate_bytes(measurements: Sequence[MeasuredSize], size: int) -> float:
    """Estimated bytes of `size` cells: on the line through the last two sizes measured."""
    last = measurements[-1]
    if len(measurements) == 1:
        return last.bytes * size / last.cells
    before = measurements[-2]
    slope = max(0.0, (last.bytes - before.bytes) / (last.cells - before.cells))
    return last.bytes + slope * (size - last.cells)


def _reason(measurements: Sequence[MeasuredSize], limit: float) -> str:
    if not measurements:
        return ""
    full = _estimate_bytes(measurements, measurements[-1].cells * GROWTH) > limit
    return f": the memory for it is {limit / 2**20:.0f} MiB" if full else ": more of them are slower"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
