"""Base of rate controls: a frozen configuration and pure functions of an explicit state.

`state = advance(numbers, state, rate, step, pace)`, `beta(numbers, state, step)`; every tensor has one entry a cell. A
control holds nothing between steps: the state is the caller's, to keep in a checkpoint. Nothing here synchronises with
the device.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor

from vaesweep.packing import Frozen, packed_names

Numbers = Mapping[str, Tensor]  # a control's packed fields, each [cell]
State = dict[str, Tensor]  # what a control carries between steps, each [cell]


class RateControl(Frozen, ABC):
    """A kind of control over one rate's weight β. A new kind is one subclass; its numbers are `Packed` fields.

    The functions are class methods on purpose: they see a pack's stacked numbers, never one cell's fields.
    """

    def scheduled(self, steps: int) -> Self:
        """The control as it acts in `steps` steps of training, with what is given as a share of them in steps."""
        return self

    def per_datum(self, units: Mapping[str, float]) -> Self:
        """The control as it acts on nats per datum; `units` says how much of each unit a datum has."""
        return self

    def unfinished(self, steps: int) -> str | None:
        """What the control certainly has not done after `steps` steps of training, for people; None where it may."""
        return None

    @classmethod
    def start(cls, numbers: Numbers) -> State:
        """The state before the first step; empty for a control that follows a fixed schedule."""
        return {}

    @classmethod
    @abstractmethod
    def beta(cls, numbers: Numbers, state: State, step: Tensor) -> Tensor:
        """The weight β `[cell]` that the step number `step` (from 0) uses."""

    @classmethod
    def advance(cls, numbers: Numbers, state: State, rate: Tensor, step: Tensor, pace: Tensor) -> State:
        """The state after a step that measured `rate` `[cell]`, the unweighted batch mean in nats per datum.

        `pace` `[cell]` in 0..1 is the share of its full learning rate at which the model learns now.
        """
        return state

    @classmethod
    @abstractmethod
    def settled(cls, numbers: Numbers, state: State, step: Tensor) -> Tensor:
        """`[cell]`, true once β has settled: before that no plateau may be judged."""

    @classmethod
    def saturated(cls, numbers: Numbers, state: State) -> Tensor:
        """`[cell]`, true where the control asks for a rate that the model cannot reach."""
        return torch.zeros_like(next(iter(numbers.values())), dtype=torch.bool)


def stack_numbers(configs: Sequence[Frozen], device: torch.device | None = None) -> Numbers:
    """Stack the packed fields of one kind of configuration over cells: float64 tensors `[cell]`."""
    return {
        name: torch.tensor([float(getattr(c, name)) for c in configs], dtype=torch.float64, device=device)
        for name in packed_names(configs[0])
    }
