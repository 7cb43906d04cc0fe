"""Everything that a pack carries from one step to the next, and its file: tensors and JSON, nothing unpickled.

Data order and noise are functions of (seed, step) (`batch_order`), so that no random state is stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vaesweep.training.sealed import UNREADABLE, DamagedFile, seal, unseal
from vaesweep.training.stack import Layout

FORMAT = 2  # of checkpoints; 1, of release 0.1, had no digest and named the tensors of RENAMED otherwise
FORMATS = (1, FORMAT)
RENAMED = {"first": "exp_avg", "second": "exp_avg_sq", "watch": "plateau"}  # plain tensors, and groups of tensors
PLAIN = ("flat", "exp_avg", "exp_avg_sq", "failed", "average", "sums")  # tensors that stand alone
RUNNING = -1  # in PackState.failed: no step has failed


@dataclass
class PackState:
    """The state of a pack after `step` steps. Every tensor's first axis is the cell.

    Steps of pretraining that came before are in `begun` and not in `step`; cells, files and trackers count `all_steps`.

    `average` is the running mean of the weights `flat`, or `[cell, 0]` where none is kept; `sums` `[cell, quantity]`
    are those of what training has measured since the last evaluation, `[cell, 0]` at one. `control` and `plateau` are
    the states of the rate controls and of plateau and early stopping, `skips` the counts of skipped steps (empty where
    every step is taken); `history` holds every evaluation so far, `[cell, evaluation]` a metric, with `evaluated` the
    step numbers.
    """

    cells: tuple[str, ...]
    layout: Layout
    step: int
    flat: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    failed: Tensor
    average: Tensor
    sums: Tensor
    control: dict[str, Tensor]
    plateau: dict[str, Tensor]
    skips: dict[str, Tensor]
    history: dict[str, Tensor] = field(default_factory=dict)
    evaluated: tuple[int, ...] = ()
    begun: int = 0

    @property
    def all_steps(self) -> int:
        """Steps taken so far, those of pretraining included."""
        return self.begun + self.step

    @property
    def is_evaluated(self) -> bool:
        """Whether the last evaluation was after the last step."""
        return self.evaluated[-1:] == (self.all_steps,)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by their names in the file, each `[cell, ...]`."""
        groups = {"control": self.control, "plateau": self.plateau, "skips": self.skips, "history": self.history}
        nested = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
        plain = {name: getattr(self, name) for name in PLAIN}
        return plain | nested

    @property
    def weights(self) -> Tensor:
        """The weights that are evaluated and kept, `[cell, parameter]`: the running mean where there is one."""
        return self.average if self.average.shape[1] else self.flat

    def with_weights(self, weights: Tensor) -> "PackState":
        """The state with other weights in the place of those that are evaluated and kept."""
        return replace(self, average=weights) if self.average.shape[1] else replace(self, flat=weights)

    def select(self, keep: Sequence[int]) -> "PackState":
        """The state of the cells at the positions `keep`, copied."""
        index = torch.tensor(list(keep), dtype=torch.long, device=self.flat.device)
        chosen = {name: value.index_select(0, index.to(value.device)) for name, value in self.tensors().items()}
        return _from_tensors(chosen, replace(self, cells=tuple(self.cells[i] for i in keep)))

    def to(self, device: torch.device) -> "PackState":
        """The state on `device`; the history stays on the CPU."""
        moved = {n: v if n.startswith("history/") else v.to(device) for n, v in self.tensors().items()}
        return _from_tensors(moved, self)

    def record(self, metrics: Mapping[str, Tensor]) -> None:
        """Append one evaluation at the present step; `metrics` are `[cell]`.

        Metrics that only pretraining or only training measures are NaN in the evaluations of the other.
        """
        missing = torch.full((len(self.cells), 1), torch.nan, dtype=torch.float64)
        for name in {**self.history, **metrics}:
            before = self.history.get(name, missing.expand(-1, len(self.evaluated)))
            column = metrics[name].detach().to("cpu", torch.float64)[:, None] if name in metrics else missing
            self.history[name] = torch.cat([before, column], dim=1)
        self.evaluated = (*self.evaluated, self.all_steps)

    def to_bytes(self, name: str = "") -> bytes:
        """The checkpoint called `name`, with cells, step, layout and evaluation steps as JSON in its header."""
        about = {
            "format": FORMAT,
            "name": name,
            "cells": self.cells,
            "step": self.step,
            "begun": self.begun,
            "layout": self.layout,
            "evaluated": self.evaluated,
        }
        return seal(about, self.tensors())

    @classmethod
    def from_bytes(cls, data: bytes, where: str, name: str = "") -> "PackState":
        """Read a checkpoint back, which is called `name` where that is said; `where` names the file in errors.

        Raises `DamagedFile` where it is not what was written, or another one, and `NewerFile`.
        """
        about, tensors = unseal(data, where, FORMATS)
        check_name(about, where, name)
        try:
            layout = tuple((key, tuple(shape)) for key, shape in about["layout"])
            empty = torch.empty(0)
            shell = cls(
                tuple(about["cells"]), layout, about["step"], empty, empty, empty, empty, empty, empty, {}, {}, {}
            )
            shell.evaluated, shell.begun = tuple(about["evaluated"]), about.get("begun", 0)
            return _from_tensors(_renamed(tensors, about["format"]), shell)
        except UNREADABLE as error:
            raise DamagedFile(f"{where} is not a checkpoint, or is damaged") from error


def check_name(about: Mapping[str, Any], where: str, name: str) -> None:
    """Raise `DamagedFile` where a checkpoint's header names another one than `name`; release 0.1 named none."""
    if name and about.get("name", name) != name:
        raise DamagedFile(f"{where} is another checkpoint, {about['name']}")


def merge(states: Sequence[PackState]) -> PackState:
    """One state of all cells of `states`, which must agree on step, layout and evaluations."""
    first = states[0]
    if len(states) == 1:
        return first
    joined = {name: torch.cat([s.tensors()[name] for s in states]) for name in first.tensors()}
    return _from_tensors(joined, replace(first, cells=tuple(cell for s in states for cell in s.cells)))


def _renamed(tensors: Mapping[str, Tensor], file_format: int) -> Mapping[str, Tensor]:
    """Tensors of a file of an earlier format by their present names."""
    if file_format == FORMAT:
        return tensors
    parts = {name: name.partition("/") for name in tensors}
    return {RENAMED.get(group, group) + slash + key: tensors[name] for name, (group, slash, key) in parts.items()}


def _from_tensors(tensors: Mapping[str, Tensor], rest: PackState) -> PackState:
    groups: dict[str, dict[str, Tensor]] = {"control": {}, "plateau": {}, "skips": {}, "history": {}}
    for name, value in tensors.items():
        group, _, key = name.partition("/")
        if key:
            groups[group][key] = value
    return replace(
        rest,
        flat=tensors["flat"],
        exp_avg=tensors["exp_avg"],
        exp_avg_sq=tensors["exp_avg_sq"],
        failed=tensors["failed"],
        average=tensors.get("average", tensors["flat"][:, :0]),  # files of earlier versions have none
        sums=tensors.get("sums", tensors["flat"][:, :0].double()),
        control=groups["control"],
        plateau=groups["plateau"],
        skips=groups["skips"],
        history=groups["history"],
    )
