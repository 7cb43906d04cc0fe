"""What a command costs: CPU seconds of its whole process tree, wall-clock seconds, and its largest process.

Ray's workers are not waited for by what has started them, and so in nobody's account: the tree is looked at while the
command runs, and the last that was seen of each process counts where that is more than what was waited for.
"""

import contextlib
import ctypes
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
LOOK_SECONDS = 0.25  # between two looks at the process tree
WORKERS = ("ray::", "default_worker.py")  # in the commands of Ray's workers
BECOME_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: processes whose parent has died become this one's children


@dataclass(frozen=True)
class Cost:
    """CPU seconds, user's and system's, of a process tree; wall-clock seconds; MiB of the command's own process.

    `workers` are the CPU seconds of Ray's workers in the tree, idle ones too.
    """

    cpu: float
    wall: float
    memory: float
    workers: float

    @classmethod
    def least(cls, costs: Iterable["Cost"]) -> "Cost":
        """The least of each, over repeats: what disturbs a measurement only adds."""
        costs = list(costs)
        return cls(*(min(getattr(cost, field.name) for cost in costs) for field in fields(cls)))


def cost_of(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], codes: Sequence[int] = (0,)
) -> tuple[Cost, str]:
    """The cost of a command run in `folder`, and its standard output; it must end with one of `codes`."""
    ctypes.CDLL(None).prctl(BECOME_SUBREAPER, 1)
    before, started = _cpu(), time.monotonic()
    with (
        _Tree() as tree,
        subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - started
    if process.returncode not in codes:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {output[-2000:]}")
    _reap()
    return Cost(max(_cpu() - before, tree.cpu()), wall, usage.ru_maxrss / 1024, tree.cpu(WORKERS)), output


class _Tree:
    """The CPU time of every process below this one that is seen while it is a context."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, float], tuple[str, float]] = {}  # by process and when it began: command, seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "_Tree":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def cpu(self, named: Sequence[str] = ("",)) -> float:
        """Seconds, user's and system's, of the processes whose command has one of the words in it."""
        return sum(seconds for command, seconds in self._seen.values() if any(word in command for word in named))

    def _look(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    times, command = process.cpu_times(), " ".join(process.cmdline())
                    self._seen[process.pid, process.create_time()] = (command, times.user + times.system)


def environment_of(checkout: Path, **more: str) -> dict[str, str]:
    """The environment in which Python imports the vaesweep of a checkout, with no store named."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", **more}
    environment.pop("MLFLOW_TRACKING_URI", None)
    return environment


def side_by_side(
    checkouts: Sequence[Path], repeats: int, measure: Callable[[Path], Mapping[str, Cost]]
) -> dict[Path, dict[str, Cost]]:
    """What `measure` returns of each checkout, by name, the least of some repeats, in which checkouts take turns."""
    taken: dict[Path, list[Mapping[str, Cost]]] = {checkout: [] for checkout in checkouts}
    for _ in range(repeats):
        for checkout in checkouts:
            taken[checkout].append(measure(checkout))
    return {
        checkout: {name: Cost.least(one[name] for one in costs) for name in costs[0]}
        for checkout, costs in taken.items()
    }


def print_costs(costs: Mapping[Path, Mapping[str, Cost]]) -> None:
    """Print a table with a line for each checkout and each thing that was measured."""
    print(f"{'measured':<34}{'checkout':<34}{'s CPU':>8}{'s wall':>8}{'MiB':>7}")
    for name in next(iter(costs.values())):
        for checkout, taken in costs.items():
            cost = taken[name]
            print(f"{name:<34}{checkout!s:<34}{cost.cpu:>8.2f}{cost.wall:>8.2f}{cost.memory:>7.0f}")


def python(script: Path, *words: str) -> list[str]:
    """The command that runs a script by this Python."""
    return [sys.executable, str(script), *words]


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reap() -> None:
    """Wait for what has outlived the command, so that its time counts."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.1)
        except ChildProcessError:
            return
