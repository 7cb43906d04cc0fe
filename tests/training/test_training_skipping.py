"""A step whose gradient is too large is as if it had never been; too many of them in a row fail a cell, and say so."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from vaesweep.family import CellConfig, family
from vaesweep.training import adam, finished
from vaesweep.training.batch_order import NOISE, generator
from vaesweep.training.loop import CellResult, Listener, RunningPack, start_state, train_pack
from vaesweep.training.problem import Problem
from vaesweep.training.sealed import header
from vaesweep.training.skipping import NOT_FINITE, Skipping, hold
from vaesweep.training.state import FORMATS, PackState, merge
from vaesweep.training.world import World

CPU = torch.device("cpu")
SMALL = {"latents": 2, "embedding": 4, "features": 8, "hidden": 8, "layers": 1}
STEPS, EVERY = 40, 20
LIMIT = 300.0  # undisturbed norms here are below 30, those of a jolt some 1e3 to 1e9; the counts asserted below say so
NEVER = 1e30


def cell(norm: float | None = LIMIT, most: int = 50, seed: int = 0, **training: Any) -> CellConfig:
    """A tiny cell of the partial VAE whose steps are skipped above `norm`, if it is not None."""
    skip = None if norm is None else {"norm": norm, "most": most}
    numbers = {"steps": STEPS, "evaluate_every": EVERY, "batch_size": 32, "learning_rate": 1e-2, "skip": skip}
    return family("pvae").config.model_validate({"seed": seed, "model": SMALL, "training": numbers | training})


class Jolted:
    """A problem whose training data are absurd at some steps of seed 0: huge gradients, but finite ones."""

    train_share = Problem.train_share

    def __init__(self, problem: Problem, steps: Iterable[int]) -> None:
        self._problem = problem
        self._draws = {generator(0, NOISE, step, CPU).initial_seed() for step in steps}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)

    def train_batch(self, rows: Tensor, generator: torch.Generator) -> Any:
        absurd = generator.initial_seed() in self._draws
        batch = self._problem.train_batch(rows, generator)
        return {**batch, "x": batch["x"] * 20} if absurd else batch


@pytest.fixture(scope="module")
def problem() -> Problem:
    return family("pvae").problem(cell(), family("pvae").example(), CPU)


def jolted(problem: Problem, steps: Iterable[int]) -> Problem:
    return Jolted(problem, steps)  # type: ignore[return-value]


def train(
    problem: Problem,
    cells: dict[str, CellConfig],
    listener: Listener,
    state: PackState | None = None,
    *,
    compiled: bool = False,
) -> None:
    state = state or start_state(problem, list(cells.values()), list(cells))
    train_pack(problem, [cells[name] for name in state.cells], state, listener, compiled=compiled)


def assert_identical(one: CellResult, other: CellResult) -> None:
    assert (one.step, one.diverged, one.cause, one.metrics) == (other.step, other.diverged, other.cause, other.metrics)
    mine, yours = one.state.tensors(), other.state.tensors()
    assert mine.keys() == yours.keys()
    assert all(torch.equal(mine[name], yours[name]) for name in mine)


# --- one step ---------------------------------------------------------------------------------------------------


def test_a_step_is_skipped_by_the_cells_whose_limit_it_exceeds_and_taken_by_the_others(problem: Problem) -> None:
    cells = [cell(weight_decay=1.0), cell(NEVER, weight_decay=1.0), cell(seed=1, weight_decay=1.0)]
    pack = RunningPack(jolted(problem, [3]), cells, start_state(problem, cells, list("abc")), World())
    for step in range(6):
        before = {name: getattr(pack.state, name).clone() for name in ("flat", "exp_avg", "exp_avg_sq")}
        pack.step()
        for name, old in before.items():
            stayed = [torch.equal(now, was) for now, was in zip(getattr(pack.state, name), old, strict=True)]
            assert stayed == [step == 3, False, False], f"{name} at step {step}"
    assert pack.state.skips["total"].tolist() == [1, 0, 0]


def test_a_skipped_step_is_to_adam_as_if_it_had_never_been() -> None:
    """Moments, their corrections and the decay: torch's AdamW that is never shown the large gradients agrees."""
    draw = torch.Generator().manual_seed(0)
    gradients = torch.randn(30, 2, 10, generator=draw, dtype=torch.float64)
    gradients[[0, 1, 7, 8, 9, 20], 0] *= 1e3
    flat = torch.randn(2, 10, generator=draw, dtype=torch.float64)
    references = [row.clone().requires_grad_() for row in flat]
    optimisers = [torch.optim.AdamW([weights], lr=1e-2, weight_decay=0.1) for weights in references]
    exp_avg, exp_avg_sq = torch.zeros_like(flat), torch.zeros_like(flat)
    learning_rate, decay = torch.full((2,), 1e-2, dtype=torch.float64), torch.full((2,), 0.1, dtype=torch.float64)
    skips = Skipping(torch.tensor([100.0, 100.0]), *torch.zeros(2, 2, dtype=torch.long), most=50)
    for step, gradient in enumerate(gradients):
        for weights, optimiser, row in zip(references, optimisers, gradient, strict=True):
            weights.grad = row.clone()
            if row.norm() <= 100:
                optimiser.step()
        correction = adam.own_corrections(step - skips.total)
        _, moving = hold(skips, gradient.norm(dim=1), torch.ones(2, dtype=torch.bool))
        kept = gradient.masked_fill(~moving[:, None], 0.0)
        adam.update(flat, exp_avg, exp_avg_sq, kept, learning_rate * moving, decay, correction, moving)
    assert skips.total.tolist() == [6, 0]
    # The corrections are float32, so the steps of 1e-2 agree to some 1e-7 of their size.
    torch.testing.assert_close(flat, torch.stack([w.detach() for w in references]), rtol=0, atol=30 * 1e-2 * 1e-6)


def test_a_row_counts_up_to_its_end_and_the_dead_keep_theirs() -> None:
    skips = Skipping(torch.tensor([1.0, 1.0, 1.0, 1.0]), *torch.zeros(2, 4, dtype=torch.long), most=2)
    alive = torch.tensor([True, True, True, False])
    for norms in ([2.0, 2.0, 1.0, 9.0], [2.0, 0.5, 2.0, 9.0], [2.0, 2.0, 2.0, 9.0], [0.0, 0.0, 0.0, 0.0]):
        alive, _ = hold(skips, torch.tensor(norms), alive)
    assert alive.tolist() == [False, True, True, False]
    assert skips.row.tolist() == [3, 0, 0, 0]
    assert skips.total.tolist() == [3, 2, 2, 0]


# --- a pack -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_neighbour_does_not_notice(problem: Problem, recorder: type, compiled: bool) -> None:
    """Beside a cell that skips and fails, a cell has the very weights it has beside one that takes every step."""
    rough = jolted(problem, range(5, 30))
    kept = []
    for limit in (LIMIT, NEVER):
        kept.append(recorder())
        cells = {"other": cell(limit, 8), "seeing": cell(NEVER, 8), "apart": cell(LIMIT, 8, seed=1)}
        train(rough, {name: evaluated_last(one) for name, one in cells.items()}, kept[-1], compiled=compiled)
    for name in ("seeing", "apart"):
        beside, alone = (one.results[name] for one in kept)
        for tensor in ("flat", "exp_avg", "exp_avg_sq"):
            assert torch.equal(getattr(beside.state, tensor), getattr(alone.state, tensor)), tensor
        assert beside.metrics == pytest.approx(alone.metrics, rel=1e-6), "two are evaluated where one has failed"
    assert (kept[0].results["other"].diverged, kept[1].results["other"].diverged) == (5 + 8, None)


def evaluated_last(one: CellConfig) -> CellConfig:
    """The same, evaluated at the end only: the pack keeps its size, so that its arithmetic is the same."""
    return one.model_copy(update={"training": one.training.model_copy(update={"evaluate_every": STEPS})})


def test_a_limit_that_is_never_reached_changes_nothing(problem: Problem, recorder: type) -> None:
    found = []
    for limit in (LIMIT, None):
        kept = recorder()
        train(problem, {"a": cell(limit, weight_decay=0.1), "b": cell(limit, seed=1)}, kept)
        found.append(kept.results)
    for name in "ab":
        skipping, plain = (results[name] for results in found)
        assert skipping.metrics == plain.metrics
        for tensor in ("flat", "exp_avg", "exp_avg_sq"):
            assert torch.equal(getattr(skipping.state, tensor), getattr(plain.state, tensor)), tensor
        assert float(skipping.state.history["train/skipped"].sum()) == 0, "LIMIT is above undisturbed norms"
        assert plain.state.skips == {}
        assert "train/skipped" not in plain.state.history


def test_evaluations_say_how_many_steps_were_skipped_so_far(problem: Problem, recorder: type) -> None:
    kept = recorder()
    train(jolted(problem, [3, 10, 11, 25]), {"a": cell(), "b": cell(NEVER)}, kept)
    assert kept.results["a"].state.history["train/skipped"].tolist() == [[3.0, 4.0]]
    assert kept.results["b"].state.history["train/skipped"].tolist() == [[0.0, 0.0]]


# --- too many in a row ------------------------------------------------------------------------------------------


def test_a_cell_fails_at_the_first_skip_beyond_what_it_survives_and_says_why(problem: Problem, recorder: type) -> None:
    kept = recorder()
    cells = {"short": cell(most=4), "lost": cell(most=4, learning_rate=1e30, seed=1)}
    train(jolted(problem, range(10, 15)), cells, kept)
    short, lost = kept.results["short"], kept.results["lost"]
    assert (short.diverged, short.metrics) == (14, {})
    assert short.cause == (
        "step 14: its gradient's norm exceeded training.skip.norm=300, or was not finite, 5 times in a row; "
        "raise that or lower training.learning_rate"
    )
    assert lost.diverged == 1 + 4, "weights without a finite gradient"
    assert "5 times in a row" in str(lost.cause)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_steps_that_are_not_finite_are_skipped_and_without_a_rule_end_a_cell(
    problem: Problem, recorder: type, compiled: bool
) -> None:
    class Broken(Jolted):
        def train_batch(self, rows: Tensor, generator: torch.Generator) -> Any:
            broken = generator.initial_seed() in self._draws
            batch = self._problem.train_batch(rows, generator)
            return {**batch, "x": batch["x"] * torch.nan} if broken else batch

    damaged: Any = Broken(problem, [4, 5, 9])
    kept = recorder()
    without_limit = cell(skip={"most": 2})
    train(damaged, {"survives": without_limit}, kept, compiled=compiled)
    train(damaged, {"ends": cell(None)}, kept, compiled=compiled)
    survives, ends = kept.results["survives"], kept.results["ends"]
    assert survives.cause is None
    assert survives.state.skips["total"].tolist() == [3]
    assert survives.state.flat.isfinite().all()
    assert (ends.diverged, ends.cause) == (4, f"step 4: {NOT_FINITE}")


def test_rows_that_end_in_time_are_survived(problem: Problem, recorder: type) -> None:
    kept = recorder()
    train(jolted(problem, [*range(4), *range(5, 9), *range(STEPS - 4, STEPS)]), {"a": cell(most=4)}, kept)
    assert kept.results["a"].cause is None
    assert kept.results["a"].state.skips["total"].tolist() == [12]


def test_a_failed_cell_is_frozen_until_it_leaves(problem: Problem) -> None:
    cells = [cell(most=2), cell(NEVER, most=2)]
    pack = RunningPack(jolted(problem, range(4, 7)), cells, start_state(problem, cells, ["a", "b"]), World())
    seen = []
    for _ in range(12):
        seen.append(pack.state.flat[0].clone())
        pack.step()
    assert pack.state.failed.tolist() == [6, -1]
    assert all(torch.equal(weights, seen[4]) for weights in seen[4:])
    assert pack.cause(0).startswith("step 6: its gradient's norm exceeded"), "and undisturbed steps do not change why"


# --- interruptions, company that comes and goes -----------------------------------------------------------------


def test_a_pack_resumed_within_a_row_ends_as_if_it_had_never_stopped(problem: Problem, recorder: type) -> None:
    rough = jolted(problem, [3, *range(15, 30)])
    cells = {"fails": cell(most=8), "survives": cell(most=8, norm=NEVER), "apart": cell(most=8, seed=1)}
    whole, resumed = recorder(), recorder()
    train(rough, cells, whole)
    read = PackState.from_bytes(whole.checkpoints[EVERY], "here")
    assert read.skips["row"].tolist() == [5, 0, 0]
    assert read.skips["total"].tolist() == [6, 0, 0]
    train(rough, cells, resumed, read)
    for name in cells:
        assert_identical(resumed.results[name], whole.results[name])
    assert whole.results["fails"].diverged == 15 + 8


def test_a_row_goes_on_when_neighbours_leave_and_when_packs_are_merged(problem: Problem, recorder: type) -> None:
    rough = jolted(problem, range(15, 30))
    cells = {"leaves": cell(most=8, learning_rate=1e30), "fails": cell(most=8), "sound": cell(most=8, seed=1)}
    together, merged = recorder(), recorder()
    train(rough, cells, together)
    assert together.heard[1][1] == ("fails", "sound"), "one has left within the row of the other"
    apart = []
    for name in ("sound", "fails"):
        alone = recorder()
        train(rough, {name: cells[name]}, alone)
        apart.append(PackState.from_bytes(alone.checkpoints[EVERY], "here"))
    train(rough, cells, merged, merge(apart))
    for kept in (together, merged):
        assert kept.results["fails"].diverged == 15 + 8
        assert kept.results["sound"].cause is None


# --- compiled ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_compiled_steps_skip_and_fail_as_the_others_do(problem: Problem, recorder: type) -> None:
    """A cell fails and leaves, so that the compiled step goes on with fewer cells than it was made for."""
    rough = jolted(problem, [2, 3, *range(8, 14), 25])
    cells = {"fails": cell(most=4), "bold": cell(NEVER, most=4), "apart": cell(most=4, seed=1)}
    found = {}
    for compiled in (False, True):
        kept = recorder()
        train(rough, cells, kept, compiled=compiled)
        found[compiled] = kept.results
    for name in cells:
        eager, fast = found[False][name], found[True][name]
        assert (fast.diverged, fast.cause) == (eager.diverged, eager.cause)
        assert all(torch.equal(fast.state.skips[count], eager.state.skips[count]) for count in ("row", "total"))
        # Rounding alone, carried on by up to 40 steps of 1e-2; a jolt's step that is taken is of that size too.
        torch.testing.assert_close(fast.state.flat, eager.state.flat, rtol=0, atol=1e-4)
    assert found[True]["fails"].diverged == 12


# --- the finished file ------------------------------------------------------------------------------------------


def test_the_finished_file_says_why_and_one_of_an_earlier_version_has_one_cause_only(
    problem: Problem, recorder: type
) -> None:
    kept = recorder()
    cells = {"short": cell(most=4), "sound": cell(most=4, seed=1)}
    train(jolted(problem, range(10, 15)), cells, kept)
    for name, result in kept.results.items():
        data = finished.to_bytes(finished.of_result(result, "pvae", cells[name].model_dump(mode="json"), {}))
        assert finished.from_bytes(data, "here").cause == result.cause
        about = header(data, "here", FORMATS)
        for later in ("cause", "domains", "digest"):
            about.pop(later)
        about["format"] = 1
        old = safetensors.torch.save(safetensors.torch.load(data), {"vaesweep": json.dumps(about)})
        assert finished.from_bytes(old, "here").cause == (f"step 14: {NOT_FINITE}" if name == "short" else None)
