"""Timing of a pack's steps and evaluations, in seconds."""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vaesweep.training.batch_order import Draws
from vaesweep.training.config import TrainableConfig
from vaesweep.training.loop import RunningPack, start_state
from vaesweep.training.problem import Problem
from vaesweep.training.state import PackState
from vaesweep.training.world import World

Clock = Callable[[], float]

TIMED_STEPS, TIMED_SECONDS = 6, 0.5  # steps that are timed: as many as fit the time, at least one
CALIBRATION_STEPS = 8
CALIBRATION_ROWS = (16, 48)  # data of a domain that trained models are put to use on, twice


def clock(device: torch.device) -> Clock:
    """A clock of seconds that waits until the device has done its queued work."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def step_seconds(
    problem: Problem, configs: Sequence[TrainableConfig], clock: Clock, *, compiled: bool = False
) -> float:
    """Seconds of a step of these cells, the best of a few, after one that warms up."""
    state = start_state(problem, configs, [str(number) for number in range(len(configs))])
    pack = RunningPack(problem, configs, state, World(), compiled=compiled)
    best, spent = math.inf, 0.0
    with contextlib.closing(pack.feed):
        pack.step()
        for _ in range(TIMED_STEPS):
            took = _seconds(pack.step, clock)
            best, spent = min(best, took), spent + took
            if spent > TIMED_SECONDS:
                break
    return best


def operations(problem: Problem) -> int:
    """The number of tensor operations in a forward pass."""
    counter = _Counter()
    model = problem.build().to(problem.device)
    draws = Draws(0, 0, torch.zeros(1, dtype=torch.long, device=problem.device), slice(0, 1), problem.device)
    batch = problem.train_share(draws, problem.read(draws))
    with torch.no_grad(), counter:
        model(**batch)
    return counter.count


class _Counter(TorchDispatchMode):
    """Counts the operations that are dispatched within its context."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


@dataclass(frozen=True)
class PackSeconds:
    """Seconds that a pack takes: a step, an evaluation while training, and the final one on every domain."""

    step: float
    quick: float
    final: float


def measure_pack(problem: Problem, configs: Sequence[TrainableConfig], state: PackState, clock: Clock) -> PackSeconds:
    """Time a few steps of a pack, after as many to warm up, and one evaluation; `state` is changed by it."""
    pack = RunningPack(problem, configs, state, World())
    marks = []
    with contextlib.closing(pack.feed):
        for _ in range(2):
            marks.append(clock())
            for _ in range(CALIBRATION_STEPS):
                pack.step()
    marks.append(clock())
    pack.evaluate()
    marks.append(clock())
    quick = marks[3] - marks[2]
    rows = sum(problem.domains.values()) / problem.quick_rows(problem.valid)
    return PackSeconds((marks[2] - marks[1]) / CALIBRATION_STEPS, quick, quick * rows + _use_seconds(pack, clock))


def _use_seconds(pack: RunningPack, clock: Clock) -> float:
    """Estimated seconds of `Problem.use` on all its data, from two small samples of them."""
    problem = pack.problem
    if not problem.use_rows:
        return 0.0
    few, more = (_seconds(partial(problem.use, pack.stack, rows=n), clock) for n in CALIBRATION_ROWS)
    row_seconds = max(0.0, more - few) / (CALIBRATION_ROWS[1] - CALIBRATION_ROWS[0])
    return few + row_seconds * max(0, problem.use_rows - CALIBRATION_ROWS[0])


def _seconds(work: Callable[[], object], clock: Clock) -> float:
    start = clock()
    work()
    return clock() - start
