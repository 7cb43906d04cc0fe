"""The way of data to workers: through Ray's object store, which a machine's workers share, or by their own reading."""

import weakref
from collections.abc import Sequence
from typing import Any

import psutil
import ray
import torch

from vaesweep.data.domains import DataSet
from vaesweep.sweep.data_reading import DataReading
from vaesweep.sweep.data_sets import DataSets
from vaesweep.sweep.jobs import PackJob
from vaesweep.sweep.options import DataBy
from vaesweep.training import memory

Sent = Any  # of one data set: the `ObjectRef` of it, or a `DataReading`

LEAST_STORE = 300 * 2**20  # bytes of a local Ray's object store: small data, and events
SHARE = 0.75  # of an object store that the data of a sweep may take
KEPT = 2**26  # bytes of data that the driver keeps in its own memory beside the object store
SHARED_MEMORY = "/dev/shm"  # where an object store lies

_sent: "weakref.WeakKeyDictionary[DataSets, tuple[str, tuple[Sent, ...]]]" = weakref.WeakKeyDictionary()


def local_store_bytes(data: int) -> int:
    """The size of a local Ray's object store for so many bytes of data: enough, where the machine has it."""
    wanted = max(LEAST_STORE, int(data / SHARE) + 1)
    return wanted if wanted <= _most_store_bytes() else LEAST_STORE


def _most_store_bytes() -> float:
    """Half of the memory that is free, since the driver holds the data once more, and no more than Ray takes shared."""
    most = 0.5 * memory.available_bytes(torch.device("cpu"), 1.0)
    try:
        return min(most, 0.9 * psutil.disk_usage(SHARED_MEMORY).free)
    except OSError:
        return most


def store_bytes() -> float:
    """The size of the smallest object store of the cluster's machines, each of which holds all of the data."""
    sizes = [node["Resources"].get("object_store_memory", 0.0) for node in ray.nodes() if node["Alive"]]
    return min(sizes, default=0.0)


def sent(data: DataSets, by: DataBy) -> tuple[Sent, ...]:
    """Every data set as workers are given it, in their order; large ones are no longer held by this process.

    `auto` has workers read what would take more than `SHARE` of an object store.
    """
    if by == "workers" or (by == "auto" and data.nbytes > SHARE * store_bytes()):
        data.let_go()
        return tuple(data.reading(number) for number in range(len(data)))
    node, known = ray.get_runtime_context().get_node_id(), _sent.get(data)
    if known is None or known[0] != node:  # another Ray would not have them
        _sent[data] = known = node, tuple(ray.put(data[number]) for number in range(len(data)))
    if data.nbytes > KEPT:
        data.let_go()
    return known[1]


def received(job: PackJob, given: Sequence[Sent]) -> DataSet:
    """The data set of a job, on a worker."""
    one = given[job.data]
    data: DataSet = one.read() if isinstance(one, DataReading) else ray.get(one)
    return data
