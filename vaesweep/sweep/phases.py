"""The phases of a pack on a device: pretraining, where its cells have one, and training."""

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
    """Cells' pretraining, or their training: one configuration a cell, one problem, and what suits the device."""

    def __init__(self, job: PackJob, data: DataSet, configs: Mapping[str, CellConfig], device: torch.device) -> None:
        self.configs, self.device = configs, device
        self._job, self._data = job, data
        self.tuning = autotuned(job, self.problem, list(configs.values()))

    @cached_property
    def problem(self) -> Problem:
        """Made when it is asked for: data of two phases are in memory one after the other (`free`)."""
        one = next(iter(self.configs.values()))
        return family(self._job.family).problem(one, self._data, self.device)

    def free(self) -> None:
        """Let go of the problem until it is asked for again."""
        self.__dict__.pop("problem", None)

    def of(self, cells: Sequence[str]) -> list[CellConfig]:
        """The configurations of `cells`."""
        return [self.configs[cell] for cell in cells]


def phases_of(
    job: PackJob, data: DataSet, configs: Mapping[str, CellConfig], cells: Sequence[str], device: torch.device
) -> list[Phase]:
    """What `cells` go through, one phase or two; as many of them at once as both have room for."""
    own = {cell: configs[cell] for cell in cells}
    first = {cell: config.pretraining for cell, config in own.items() if config.pretraining is not None}
    phases: list[Phase] = []
    for chosen in filter(None, (first, own)):
        if phases:
            phases[-1].free()
        phases.append(Phase(job, data, chosen, device))
    return phases


def autotuned(job: PackJob, problem: Problem, chosen: Sequence[CellConfig]) -> Tuning:
    """What suits this device; workers that share a pack do as the leading one has found."""
    world = current_world()
    if world.size > 1 and not world.leads:
        found = Tuning(0, compiled=False)
    else:
        # Of packs on a cluster's CPUs, no more share a node than it has CPUs.
        share = job.share if problem.device.type == "cuda" else max(job.share, 1 / (os.cpu_count() or 1))
        limit = memory.room(problem.device, share)
        found = autotune(
            problem,
            chosen,
            chosen[0].training.steps,
            limit,
            clock(problem.device),
            size=job.pack_size,
            compiling=job.compiling,
        )
    if world.size == 1:
        return found
    agreed = world.sum(torch.tensor([found.cells, int(found.compiled)], device=problem.device)).tolist()
    return replace(found, cells=agreed[0], compiled=bool(agreed[1]))
