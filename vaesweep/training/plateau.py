"""Plateau schedules and early stopping: judged on unweighted validation quantities, and only while β is settled.

A moving β moves the re-weighted loss whatever the model learns (thesis lines 1306-1307); it is not
used here, and no patience is spent before the rate control has settled. The state is explicit, `[cell]` a name.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vaesweep.training.config import Cosine, Plateau, TrainingConfig, Watching

PlateauState = dict[str, Tensor]


class PlateauMonitor:
    """Learning-rate factors and stopping decisions of a pack, whose cells share one `TrainingConfig` structure."""

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config

    def start(self, weights: Tensor) -> PlateauState:
        """The state before training: no evaluation yet, full learning rate, no cell stopped.

        `weights` `[cell, parameter]` are kept for the time being where the best are wanted.
        """
        cells, device = len(weights), weights.device
        infinite = torch.full((cells,), math.inf, dtype=torch.float64, device=device)
        zero = torch.zeros_like(infinite)
        best = {"stop.weights": weights.clone()} if self._keeps_best else {}
        return best | {
            "plateau.best": infinite,
            "plateau.waited": zero,
            "factor": zero + 1,
            "stop.best": infinite.clone(),
            "stop.waited": zero.clone(),
        }

    def factor(self, state: PlateauState, step: int) -> Tensor:
        """The factor on each cell's learning rate at step `step`: `[cell]`."""
        schedule, factor = self._config.schedule, state["factor"]
        if isinstance(schedule, Cosine):
            share = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self._config.steps)))
            factor = factor * (schedule.final_share + (1 - schedule.final_share) * share)
        if step < self._config.warm_up:
            factor = factor * ((step + 1) / (self._config.warm_up + 1))
        return factor

    @property
    def _keeps_best(self) -> bool:
        return self._config.early_stopping is not None and self._config.early_stopping.keep == "best"

    def judge(self, state: PlateauState, valid: Mapping[str, Tensor], settled: Tensor, weights: Tensor) -> PlateauState:
        """The state after an evaluation of `weights`; `valid` holds the metrics of the validation domain, `[cell]`."""
        new = dict(state)
        if isinstance(plateau := self._config.schedule, Plateau):
            waited = _wait(plateau, state, "plateau", valid, settled, new)
            spent = waited >= plateau.patience
            new["factor"] = torch.where(spent, state["factor"] * plateau.factor, state["factor"])
            new["plateau.waited"] = torch.where(spent, 0.0, waited)
        if self._config.early_stopping is not None:
            new["stop.waited"] = _wait(self._config.early_stopping, state, "stop", valid, settled, new)
        if self._keeps_best:
            improved = new["stop.best"] < state["stop.best"]
            new["stop.weights"] = torch.where(improved[:, None], weights, state["stop.weights"])
        return new

    def kept(self, state: PlateauState, weights: Tensor) -> Tensor:
        """The weights that count at the end, `[cell, parameter]`: the last ones, or the best where they are wanted.

        A cell whose rate control was never settled, or is not in the end, has no best.
        """
        if not self._keeps_best:
            return weights
        return torch.where(state["stop.best"].isfinite()[:, None], state["stop.weights"], weights)

    def stopped(self, state: PlateauState) -> Tensor:
        """`[cell]`, true where early stopping has run out of patience."""
        stopping = self._config.early_stopping
        if stopping is None:
            return torch.zeros_like(state["factor"], dtype=torch.bool)
        return state["stop.waited"] >= stopping.patience


def _wait(
    rule: Watching,
    state: PlateauState,
    key: str,
    valid: Mapping[str, Tensor],
    settled: Tensor,
    new: PlateauState,
) -> Tensor:
    """Evaluations without improvement so far `[cell]`; puts the best value into `new`. Unsettled cells start over."""
    value = rule.loss(valid)
    best = state[f"{key}.best"]
    better = value < best - rule.tolerance
    new[f"{key}.best"] = torch.where(settled, torch.where(better, value, best), math.inf)
    return torch.where(settled & ~better, state[f"{key}.waited"] + 1, 0.0)
