"""The plan of a command: its cells, those that are done, packs of the rest, and an estimate of their time."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from vaesweep.data.domains import DataSet
from vaesweep.family import CellConfig, family
from vaesweep.sweep.cells import Cell, Pack, make_packs
from vaesweep.sweep.identity import digest
from vaesweep.sweep.settings import PRETRAINING
from vaesweep.training.loop import start_state
from vaesweep.training.timing import PackSeconds, clock, measure_pack

LARGEST_PACK = 128  # beyond this a step's time on a CPU grows as fast as the pack


@dataclass(frozen=True)
class Plan:
    """A sweep that is ready to run: all its cells, those that are done already, and packs of the others.

    `evaluations` are packs of cells that have been trained and only lack evaluations; `blocked` says of cells that
    cannot be worked on why.
    """

    cells: tuple[Cell, ...]
    done: frozenset[str]
    packs: tuple[Pack, ...]
    evaluations: tuple[Pack, ...] = ()
    blocked: Mapping[str, str] = field(default_factory=dict)

    def left(self) -> int:
        """The number of cells to be trained."""
        return sum(len(pack.cells) for pack in self.packs)

    def cells_left(self) -> list[str]:
        """The identities of the cells to be trained, sorted."""
        return sorted(cell.identity for pack in self.packs for cell in pack.cells)

    def sweep_identity(self, name: str) -> str:
        """The identity of the sweep: the same cells under the same name are the same sweep."""
        return digest([name, sorted(cell.identity for cell in self.cells)])


@dataclass(frozen=True)
class Estimate:
    """Estimated seconds of training: of the whole plan, and the sum over its packs, which is what places are held."""

    wall: float
    packs: float


def make_plan(
    cells: Sequence[Cell],
    done: Collection[str],
    to_evaluate: Collection[str],
    blocked: Mapping[str, str],
    pack_size: int | None,
    slots: int,
) -> Plan:
    """The plan of `cells`, all of which train but those in `done`, `to_evaluate` and `blocked`.

    Without a `pack_size` the cells are spread evenly over `slots` packs that run at the same time.
    """
    evaluated = [cell for cell in cells if cell.identity in to_evaluate]
    settled = {*done, *to_evaluate, *blocked}
    left = [cell for cell in cells if cell.identity not in settled]
    training, evaluation = (
        tuple(make_packs(group, pack_size or min(LARGEST_PACK, max(1, -(-len(group) // max(1, slots))))))
        for group in (left, evaluated)
    )
    ended = frozenset(cell.identity for cell in cells if cell.identity in done)
    return Plan(tuple(cells), ended, training, evaluation, dict(blocked))


def estimate_seconds(plan: Plan, data_of: Callable[[CellConfig], DataSet], slots: int) -> Estimate:
    """Estimated seconds of training, from a few measured steps of one pack of each size and structure.

    Measured on this machine's CPU with one thread, as a local worker would run it; start-up is not counted.
    """
    torch.set_num_threads(1)
    measured: dict[str, float] = {}
    seconds = []
    for pack in plan.packs:
        config = pack.cells[0].config
        key = f"{len(pack.cells)} {json.dumps(_shape(config.model_dump(mode='json')), sort_keys=True)}"
        if key not in measured:
            measured[key] = _pack_seconds(pack, data_of(config))
        seconds.append(measured[key])
    busy = [0.0] * max(1, slots)
    for value in sorted(seconds, reverse=True):
        busy[busy.index(min(busy))] += value
    return Estimate(max(busy), sum(seconds))


def _shape(config: dict[str, Any]) -> dict[str, Any]:
    values = {key: value for key, value in config.items() if key not in ("seed", "rates", "free_nats", PRETRAINING)}
    return values | {PRETRAINING: _shape(config[PRETRAINING]) if config[PRETRAINING] else None}


def _pack_seconds(pack: Pack, data: DataSet) -> float:
    owner, configs = family(pack.cells[0].family), [cell.config for cell in pack.cells]
    pretraining = [config.pretraining for config in configs if config.pretraining is not None]
    seconds = 0.0
    for phase in filter(None, (pretraining, configs)):
        problem = owner.problem(phase[0], data, torch.device("cpu"))
        state = start_state(problem, phase, [cell.identity for cell in pack.cells])
        timing: PackSeconds = measure_pack(problem, phase, state, clock(problem.device))
        training = phase[0].training
        evaluations = -(-training.steps // training.evaluate_every)
        seconds += (
            training.steps * timing.step + evaluations * timing.quick + (timing.final if phase is configs else 0.0)
        )
    return seconds
