"""What a cell becomes does not depend on its company, in any registered family (design, contract 4)."""

from typing import Any

import pytest
import torch

from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.family import CellConfig, Family
from vaesweep.training.loop import start_state, train_pack
from vaesweep.training.problem import Problem
from vaesweep.training.state import PackState, merge

CPU = torch.device("cpu")
STEPS = 6
SHORT = {"steps": STEPS, "batch_size": 8, "evaluate_every": 2, "schedule": {"kind": "constant"}}
# The same sums in another order: 6e-8 a term. Adam divides a gradient by its own size, so that a step of 1e-3 may turn
# a rounding error of a tiny gradient into some 1e-3 of that step.
WEIGHTS, METRICS = 1e-5, 1e-4


def cell(subject: Family, number: int) -> CellConfig:
    """Cells that differ in seed, target rate, learning rate and clipping norm."""
    numbers = {"learning_rate": 1e-3 * 0.9**number, "clip_norm": 10.0 / (1 + number % 3)}
    rates = {"total": {"kind": "target", "target": 0.5 * (number + 1), "initial": 1.0 / (number + 1)}}
    own = {"seed": number % 5, "rates": rates, "training": SHORT | numbers}
    return subject.config.model_validate(subject.small().model_dump() | own)


@pytest.fixture(scope="module")
def problem(subject: Family, data: DataSet) -> Problem:
    return subject.problem(cell(subject, 0), data, CPU)


def train(subject: Family, problem: Problem, numbers: range, listener: Any, state: PackState | None = None) -> Any:
    cells = {str(number): cell(subject, number) for number in numbers}
    state = state or start_state(problem, list(cells.values()), list(cells))
    train_pack(problem, [cells[name] for name in state.cells], state, listener)
    return listener


@pytest.fixture(scope="module")
def alone(subject: Family, problem: Problem, recorder: type) -> Any:
    return train(subject, problem, range(3, 4), recorder())


def assert_the_same(found: Any, expected: Any) -> None:
    mine, yours = found.results["3"], expected.results["3"]
    assert float((mine.state.flat - yours.state.flat).abs().max()) < WEIGHTS
    assert mine.metrics.keys() == yours.metrics.keys()
    for name, value in mine.metrics.items():
        assert value == pytest.approx(yours.metrics[name], rel=METRICS, abs=METRICS), name


@pytest.mark.parametrize("size", [7, pytest.param(64, marks=pytest.mark.slow)])
def test_a_cell_ends_with_the_same_numbers_in_a_pack_of_any_size(
    subject: Family, problem: Problem, alone: Any, recorder: type, size: int
) -> None:
    assert_the_same(train(subject, problem, range(size), recorder()), alone)


def test_a_cell_ends_with_the_same_numbers_when_it_resumes_in_other_company(
    subject: Family, problem: Problem, alone: Any, recorder: type
) -> None:
    first = train(subject, problem, range(2, 5), recorder())
    other = train(subject, problem, range(7, 9), recorder())
    states = [PackState.from_bytes(kept.checkpoints[2], "here") for kept in (first, other)]
    regrouped = merge([states[1], states[0].select([1, 0])])
    assert_the_same(train(subject, problem, range(9), recorder(), regrouped), alone)


def test_cells_do_differ(subject: Family, problem: Problem, recorder: type) -> None:
    """Without which the statements above would be empty."""
    together = train(subject, problem, range(2, 5), recorder())
    for one, other in (("2", "3"), ("3", "4")):
        assert (
            float((together.results[one].state.flat - together.results[other].state.flat).abs().max()) > 100 * WEIGHTS
        )


def test_products_in_bfloat16_train_nearly_the_same_cells_where_the_family_allows_them(
    subject: Family, problem: Problem, alone: Any, recorder: type
) -> None:
    config = cell(subject, 3)
    halved = config.model_copy(update={"training": config.training.model_copy(update={"precision": "bfloat16"})})
    if not subject.bfloat16:
        with pytest.raises(UserError, match="bfloat16"):
            subject.check(halved)
        return
    subject.check(halved)
    kept = recorder()
    train_pack(problem, [halved], start_state(problem, [halved], ["3"]), kept)
    mine, yours = kept.results["3"].state.flat, alone.results["3"].state.flat
    assert mine.dtype == torch.float32
    apart = float((mine - yours).abs().max())
    assert 0 < apart < STEPS * 1e-3, "other rounding, and no more than a step of 1e-3 a step"
