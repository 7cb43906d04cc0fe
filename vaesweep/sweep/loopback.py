"""A local Ray that only this machine can reach: all of its processes, and Train's workers, listen on 127.0.0.1.

Whoever reaches a port of Ray can run code as the user who started it. Ray's processes listen on all interfaces unless
they take the machine's own address to be 127.0.0.1, which Ray does on macOS and Windows; here it is made to do so on
Linux. Workers of torch.distributed usually find each other by a server that listens on all interfaces; on one machine
they find each other by a file.

Train frees the resources of a trainer that was killed by asking Ray's dashboard whether it lives. A local Ray has none,
so a trainer notes here what it holds, and whoever sees it fail frees it.
"""

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch.distributed as dist
from ray._private import ray_constants
from ray.exceptions import GetTimeoutError
from ray.train.backend import Backend
from ray.train.torch import TorchConfig
from ray.util.placement_group import PlacementGroup, get_current_placement_group, remove_placement_group

SHUTDOWN_SECONDS = 30.0  # within which workers leave their group, or are killed in it
ENVIRONMENT = {  # by which torch.distributed chooses an interface
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
}


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Context in which a Ray that is started takes this machine's address to be 127.0.0.1."""
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@dataclass
class LoopbackTorchConfig(TorchConfig):
    """A process group of workers on this machine, which find each other by a file in `folder`.

    Their trainer's `name` is that of the file that says which resources they hold.
    """

    folder: str = ""
    name: str = ""

    @property
    def backend_cls(self) -> type[Backend]:
        """The way in which the group is set up."""
        return _LoopbackBackend


class _LoopbackBackend(Backend):
    share_cuda_visible_devices = True  # as of Ray's own for torch

    def on_start(self, worker_group: Any, backend_config: LoopbackTorchConfig) -> None:
        """Join all workers in a process group."""
        call, size = worker_group.execute_single_async, len(worker_group)
        _note(backend_config.folder, backend_config.name).write_text(ray.get(call(0, _placement_group)))
        url = f"file://{backend_config.folder}/{uuid.uuid4().hex}"
        ray.get([call(rank, _join, backend_config.backend, url, rank, size) for rank in range(size)])

    def on_shutdown(self, worker_group: Any, backend_config: LoopbackTorchConfig) -> None:
        """Let all workers leave it."""
        with contextlib.suppress(GetTimeoutError):
            ray.get(worker_group.execute_async(_leave), timeout=SHUTDOWN_SECONDS)


def free_workers(folder: str, name: str) -> None:
    """Free what the trainer called `name` of a `LoopbackTorchConfig` holds, which has failed."""
    with contextlib.suppress(FileNotFoundError):
        group = ray.PlacementGroupID.from_hex(_note(folder, name).read_text())
        remove_placement_group(PlacementGroup(group))


def _note(folder: str, name: str) -> Path:
    return Path(folder, f"{name}.placement_group")


def _placement_group() -> str:
    group = get_current_placement_group()
    assert group is not None, "Train starts its workers in one"
    return str(group.id.hex())


def _join(backend: str, url: str, rank: int, size: int) -> None:
    dist.init_process_group(backend, url, rank=rank, world_size=size)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
