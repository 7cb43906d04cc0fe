"""Bounds of trained hierarchies at other steps and with several draws, on each image's own noise."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vaesweep.data.domains import Role
from vaesweep.families.hvae import evaluation as hierarchy
from vaesweep.families.hvae.data import Pixels
from vaesweep.families.hvae.evaluation import PARTS, EvaluationImages, finest_steps, in_steps
from vaesweep.families.hvae.family import HierarchyCell, HierarchyFamily, HierarchyProblem
from vaesweep.families.hvae.models.hierarchy import Hierarchy
from vaesweep.sde import SOLVERS
from vaesweep.training.evaluate import evaluate
from vaesweep.training.loop import RunningPack, start_state
from vaesweep.training.stack import Stack, initial_rows
from vaesweep.training.world import World

FAMILY, CPU = HierarchyFamily(), torch.device("cpu")
TRAINED = 4  # steps a level of the small cell
ROUNDING = {"rtol": 1e-5, "atol": 1e-4}  # float32: other products and sums of some hundred nats
TEST, UNSEEN = "poisson.test", "poisson_noise_2"


def cell(depth: dict[str, Any] | None = None, **evaluation: Any) -> HierarchyCell:
    small = FAMILY.small().model_dump()
    small["model"]["depth"] = depth or small["model"]["depth"]
    return HierarchyCell.model_validate(small | {"evaluation": evaluation})


DATA = FAMILY.example()
MOST_TESTED = max(len(domain) for domain in DATA.domains if domain.role in (Role.TEST, Role.UNSEEN))


def problem_of(config: HierarchyCell) -> HierarchyProblem:
    return FAMILY.problem(config, DATA, CPU)


def stack_of(problem: HierarchyProblem, cells: int = 2) -> Stack:
    """Cells whose drifts and posteriors matter: weights twice those of the beginning."""
    flat = 2 * initial_rows(problem.build, list(range(cells)))
    return Stack(problem.build(), flat)


def test_at_trainings_own_steps_bounds_are_those_of_every_evaluation() -> None:
    problem = problem_of(cell(steps=(TRAINED,)))
    stack = stack_of(problem)
    uses = problem.use(stack)
    assert uses.kept.keys() == {"standardisation/mean", "standardisation/std"}
    for domain in (TEST, UNSEEN):
        expected = evaluate(stack, problem, domain, 5, World())
        found = {part: uses.metrics[f"{domain}/steps_{TRAINED}.{part}"] for part in PARTS}
        for part in ("elbo", "distortion"):
            torch.testing.assert_close(found[part], expected[part], **ROUNDING)
        torch.testing.assert_close(found["initial_rate"], expected["rate.initial"], **ROUNDING)
        levels = expected["rate.level_0"] + expected["rate.level_1"]
        torch.testing.assert_close(found["path_rate"], levels, **ROUNDING)


def test_bounds_are_asked_of_test_and_unseen_images_alone() -> None:
    problem = problem_of(cell(steps=(1, 6), draws=2))
    found = problem.use(stack_of(problem)).metrics
    names = [*(f"steps_{n}.{part}" for n in (1, 6) for part in PARTS), "importance_2.bound"]
    assert found.keys() == {f"{domain}/{name}" for domain in (TEST, UNSEEN) for name in names}
    assert all(value.shape == (2,) and value.dtype == torch.float64 for value in found.values())
    assert all(value.isfinite().all() for value in found.values())


def test_nothing_is_asked_by_default() -> None:
    problem = problem_of(cell())
    assert problem.use_rows == 0
    assert problem.use(stack_of(problem)).metrics == {}
    assert problem_of(cell(draws=1)).use_rows == MOST_TESTED


@pytest.mark.parametrize("kind", ["continuous", "ode_like", "discrete"])
def test_parts_add_up_and_the_initial_rate_does_not_know_of_steps(kind: str) -> None:
    depth = {"kind": kind, "hidden": 4} | ({"blocks": 2} if kind == "discrete" else {"step": 0.25})
    steps = () if kind == "discrete" else (1, 4, 12)
    problem = problem_of(cell(depth, steps=steps, draws=1))
    found = problem.use(stack_of(problem)).metrics
    for n in steps:
        elbo, distortion, initial, path = (found[f"{TEST}/steps_{n}.{part}"] for part in PARTS)
        torch.testing.assert_close(elbo, -(distortion + initial + path), **ROUNDING)
        torch.testing.assert_close(initial, found[f"{TEST}/steps_4.initial_rate"], **ROUNDING)
        assert (path.abs() < 1e-4).all() if kind == "ode_like" else (path > 0).all()
    assert found[f"{TEST}/importance_1.bound"].isfinite().all()


def test_what_is_reported_of_reversible_heun_is_by_eulers_steps_and_training_is_by_its_own() -> None:
    """Its own path rate is no divergence, so a bound with it is none (`test_hvae_guarantee`)."""
    asked = {"steps": (1, TRAINED), "draws": 2}
    depths = {name: {"kind": "continuous", "step": 1 / TRAINED, "hidden": 4, "solver": name} for name in SOLVERS}
    found, trained = {}, {}
    for name, depth in depths.items():
        config = cell(depth, **asked)
        problem = problem_of(config)
        stack = stack_of(problem)
        found[name] = evaluate(stack, problem, TEST, 5, World()) | problem.use(stack).metrics
        configs = [config, config]
        pack = RunningPack(problem, configs, replace(start_state(problem, configs, "ab"), flat=stack.flat), World())
        pack.step()
        trained[name] = pack.running()["train/elbo"]
    for name in ("euler_heun", "reversible_heun"):
        for metric, value in found["euler_maruyama"].items():
            assert torch.equal(found[name][metric], value), (name, metric)
    assert torch.equal(trained["euler_heun"], trained["euler_maruyama"])
    assert (trained["reversible_heun"] - trained["euler_maruyama"]).abs().min() > 1e-3


# --- noise ------------------------------------------------------------------------------------------------------


def population(problem: HierarchyProblem, name: str = TEST) -> EvaluationImages:
    return problem._populations[name]


@pytest.mark.parametrize("steps", [1, 2, 3, 6, 8, 20])
def test_every_number_of_steps_walks_the_brownian_path_of_training(steps: int) -> None:
    """At every depth that both grids have, W is the same; and what fills it in is standard normal again."""
    problem = problem_of(cell())
    shapes, model = cell().model.noise_shapes(), cell().model
    rows = slice(0, 12)
    noise = population(problem).noise(rows, shapes)
    start, paths = population(problem).paths(rows, model, finest_steps(model, [steps, 24]))
    found = {"initial_noise": start} | in_steps(paths, steps)
    assert torch.equal(found["initial_noise"], noise["initial_noise"])
    shared = math.gcd(TRAINED, steps)
    for name in ("level_0_noise", "level_1_noise"):
        assert found[name].shape[1] == steps
        # Increments are noise over sqrt(steps); sums of them between the shared depths agree.
        sums = [(one / math.sqrt(one.shape[1])).unflatten(1, (shared, -1)).sum(2) for one in (noise[name], found[name])]
        torch.testing.assert_close(sums[1], sums[0], rtol=1e-5, atol=1e-5)
        numbers = found[name].flatten()
        assert abs(float(numbers.mean())) < 5 / math.sqrt(len(numbers))  # five standard errors
        assert abs(float(numbers.var()) - 1) < 5 * math.sqrt(2 / len(numbers))


def test_all_steps_of_an_evaluation_walk_one_brownian_path() -> None:
    """Of an evaluation with 2, 3, 6 and 12 steps, those of 6 are sums of those of 12, and so on."""
    problem, model = problem_of(cell()), cell().model
    _, paths = population(problem).paths(slice(0, 12), model, finest_steps(model, [2, 3, 6, 12]))
    for few, many in ((6, 12), (3, 6), (2, 6)):
        for name, coarse in in_steps(paths, few).items():
            fine = in_steps(paths, many)[name].unflatten(1, (few, -1)).sum(2) / math.sqrt(many // few)
            torch.testing.assert_close(coarse, fine, rtol=1e-5, atol=1e-5)


def test_an_images_noise_is_its_own_whatever_it_is_drawn_with() -> None:
    problem = problem_of(cell())
    found, shapes = population(problem), cell().model.noise_shapes()
    whole = found.noise(slice(0, 12), shapes, draw=3)
    for rows in (slice(0, 1), slice(5, 9), slice(11, 12)):
        for name, value in found.noise(rows, shapes, draw=3).items():
            assert torch.equal(value, whole[name][rows])
    assert {name: value.shape[1:] for name, value in whole.items()} == {n: torch.Size(s) for n, s in shapes.items()}


def test_images_draws_domains_and_levels_have_different_noise() -> None:
    problem = problem_of(cell())
    shapes = cell().model.noise_shapes()
    rows = slice(0, 12)
    every = [
        population(problem, domain).noise(rows, shapes, draw)["initial_noise"].flatten(1)
        for domain in (TEST, UNSEEN)
        for draw in (0, 1, 2)
    ]
    together = torch.cat(every)
    assert len(together.unique(dim=0)) == len(together)
    correlation = torch.corrcoef(together) - torch.eye(len(together))
    # Vectors of 32 numbers: a correlation has a standard deviation of 0.18, and there are some 3500 of them.
    assert float(correlation.abs().max()) < 0.85
    noise = population(problem).noise(rows, shapes)
    assert not torch.equal(noise["level_0_noise"][:, 0], noise["initial_noise"])


# --- importance weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_with_one_draw_the_importance_weighted_bound_is_the_mean_log_weight(kind: str) -> None:
    config = cell({"kind": kind, "hidden": 4}, draws=1)
    problem = problem_of(config)
    stack = stack_of(problem)
    found = problem.use(stack).metrics[f"{TEST}/importance_1.bound"]
    for number in range(2):
        model = Hierarchy(config.model)
        model.load_state_dict({name: view[number] for name, view in stack.views.items()})
        _, output = model(**problem.evaluation_batch(TEST, slice(0, 12)))
        assert float(found[number]) == pytest.approx(float(output.log_weight.detach().double().mean()), rel=1e-5)


def test_more_draws_are_the_logarithm_of_a_mean_over_draws_of_their_own() -> None:
    problem = problem_of(cell(draws=3))
    stack, shapes = stack_of(problem, 1), cell().model.noise_shapes()
    found = problem.use(stack).metrics[f"{TEST}/importance_3.bound"]
    model = Hierarchy(cell().model)
    model.load_state_dict({name: view[0] for name, view in stack.views.items()})
    rows = slice(0, 12)
    x = problem.evaluation_batch(TEST, rows)["x"]
    each = [model(x, **population(problem).noise(rows, shapes, draw))[1].log_weight.detach() for draw in range(3)]
    weights = torch.stack(each).double()
    assert float(found[0]) == pytest.approx(float((weights.logsumexp(0) - math.log(3)).mean()), rel=1e-5)
    assert float(found[0]) > float(weights.mean())


# --- rows, chunks and faults ------------------------------------------------------------------------------------


def test_rows_are_capped_by_configuration_and_by_who_asks() -> None:
    config = cell(steps=(2,), draws=2, rows=7)
    problem = problem_of(config)
    assert set(problem.domains.values()) == {7}
    assert problem.train_rows == 48, "what is trained on is not capped"
    stack, uncapped = stack_of(problem), problem_of(cell(steps=(2,), draws=2))
    metrics = problem.use(stack).metrics
    for name, value in uncapped.use(stack, rows=7).metrics.items():
        torch.testing.assert_close(value, metrics[name])
    few = problem.use(stack, rows=3).metrics
    assert all(not torch.allclose(few[name], metrics[name]) for name in metrics if "initial" not in name)


def test_bounds_do_not_depend_on_how_many_images_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of(cell(steps=(3, 4), draws=2))
    stack = stack_of(problem)
    whole = problem.use(stack).metrics
    monkeypatch.setattr(hierarchy, "NUMBERS", 5000)
    for name, value in problem.use(stack).metrics.items():
        torch.testing.assert_close(value, whole[name], **ROUNDING)


def test_what_is_held_at_a_time_does_not_grow_with_cells_or_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows times cells times the numbers of a widest layer, or one row."""
    held: list[int] = []
    apply = Stack.apply

    def spied(self: Stack, function: Any, batch: dict[str, Tensor], **more: Any) -> Any:
        held.append(len(batch["x"]) * len(self))
        return apply(self, function, batch, **more)

    monkeypatch.setattr(Stack, "apply", spied)
    monkeypatch.setattr(hierarchy, "NUMBERS", 6 * 8 * 64)  # six rows of the small cell: 8 channels of 8 x 8
    problem = problem_of(cell({"kind": "discrete", "blocks": 1, "hidden": 4}, draws=1))
    for cells in (1, 2, 3, 12):
        problem.use(stack_of(problem, cells))
        assert max(held) <= max(6, cells), cells
        held.clear()


def test_a_nan_in_one_cells_weights_stays_in_that_cell() -> None:
    problem = problem_of(cell(steps=(2,), draws=2))
    stack = stack_of(problem, 3)
    whole = problem.use(stack).metrics
    broken = stack.flat.clone()
    broken[1] = math.nan
    for name, value in problem.use(Stack(problem.build(), broken)).metrics.items():
        assert math.isnan(value[1]), name
        torch.testing.assert_close(value[[0, 2]], whole[name][[0, 2]], **ROUNDING)


def test_measures_are_the_error_of_the_mean_and_the_bound_in_bits() -> None:
    problem = problem_of(cell())
    stack = stack_of(problem)
    found = evaluate(stack, problem, TEST, 5, World())
    batch = problem.evaluation_batch(TEST, slice(0, 12))
    for number in range(2):
        model = Hierarchy(cell().model)
        model.load_state_dict({name: view[number] for name, view in stack.views.items()})
        with torch.no_grad():
            elbo, output = model(**batch)
        error = torch.nn.functional.mse_loss(output.observation.mean, batch["x"]).sqrt()
        assert float(found["rmse"][number]) == pytest.approx(float(error), rel=1e-5)
        bits = -float(elbo.value().mean()) / math.log(2) / 64
        assert float(found["bits_per_pixel"][number]) == pytest.approx(bits, rel=1e-5)


# --- repeats -----------------------------------------------------------------------------------------------------


def test_repeats_are_the_mean_over_as_many_draws_of_every_image() -> None:
    problem, alone = problem_of(cell(repeats=3, steps=(TRAINED, 2 * TRAINED))), problem_of(cell())
    stack = stack_of(problem)
    found, uses = evaluate(stack, problem, TEST, 5, World()), problem.use(stack).metrics
    once = evaluate(stack, alone, TEST, 5, World())
    shapes = FAMILY.small().model.noise_shapes()
    domain = DATA.domain(Role.TEST)
    population = EvaluationImages(TEST, Role.TEST, Pixels(domain, DATA.standardisation, CPU), 12)
    each = []
    for draw in range(3):
        batch = {"x": population.pixels.batch(slice(0, 12))} | population.noise(slice(0, 12), shapes, draw)
        each.append(stack.apply(lambda result, batch: result[0].value(), batch, shared=True).double().mean(-1))
    torch.testing.assert_close(once["elbo"], each[0], **ROUNDING)
    torch.testing.assert_close(found["elbo"], torch.stack(each).mean(0), **ROUNDING)
    torch.testing.assert_close(uses[f"{TEST}/steps_{TRAINED}.elbo"], found["elbo"], **ROUNDING)
    assert (found["elbo"] - once["elbo"]).abs().min() > 0.01


def test_while_training_every_image_is_looked_at_once() -> None:
    problem = problem_of(cell(repeats=3))
    assert problem.quick_rows(TEST) == 12
    assert problem.domains[TEST] == 36
    assert problem_of(cell(repeats=3, draws=1)).use_rows == 3 * MOST_TESTED
