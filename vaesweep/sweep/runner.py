"""Runs the packs of a plan on Ray and passes their events on to the tracker and the progress display.

No result depends on Ray's files: finished files and checkpoints are in the sweep's own storage, so that a driver killed
at any moment loses at most the steps since the last checkpoint.
"""

import contextlib
import logging
import os
import signal
import sys
import tempfile
import textwrap
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # ours stops at once: no file of Tune's is needed
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # its tables would stand between our own lines
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "10000")  # all that may run at once are demand, not one by one

import ray
from ray import tune
from rich.console import Console

from vaesweep.environment import variables
from vaesweep.errors import Terminated, UserError, line_of
from vaesweep.sweep import backends, loopback
from vaesweep.sweep.backends import EVENT, GIVEN_UP, PACK, trainable, worker_environment
from vaesweep.sweep.cells import Pack
from vaesweep.sweep.cluster import LOCAL, Resources, check_reachable, job_environment, local_cpus
from vaesweep.sweep.data_sets import DataSets
from vaesweep.sweep.data_transfer import Sent, local_store_bytes, sent
from vaesweep.sweep.elastic import JobQueue, PlacementGroups, Splitter, Trials
from vaesweep.sweep.evaluation import evaluated_on
from vaesweep.sweep.jobs import ConfigTexts, Event, PackJob
from vaesweep.sweep.notice import MachineEnds
from vaesweep.sweep.plan import Plan
from vaesweep.sweep.progress import ProgressDisplay
from vaesweep.sweep.ray_watch import LAST_SECONDS, Watch, watched
from vaesweep.sweep.retries import Progress, Retries, saved_steps
from vaesweep.sweep.session import Options, Session
from vaesweep.sweep.storage import Storage, finished_name
from vaesweep.sweep.telling import tell
from vaesweep.sweep.timeline import Timeline
from vaesweep.sweep.tracking import Tracker
from vaesweep.training import finished
from vaesweep.training.sealed import DamagedFile

NO_CAUSE = "its worker process died without reporting an error"
LONGEST_FOLDER = 30  # bytes of a folder in which a Ray can keep its sockets: Linux takes paths of 107
IDLE_SECONDS = 120  # for which a process of a local Ray waits for a pack, since the store may take long to make
WAITING_BYTES = 2**28  # memory of a trial that builds a trainer and waits
with contextlib.suppress(ImportError, AttributeError):  # of a Ray that has it elsewhere
    # A trial that has an environment of its own, if only for Lightning, gets none of the processes that start with Ray.
    from ray.tune.execution import class_cache

    class_cache.DEFAULT_ENV_VARS.clear()
# Tune prints whole tracebacks of trials; we name each failed cell with its cause.
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of a run of packs. `failed` maps cells to causes; what interrupted it, if anything did."""

    finished: int
    failed: Mapping[str, str]
    interrupted: KeyboardInterrupt | None = None


class Connection:
    """A connection to Ray: the CPUs and GPUs that are there."""

    def __init__(self, available: dict[str, float]) -> None:
        self.available = available
        self.watch: Watch | None = None
        self._leaving: threading.Thread | None = None

    def leave(self) -> None:
        """Begin to leave Ray, and to end a local one, which takes a while: `wait` for it."""
        if self._leaving is None:
            if self.watch:
                self.watch.stop()
            self._leaving = threading.Thread(target=ray.shutdown, name="leaving Ray")
            self._leaving.start()

    def wait(self) -> None:
        """Have left Ray, or have ended this process where that would never end."""
        self.leave()
        assert self._leaving is not None
        if self.watch is None or not self.watch.dead:
            self._leaving.join()
            return
        self._leaving.join(LAST_SECONDS)
        if self._leaving.is_alive():
            self.watch.end_process()


@contextlib.contextmanager
def connected(resources: Resources, data: int = 0, modules: Sequence[str] = ()) -> Iterator[Connection]:
    """Context connected to the Ray cluster of `resources`, or to a local one that ends with it.

    A local one has room for so many bytes of data, where the machine has it, and its first processes import what packs
    need, `modules` too, as soon as they start. SIGTERM in the context acts as Ctrl-C. The death of a process that Ray
    cannot be without ends it by `RayDied`.
    """
    cluster, job = resources.cluster, job_environment()  # what the job sets holds
    environment = worker_environment() | ({} if cluster else loopback.ENVIRONMENT)
    environment = {name: value for name, value in environment.items() if name not in job}
    common = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if cluster:
            check_reachable(cluster.address)
            ray.init(address=cluster.address, runtime_env={"env_vars": environment}, **common)
        else:
            size = {"num_cpus": local_cpus(resources.workers), "object_store_memory": local_store_bytes(data)}
            preload = {
                "preload_python_modules": [backends.__name__, *modules],
                "idle_worker_killing_time_threshold_ms": IDLE_SECONDS * 1000,
            }
            # Processes that have another environment than Ray itself would be started anew for packs.
            path = {"PYTHONPATH": os.pathsep.join(folder or os.getcwd() for folder in sys.path)}
            with loopback.on_loopback(), variables(environment | path):
                ray.init(LOCAL, include_dashboard=False, _system_config=preload, **size, **common)
    except Exception as error:  # Ray raises it bare where it has not started in time
        reason = f"{cluster}: no Ray cluster answers there" if cluster else "Ray does not start"
        raise UserError(f"{reason} ({line_of(_last_line(error), 250)}){'' if cluster else _folder_hint()}") from None
    except BaseException:  # interrupted: its processes end with this one's
        ray.shutdown()
        raise
    connection = None
    try:
        connection = Connection(ray.cluster_resources())
        gpus = connection.available.get("GPU", 0)
        if not cluster and resources.gpus * resources.workers > gpus:
            raise UserError(
                f"--gpus {resources.gpus:g}: this machine has {gpus:g} GPUs; use fewer, or a cluster by --address"
            )
        with watched(local=cluster is None) as connection.watch, _terminate_as_interrupt(connection.watch):
            try:
                yield connection
            finally:
                connection.wait()
    finally:
        if connection:
            connection.wait()
        else:
            ray.shutdown()


def train_plan(
    session: Session, plan: Plan, resources: Resources, slots: int, tracker: Tracker, console: Console
) -> Mapping[str, str]:
    """Train the packs of a plan and return the causes of cells that failed. Ctrl-C ends it as `KeyboardInterrupt`."""
    packs = [*plan.packs, *plan.evaluations]
    token = uuid.uuid4().hex[:8] if resources.workers == 1 else None
    most = len(packs) if token is None else plan.left() + len(plan.evaluations)
    share = resources.share(min(resources.scale_to or slots, most))
    send = partial(job_of, data=session.data, storage=session.storage, options=session.options, share=share)
    jobs = [send(pack, token=token) for pack in plan.packs]
    jobs += [send(pack, sources=session.survey.sources) for pack in plan.evaluations]
    data = sent(session.data, session.options.data_by)
    with ProgressDisplay(console, packs, len(plan.done), len(plan.cells)) as display:
        outcomes = run_packs(jobs, data, session.storage, resources, slots, tracker, display, session.timeline)
    if outcomes.interrupted:
        tell(console, "stopping: writing what is known")
        raise outcomes.interrupted
    return outcomes.failed


def run_packs(
    jobs: Sequence[PackJob],
    data: Sequence[Sent],
    storage: Storage,
    resources: Resources,
    slots: int,
    tracker: Tracker,
    display: ProgressDisplay,
    timeline: Timeline | None = None,
) -> Outcomes:
    """Train all packs and return when each has ended or failed for good, or when the user has pressed Ctrl-C.

    A job names its data set by the index in `data`, as `sent` gives them. Packs that lag are split where devices are
    idle.
    """
    interrupted: KeyboardInterrupt | None = None
    causes: dict[str, str] = {}
    at_once = resources.scale_to or slots
    with tempfile.TemporaryDirectory(prefix="vaesweep-") as scratch:
        # Tune and Train keep files that are not used; on a cluster every node must reach them.
        ray_folder = f"{storage.uri}/ray" if resources.cluster else scratch
        queue = JobQueue(jobs, _config_of(resources, ray_folder))
        splitter = Splitter(queue, storage, PlacementGroups(resources.per_worker), at_once)
        callback = _EventCallback(jobs, storage, tracker, display, queue, splitter, timeline)
        tuner = tune.Tuner(
            _with_resources(resources, tuple(data)),
            tune_config=tune.TuneConfig(
                search_alg=Trials(queue, at_once), num_samples=-1, reuse_actors=resources.workers == 1
            ),
            run_config=tune.RunConfig(
                name=f"packs-{uuid.uuid4().hex[:8]}",
                storage_path=ray_folder,
                callbacks=[callback],
                verbose=0,
                failure_config=tune.FailureConfig(-1),  # the callback counts
            ),
        )
        try:
            with contextlib.closing(splitter):
                causes = _causes(tuner.fit())
        except KeyboardInterrupt as error:
            interrupted = error
    failed = {}
    for job in callback.jobs.values():
        for cell in job.configs:
            if not callback.collect(cell) and not interrupted:
                pack_cause = callback.given_up.get(job.pack) or causes.get(job.pack, NO_CAUSE)
                failed[cell] = callback.damaged.get(cell) or pack_cause
                tracker.failed(cell, failed[cell])
    if interrupted:
        tracker.interrupted()
    return Outcomes(len(callback.collected), failed, interrupted)


class _EventCallback(tune.Callback):
    """Collects the events of workers in the driver's own thread: points, finished files, progress; counts failures.

    `jobs` are those of all packs, as they are now. What a pack has released, and a pack whose process failed as it
    started, goes to the `queue`.
    """

    def __init__(
        self,
        jobs: Sequence[PackJob],
        storage: Storage,
        tracker: Tracker,
        display: ProgressDisplay,
        queue: JobQueue,
        splitter: Splitter,
        timeline: Timeline | None = None,
    ) -> None:
        self.jobs = {job.pack: job for job in jobs}
        # Fingerprints of the domains that a cell shall have been evaluated on.
        self._domains = {cell: job.domains for job in jobs if job.sources is not None for cell in job.configs}
        self._storage, self._tracker, self._display = storage, tracker, display
        self._queue, self._splitter, self._timeline = queue, splitter, timeline
        self._retries, self._failures = Retries(), Counter[str]()
        self.collected: set[str] = set()
        self.damaged: dict[str, str] = {}  # by cell, why its finished file was not taken
        self.given_up: dict[str, str] = {}  # by pack that has failed too often, its last cause

    def __getstate__(self) -> dict[str, Any]:
        """An empty state: Tune pickles its callbacks into its files, and this one is of use to its driver only."""
        return {}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Handle a worker's event, which is the one entry of a Tune result."""
        if EVENT not in result:
            return
        event = Event.from_json(result[EVENT])
        for step, cells, metrics in event.points:
            self._tracker.points(step, cells, metrics)
        for cell in event.finished:
            self.collect(cell)
        self._display.event(event)
        if self._timeline and event.spans:
            self._timeline.add(f"pack {list(self.jobs).index(event.pack) + 1}", event.spans)
        self._splitter.event(event)
        if event.released:
            self._split(trial, event)

    def _split(self, trial: Any, event: Event) -> None:
        """Take the released cells from a pack's trial, which goes on when this returns, and queue them."""
        kept, released = self._splitter.answered(self.jobs[event.pack], event)
        self.jobs |= {kept.pack: kept, released.pack: released}
        self._retries.restart(kept.pack)
        self._display.split(kept.pack, released.pack, event.released)
        trial.set_config({PACK: trial.config[PACK] | {"job": kept.to_json()}})  # it is tried again without them

    def on_step_end(self, iteration: int, trials: Sequence[Any], **_: Any) -> None:
        """Look for idle devices now and then, and ask packs that lag to split."""
        if not self._splitter.is_due():
            return
        live = {trial.config[PACK]["pack"]: trial.status for trial in trials if not trial.is_finished()}
        running = {pack: self.jobs[pack] for pack, status in live.items() if status == "RUNNING"}
        unfinished = {
            pack: len(self.jobs[pack].configs.keys() - self.collected) for pack in live if self.jobs[pack].is_splittable
        }
        self._splitter.look(running, live.keys() - running.keys(), unfinished)

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """Count a failure of a pack, and give it up where it has not progressed for too many."""
        self._splitter.restarted(trial.config[PACK]["pack"])
        if not self._is_tried_again(trial):
            trial.set_config({PACK: trial.config[PACK] | {GIVEN_UP: True}})  # it starts once more, and ends
            trial.max_failures = 0  # or fails once more

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        """Count a failure of a pack that Tune does not try again, since its process was still starting."""
        if self._is_tried_again(trial):
            self._queue.add(self.jobs[trial.config[PACK]["pack"]])

    def _is_tried_again(self, trial: Any) -> bool:
        """Count the failure of a trial's pack, where it is one, and say so; false where there were too many."""
        config = trial.config[PACK]
        pack = config["pack"]
        if config["local"] and config["workers"] > 1:
            loopback.free_workers(config["scratch"], trial.trial_id)
        if trial.num_failures == self._failures[trial.trial_id]:
            return True  # its machine was taken back, which Ray has announced and does not count
        self._failures[trial.trial_id] = trial.num_failures
        cause, notes = _cause_of(trial), list[str]()
        if MachineEnds.__name__ in cause:  # it has saved itself, and is not to blame
            self._display.note(pack, f"goes on from its checkpoint: {cause.partition(': ')[2]}")
            return True
        job, progress = self.jobs[pack], Progress()
        with contextlib.suppress(OSError):  # a storage that is away says nothing of progress
            ended = [cell for cell in job.configs if self.collect(cell)]
            progress = Progress(len(ended), saved_steps(self._storage, job.configs, notes))
        if tried_again := self._retries.failed(pack, progress):
            notes.append(f"stopped, and goes on from its last checkpoint: {textwrap.shorten(cause, 200)}")
        else:
            self.given_up[pack] = cause
        for note in notes:
            self._display.note(pack, note)
        return tried_again

    def collect(self, cell: str) -> bool:
        """Read a cell's finished file once and pass it on; false where there is none."""
        if cell in self.collected:
            return True
        name = finished_name(cell)
        if not self._storage.exists(name):
            return False
        data = self._storage.read(name)
        try:
            finished_cell = finished.from_bytes(data, f"{self._storage.uri}/{name}", cell)
        except DamagedFile as error:
            self.damaged[cell] = f"{error}; it is set aside as {self._storage.set_aside(name)}"
            return False
        if not all(evaluated_on(finished_cell, *domain) for domain in self._domains.get(cell, {}).items()):
            return False  # as it was before the evaluation that it waits for
        self._tracker.ended(finished_cell, data)
        self._display.ended(finished_cell.cell, finished_cell.cause)
        self.collected.add(cell)
        return True


def _with_resources(resources: Resources, data: tuple[Sent, ...]) -> Any:
    nested = resources.workers > 1
    # A trial that only waits for its workers takes no CPU of theirs, but Ray wants it to take something.
    own = {"cpu": 0, "memory": WAITING_BYTES} if nested else {"cpu": resources.cpus, "gpu": resources.gpus}
    return tune.with_resources(tune.with_parameters(trainable(resources.workers), data=data), own)


def _config_of(resources: Resources, scratch: str) -> Callable[[PackJob], dict[str, Any]]:
    """The configuration of a job's trial, as a function of the job."""
    common = {"workers": resources.workers, "gpus": resources.gpus, "per_worker": resources.per_worker}
    common |= {"scratch": scratch, "local": resources.cluster is None}
    return lambda job: {PACK: {"pack": job.pack, "job": job.to_json()} | common}


def job_of(
    pack: Pack,
    data: DataSets,
    storage: Storage,
    options: Options,
    share: float = 1.0,
    sources: Mapping[str, str] | None = None,
    token: str | None = None,
) -> PackJob:
    """The job of a pack on its own of the sweep's data sets; `share`, `sources` and `token` as of `PackJob`."""
    cells, config = [cell.identity for cell in pack.cells], pack.cells[0].config
    return PackJob(
        pack=pack.identity,
        family=pack.cells[0].family,
        configs=ConfigTexts(pack),
        storage=storage.uri,
        checkpoint_seconds=options.checkpoint_seconds,
        pack_size=options.pack_size,
        compiling=options.compiling,
        share=share,
        data=data.number(config),
        domains=dict(data.domains(config)),
        sources=None if sources is None else {cell: sources[cell] for cell in cells},
        token=token,
    )


def _causes(results: tune.ResultGrid) -> dict[str, str]:
    """Causes of packs that failed for good, by pack."""
    return {r.config[PACK]["pack"]: _last_line(r.error) for r in results if r.error is not None and r.config}


def _cause_of(trial: Any) -> str:
    """The cause of a trial's last failure, from the file to which Tune appends each."""
    try:
        return _last_line(Path(trial.error_file).read_text(errors="replace"), NO_CAUSE)
    except (OSError, TypeError):  # there is none where the trial has no folder
        return NO_CAUSE


def _last_line(error: object, default: str = "") -> str:
    """The last line of a remote traceback: the error itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else default or type(error).__name__


def _folder_hint() -> str:
    """What a line adds where a local Ray's folder is not fit for it: Linux takes sockets' paths of some 100 letters."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    if len(folder.encode()) > LONGEST_FOLDER:
        return f"; {folder} is too long for its sockets: set RAY_TMPDIR to a short folder, such as /tmp"
    if not os.access(folder if os.path.isdir(folder) else os.path.dirname(folder), os.W_OK | os.X_OK):
        return f"; {folder} cannot be written to: set RAY_TMPDIR to a folder that can"
    return ""


@contextlib.contextmanager
def _terminate_as_interrupt(watch: Watch | None) -> Iterator[None]:
    """Context in which SIGTERM acts as Ctrl-C, and says that it was SIGTERM; by Ray it aborts.

    Whoever sends it may send it to Ray's processes too, whose end is then no death: `watch` is told. Where it is heard
    in Ray's own code, that raises a plain `KeyboardInterrupt` in its place.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # nothing can be asked for here: a program that runs sweeps in its threads has its own handlers
        return

    is_terminated = False

    def terminate(*_: Any) -> None:
        nonlocal is_terminated
        is_terminated = True
        if watch:
            watch.stop()
        raise Terminated

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        if is_terminated:
            raise Terminated from None
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
