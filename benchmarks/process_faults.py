"""Faults of processes: the real command with Ray, whose driver or worker is killed, interrupted or given twice."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil
from fault_injection import Points, States, Tracked
from fault_table import CELLS, Result, told

from vaesweep.sweep.storage import CHECKPOINTS, FINISHED, SUFFIX

SCRIPT = Path(__file__).resolve().parents[1] / "sweeps" / "rd_curve_pvae.py"
STEPS, INTERVAL, RUNNING = 800, 40, 2  # RUNNING cells train at once, at most
SETTINGS = (
    "model.hidden=8",
    "model.features=8",
    "model.latents=2",
    f"training.steps={STEPS}",
    f"training.evaluate_every={INTERVAL}",
    "training.batch_size=16",
    "data.draws=1",
    "seed=[0,1]",
    "rates.total.target=[0.5,2.0]",
)
WORDS = ("--data", "csv:people.csv", "--pack-size", "1", "--checkpoint-every", "0", "--set", *SETTINGS)
PATIENCE = 240.0  # seconds within which anything that is waited for happens


@dataclass
class Driver:
    """A command under way."""

    process: subprocess.Popen[str]

    def end(self) -> subprocess.CompletedProcess[str]:
        """The command, ended."""
        out, errors = self.process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(self.process.args, self.process.returncode, out, errors)

    def processes(self) -> list[psutil.Process]:
        """All processes below it but Ray's two agents, which take a minute to notice that they are alone."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if "Agent" not in child.name()]

    def workers(self) -> list[psutil.Process]:
        """The processes in which its packs train."""
        workers = []
        for child in self.processes():
            with contextlib.suppress(psutil.Error):
                if "ray::ImplicitFunc" in " ".join(child.cmdline()):
                    workers.append(child)
        return workers


@dataclass
class RealSweep:
    """A folder in which the real command is given."""

    folder: Path
    ray: Path
    random: random.Random
    drivers: list[Driver] = field(default_factory=list)
    ended: list[subprocess.CompletedProcess[str]] = field(default_factory=list)

    def start(self) -> Driver:
        """The command, begun."""
        environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS")}
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *WORDS],
            cwd=self.folder,
            env=environment | {"RAY_TMPDIR": str(self.ray), "COLUMNS": "300"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.drivers.append(Driver(process))
        return self.drivers[-1]

    def end(self, driver: Driver) -> subprocess.CompletedProcess[str]:
        """A command, ended, and kept for the table."""
        self.ended.append(driver.end())
        return self.ended[-1]

    def files(self, folder: str) -> list[Path]:
        """Complete files of a folder of the storage."""
        return sorted((self.folder / "results" / SCRIPT.stem / "cells" / folder).glob(f"*{SUFFIX}"))

    def wait_for_a_moment(self, driver: Driver) -> None:
        """Wait for a random moment of training: some checkpoints have been seen, and a part of a second has passed."""
        seen, wanted, deadline = set[str](), self.random.randint(1, 2 * STEPS // INTERVAL), time.monotonic() + PATIENCE
        while len(seen) < wanted and len(self.files(FINISHED)) < CELLS - 1:
            if driver.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the command ended before its fault: {driver.end()}")
            seen |= {file.name for file in self.files(CHECKPOINTS)}
            time.sleep(0.02)
        time.sleep(self.random.uniform(0.0, 0.2))

    def stop(self) -> None:
        """Kill what still runs, and delete Ray's files."""
        for driver in self.drivers:
            if driver.process.poll() is None:
                os.killpg(driver.process.pid, signal.SIGKILL)
                driver.process.communicate()
        shutil.rmtree(self.ray, ignore_errors=True)


Disturb = Callable[[RealSweep], float]  # the time of the fault, once all commands have ended


@dataclass(frozen=True)
class ProcessFault:
    """A fault of processes. At most `again` steps are trained again, by the intervals between checkpoints."""

    name: str
    disturb: Disturb
    again: int


def inject(fault: ProcessFault, states: States, seed: str) -> Result:
    """Inject `fault` once and have the sweep recover."""
    undisturbed = _undisturbed(states)
    with _sweep(states, seed) as sweep:
        at = fault.disturb(sweep)
        seconds = time.monotonic() - at
        tracked = Tracked.of(sweep.folder / "results" / "mlflow.db")
        lines = [line for done in sweep.ended for line in [*done.stderr.splitlines(), *done.stdout.splitlines()]]
        return Result(
            lost=len(tracked.lost(undisturbed)),
            again=fault.again,
            all_steps=CELLS * STEPS,
            duplicated=tracked.duplicated + sum(runs - 1 for runs in tracked.runs.values()),
            said=told(lines, sweep.folder),
            outcome=", then ".join(str(done.returncode) for done in sweep.ended),
            seconds=seconds,
            counted=False,
            trace="\n".join(lines),
        )


@cache
def _undisturbed(states: States) -> dict[str, Points]:
    with _sweep(states, "undisturbed") as sweep:
        started = time.monotonic()
        done = sweep.end(sweep.start())
        print(f"an undisturbed command takes {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        if done.returncode != 0:
            raise SystemExit(f"an undisturbed sweep failed: {done}")
        return Tracked.of(sweep.folder / "results" / "mlflow.db").points


@contextlib.contextmanager
def _sweep(states: States, seed: str) -> Iterator[RealSweep]:
    # Ray puts sockets into its folder, whose paths may not be long.
    folder = states.empty(f"processes-{seed.replace(' ', '-')}")
    sweep = RealSweep(folder, Path(tempfile.mkdtemp(prefix="vs")), random.Random(seed))
    try:
        yield sweep
    finally:
        sweep.stop()


def signalled(number: signal.Signals, *, at_once: bool = False) -> Disturb:
    """Sends a signal to the driver; the command is given again, `at_once` or when all its processes have ended."""

    def disturb(sweep: RealSweep) -> float:
        driver = sweep.start()
        sweep.wait_for_a_moment(driver)
        children = driver.processes()
        at = time.monotonic()
        os.kill(driver.process.pid, number)
        sweep.end(driver)
        if not at_once:
            psutil.wait_procs(children, timeout=60)
        sweep.end(sweep.start())
        return at

    return disturb


def worker_killed(sweep: RealSweep) -> float:
    """Kill a worker; the command goes on by itself."""
    driver = sweep.start()
    sweep.wait_for_a_moment(driver)
    workers = driver.workers()
    at = time.monotonic()
    if workers:
        sweep.random.choice(workers).kill()
    sweep.end(driver)
    return at


def second_driver(sweep: RealSweep) -> float:
    """Give the command again while it runs."""
    first = sweep.start()
    sweep.wait_for_a_moment(first)
    at = time.monotonic()
    sweep.end(sweep.start())
    sweep.end(first)
    return at


PROCESS_FAULTS = (
    ProcessFault("driver killed (SIGKILL)", signalled(signal.SIGKILL), RUNNING * INTERVAL),
    ProcessFault(
        "driver killed, command given again while its workers live",
        signalled(signal.SIGKILL, at_once=True),
        RUNNING * INTERVAL,
    ),
    ProcessFault("driver interrupted (SIGINT)", signalled(signal.SIGINT), RUNNING * INTERVAL),
    ProcessFault("driver terminated (SIGTERM)", signalled(signal.SIGTERM), RUNNING * INTERVAL),
    ProcessFault("a worker killed (SIGKILL)", worker_killed, INTERVAL),
    ProcessFault("the command given twice at once", second_driver, 0),
)
