"""A local Ray that only this machine can reach: all of its processes, and Train's workers, listen on 127.0.0.1.

Whoever reaches a port of Ray can run code as the user who started it. Ray's processes listen on all interfaces unless
they take the machine's own address to be 127.0.0.1, which Ray does on macOS and Windows; here it is made to do so on
Linux. Workers of torch.distributed usually find each other by a server that listens on all interfaces; on one machine
they find each other by a file.
"""

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
import torch.distributed as dist
from ray._private import ray_constants
from ray.exceptions import GetTimeoutError
from ray.train.backend import Backend
from ray.train.torch import TorchConfig

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
    """A process group of workers on this machine, which find each other by a file in `folder`."""

    folder: str = ""

    @property
    def backend_cls(self) -> type[Backend]:
        """The way in which the group is set up."""
        return _LoopbackBackend


class _LoopbackBackend(Backend):
    share_cuda_visible_devices = True  # as of Ray's own for torch

    def on_start(self, worker_group: Any, backend_config: LoopbackTorchConfig) -> None:
        """Join all workers in a process group."""
        url, size = f"file://{backend_config.folder}/{uuid.uuid4().hex}", len(worker_group)
        join = worker_group.execute_single_async
        ray.get([join(rank, _join, backend_config.backend, url, rank, size) for rank in range(size)])

    def on_shutdown(self, worker_group: Any, backend_config: LoopbackTorchConfig) -> None:
        """Let all workers leave it."""
        with contextlib.suppress(GetTimeoutError):
            ray.get(worker_group.execute_async(_leave), timeout=SHUTDOWN_SECONDS)


def _join(backend: str, url: str, rank: int, size: int) -> None:
    dist.init_process_group(backend, url, rank=rank, world_size=size)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
