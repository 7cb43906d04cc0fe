"""Everything that a pack carries from one step to the next, and its file: tensors and JSON, nothing unpickled.

Data order and noise are functions of (seed, step) (`batch_order`), so that no random state is stored.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from vaesweep.errors import UserError
from vaesweep.training.stack import Layout

FORMAT = 2  # of checkpoints; 1, which named the tensors of RENAMED otherwise, is read too
RENAMED = {"first": "exp_avg", "second": "exp_avg_sq", "watch": "plateau"}  # plain tensors, and groups of tensors
PLAIN = ("flat", "exp_avg", "exp_avg_sq", "failed", "average")  # tensors that stand alone
RUNNING = -1  # in PackState.failed: no step has failed
DAMAGE = (ValueError, KeyError, TypeError, SafetensorError)  # what reading a file that is none of ours may raise


@dataclass
class PackState:
    """The state of a pack after `step` steps. Every tensor's first axis is the cell.

    Steps of pretraining that came before are in `begun` and not in `step`; cells, files and trackers count `all_steps`.

    `average` is the running mean of the weights `flat`, or `[cell, 0]` where none is kept. `control` and `plateau` are
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

    def to_bytes(self) -> bytes:
        """The file: safetensors, with cells, step, layout and evaluation steps as JSON in its header."""
        about = {
            "format": FORMAT,
            "cells": self.cells,
            "step": self.step,
            "begun": self.begun,
            "layout": self.layout,
            "evaluated": self.evaluated,
        }
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.tensors().items()}
        return safetensors.torch.save(tensors, {"vaesweep": json.dumps(about)})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "PackState":
        """Read a file's content back; `where` names it in the error that a damaged one gives."""
        about = header(data, where)
        try:
            layout = tuple((name, tuple(shape)) for name, shape in about["layout"])
            empty = torch.empty(0)
            state = cls(tuple(about["cells"]), layout, about["step"], empty, empty, empty, empty, empty, {}, {}, {})
            state.evaluated, state.begun = tuple(about["evaluated"]), about.get("begun", 0)
            return _from_tensors(_renamed(safetensors.torch.load(data), about["format"]), state)
        except DAMAGE as error:
            raise _damaged(where) from error


def merge(states: Sequence[PackState]) -> PackState:
    """One state of all cells of `states`, which must agree on step, layout and evaluations."""
    first = states[0]
    if len(states) == 1:
        return first
    joined = {name: torch.cat([s.tensors()[name] for s in states]) for name in first.tensors()}
    return _from_tensors(joined, replace(first, cells=tuple(cell for s in states for cell in s.cells)))


def header(data: bytes, where: str, formats: Sequence[int] = (1, FORMAT)) -> dict:
    """The JSON of a file's header, a checkpoint's by default; `data` need hold no more than the header."""
    try:
        length = int.from_bytes(data[:8], "little")
        about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["vaesweep"])
        file_format = about["format"]
    except DAMAGE as error:
        raise _damaged(where) from error
    if file_format not in formats:
        readable = " and ".join(map(str, formats))
        raise UserError(
            f"{where} has format {file_format}, this vaesweep reads {readable}; use the version that wrote it"
        )
    return about


def _renamed(tensors: Mapping[str, Tensor], file_format: int) -> Mapping[str, Tensor]:
    """Tensors of a file of an earlier format by their present names."""
    if file_format == FORMAT:
        return tensors
    parts = {name: name.partition("/") for name in tensors}
    return {RENAMED.get(group, group) + slash + key: tensors[name] for name, (group, slash, key) in parts.items()}


def _damaged(where: str) -> UserError:
    return UserError(f"{where} is not a vaesweep checkpoint, or is damaged; delete it to train its cells anew")


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
        control=groups["control"],
        plateau=groups["plateau"],
        skips=groups["skips"],
        history=groups["history"],
    )
