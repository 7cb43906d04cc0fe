"""Pruning by the median rule: a trial ends at an evaluation at which it is worse than half of the earlier ones.

The bounds of a round come from trials that were told before and are a part of the configuration of its cells
(`training.pruning`), so that the process that trains decides alone, neighbours in a pack go on, and a study that goes
on after an interruption prunes as an undisturbed one does.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from optuna.trial import FrozenTrial

from vaesweep.data.domains import Role
from vaesweep.errors import UserError
from vaesweep.family import CellConfig
from vaesweep.search.objectives import MAXIMISE, ResolvedObjective
from vaesweep.training.config import Pruning
from vaesweep.training.finished import FinishedCell

SHARES = (0.25, 0.5)  # of training, after which trials are compared
FEWEST = 8  # earlier trials with a value there


@dataclass(frozen=True)
class MedianPruner:
    """The median rule for one validation metric; `steps` are evaluations after which trials are compared."""

    watch: str
    better: str
    steps: tuple[int, ...]
    begun: int = 0  # steps of pretraining, which are not counted

    @classmethod
    def of(cls, objectives: Sequence[ResolvedObjective], config: CellConfig) -> "MedianPruner":
        """The rule for the one objective of a search. Raises `UserError` where evaluations do not measure it."""
        if len(objectives) > 1 or objectives[0].less is not None or objectives[0].role is not Role.VALID:
            raise UserError("--prune: trials are judged while they train by one objective on valid; leave it out")
        training = config.training
        all_steps = range(training.evaluate_every, training.steps, training.evaluate_every)
        near = {min(all_steps, key=lambda step: abs(step - share * training.steps), default=0) for share in SHARES}
        if not (steps := tuple(sorted(near - {0}))):
            raise UserError("--prune: trials are evaluated only at their end; lower training.evaluate_every")
        better = "more" if objectives[0].objective.direction == MAXIMISE else "less"
        return cls(objectives[0].number.rpartition("/")[2], better, steps, config.all_steps - training.steps)

    def settings(self, told: Sequence[FrozenTrial]) -> dict[str, Any]:
        """The settings of the next round's cells beside their own: bounds from the trials told; none while few are."""
        bounds: dict[int, float] = {}
        for step in self.steps:
            values = [t.intermediate_values[step] for t in told if step in t.intermediate_values]
            if len(finite := [value for value in values if math.isfinite(value)]) >= FEWEST:
                bounds[step] = median(finite)
        if not bounds:
            return {}
        values_of = {"watch": self.watch, "better": self.better, "steps": [*bounds], "bounds": [*bounds.values()]}
        return {f"training.pruning.{key}": value for key, value in values_of.items()}

    def history(self, cell: FinishedCell) -> dict[int, float]:
        """The values of a cell at the evaluations after which trials are compared, less those that are no numbers."""
        values = cell.history.get(f"valid/{self.watch}")
        if values is None:
            return {}
        pairs = [(step - self.begun, value) for step, value in zip(cell.evaluated, values.tolist(), strict=True)]
        return {step: value for step, value in pairs if step in self.steps and not math.isnan(value)}


def was_pruned(trial: FrozenTrial, history: Mapping[int, float]) -> bool:
    """Whether a trial with these values ended at one of the bounds that it was given."""
    given = trial.user_attrs.get("pruning", {})
    rule = Pruning.model_validate({key.rpartition(".")[2]: value for key, value in given.items()})
    return any(rule.is_worse(step, torch.tensor(value, dtype=torch.float64)) for step, value in history.items())
