"""The phases of a pack on a device: pretraining, where its cells have one, and training."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch

from vaesweep.data.domains import DataSet
from vaesweep.family import CellConfig, family
from vaesweep.sweep.jobs import PackJob
from vaesweep.training import memory
from vaesweep.training.autotune import Tuning, autotune
from vaesweep.training.problem import Problem
from vaesweep.training.timing import clock
from vaesweep.training.world import current_world


class Phase:
    """Cells' pretraining, or their training: one configuration a cell, one problem, and its tuning for the device."""

    def __init__(
        self, job: PackJob, data: DataSet, configs: Mapping[str, CellConfig], device: torch.device, left: float
    ) -> None:
        """`left` is the share of the cells' steps that they have still to take."""
        self.configs, self.device = configs, device
        self._job, self._data = job, data
        self.tuning = autotuned(job, self.problem, list(configs.values()), left)

    @cached_property
    def problem(self) -> Problem:
        """The problem, made on first use: data of two phases are in memory one after the other (`free`)."""
        config = next(iter(self.configs.values()))
        return family(self._job.family).problem(config, self._data, self.device)

    def free(self) -> None:
        """Drop the problem from memory; its next use makes it again."""
        self.__dict__.pop("problem", None)

    def of(self, cells: Sequence[str]) -> list[CellConfig]:
        """The configurations of `cells`."""
        return [self.configs[cell] for cell in cells]


def phases_of(
    job: PackJob,
    data: DataSet,
    configs: Mapping[str, CellConfig],
    cells: Sequence[str],
    device: torch.device,
    left: float = 1.0,
) -> list[Phase]:
    """The phases of `cells`, one or two; `left` is the share of their steps that they have still to take."""
    own = {cell: configs[cell] for cell in cells}
    pretraining = {cell: config.pretraining for cell, config in own.items() if config.pretraining is not None}
    phases: list[Phase] = []
    for phase_configs in filter(None, (pretraining, own)):
        if phases:
            phases[-1].free()
        phases.append(Phase(job, data, phase_configs, device, left))
    return phases


def autotuned(job: PackJob, problem: Problem, configs: Sequence[CellConfig], left: float = 1.0) -> Tuning:
    """The tuning of a phase for this device; workers that share a pack follow the leading one."""
    world = current_world()
    if world.size > 1 and not world.leads:
        tuning = Tuning(0, compiled=False)
    else:
        # Of packs on a cluster's CPUs, no more share a node than it has CPUs.
        share = job.share if problem.device.type == "cuda" else max(job.share, 1 / (os.cpu_count() or 1))
        limit = memory.available_bytes(problem.device, share)
        tuning = autotune(
            problem,
            configs,
            math.ceil(left * configs[0].training.steps),
            limit,
            clock(problem.device),
            size=job.pack_size,
            compiling=job.compiling,
        )
    if world.size == 1:
        return tuning
    agreed = world.sum(torch.tensor([tuning.cells, int(tuning.compiled)], device=problem.device)).tolist()
    return replace(tuning, cells=agreed[0], compiled=bool(agreed[1]))
