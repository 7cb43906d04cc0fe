"""Runs the packs of a plan on Ray and passes their events on to the tracker and the progress display.

Ray keeps nothing that counts: finished files and checkpoints are in the sweep's own storage, so that a driver killed at
any moment loses at most the steps since the last checkpoint.
"""

import contextlib
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # ours leaves at once: nothing of Tune's is kept
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # its tables would stand between our own lines
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray import tune

from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.sweep.backends import EVENT, PACK, RETRIES, trainable, worker_environment
from vaesweep.sweep.cells import Pack
from vaesweep.sweep.jobs import Event, PackJob
from vaesweep.sweep.progress import ProgressDisplay
from vaesweep.sweep.session import Options
from vaesweep.sweep.storage import Storage, finished_name
from vaesweep.sweep.tracking import Tracker
from vaesweep.training import finished

WAITING_BYTES = 2**28  # memory of a process that builds a trainer and waits
# Tune prints whole tracebacks of trials; we name each failed cell with its cause.
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)

OBJECT_STORE_BYTES = 300 * 2**20  # of a local Ray: the data once, and events


@dataclass(frozen=True)
class Resources:
    """The resources of every pack: its workers, what each of them takes, and the cluster that has them."""

    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    address: str | None = None

    @property
    def cluster(self) -> str | None:
        """The cluster that is there already, by the address given or RAY_ADDRESS; else a Ray of this command's own."""
        return self.address or os.environ.get("RAY_ADDRESS") or None

    def share(self, packs: int) -> float:
        """The part of a device, or of a machine's memory, that each of `packs` packs has that run at once."""
        return min(1.0, self.gpus) if self.gpus else 1.0 / max(1, packs * self.workers)

    def slots(self, available: Mapping[str, float]) -> int:
        """How many packs a cluster with `available` CPUs and GPUs holds at once, at least one."""
        counts = [available.get("CPU", 0) / (self.cpus * self.workers)]
        if self.gpus:
            counts.append(available.get("GPU", 0) / (self.gpus * self.workers))
        return max(1, int(min(counts) + 1e-9))


@dataclass(frozen=True)
class Outcomes:
    """How a run of packs ended. `failed` maps cells to causes."""

    finished: int
    failed: Mapping[str, str]
    interrupted: bool


@contextlib.contextmanager
def connected(resources: Resources) -> Iterator[dict[str, float]]:
    """What the cluster has that `resources` names, or a local Ray that ends with this context: CPUs and GPUs."""
    environment = {"env_vars": worker_environment()}
    common = {"runtime_env": environment, "log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if resources.cluster:
            _check_reachable(resources.cluster)
            ray.init(address=resources.cluster, **common)
        else:
            cpus = local_cpus(resources.workers)
            ray.init("local", num_cpus=cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **common)
    except (OSError, RuntimeError, ValueError) as error:
        where = "--address" if resources.address else "RAY_ADDRESS"
        reason = (
            f"{where} {resources.cluster}: no Ray cluster answers there" if resources.cluster else "Ray does not start"
        )
        raise UserError(f"{reason} ({_last_line(error)})") from None
    try:
        available = ray.cluster_resources()
        if not resources.cluster and resources.gpus * resources.workers > available.get("GPU", 0):
            found = f"{available.get('GPU', 0):g} GPUs"
            raise UserError(
                f"--gpus {resources.gpus:g}: this machine has {found}; use fewer, or a cluster by --address"
            )
        yield available
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise at once if nobody listens at `host:port`; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=15).close()


def local_cpus(workers: int) -> int:
    """CPUs that a local Ray is given: those this process may use, and at least one for each worker of a pack."""
    return max(len(os.sched_getaffinity(0)), workers)


def run_packs(
    jobs: Sequence[PackJob],
    data: DataSet,
    storage: Storage,
    resources: Resources,
    slots: int,
    tracker: Tracker,
    display: ProgressDisplay,
) -> Outcomes:
    """Train all packs; returns when each has ended, failed for good, or the user has pressed Ctrl-C."""
    callback = _EventCallback(storage, tracker, display)
    with tempfile.TemporaryDirectory(prefix="vaesweep-") as scratch:
        # Tune and Train keep notes, which nobody reads; on a cluster every node must reach them.
        notes = f"{storage.uri}/ray" if resources.cluster else scratch
        tuner = tune.Tuner(
            _with_resources(resources, data),
            param_space=_space(jobs, resources, notes),
            tune_config=tune.TuneConfig(max_concurrent_trials=slots),
            run_config=tune.RunConfig(
                name="packs",
                storage_path=notes,
                callbacks=[callback],
                verbose=0,
                failure_config=tune.FailureConfig(RETRIES),
            ),
        )
        interrupted, causes = False, {}
        try:
            with _terminate_as_interrupt():
                causes = _causes(tuner.fit())
        except KeyboardInterrupt:
            interrupted = True
    failed = {}
    for job in jobs:
        for cell in job.configs:
            if not callback.collect(cell) and not interrupted:
                failed[cell] = causes.get(job.pack, "its worker process died without reporting an error")
                tracker.failed(cell, failed[cell])
    if interrupted:
        tracker.interrupted()
    return Outcomes(len(callback.collected), failed, interrupted)


class _EventCallback(tune.Callback):
    """Collects the events of workers in the driver's own thread: points, finished files, progress."""

    def __init__(self, storage: Storage, tracker: Tracker, display: ProgressDisplay) -> None:
        self._storage, self._tracker, self._display = storage, tracker, display
        self.collected: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks into its notes, and this one is of use to a living driver only."""
        return {}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
        """A worker's event, as the one entry of a Tune result."""
        if EVENT not in result:
            return
        event = Event.from_json(result[EVENT])
        for step, cells, metrics in event.points:
            self._tracker.points(step, cells, metrics)
        for cell in event.finished:
            self.collect(cell)
        self._display.event(event)

    def collect(self, cell: str) -> bool:
        """Read a cell's finished file once and pass it on; false where there is none."""
        if cell in self.collected:
            return True
        name = finished_name(cell)
        if not self._storage.exists(name):
            return False
        data = self._storage.read(name)
        found = finished.from_bytes(data, f"{self._storage.uri}/{name}")
        self._tracker.ended(found, data)
        self._display.ended(found.cell, found.cause)
        self.collected.add(cell)
        return True


def _with_resources(resources: Resources, data: DataSet) -> Any:
    nested = resources.workers > 1
    # A trial that only waits for its workers takes no CPU of theirs, but Ray wants it to take something.
    own = {"cpu": 0, "memory": WAITING_BYTES} if nested else {"cpu": resources.cpus, "gpu": resources.gpus}
    return tune.with_resources(tune.with_parameters(trainable(resources.workers), data=data), own)


def _space(jobs: Sequence[PackJob], resources: Resources, scratch: str) -> dict[str, Any]:
    packs = [{"pack": job.pack, "job": job.to_json()} for job in jobs]
    per_worker = {"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {})
    common = {"workers": resources.workers, "gpus": resources.gpus, "per_worker": per_worker, "scratch": scratch}
    return {PACK: tune.grid_search([one | common for one in packs])}


def job_of(one: Pack, storage: Storage, options: Options, share: float = 1.0) -> PackJob:
    """The job of a pack, which has `share` of a device."""
    return PackJob(
        pack=one.identity,
        family=one.cells[0].family,
        configs={cell.identity: cell.config.model_dump_json() for cell in one.cells},
        storage=storage.uri,
        checkpoint_seconds=options.checkpoint_seconds,
        pack_size=options.pack_size,
        compiling=options.compiling,
        share=share,
    )


def _causes(results: tune.ResultGrid) -> dict[str, str]:
    """Why packs failed for good, by pack."""
    return {r.config[PACK]["pack"]: _last_line(r.error) for r in results if r.error is not None and r.config}


def _last_line(error: BaseException) -> str:
    """What a remote traceback ends with: the error itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Take a polite SIGTERM, as `ray job stop` and Kubernetes send, for a Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
