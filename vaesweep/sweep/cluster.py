"""The Ray cluster that a command works on, found by `--address` or RAY_ADDRESS, and the job that the command may be.

Ray itself is imported only where a cluster is asked.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaesweep.errors import UserError
from vaesweep.store_access import one_line, within
from vaesweep.sweep.options import Options

LOCAL = "local"  # Ray's address of a cluster that is started
ADDRESS_OPTION, ADDRESS_VARIABLE = "--address", "RAY_ADDRESS"
JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # by which Ray tells a job its own runtime environment
REACH_SECONDS, ANSWER_SECONDS = 15.0, 10.0  # within which a cluster accepts a connection, and says what it has


@dataclass(frozen=True)
class Cluster:
    """A running cluster: its address, and the option or variable that names it."""

    address: str
    origin: str

    def __str__(self) -> str:
        return f"{self.origin} {self.address}"


@dataclass(frozen=True)
class ClusterSize:
    """What the nodes of a cluster have together now, by Ray's names of resources: CPU, GPU."""

    nodes: int
    resources: Mapping[str, float]


def named_cluster(address: str | None) -> Cluster | None:
    """The cluster at `address` or at RAY_ADDRESS; `None` for a local Ray of this command's own.

    Raises `UserError` of an address at which a sweep cannot run: a Ray client's, under which Tune moves into a process
    on the head and leaves the tracker behind, and the dashboard's, which only takes jobs.
    """
    cluster = (
        Cluster(address, ADDRESS_OPTION) if address else Cluster(os.environ.get(ADDRESS_VARIABLE, ""), ADDRESS_VARIABLE)
    )
    if cluster.address in ("", LOCAL):
        return None
    scheme = cluster.address.partition("://")[0] if "://" in cluster.address else ""
    right = "use `ray job submit`, or on a node of the cluster its own address (auto, or HEAD:6379)"
    if scheme == "ray":
        raise UserError(f"{cluster}: sweeps do not run over Ray's client; {right}")
    if scheme:
        raise UserError(f"{cluster}: this is the address that jobs are sent to, not the cluster's own; {right}")
    return cluster


@dataclass(frozen=True)
class Resources:
    """The resources of every pack: its workers, the CPUs and GPUs of each, and the cluster that has them.

    `scale_to` is the most packs at once, where the user sets it; a cluster may grow to them.
    """

    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    address: str | None = None
    scale_to: int | None = None

    @classmethod
    def of(cls, options: Options) -> "Resources":
        """Those that a user's options ask for."""
        return cls(options.workers, gpus=options.gpus, address=options.address, scale_to=options.scale_to)

    @property
    def per_worker(self) -> dict[str, float]:
        """The CPUs and GPUs of each worker, by Ray's names."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    @property
    def cluster(self) -> Cluster | None:
        """The running cluster, as given or from RAY_ADDRESS; `None` for a local Ray of this command's own."""
        return named_cluster(self.address)

    @property
    def machine(self) -> dict[str, float]:
        """The CPUs and GPUs that a local Ray of this command's own has."""
        return {"CPU": float(local_cpus(self.workers)), "GPU": self.gpus * self.workers}

    @property
    def priced(self) -> tuple[str, float]:
        """What a pack is paid by, GPU or core, and how many of them its workers hold."""
        return ("GPU", self.gpus * self.workers) if self.gpus else ("core", self.cpus * self.workers)

    def share(self, packs: int) -> float:
        """The part of a device, or of a machine's memory, that each of `packs` packs has that run at once."""
        return min(1.0, self.gpus) if self.gpus else 1.0 / max(1, packs * self.workers)

    def slots(self, available: Mapping[str, float]) -> int:
        """The number of packs that run at once on a cluster with `available` CPUs and GPUs, at least one."""
        counts = [available.get("CPU", 0) / (self.cpus * self.workers)]
        if self.gpus:
            counts.append(available.get("GPU", 0) / (self.gpus * self.workers))
        slots = max(1, int(min(counts) + 1e-9))
        return min(slots, self.scale_to or slots)


def local_cpus(workers: int) -> int:
    """CPUs that a local Ray is given: those this process may use, and at least one for each worker of a pack."""
    return max(len(os.sched_getaffinity(0)), workers)


def check_reachable(address: str, seconds: float = REACH_SECONDS) -> None:
    """Raise `OSError` at once if nothing listens at `host:port`; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()


def cluster_size(cluster: Cluster) -> ClusterSize:
    """What a cluster has now, asked without a driver. Raises `UserError` where it does not answer within seconds."""
    try:
        nodes = within(ANSWER_SECONDS, lambda: _alive_nodes(cluster.address))
    except Exception as error:
        raise UserError(f"{cluster}: no Ray cluster answers there ({one_line(error)})") from None
    resources = {name: sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU")}
    return ClusterSize(len(nodes), resources)


def _alive_nodes(address: str) -> list[dict[str, float]]:
    from ray._private.services import canonicalize_bootstrap_address_or_die
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.gcs_pb2 import GcsNodeInfo

    address = canonicalize_bootstrap_address_or_die(address)
    check_reachable(address, ANSWER_SECONDS)
    nodes = GcsClient(address=address).get_all_node_info(timeout=ANSWER_SECONDS)
    return [dict(node.resources_total) for node in nodes.values() if node.state == GcsNodeInfo.ALIVE]


def job_environment() -> dict[str, str]:
    """Variables that the runtime environment of the Ray job sets which this command is; empty outside of a job.

    Ray refuses a driver that names one of them again, with the same value too.
    """
    return {str(name): str(value) for name, value in (_job().get("env_vars") or {}).items()}


def uploaded_copy() -> Path | None:
    """The working directory, where it is a Ray job's uploaded copy, which goes with Ray's session or sooner."""
    return Path.cwd() if _job().get("working_dir") else None


def _job() -> dict[str, Any]:
    try:
        job = json.loads(os.environ.get(JOB_VARIABLE) or "{}").get("runtime_env") or {}
    except (ValueError, AttributeError):
        return {}
    return job if isinstance(job, dict) else {}
