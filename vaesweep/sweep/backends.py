"""The two ways a pack reaches its devices: a plain Tune function, or Train workers nested in one.

Both run `worker.run_job`; they differ in the number of processes that share a batch and in the way of events to the
driver.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import ray
import ray.train
import torch
from ray import tune
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from vaesweep.sweep import notice
from vaesweep.sweep.data_transfer import Sent, received
from vaesweep.sweep.jobs import Event, PackJob, Report
from vaesweep.sweep.loopback import LoopbackTorchConfig
from vaesweep.sweep.timeline import START, Laps, process_began
from vaesweep.sweep.worker import run_job

PACK = "pack"  # the one key of a trial's configuration: the pack's job and resources
GIVEN_UP = "given_up"  # of that configuration: whether the pack is only ended, since it has failed too often
EVENT = "event"  # the one key of a Tune result that is ours
_is_new = True  # whether this process has trained no pack yet
DRAINING_SECONDS = 1.0  # between two looks whether this node ends soon


def train_alone(config: dict[str, Any], data: Sequence[Sent]) -> None:
    """A Tune function that trains the pack in this process, on the GPU if the trial was given one."""
    if config[PACK].get(GIVEN_UP):
        return
    laps = _laps()
    job = PackJob.from_json(config[PACK]["job"])
    device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
    with noticing():
        own = received(job, data)
        laps.lap("data")
        run_job(job, own, lambda event: tune.report({EVENT: event.to_json()}), device, laps)


def train_on_workers(config: dict[str, Any], data: Sequence[Sent]) -> None:
    """A Tune function that trains the pack on several Train workers, each with its share of every batch."""
    config = config[PACK]
    if config.get(GIVEN_UP):
        return
    gpus, name = config["gpus"], tune.get_context().get_trial_id()
    backend = "nccl" if gpus else "gloo"
    TorchTrainer(
        _train_worker,
        train_loop_config={"job": config["job"], "data": data},
        torch_config=LoopbackTorchConfig(backend=backend, folder=config["scratch"], name=name)
        if config["local"]
        else TorchConfig(backend=backend),
        scaling_config=ray.train.ScalingConfig(
            num_workers=config["workers"], use_gpu=bool(gpus), resources_per_worker=config["per_worker"]
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=config["scratch"],
            callbacks=[TuneReportCallback()],
            failure_config=ray.train.FailureConfig(max_failures=0),  # the trial fails, and is tried again by Tune
        ),
    ).fit()


def _train_worker(config: dict[str, Any]) -> None:
    report = together(lambda event: ray.train.report({EVENT: event.to_json()}))
    laps = _laps()
    device = ray.train.torch.get_device()
    job = PackJob.from_json(config["job"])
    with noticing():
        own = received(job, config["data"])
        laps.lap("data")
        run_job(job, own, report, device, laps)


def together(report: Report) -> Report:
    """A `report` for workers that wait for each other in it: notes, which one of them may have alone, wait in it too.

    They go with the next event that all of them have.
    """
    waiting: list[str] = []

    def report_later(event: Event) -> None:
        if event.is_note:
            waiting.extend(event.notes)
            return
        report(replace(event, notes=[*waiting, *event.notes]))
        waiting.clear()

    return report_later


def _laps() -> Laps:
    """The laps of this process for one pack: from its beginning, where this is its first."""
    global _is_new
    laps = Laps(process_began() if _is_new else None)
    if _is_new:
        laps.lap(START)
    _is_new = False
    return laps


@contextlib.contextmanager
def noticing() -> Iterator[None]:
    """Context in which a pack is given notice of its machine's end: by SIGTERM, and where Ray drains its node."""
    ended = threading.Event()
    with notice.listening():
        threading.Thread(target=_watch_node, args=(ended,), name="notice", daemon=True).start()
        try:
            yield
        finally:
            ended.set()


def _watch_node(ended: threading.Event) -> None:
    """Give notice as soon as Ray drains this node, such as one whose `ray start --block` got SIGTERM."""
    node = ray.get_runtime_context().get_node_id()
    while not ended.wait(DRAINING_SECONDS):
        with contextlib.suppress(Exception):  # the head is away for a while: the next look may reach it
            if node in ray._private.state.state.get_draining_nodes():
                notice.give()
                return


def trainable(workers: int) -> Callable[[dict[str, Any], Sequence[Sent]], None]:
    """The Tune function for packs on `workers` workers."""
    return train_alone if workers == 1 else train_on_workers


def worker_environment() -> dict[str, str]:
    """Environment of every worker: one thread a process unless OMP_NUM_THREADS is set, and prompt reports."""
    return {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        # Train polls its workers at this interval, and a report waits for the poll.
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": os.environ.get("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2"),
        # Blocks of a pack's size come and go at every step; keep them instead of mapping them anew.
        "MALLOC_MMAP_THRESHOLD_": "1073741824",
        "MALLOC_TRIM_THRESHOLD_": "1073741824",
    }
