"""A trained pack put to use: every cell is judged as if it were alone, on the data it should be."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vaesweep.data.domains import DataSet, Role, Standardisation
from vaesweep.families.pvae import evaluation
from vaesweep.families.pvae.data import archetypes
from vaesweep.families.pvae.data.audiograms import COLUMNS, THRESHOLDS
from vaesweep.families.pvae.evaluation import Population, Scale, predictor, select_populations
from vaesweep.families.pvae.family import PartialVaeCell, PartialVaeFamily, PartialVaeProblem
from vaesweep.families.pvae.tasks import latent
from vaesweep.families.pvae.tasks.acquisition import LargestVariance, acquire
from vaesweep.training.loop import CellResult, start_state, train_pack
from vaesweep.training.problem import Uses
from vaesweep.training.stack import Stack, initial_rows

CPU = torch.device("cpu")
RULES = ("variance", "reduction", "unweighted", "random", "single_best", "information")
SMALL = {"latents": 2, "embedding": 4, "features": 6, "hidden": 8, "layers": 1}


@pytest.fixture(scope="module", autouse=True)
def _few_fantasies() -> Iterator[None]:
    """Expected information takes nearly all of the time, in proportion to what it imagines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "FANTASIES", 2)
        yield


@pytest.fixture(scope="module")
def data() -> DataSet:
    return PartialVaeFamily().example()


def problem_of(data: DataSet, **acquisition: Any) -> PartialVaeProblem:
    config = PartialVaeCell.model_validate(
        {"model": SMALL, "acquisition": {"rules": RULES, "rows": 5, "samples": 8, "threshold": 9.0} | acquisition}
    )
    return PartialVaeFamily().problem(config, data, CPU)


def stack_of(problem: PartialVaeProblem, *seeds: int) -> Stack:
    return Stack(problem.build(), initial_rows(problem.build, seeds))


@pytest.fixture(scope="module")
def problem(data: DataSet) -> PartialVaeProblem:
    return problem_of(data)


@pytest.fixture(scope="module")
def used(problem: PartialVaeProblem) -> Uses:
    return problem.use(stack_of(problem, 0, 1, 2))


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        close = 1e-2 if value.dtype == torch.half else 1e-4
        torch.testing.assert_close(value, other[name], rtol=close, atol=close, msg=name)


def test_every_domain_has_areas_under_every_rule_and_every_way_to_stop(used: Uses, data: DataSet) -> None:
    for domain in data.domains:
        for rule in RULES:
            for error in ("rmse", "nll", "unexplained"):
                assert used.metrics[f"{domain.name}/area_{error}.{rule}"].shape == (3,)
        for criterion in ("uncertainty", "shifted", "measurements", "constant", "oracle"):
            for judged in ("offset", "bias", "index", "rmse"):
                assert f"{domain.name}/stop_{judged}.{criterion}" in used.metrics
    assert all(value.isfinite().all() for value in used.metrics.values())


def test_a_cell_alone_is_worth_what_it_is_worth_in_a_pack(problem: PartialVaeProblem, used: Uses) -> None:
    alone = problem.use(stack_of(problem, 1))
    assert_close({name: value[0] for name, value in alone.metrics.items()}, {n: v[1] for n, v in used.metrics.items()})


def test_what_is_kept_belongs_to_its_cell(problem: PartialVaeProblem, used: Uses) -> None:
    alone = problem.use(stack_of(problem, 2))
    assert_close({name: value[0] for name, value in alone.kept.items()}, {n: v[2] for n, v in used.kept.items()})


def test_the_size_of_chunks_changes_nothing(
    problem: PartialVaeProblem, used: Uses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent, "LARGEST_CHUNK", 3 * 8 * 7)  # seven rows at a time
    assert_close(problem.use(stack_of(problem, 0, 1, 2)).metrics, used.metrics)


def test_an_area_is_the_mean_of_the_kept_areas_and_the_sum_of_the_kept_curve(used: Uses) -> None:
    for rule in RULES:
        kept = f"acquisition/synthetic.test/{rule}"
        area = used.metrics[f"synthetic.test/area_rmse.{rule}"]
        torch.testing.assert_close(used.kept[f"{kept}/area_rmse"].mean(-1), area)
        torch.testing.assert_close(used.kept[f"{kept}/rmse"][:, 1:].sum(-1), area)


def test_the_single_best_order_is_one_for_all_listeners(used: Uses) -> None:
    order = used.kept["acquisition/synthetic.test/single_best/order"]
    assert (order == order[:, :1]).all()
    assert (order.sort(-1).values == torch.arange(THRESHOLDS)).all()


def test_without_rules_only_the_standardisation_is_kept(data: DataSet) -> None:
    problem = problem_of(data, rules=())
    found = problem.use(stack_of(problem, 0, 1))
    assert found.metrics == {}
    assert {name: tuple(value.shape) for name, value in found.kept.items()} == {
        "standardisation/mean": (2, THRESHOLDS + 1),
        "standardisation/std": (2, THRESHOLDS + 1),
    }


def test_without_the_variance_rule_nobody_says_when_to_stop(data: DataSet) -> None:
    problem = problem_of(data, rules=("random",))
    found = problem.use(stack_of(problem, 0))
    assert not [name for name in [*found.metrics, *found.kept] if "stop" in name]


def test_where_audiograms_before_noise_are_known_errors_are_against_them_too() -> None:
    loaded = archetypes.synthetic_wide(0, rows=400, unseen_rows=60)
    wide = DataSet(loaded.domains, COLUMNS, Standardisation.fit(loaded.domains[0].arrays["x"]))
    problem = problem_of(wide, rules=("variance", "unweighted"), rows=40, threshold=6.0)
    found = problem.use(stack_of(problem, 0))
    kept = found.kept["acquisition/synthetic_wide.test/variance/rmse_clean"][0]
    test = wide.domain(Role.TEST).arrays
    noise = np.sqrt(np.square(test["x"] - test["clean"]).mean(1)).mean()
    assert kept[-1] == pytest.approx(noise, rel=1e-4), "what is measured is the noise away from the truth"
    assert found.kept["acquisition/synthetic_wide.test/variance/rmse"][0, -1] == 0
    area = found.metrics["synthetic_wide.test/area_rmse_clean.variance"]
    torch.testing.assert_close(kept[1:].sum(-1, keepdim=True), area)
    for prefix in ("", "unweighted_"):
        assert found.metrics[f"synthetic_wide.test/stop_offset_clean.{prefix}oracle"] == 0
        assert found.metrics[f"synthetic_wide.test/stop_offset_clean.{prefix}uncertainty"] >= 0


def test_without_audiograms_before_noise_no_error_is_against_them(used: Uses) -> None:
    assert not [name for name in [*used.metrics, *used.kept] if "clean" in name]


def test_the_thesis_rules_and_stops_are_those_of_a_cell_without_importance_weights(data: DataSet) -> None:
    rules = ("variance", "random", "single_best", "unweighted", "unweighted_random", "unweighted_single_best")
    configured, plain = problem_of(data, rules=rules), problem_of(data, rules=rules[:3], weighted=False)
    found, expected = (problem.use(stack_of(problem, 0)).metrics for problem in (configured, plain))
    for rule in rules[:3]:
        own = "unweighted" if rule == "variance" else f"unweighted_{rule}"
        torch.testing.assert_close(
            found[f"synthetic.test/area_rmse.{own}"], expected[f"synthetic.test/area_rmse.{rule}"]
        )
    for by in ("uncertainty", "measurements", "constant", "oracle"):
        for metric in ("stop_offset", "stop_index", "stop_rmse"):
            torch.testing.assert_close(
                found[f"synthetic.test/{metric}.unweighted_{by}"], expected[f"synthetic.test/{metric}.{by}"]
            )
    one, other = (metrics["synthetic.test/area_rmse.variance"] for metrics in (found, expected))
    assert one != other, "weights that make no difference would not be told from none"


def test_no_more_is_acquired_than_asked_for_and_of_training_data_no_more_than_of_validation_data() -> None:
    sizes = {Role.TRAIN: 80, Role.VALID: 10, Role.TEST: 12, Role.UNSEEN: 40}
    populations = [Population(role, torch.arange(size).unsqueeze(-1), role) for role, size in sizes.items()]
    found = {one.role: one.x.flatten().tolist() for one in select_populations(populations, 15)}
    assert {role: len(rows) for role, rows in found.items()} == {
        Role.VALID: 10,
        Role.TRAIN: 10,
        Role.TEST: 12,
        Role.UNSEEN: 15,
    }
    assert (found[Role.TRAIN][0], found[Role.TRAIN][-1]) == (0, 79), "evenly spread"
    assert len(set(found[Role.UNSEEN])) == 15


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
@pytest.mark.parametrize("prior", ["standard", "mixture"])
def test_every_kind_of_model_predicts(data: DataSet, posterior: str, prior: str) -> None:
    model = SMALL | {"posterior": posterior, "prior": prior, "prior_components": 3, "linear_path": True}
    config = PartialVaeCell.model_validate({"model": model})
    problem = PartialVaeFamily().problem(config, data, CPU)
    scale = data.standardisation
    mean, std = (torch.tensor(values, dtype=torch.float32) for values in (scale.mean, scale.std))
    x = torch.tensor(data.domain(Role.TEST).arrays["x"][:6])
    found = predictor(stack_of(problem, 0, 1), 2, Scale(mean, std), samples=16, weighted=True)
    trace = acquire(found, x, (THRESHOLDS,), LargestVariance())
    assert trace.rmse.shape == (2, 6, THRESHOLDS + 1)
    assert trace.rmse.isfinite().all()
    assert (trace.rmse[..., -1] == 0).all()
    assert (trace.effective_samples >= 1 - 1e-4).all()
    assert (trace.effective_samples <= 16 + 1e-3).all()


def test_a_cell_that_diverged_is_not_put_to_use_and_its_neighbours_are(data: DataSet) -> None:
    short = {"steps": 4, "batch_size": 8, "evaluate_every": 2}
    sound = {"model": SMALL, "training": short, "acquisition": {"rules": ("variance",), "rows": 8, "samples": 4}}
    broken = sound | {"training": short | {"learning_rate": 1e30}, "seed": 1}
    configs = [PartialVaeCell.model_validate(one) for one in (sound, broken)]
    problem = PartialVaeFamily().problem(configs[0], data, CPU)
    ended: dict[str, CellResult] = {}

    class Listener:
        def progress(self, state: Any, latest: Any) -> None: ...

        def checkpoint(self, state: Any) -> None: ...

        def finished(self, result: CellResult) -> None:
            ended[result.cell] = result

    train_pack(problem, configs, start_state(problem, configs, ["sound", "broken"]), Listener())
    assert ended["broken"].diverged is not None
    assert ended["broken"].kept == {}
    assert "synthetic.test/area_rmse.variance" in ended["sound"].metrics
    assert "stopping/coefficients" in ended["sound"].kept
