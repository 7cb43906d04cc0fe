"""Plans: what is left, in which packs, and about how long it takes."""

from collections.abc import Callable
from typing import Any

import pytest

from vaesweep.data.domains import DataSet
from vaesweep.sweep.cells import Cell
from vaesweep.sweep.plan import LARGEST_PACK, Plan, estimate_seconds
from vaesweep.sweep.plan import make_plan as plan_of
from vaesweep.training.timing import PackSeconds


@pytest.fixture
def cells(small_cell: Callable[..., Cell]) -> list[Cell]:
    return [small_cell({"seed": seed}) for seed in range(7)]


def make_plan(cells: list[Cell], done: Any, pack_size: int | None, slots: int) -> Plan:
    return plan_of(cells, done, (), {}, pack_size, slots)


def sizes(plan: Any) -> list[int]:
    return [len(pack.cells) for pack in plan.packs]


def test_everything_is_left_where_nothing_is_known(cells: list[Cell]) -> None:
    plan = make_plan(cells, {}, None, 1)
    assert (plan.done, plan.left(), sizes(plan)) == (frozenset(), 7, [7])


def test_cells_that_are_done_blocked_or_only_to_be_evaluated_do_not_train(cells: list[Cell]) -> None:
    done, evaluated, blocked, *left = (cell.identity for cell in cells)
    plan = plan_of(cells, {done}, {evaluated}, {blocked: "a newer version has begun it"}, None, 1)
    assert plan.done == {done}
    assert [cell.identity for pack in plan.evaluations for cell in pack.cells] == [evaluated]
    assert sorted(cell.identity for pack in plan.packs for cell in pack.cells) == sorted(left)
    assert (plan.left(), plan.blocked) == (4, {blocked: "a newer version has begun it"})


def test_outcomes_of_other_sweeps_cells_count_for_nothing(cells: list[Cell]) -> None:
    plan = make_plan(cells[:3], {cells[5].identity}, None, 1)
    assert (len(plan.done), plan.left()) == (0, 3)


def test_a_plan_with_nothing_left_has_no_packs(cells: list[Cell]) -> None:
    assert make_plan(cells, {cell.identity for cell in cells}, None, 2).packs == ()


@pytest.mark.parametrize(("slots", "expected"), [(1, [7]), (2, [4, 3]), (3, [2, 3, 2]), (100, [1] * 7)])
def test_cells_are_spread_over_the_places_that_work_at_once(cells: list[Cell], slots: int, expected: list[int]) -> None:
    assert sorted(sizes(make_plan(cells, {}, None, slots))) == sorted(expected)


def test_a_pack_size_that_was_asked_for_is_kept(cells: list[Cell]) -> None:
    assert max(sizes(make_plan(cells, {}, 3, 1))) == 3


def test_no_pack_is_larger_than_what_pays(small_cell: Callable[..., Cell]) -> None:
    many = [small_cell({"seed": seed}) for seed in range(LARGEST_PACK + 1)]
    assert sorted(sizes(make_plan(many, {}, None, 1))) == [64, 65]


def test_the_sweeps_identity_is_that_of_its_name_and_cells_in_any_order(cells: list[Cell]) -> None:
    one, other = make_plan(cells, {}, None, 1), make_plan(cells[::-1], {}, 2, 3)
    assert one.sweep_identity("a") == other.sweep_identity("a")
    assert one.sweep_identity("a") != one.sweep_identity("b")
    assert one.sweep_identity("a") != make_plan(cells[1:], {}, None, 1).sweep_identity("a")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> PackSeconds:
    """What any pack is measured to take: powers of two, whose sums are exact."""
    seconds = PackSeconds(step=0.25, quick=0.5, final=8.0)
    monkeypatch.setattr("vaesweep.sweep.plan.measure_pack", lambda *_: seconds)
    return seconds


SIZED = {"training.steps": 1_000, "training.evaluate_every": 100, "training.batch_size": 16}


@pytest.mark.parametrize(
    ("steps", "expected"), [(1_000, 250 + 5 + 8), (100_000, 25_000 + 500 + 8), (1_050, 262.5 + 5.5 + 8)]
)
def test_an_estimate_is_of_steps_evaluations_and_the_last_one(
    steps: int, expected: float, measured: PackSeconds, small_cell: Callable[..., Cell], audiograms: DataSet
) -> None:
    plan = make_plan([small_cell(SIZED | {"training.steps": steps})], {}, None, 1)
    assert estimate_seconds(plan, lambda _: audiograms, 1).wall == expected


def test_an_estimate_counts_pretraining_without_its_last_evaluation(
    measured: PackSeconds, small_cell: Callable[..., Cell], audiograms: DataSet
) -> None:
    plan = make_plan([small_cell(SIZED | {"pretraining.training.steps": 99_000})], {}, None, 1)
    assert estimate_seconds(plan, lambda _: audiograms, 1).wall == (250 + 5 + 8) + (24_750 + 495)


@pytest.mark.parametrize(("slots", "packs"), [(1, 4), (2, 2), (3, 2), (4, 1), (9, 1)])
def test_an_estimate_fills_the_places_that_work_at_once(
    slots: int, packs: int, measured: PackSeconds, small_cell: Callable[..., Cell], audiograms: DataSet
) -> None:
    plan = make_plan([small_cell(SIZED | {"seed": seed}) for seed in range(4)], {}, 1, 1)
    estimate = estimate_seconds(plan, lambda _: audiograms, slots)
    assert estimate.wall == packs * (250 + 5 + 8)
    assert estimate.packs == 4 * (250 + 5 + 8)  # what is paid does not depend on how many run at once


def test_a_measured_estimate_is_some_time(small_cell: Callable[..., Cell], audiograms: DataSet) -> None:
    assert estimate_seconds(make_plan([small_cell(SIZED)], {}, None, 1), lambda _: audiograms, 1).wall > 0


def test_nothing_left_takes_no_time(cells: list[Cell], audiograms: DataSet) -> None:
    plan = make_plan(cells, {cell.identity for cell in cells}, None, 2)
    assert estimate_seconds(plan, lambda _: audiograms, 2).wall == 0
