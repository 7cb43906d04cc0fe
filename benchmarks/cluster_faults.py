"""Faults of a cluster: a head and two nodes in network namespaces, an MLflow server over PostgreSQL, sweeps as jobs.

The cluster is kept over all faults: what a fault has taken is replaced before the next. Every step is counted where it
is trained (`tests/cluster/counted_sweep.py`). It takes root, iproute2, PostgreSQL and psycopg2.
"""

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psutil
from fault_injection import Points, Tracked
from fault_table import CELLS, Result, told

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "cluster"))

from counted_sweep import CountedSweep
from local_cluster import (
    MlflowServer,
    Namespaces,
    Postgres,
    RayCluster,
    mlflow_server,
    namespaces,
    postgres,
    postgres_folder,
    ray_cluster,
    wait_for,
)

STEPS, INTERVAL, NODES = 400, 40, 2
PAUSE = 0.005  # seconds that every step waits, so that training lasts a few seconds
PATIENCE = 900.0  # seconds within which a job ends
CUT_SECONDS = 40.0
DISK_BYTES = 32 * 2**20
ALWAYS, NEVER = "0", "3600"  # --checkpoint-every: at every evaluation, or only where notice is given
NOISE = ("INFO job_manager.py", "Running entrypoint for job", "INFO worker.py", "Runtime env is setting up")


def missing() -> str | None:
    """What this machine lacks for these faults."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "root and iproute2, for network namespaces"
    if postgres_folder() is None or importlib.util.find_spec("psycopg2") is None:
        return "PostgreSQL and psycopg2"
    return None


class Cluster:
    """The parts that are kept, started when they are first asked for; what a fault has taken is replaced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = contextlib.ExitStack()
        self._sweeps = 0

    @cached_property
    def database(self) -> Postgres:
        """PostgreSQL."""
        return self._stack.enter_context(postgres())

    @cached_property
    def server(self) -> MlflowServer:
        """The MLflow server over it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._stack.enter_context(mlflow_server(self.database.uri, self.folder))

    @cached_property
    def network(self) -> Namespaces:
        """The nodes' network."""
        return self._stack.enter_context(namespaces())

    @cached_property
    def counted(self) -> CountedSweep:
        """The sweep that every fault is injected into, under another name each time."""
        sweep = CountedSweep(self.folder / "sweep", STEPS, INTERVAL, tuple(range(CELLS)))
        sweep.write()
        return sweep

    @cached_property
    def disk(self) -> Path:
        """A small disk, which is mounted before nodes start: a namespace sees no later one."""
        folder = self.folder / "disk"
        folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], check=True)
        self._stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
        return folder

    @cached_property
    def ray(self) -> RayCluster:
        """Ray's head and nodes."""
        assert self.disk.exists()
        path = f"{self.counted.folder}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")
        os.environ["PYTHONPATH"] = path
        cluster = ray_cluster(self.folder, 0, NODES, self.network, COUNTED_PAUSE=str(PAUSE))
        return self._stack.enter_context(cluster)

    @cached_property
    def undisturbed(self) -> dict[str, Points]:
        """What MLflow has of a sweep to which nothing happened."""
        sweep = self.sweep("undisturbed", ALWAYS)
        started = time.monotonic()
        sweep.end(sweep.start())
        print(f"an undisturbed job takes {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        if sweep.codes != ["0"]:
            raise SystemExit("an undisturbed sweep failed:\n" + "\n".join(sweep.lines))
        return sweep.tracked().points

    def sweep(self, seed: str, checkpoint_every: str, on_small_disk: bool = False) -> "JobSweep":
        """A new sweep on a whole cluster, whose storage may be on the small disk."""
        self.replace_missing()
        self._sweeps += 1
        self.counted.forget()
        name = f"faults{self._sweeps}"
        folder = self.disk if on_small_disk else self.folder / "storage"
        return JobSweep(self, name, random.Random(seed), checkpoint_every, folder / name)

    def replace_missing(self) -> None:
        """Start what a fault has taken away."""
        for number, node in self.ray.nodes.items():
            if node.process is not None and node.process.poll() is not None:
                node.kill()
                self.ray.add_node(number)
        self.ray.wait_for_nodes(1 + NODES)

    def close(self) -> None:
        """End everything."""
        self._stack.close()


@dataclass
class JobSweep:
    """A sweep that is handed in as jobs, each of which is the same command."""

    cluster: Cluster
    name: str
    random: random.Random
    checkpoint_every: str
    storage: Path
    codes: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def start(self) -> str:
        """The command, handed in as a job; its name."""
        job = f"{self.name}-{len(self.codes)}"
        words = ["--data", "synthetic", "--pack-size", "1", "--compile", "never", "--checkpoint-every"]
        out = ["--storage", str(self.storage), "--out", str(self.cluster.folder / "out" / self.name)]
        variables = [f"MLFLOW_TRACKING_URI={self.cluster.server.uri}", "COLUMNS=300"]
        command = [sys.executable, str(self.cluster.counted.script), self.name, *words, self.checkpoint_every, *out]
        entrypoint = " ".join(["env", *variables, *command])
        self.cluster.ray.api("/api/jobs/", {"entrypoint": entrypoint, "submission_id": job})
        return job

    def end(self, job: str) -> str:
        """The exit code of a job, ended, or its status where Ray knows of none; what it has said is kept."""
        status = self.cluster.ray.wait_for_job(job, PATIENCE)
        code = self.cluster.ray.api(f"/api/jobs/{job}").get("driver_exit_code")
        known = code if code is not None else {"SUCCEEDED": 0}.get(status, status.lower())
        self.codes.append(str(known))
        output = self.cluster.ray.job_output(job).splitlines()
        self.lines += [line for line in output if not any(noise in line for noise in NOISE)]
        return self.codes[-1]

    def end_again(self, job: str) -> None:
        """End a job, and the same command again where that did not end well."""
        if self.end(job) != "0":
            self.end(self.start())

    def steps(self) -> int:
        """Steps that have been begun so far."""
        return len({place for life in self.cluster.counted.lives() for place in life})

    def wait_for_a_moment(self) -> None:
        """Wait for a random moment of training, after the first evaluation and before the last cells end."""
        wanted = self.random.randint(2 * INTERVAL, int(0.7 * CELLS * STEPS))
        wait_for(lambda: self.steps() >= wanted, "steps", PATIENCE)

    def busy_node(self) -> int:
        """The number of a node on which a pack trains."""
        nodes = [number for number, node in self.cluster.ray.nodes.items() if node.processes("ray::ImplicitFunc")]
        return self.random.choice(nodes or list(self.cluster.ray.nodes))

    def tracked(self) -> Tracked:
        """What MLflow has of it, read from PostgreSQL."""
        database = self.cluster.database
        tags: dict[str, dict[str, str]] = {}
        of_it = "join runs using (run_uuid) join experiments using (experiment_id) where experiments.name = %s"
        query = f"select run_uuid, t.key, t.value from tags t {of_it} order by runs.start_time"
        for run, key, value in database.rows(query, self.name):
            tags.setdefault(run, {})[key] = value
        rows = database.rows(f"select run_uuid, m.key, m.step, m.value from metrics m {of_it}", self.name)
        return Tracked.of_rows(tags, rows)


Disturb = Callable[[JobSweep, str], float]  # of a sweep whose job has begun: the time of the fault, once all has ended


@dataclass(frozen=True)
class ClusterFault:
    """A fault of a cluster, and how often the sweep that it meets saves checkpoints."""

    name: str
    disturb: Disturb
    checkpoint_every: str = ALWAYS
    on_small_disk: bool = False


def inject(fault: ClusterFault, cluster: Cluster, seed: str) -> Result:
    """Inject `fault` once and have the sweep recover."""
    undisturbed = cluster.undisturbed
    sweep = cluster.sweep(seed, fault.checkpoint_every, fault.on_small_disk)
    at = fault.disturb(sweep, sweep.start())
    seconds = time.monotonic() - at
    tracked = sweep.tracked()
    result = Result(
        lost=len(tracked.lost(undisturbed)),
        again=sum(len(life) for life in cluster.counted.lives()) - sweep.steps(),
        all_steps=CELLS * STEPS,
        duplicated=tracked.duplicated + sum(runs - 1 for runs in tracked.runs.values()),
        said=told(sweep.lines, cluster.folder),
        outcome=", then ".join(sweep.codes),
        seconds=seconds,
        trace="\n".join(sweep.lines),
    )
    shutil.rmtree(sweep.storage, ignore_errors=True)
    return result


# --- what is done to a cluster -----------------------------------------------------------------------------------


def node_killed(sweep: JobSweep, job: str) -> float:
    """Kill all processes of a node at once; another one takes its place."""
    sweep.wait_for_a_moment()
    number = sweep.busy_node()
    at = time.monotonic()
    sweep.cluster.ray.nodes[number].kill()
    sweep.cluster.ray.add_node(number)
    sweep.end_again(job)
    return at


def node_noticed(sweep: JobSweep, job: str) -> float:
    """Tell a node to end, as a cloud does that takes it back, and kill it 30 s later; another one takes its place."""
    sweep.wait_for_a_moment()
    number = sweep.busy_node()
    node = sweep.cluster.ray.nodes[number]
    at = time.monotonic()
    node.send(signal.SIGTERM)
    sweep.end_again(job)
    with contextlib.suppress(subprocess.TimeoutExpired):
        assert node.process is not None
        node.process.wait(max(0.1, at + 30 - time.monotonic()))
    node.kill()
    return at


def pack_noticed(sweep: JobSweep, job: str) -> float:
    """Send SIGTERM to a pack's process."""
    sweep.wait_for_a_moment()
    processes = [one for node in sweep.cluster.ray.nodes.values() for one in node.processes("ray::ImplicitFunc")]
    at = time.monotonic()
    if processes:
        with contextlib.suppress(psutil.Error):
            sweep.random.choice(processes).terminate()
    sweep.end_again(job)
    return at


def driver_killed(sweep: JobSweep, job: str) -> float:
    """Kill the driver of the job; it is handed in again."""
    sweep.wait_for_a_moment()
    drivers = sweep.cluster.ray.head.processes(sweep.cluster.counted.script.name)
    at = time.monotonic()
    for one in drivers:
        with contextlib.suppress(psutil.Error):
            one.kill()
    sweep.end_again(job)
    return at


def job_stopped(sweep: JobSweep, job: str) -> float:
    """Stop the job, as `ray job stop` does; it is handed in again."""
    sweep.wait_for_a_moment()
    at = time.monotonic()
    sweep.cluster.ray.api(f"/api/jobs/{job}/stop", {})
    sweep.end_again(job)
    return at


def restarted(part: Callable[[Cluster], Postgres | MlflowServer]) -> Disturb:
    """Kills a server, and starts it again some seconds later."""

    def disturb(sweep: JobSweep, job: str) -> float:
        sweep.wait_for_a_moment()
        server = part(sweep.cluster)
        at = time.monotonic()
        server.part.kill()
        time.sleep(sweep.random.uniform(0, 10))
        server.start()
        sweep.end_again(job)
        return at

    return disturb


def network_cut(sweep: JobSweep, job: str) -> float:
    """Cut a node's cable for a while; what is left of the node then is replaced."""
    sweep.wait_for_a_moment()
    number, network = sweep.busy_node(), sweep.cluster.network
    at = time.monotonic()
    network.set_link(number, "down")
    time.sleep(CUT_SECONDS)
    network.set_link(number, "up")
    sweep.end_again(job)
    node = sweep.cluster.ray.nodes[number]
    with contextlib.suppress(subprocess.TimeoutExpired):
        assert node.process is not None
        node.process.wait(60)  # it is told that it is dead, and ends
    node.kill()
    return at


def disk_full(sweep: JobSweep, job: str) -> float:
    """Fill the storage's disk, and make room some seconds later."""
    sweep.wait_for_a_moment()
    filler = sweep.storage / "filler"
    at = time.monotonic()
    with filler.open("wb", 0) as file, contextlib.suppress(OSError):  # no space left
        while True:
            file.write(bytes(2**12))
    time.sleep(sweep.random.uniform(2, 10))
    filler.unlink()
    sweep.end_again(job)
    return at


CLUSTER_FAULTS = (
    ClusterFault("a node killed, another one started", node_killed),
    ClusterFault("a node told to end (SIGTERM to `ray start`), no checkpoint before", node_noticed, NEVER),
    ClusterFault("a pack's process told to end (SIGTERM), no checkpoint before", pack_noticed, NEVER),
    ClusterFault("the job's driver killed (SIGKILL)", driver_killed),
    ClusterFault("the job stopped (`ray job stop`)", job_stopped),
    ClusterFault("the MLflow server killed, started again within 10 s", restarted(lambda cluster: cluster.server)),
    ClusterFault("PostgreSQL killed, started again within 10 s", restarted(lambda cluster: cluster.database)),
    ClusterFault(f"a node's network cut for {CUT_SECONDS:.0f} s", network_cut),
    ClusterFault("the storage's disk full for 2 to 10 s", disk_full, on_small_disk=True),
)
