"""A cell's training does not depend on its company, on interruptions, nor on how many workers share it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from vaesweep.data.domains import DataSet
from vaesweep.family import CellConfig, family
from vaesweep.training.loop import CellResult, Listener, start_state, train_pack
from vaesweep.training.problem import Problem
from vaesweep.training.state import PackState, merge
from vaesweep.training.world import current_world

CPU = torch.device("cpu")
SMALL = {"latents": 2, "embedding": 4, "features": 8, "hidden": 8, "layers": 1}
STEPS, EVERY = 60, 20


def cell(
    rates: dict[str, Any] | None = None,
    seed: int = 0,
    data: dict[str, Any] | None = None,
    **training: Any,
) -> CellConfig:
    """A tiny cell of the partial VAE; by default it steers towards a target rate."""
    numbers = {"steps": STEPS, "evaluate_every": EVERY, "batch_size": 32, "learning_rate": 1e-2} | training
    control = rates if rates is not None else {"total": {"kind": "target", "target": 1.0, "patience": 5}}
    return family("pvae").config.model_validate(
        {"seed": seed, "rates": control, "model": SMALL, "data": data or {}, "training": numbers}
    )


def target(nats: float) -> dict[str, Any]:
    """Steering towards `nats`, from a β of another size for each: 60 steps do not take β far from its start."""
    return {"total": {"kind": "target", "target": nats, "initial": 0.1 / nats, "patience": 5}}


SEVEN = {
    "a": cell(target(0.5)),
    "b": cell(target(2.0)),
    "c": cell(target(2.0), seed=1),
    "d": cell(target(4.0), seed=1, learning_rate=3e-3),
    "e": cell(target(1.0), seed=2, clip_norm=0.5),
    "f": cell(target(8.0), seed=2),
    "g": cell(target(0.1), seed=3),
}


@pytest.fixture(scope="module")
def data() -> DataSet:
    return family("pvae").example()


@pytest.fixture(scope="module")
def problem(data: DataSet) -> Problem:
    return family("pvae").problem(SEVEN["a"], data, CPU)


def train(problem: Problem, cells: dict[str, CellConfig], listener: Listener, state: PackState | None = None) -> None:
    configs = list(cells.values())
    state = state or start_state(problem, configs, list(cells))
    train_pack(problem, [cells[name] for name in state.cells], state, listener)


def distance(one: CellResult, other: CellResult) -> float:
    """The largest difference of two results' weights."""
    return float((one.state.flat - other.state.flat).abs().max())


def assert_close(one: CellResult, other: CellResult, weights: float, metrics: float) -> None:
    assert distance(one, other) < weights
    assert one.metrics.keys() == other.metrics.keys()
    for name, value in one.metrics.items():
        assert value == pytest.approx(other.metrics[name], rel=metrics, abs=metrics), name


def assert_identical(one: CellResult, other: CellResult) -> None:
    assert one.metrics == other.metrics
    assert one.step == other.step
    assert one.saturated == other.saturated
    assert one.state.evaluated == other.state.evaluated
    mine, yours = one.state.tensors(), other.state.tensors()
    assert mine.keys() == yours.keys()
    assert all(torch.equal(mine[name], yours[name]) for name in mine)


# The same sums in another order differ by float32's 6e-8 a term. Adam divides by the gradient's own size, so that 60
# steps of 1e-2 may carry it to some 1e-5 of weights of order one; on many machines the difference is exactly zero.
ROUNDING = {"weights": 1e-4, "metrics": 1e-4}


@pytest.fixture(scope="module")
def together(problem: Problem, recorder: type) -> Any:
    """What became of seven cells in one pack."""
    kept = recorder()
    train(problem, SEVEN, kept)
    return kept


@pytest.mark.parametrize("name", ["a", "d", "e"])
def test_a_cell_alone_is_that_cell_among_seven(problem: Problem, together: Any, recorder: type, name: str) -> None:
    alone = recorder()
    train(problem, {name: SEVEN[name]}, alone)
    assert_close(alone.results[name], together.results[name], **ROUNDING)
    for metric, values in alone.results[name].state.history.items():
        torch.testing.assert_close(values, together.results[name].state.history[metric], rtol=1e-4, atol=1e-4)


def test_cells_do_differ(together: Any) -> None:
    """Without which the statements about equality would be empty."""
    for one, other in (("a", "b"), ("b", "c"), ("c", "d")):
        assert distance(together.results[one], together.results[other]) > 0.01


class Spy:
    """A problem that notes which rows and which noise each training batch was drawn with."""

    train_share = Problem.train_share

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.drawn: list[tuple[tuple[int, ...], int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._problem, name)

    def train_batch(self, rows: torch.Tensor, generator: torch.Generator) -> Any:
        self.drawn.append((tuple(rows.tolist()), generator.initial_seed()))
        return self._problem.train_batch(rows, generator)


def test_cells_of_one_seed_see_the_same_rows_and_noise_in_any_pack(problem: Problem, recorder: type) -> None:
    packs = ["a", "b"], ["a"], ["c", "d"], ["a", "c", "b"]
    seen = []
    for names in packs:
        spy = Spy(problem)
        train(spy, {name: SEVEN[name] for name in names}, recorder())  # type: ignore[arg-type]
        seen.append(spy.drawn)
    of_seed_0, alone, of_seed_1, both = seen
    assert of_seed_0 == alone
    assert len(alone) == len({noise for _, noise in alone}) == STEPS, "each step draws anew"
    assert not set(alone) & set(of_seed_1)
    assert both[0::2] == of_seed_0, "one draw a seed and step, whatever the number of cells"
    assert both[1::2] == of_seed_1


def test_cells_that_are_equal_stay_equal(problem: Problem, recorder: type) -> None:
    kept = recorder()
    train(problem, {"one": SEVEN["b"], "other": SEVEN["b"], "third": SEVEN["c"]}, kept)
    assert_close(kept.results["one"], kept.results["other"], **ROUNDING)


# --- a running mean of weights, weight decay ---------------------------------------------------------------------


def test_a_running_mean_is_what_is_evaluated_and_kept_and_training_does_not_notice(
    problem: Problem, together: Any, recorder: type
) -> None:
    averaged, kept = {name: averaging(one) for name, one in SEVEN.items()}, recorder()
    train(problem, averaged, kept)
    for name, result in kept.results.items():
        assert torch.equal(result.state.flat, together.results[name].state.flat)
        assert torch.equal(result.state.weights, result.state.average)
        assert not torch.equal(result.state.weights, result.state.flat)
        assert result.metrics != together.results[name].metrics


def test_a_running_mean_survives_an_interruption(problem: Problem, recorder: type) -> None:
    cells = {name: averaging(SEVEN[name]) for name in "ac"}
    whole, resumed = recorder(), recorder()
    train(problem, cells, whole)
    train(problem, cells, resumed, PackState.from_bytes(whole.checkpoints[40], "here"))
    for name in cells:
        assert_identical(resumed.results[name], whole.results[name])


def averaging(one: CellConfig) -> CellConfig:
    return one.model_copy(update={"training": one.training.model_copy(update={"average": 0.9})})


def test_weight_decay_is_a_number_of_each_cell(problem: Problem, recorder: type) -> None:
    kept, decays = recorder(), {"none": 0.0, "some": 1.0, "much": 10.0}
    train(problem, {name: cell(target(1.0), weight_decay=decay) for name, decay in decays.items()}, kept)
    none, some, much = (float(kept.results[name].state.flat.norm()) for name in decays)
    assert much < some < none


# --- interruptions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 20, 40])
def test_a_resumed_pack_ends_as_if_it_had_never_stopped(
    problem: Problem, together: Any, recorder: type, step: int
) -> None:
    beginning = start_state(problem, list(SEVEN.values()), list(SEVEN)).to_bytes()
    read = PackState.from_bytes({0: beginning, **together.checkpoints}[step], "here")
    assert read.step == step
    resumed = recorder()
    train(problem, SEVEN, resumed, read)
    for name in SEVEN:
        assert_identical(resumed.results[name], together.results[name])


def test_a_pack_may_be_regrouped_when_it_resumes(problem: Problem, together: Any, recorder: type) -> None:
    read = PackState.from_bytes(together.checkpoints[20], "here")
    resumed = recorder()
    for group in ([5, 0, 2], [6], [1, 3, 4]):
        train(problem, SEVEN, resumed, read.select(group))
    for name in SEVEN:
        assert_close(resumed.results[name], together.results[name], **ROUNDING)


def test_cells_that_trained_apart_may_go_on_as_one_pack(problem: Problem, together: Any, recorder: type) -> None:
    apart = []
    for name in ("c", "a"):
        alone = recorder()
        train(problem, {name: SEVEN[name]}, alone)
        apart.append(PackState.from_bytes(alone.checkpoints[40], "here"))
    resumed = recorder()
    train(problem, SEVEN, resumed, merge(apart))
    for name in ("c", "a"):
        assert_close(resumed.results[name], together.results[name], **ROUNDING)


# --- cells that end early ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [EVERY, STEPS])
def test_a_cell_that_diverges_says_when_and_its_neighbours_do_not_notice(
    problem: Problem, recorder: type, every: int
) -> None:
    def pack(middle: float) -> dict[str, CellConfig]:
        rates = {"left": 1e-2, "middle": middle, "right": 1e-2}
        return {name: cell(learning_rate=rate, evaluate_every=every) for name, rate in rates.items()}

    broken, whole = recorder(), recorder()
    train(problem, pack(1e30), broken)  # weights of 1e30 after the first step: the second's bound is not finite
    train(problem, pack(1e-2), whole)
    lost = broken.results["middle"]
    assert lost.diverged == 1
    assert lost.step == every, "it leaves at the next evaluation"
    assert lost.metrics == {}
    for name in ("left", "right"):
        assert broken.results[name].diverged is None
        if every == STEPS:  # the pack keeps its size to the end: the very same arithmetic; two are evaluated, not three
            assert torch.equal(broken.results[name].state.flat, whole.results[name].state.flat)
        assert_close(broken.results[name], whole.results[name], **ROUNDING)


def test_a_pack_of_diverged_cells_ends(problem: Problem, recorder: type) -> None:
    kept = recorder()
    train(problem, {"x": cell(learning_rate=1e30), "y": cell(learning_rate=1e30, seed=1)}, kept)
    assert {name: result.diverged for name, result in kept.results.items()} == {"x": 1, "y": 1}
    assert kept.checkpoints == {}, "nothing is left to be resumed"


def test_early_stopping_retires_one_cell_while_the_others_go_on(problem: Problem, recorder: type) -> None:
    # A tolerance beyond any improvement: who is judged stops after the first evaluation and two more. β of `late`
    # rises until long after the end, so that `late` is never judged.
    rule = {"patience": 2, "tolerance": 1e6}

    def warm(steps: float) -> CellConfig:
        warmup = {"total": {"kind": "linear", "steps": steps}}
        return cell(warmup, steps=100, evaluate_every=20, early_stopping=rule)

    cells = {"late": warm(1e6), "early": warm(1.0), "later": warm(39.0)}
    kept, alone, never = recorder(), recorder(), recorder()
    train(problem, cells, kept)
    train(problem, {"early": cells["early"]}, alone)
    train(problem, {"late": cells["late"]}, never)
    assert {name: result.step for name, result in kept.results.items()} == {"early": 60, "later": 80, "late": 100}
    assert [(step, names) for step, names, _ in kept.heard] == [
        (20, ("late", "early", "later")),
        (40, ("late", "early", "later")),
        (60, ("late", "early", "later")),
        (80, ("late", "later")),
        (100, ("late",)),
    ]
    assert PackState.from_bytes(kept.checkpoints[60], "here").cells == ("late", "later")
    assert_close(kept.results["early"], alone.results["early"], **ROUNDING)
    assert_close(kept.results["late"], never.results["late"], **ROUNDING)
    resumed = recorder()
    train(problem, cells, resumed, PackState.from_bytes(kept.checkpoints[60], "here"))
    assert_identical(resumed.results["late"], kept.results["late"])


# --- several workers --------------------------------------------------------------------------------------------

SHARED = {name: SEVEN[name] for name in ("b", "d", "e")} | {"lost": cell(learning_rate=1e30)}


class Writer:
    """A listener that leaves each cell's weights and end in a folder, for another process to read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def progress(self, state: PackState, latest: dict[str, torch.Tensor]) -> None: ...

    def checkpoint(self, state: PackState) -> None: ...

    def finished(self, result: CellResult) -> None:
        (self._folder / result.cell).write_bytes(result.state.to_bytes())
        content = {"metrics": result.metrics, "diverged": result.diverged}
        (self._folder / f"{result.cell}.json").write_text(json.dumps(content))


def work(rank: int, size: int, folder: str) -> None:
    """One of `size` data-parallel workers of the pack `SHARED`."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    problem = family("pvae").problem(SEVEN["a"], family("pvae").example(), CPU)
    configs = list(SHARED.values())
    state = start_state(problem, configs, list(SHARED))
    train_pack(problem, configs, state, Writer(Path(folder) / f"of_rank_{rank}"), current_world())
    dist.destroy_process_group()


def test_two_workers_do_what_one_does(problem: Problem, recorder: type, tmp_path: Path) -> None:
    for rank in range(2):
        (tmp_path / f"of_rank_{rank}").mkdir()
    mp.spawn(work, args=(2, str(tmp_path)), nprocs=2)
    kept = recorder()
    train(problem, SHARED, kept)
    heard = [{path.name: path.read_bytes() for path in (tmp_path / f"of_rank_{rank}").iterdir()} for rank in range(2)]
    assert heard[0] == heard[1], "both workers hold the same, bit for bit"
    for name, one in kept.results.items():
        state = PackState.from_bytes((tmp_path / "of_rank_0" / name).read_bytes(), name)
        end = json.loads((tmp_path / "of_rank_0" / f"{name}.json").read_text())
        assert end["diverged"] == one.diverged
        if one.diverged is None:
            assert_close(CellResult(name, state.step, end["metrics"], None, (), state), one, **ROUNDING)
            for metric, values in one.state.history.items():
                torch.testing.assert_close(state.history[metric], values, rtol=1e-4, atol=1e-4)


# --- data, metrics and rates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("missingness", ["static", "dynamic"])
def test_static_masks_stay_and_dynamic_masks_are_drawn_anew(data: DataSet, missingness: str) -> None:
    problem = family("pvae").problem(cell(data={"missingness": missingness}), data, CPU)
    rows = torch.arange(40)
    first, second = (problem.train_batch(rows, torch.Generator().manual_seed(k))["observed"] for k in (0, 1))
    assert torch.equal(first, second) == (missingness == "static")
    some = problem.train_batch(rows[7:9], torch.Generator().manual_seed(2))["observed"]
    assert torch.equal(first[7:9], some) == (missingness == "static"), "a mask belongs to its datum, not to its place"


def test_every_domain_is_evaluated_in_the_end(problem: Problem, together: Any) -> None:
    for result in together.results.values():
        assert {name.rpartition("/")[0] for name in result.metrics} == set(problem.domains)
        for domain in problem.domains:
            found = {n.rpartition("/")[2]: v for n, v in result.metrics.items() if n.startswith(f"{domain}/")}
            assert {"distortion", "rate", "rate.z", "elbo", *family("pvae").metrics} == found.keys()
            assert found["elbo"] == pytest.approx(-(found["distortion"] + found["rate"]), rel=1e-12)
            assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize(("steps", "expected"), [(60, (20, 40, 60)), (50, (20, 40, 50)), (7, (7,))])
def test_history_is_every_so_many_steps_and_the_last(
    problem: Problem, recorder: type, steps: int, expected: tuple[int, ...]
) -> None:
    kept = recorder()
    train(problem, {"x": cell(steps=steps)}, kept)
    state = kept.results["x"].state
    assert state.evaluated == expected == tuple(step for step, *_ in kept.heard)
    assert {values.shape for values in state.history.values()} == {(1, len(expected))}
    for k, (_, _, latest) in enumerate(kept.heard):
        assert all(float(latest[name][0]) == float(values[0, k]) for name, values in state.history.items())


def test_the_history_says_what_was_measured_and_what_weighed(together: Any) -> None:
    history = together.results["b"].state.history
    assert {"train/beta.z", "train/learning_rate", "train/gradient_norm", "train/saturated.total"} <= history.keys()
    for part in ("train", "valid"):
        total = history[f"{part}/distortion"] + history[f"{part}/rate"]
        torch.testing.assert_close(history[f"{part}/elbo"], -total)


REACHED = (0.5, 1.0, 2.0)


@pytest.fixture(scope="module")
def trained(problem: Problem, recorder: type) -> dict[float, CellResult]:
    """Cells by their targets, trained for long enough to get there."""
    kept = recorder()
    train(problem, {str(t): cell(target(t), steps=1500, evaluate_every=500) for t in REACHED}, kept)
    return {t: kept.results[str(t)] for t in REACHED}


def test_rates_reach_their_targets(trained: dict[float, CellResult]) -> None:
    for t, result in trained.items():
        # 6 %: the dead band is 0.5 %, a batch's mean rate is known to some 4 %, and 500 steps are averaged.
        assert float(result.state.history["train/rate"][0, -1]) == pytest.approx(t, rel=0.06)
        assert result.saturated == ()


def test_what_is_learnt_beats_independent_gaussians(problem: Problem, trained: dict[float, CellResult]) -> None:
    # Standardised data cost a standard normal ½ (x² + log 2π) an observed dimension, with no rate at all.
    # On the very rows and masks of both, so that only a difference of the models remains.
    batch = problem.evaluation_batch("synthetic.train", slice(0, problem.domains["synthetic.train"]))
    cost = 0.5 * (batch["x"].double().square() + math.log(2 * math.pi))
    independent = -float(cost[batch["observed"]].sum()) / len(cost)
    assert trained[2.0].metrics["synthetic.train/elbo"] > independent + 0.1


def test_a_target_out_of_reach_is_reported(problem: Problem, recorder: type) -> None:
    control = {"total": {"kind": "target", "target": 500.0, "initial": 0.5, "floor": 0.5, "patience": 20}}
    kept = recorder()
    train(problem, {"x": cell(control, steps=120, batch_size=16)}, kept)
    assert kept.results["x"].saturated == ("total",)
    assert kept.results["x"].state.history["train/saturated.total"][0].tolist()[-1] == 1.0


# --- checkpoints between evaluations ------------------------------------------------------------------------------


def test_training_goes_on_exactly_from_between_two_evaluations(problem: Problem, recorder: type) -> None:
    """The means that the next evaluation reports are over the steps before the checkpoint too."""
    cells = {name: SEVEN[name] for name in "ac"}
    whole, resumed = recorder(between=(47,)), recorder()
    train(problem, cells, whole)
    state = PackState.from_bytes(whole.checkpoints[47], "here")
    assert not state.is_evaluated
    assert state.sums.shape[1] > 0
    train(problem, cells, resumed, state)
    for name in cells:
        assert_identical(resumed.results[name], whole.results[name])
