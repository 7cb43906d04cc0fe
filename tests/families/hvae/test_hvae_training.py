"""Packs of hierarchies train to their ends: towards target rates, with cells that stop early or diverge among them."""

import math
from typing import Any

import pytest
import torch

from vaesweep.families.hvae.family import HierarchyCell, HierarchyFamily, HierarchyProblem
from vaesweep.families.hvae.presets import BLOCKS, CONTINUOUS, ODE_LIKE, STEPS, WARM_UP, blocks, laptop, paper, smoke
from vaesweep.rates import RatePolicy
from vaesweep.sweep.identity import identity
from vaesweep.sweep.settings import build, combine
from vaesweep.training.loop import start_state, train_pack
from vaesweep.training.stack import Stack
from vaesweep.training.state import PackState
from vaesweep.training.step import Step

FAMILY, CPU = HierarchyFamily(), torch.device("cpu")
DATA = FAMILY.example()
KINDS = {
    "continuous": {"kind": "continuous", "step": 0.25, "hidden": 4},
    "ode_like": {"kind": "ode_like", "step": 0.25, "hidden": 4},
    "discrete": {"kind": "discrete", "blocks": 2, "hidden": 4},
}


def cell(kind: str = "continuous", *, seed: int = 0, rates: Any = None, **training: Any) -> HierarchyCell:
    own = FAMILY.small().model_dump() | {"seed": seed, "rates": rates or {}}
    own["training"] = {"steps": 6, "batch_size": 8, "evaluate_every": 2} | training
    own["model"]["depth"] = KINDS[kind]
    return HierarchyCell.model_validate(own)


def problem_of(config: HierarchyCell) -> HierarchyProblem:
    return FAMILY.problem(config, DATA, CPU)


def train(cells: dict[str, HierarchyCell], listener: Any, state: PackState | None = None, **more: Any) -> Any:
    problem = problem_of(next(iter(cells.values())))
    state = state or start_state(problem, list(cells.values()), list(cells))
    train_pack(problem, [cells[name] for name in state.cells], state, listener, **more)
    return listener.results


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_negative_bound(kind: str, recorder: type) -> None:
    """Below the 91 nats of 64 pixels that are standard normal, which is what is known of them without any latent."""
    config = cell(kind, steps=40, evaluate_every=20, learning_rate=1e-2, schedule={"kind": "constant"})
    result = train({"a": config}, recorder())["a"]
    losses = [-value for value in result.state.history["valid/elbo"][0].tolist()]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]
    assert -result.metrics["poisson.test/elbo"] < 0.5 * 64 * math.log(2 * math.pi * math.e) - 10


def towards(target: float, **training: Any) -> HierarchyCell:
    """A cell whose total rate, of initial value and levels together, is to be `target` nats."""
    control = {"kind": "target", "target": target, "floor": 1e-5, "step_size": 0.02}
    return cell(rates={"total": control}, batch_size=16, learning_rate=5e-3, **training)


def test_a_rate_above_its_target_becomes_dearer_and_one_below_cheaper(recorder: type) -> None:
    cells = {name: towards(target, steps=20, evaluate_every=10) for name, target in (("low", 1e-3), ("high", 1e3))}
    results = train(cells, recorder())
    betas = {name: result.state.history["train/beta.level_1"][0].tolist() for name, result in results.items()}
    assert betas["low"][1] > betas["low"][0] > betas["high"][0] > betas["high"][1] > 0
    assert all(result.diverged is None and result.step == 20 for result in results.values())


def test_a_cell_that_stops_early_leaves_the_others_to_go_on(recorder: type) -> None:
    """Its learning rate is too small to gain a nat; the others gain more than that at every evaluation."""
    stopping = {"early_stopping": {"watch": "elbo", "patience": 1, "tolerance": 1e-2}, "schedule": {"kind": "constant"}}
    cells = {
        name: cell(seed=seed, steps=16, evaluate_every=4, learning_rate=rate, **stopping)
        for name, seed, rate in (("stuck", 0, 1e-9), ("left", 1, 1e-2), ("right", 2, 1e-2))
    }
    results = train(cells, recorder())
    assert {name: result.step for name, result in results.items()} == {"stuck": 8, "left": 16, "right": 16}
    assert all(result.diverged is None and result.metrics for result in results.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_that_diverges_is_frozen_while_its_neighbours_go_on(kind: str, recorder: type) -> None:
    def pack(middle: float) -> dict[str, HierarchyCell]:
        rates = {"left": 1e-3, "middle": middle, "right": 1e-3}
        return {
            name: cell(kind, seed=seed, learning_rate=rate, evaluate_every=6)
            for seed, (name, rate) in enumerate(rates.items())
        }

    broken, whole = train(pack(1e6), recorder()), train(pack(1e-3), recorder())
    lost = broken["middle"]
    assert lost.diverged == 1, "weights of a million after the first step: the second's bound is not finite"
    assert lost.step == 6, "it leaves at the next evaluation"
    assert lost.metrics == {}
    assert "not finite" in lost.cause
    for name in ("left", "right"):
        assert broken[name].diverged is None
        assert torch.equal(broken[name].state.flat, whole[name].state.flat), "not a bit of difference"
        assert broken[name].metrics == whole[name].metrics


def test_a_cell_with_a_nan_among_its_weights_is_lost_at_once_and_alone(recorder: type) -> None:
    cells = {name: cell(seed=seed) for seed, name in enumerate("abc")}
    problem = problem_of(cells["a"])
    state = start_state(problem, list(cells.values()), list(cells))
    state.flat[1, 7] = math.nan
    results = train(cells, recorder(), state)
    assert {name: result.diverged for name, result in results.items()} == {"a": None, "b": 0, "c": None}
    assert all(math.isfinite(value) for name in "ac" for value in results[name].metrics.values())


def test_trained_cells_have_their_bounds_at_other_steps_among_their_metrics(recorder: type) -> None:
    own = cell().model_dump() | {"evaluation": {"steps": [2, 3], "draws": 2}}
    config = HierarchyCell.model_validate(own)
    metrics = train({"a": config, "b": config.model_copy(update={"seed": 1})}, recorder())["b"].metrics
    expected = {"steps_2.elbo", "steps_3.path_rate", "importance_2.bound"}
    assert {f"{domain}/{name}" for domain in ("poisson.test", "poisson_noise_2") for name in expected} <= set(metrics)
    assert all(math.isfinite(value) for value in metrics.values())


def test_recomputed_steps_train_the_same_cells(recorder: type) -> None:
    found = []
    for recompute in (0, 2):
        cells = {}
        for seed, name in enumerate("ab"):
            own = cell(seed=seed, steps=3).model_dump()
            own["model"]["depth"]["recompute"] = recompute
            cells[name] = HierarchyCell.model_validate(own)
        found.append(train(cells, recorder()))
    for name in "ab":
        # Gradients in another order of sums: Adam may turn a rounding error into some 1e-3 of a step of 1e-3.
        torch.testing.assert_close(found[1][name].state.flat, found[0][name].state.flat, rtol=0, atol=1e-5)


# --- compiled ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "recompute"), [("continuous", 0), ("continuous", 2), ("discrete", 0)])
def test_compiled_steps_are_the_same_steps(kind: str, recompute: int, recorder: type) -> None:
    """Minutes a kind: the compiler sees all steps of all levels as one graph."""
    cells = {}
    for seed, name in enumerate("abc"):
        own = cell(kind, seed=seed, steps=8, evaluate_every=4).model_dump()
        if kind == "continuous":
            own["model"]["depth"]["recompute"] = recompute
        cells[name] = HierarchyCell.model_validate(own)
    torch._dynamo.reset()
    eager, compiled = train(cells, recorder()), train(cells, recorder(), compiled=True)
    for name in cells:
        torch.testing.assert_close(compiled[name].state.flat, eager[name].state.flat, rtol=0, atol=1e-5)


def test_a_steps_arithmetic_is_the_models_own() -> None:
    """The packed gradient is that of each cell's objective by itself, beside the loop."""
    configs = [cell(seed=seed) for seed in (0, 1)]
    problem = problem_of(configs[0])
    state = start_state(problem, configs, ["a", "b"])
    policy = RatePolicy(configs, problem.rate_names)
    weights = policy.weights(state.control, torch.tensor(0.0, dtype=torch.float64))
    one = problem.train_batch(torch.arange(8), torch.Generator().manual_seed(0))
    batch = {name: torch.stack([value, value]) for name, value in one.items()}
    step = Step(Stack(problem.build(), state.flat), problem.rate_names, compiled=False)
    gradient, measured, objective = step.gradient(batch, weights, 8)
    assert measured.shape == (1 + len(problem.rate_names), 2)
    for number in range(2):
        model = problem.build()
        torch.nn.utils.vector_to_parameters(state.flat[number], model.parameters())
        loss = -model(**one)[0].value().mean()
        own = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])
        assert float(objective[number]) == pytest.approx(float(loss.detach()), rel=1e-5)
        torch.testing.assert_close(gradient[number], own, rtol=1e-3, atol=1e-4 * float(own.abs().max()))


# --- presets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["poisson", "mnist:DIR", "binarised_mnist:DIR", "folder:DIR"])
@pytest.mark.parametrize("size", [smoke, laptop, paper])
@pytest.mark.parametrize("depth", [CONTINUOUS | {"evaluation.steps": STEPS}, ODE_LIKE, BLOCKS])
def test_every_preset_of_every_kind_can_be_trained(data: str, size: Any, depth: Any) -> None:
    config = build(HierarchyCell, combine(WARM_UP, size(data), depth, {"rates.total.share": 0.25}))
    FAMILY.check(config)
    expected = {"poisson": "gaussian", "folder": "logistic"}.get(data.partition(":")[0], "bernoulli")
    assert config.model.observation == expected
    assert all(config.free_nats[name].nats == 1 for name in config.free_nats)


def test_the_paper_presets_are_the_thesis_numbers() -> None:
    """Lines 1881 to 1891."""
    poisson = build(HierarchyCell, combine(WARM_UP, paper("poisson"), CONTINUOUS))
    assert (poisson.training.batch_size, poisson.training.steps, poisson.training.learning_rate) == (128, 4000, 3e-4)
    assert (poisson.model.levels, poisson.model.latents, poisson.model.width) == (3, 4, 128)
    assert (poisson.model.depth.layers, poisson.model.depth.hidden) == (10, 128)
    assert poisson.model.depth.solver == "euler_heun"
    assert poisson.model.decoder_blocks == 3
    mnist = build(HierarchyCell, combine(WARM_UP, paper("mnist:DIR"), CONTINUOUS))
    assert (mnist.training.batch_size, mnist.training.steps, mnist.training.learning_rate) == (32, 50_000, 1e-3)
    assert mnist.training.schedule.kind == "cosine"
    assert mnist.training.learning_rate * mnist.training.schedule.final_share == pytest.approx(1e-4)
    assert (mnist.model.levels, mnist.model.latents, mnist.model.width) == (3, 16, 256)
    assert (mnist.model.depth.layers, mnist.model.depth.hidden) == (10, 128)
    for config in (poisson, mnist):
        assert set(config.free_nats) == {"initial", "level_0", "level_1", "level_2"}
        assert {(free.nats, free.per) for free in config.free_nats.values()} == {(1.0, "group")}
        assert (config.rates["total"].kind, config.rates["total"].steps) == ("sigmoid", 1000)


@pytest.mark.parametrize(
    ("data", "size", "depth", "expected"),
    [
        ("poisson", smoke, CONTINUOUS, "7880d8c7d0797349"),
        ("poisson", laptop, BLOCKS, "ca89f960653e0ba9"),
        ("poisson", laptop, ODE_LIKE, "254b1ef6883dc47f"),
        ("poisson", paper, CONTINUOUS, "636cdb86767dcb8f"),
        ("mnist:DIR", paper, BLOCKS, "85b36d1b2cab39da"),
    ],
)
def test_new_settings_leave_cells_of_earlier_presets_what_they_were(
    data: str, size: Any, depth: Any, expected: str
) -> None:
    """Or every finished cell would be trained again. Of binary images `laptop` and `smoke` are new, by measurement."""
    config = build(HierarchyCell, combine(WARM_UP, size(data), depth))
    assert identity(FAMILY, config, "data").partition("-")[0] == expected


def test_binary_images_on_a_laptop_have_what_keeps_a_run_alive() -> None:
    for size in (smoke, laptop):
        training = build(HierarchyCell, combine(size("binarised_mnist:DIR"), blocks("binarised_mnist:DIR"))).training
        assert training.skip is not None
        assert training.skip.most == 10
        assert 0 < training.warm_up < training.steps / 4


def test_a_step_that_is_not_finite_is_skipped_and_counted(recorder: type) -> None:
    """As rare batches are in bfloat16: here one image of infinities in one step of six."""
    config = cell("discrete", skip={"most": 2})
    problem = problem_of(config)
    draw, seen = problem.train_batch, []

    def spoilt(rows: torch.Tensor, generator: torch.Generator) -> Any:
        seen.append(len(seen))
        batch = draw(rows, generator)
        return batch | {"x": batch["x"] / (0 if len(seen) == 3 else 1)}

    problem.train_batch = spoilt  # type: ignore[method-assign]
    kept = recorder()
    train_pack(problem, [config], start_state(problem, [config], ["a"]), kept)
    result = kept.results["a"]
    assert result.diverged is None
    assert result.state.history["train/skipped"][0].tolist() == [0, 1, 1]
    assert all(math.isfinite(value) for value in result.metrics.values())
