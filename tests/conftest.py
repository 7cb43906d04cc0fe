"""What several rooms' tests share: one example of every kind of rate control, and a listener that keeps everything.

Threads are left at one: the tests' tensors are too small to gain from more, and other counts order sums differently.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which reads it once

import typing
from dataclasses import dataclass, field

import pytest
from torch import Tensor

from vaesweep.rates import Control, RateControl
from vaesweep.training.loop import CellResult
from vaesweep.training.state import PackState

KINDS: tuple[type[RateControl], ...] = typing.get_args(
    typing.get_args(Control)[0]
)  # a new kind is among them by itself


def example(kind: type[RateControl]) -> RateControl:
    """A control of `kind`: its defaults, and 2 for a number that has none."""
    return kind(**{name: 2.0 for name, entry in kind.model_fields.items() if entry.is_required()})


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def control(request: pytest.FixtureRequest) -> RateControl:
    """One example of each kind of control in the `Control` union."""
    return example(request.param)


@dataclass
class Recorder:
    """A listener that keeps all it hears: checkpoints as file content by step, results by cell."""

    heard: list[tuple[int, tuple[str, ...], dict[str, Tensor]]] = field(default_factory=list)
    checkpoints: dict[int, bytes] = field(default_factory=dict)
    results: dict[str, CellResult] = field(default_factory=dict)

    def progress(self, state: PackState, latest: dict[str, Tensor]) -> None:
        self.heard.append((state.step, state.cells, latest))

    def checkpoint(self, state: PackState) -> None:
        self.checkpoints[state.step] = state.to_bytes()

    def finished(self, result: CellResult) -> None:
        assert result.cell not in self.results, "a cell finished twice"
        self.results[result.cell] = result


@pytest.fixture
def recorder() -> type[Recorder]:
    """The class, since a test listens to more than one run."""
    return Recorder
