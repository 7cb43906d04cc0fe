"""What every registered family promises to the loop, the sweep and whoever reads its numbers (design, contract 8)."""

import copy
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from vaesweep.data.domains import DataSet, Role
from vaesweep.elbo import Elbo
from vaesweep.errors import UserError
from vaesweep.family import CellConfig, Family, family
from vaesweep.packing import leaves, structure
from vaesweep.rates import RateControl
from vaesweep.training.evaluate import evaluate
from vaesweep.training.loop import start_state, train_pack
from vaesweep.training.problem import Problem
from vaesweep.training.stack import Batch, Stack, Views, gradient, initial_rows, joined, unflatten
from vaesweep.training.state import PackState
from vaesweep.training.world import World

CPU = torch.device("cpu")
SHORT = {"steps": 3, "batch_size": 8, "evaluate_every": 2}


@pytest.fixture(scope="module")
def config(subject: Family) -> CellConfig:
    """The family's small cell, with a very short training."""
    return subject.config.model_validate(subject.small().model_dump() | {"training": SHORT})


@pytest.fixture(scope="module")
def problem(subject: Family, config: CellConfig, data: DataSet) -> Problem:
    return subject.problem(config, data, CPU)


def seeded(problem: Problem, seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return problem.build()


def training_batch(problem: Problem, seed: int = 0, rows: int = 6) -> Batch:
    return problem.train_batch(torch.arange(rows), torch.Generator(CPU).manual_seed(seed))


def assert_equal(one: Batch, other: Batch) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


# --- configuration and data -------------------------------------------------------------------------------------


def test_a_family_is_found_by_its_own_name(subject: Family) -> None:
    assert family(subject.name) is subject
    assert subject.config().model_dump()["family"] == subject.name


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="pvae"):
        family("unheard-of")


def test_the_example_has_every_role_and_is_the_same_each_time(subject: Family, data: DataSet) -> None:
    roles = [domain.role for domain in data.domains]
    assert all(roles.count(role) == 1 for role in (Role.TRAIN, Role.VALID, Role.TEST))
    assert Role.UNSEEN in roles, "a gap needs a population that was not trained on"
    assert all(len(domain) > 0 for domain in data.domains)
    assert subject.example().fingerprint() == data.fingerprint()


def test_the_default_configuration_is_valid_and_so_is_the_small_one(subject: Family) -> None:
    for config in (subject.config(), subject.small()):
        subject.check(config)
        assert len(subject.rate_names(config)) > 0


def test_a_configuration_survives_json_and_says_the_same_again(config: CellConfig) -> None:
    text = config.model_dump_json()
    again = type(config).model_validate_json(text)
    assert again == config
    assert again.model_dump_json() == text, "what is hashed does not change on its way through a file"


def test_configurations_that_differ_say_something_else(subject: Family, config: CellConfig) -> None:
    other = subject.config.model_validate(config.model_dump() | {"seed": config.seed + 1})
    assert other != config
    assert other.model_dump_json() != config.model_dump_json()
    assert dict(leaves(other.model_dump())).keys() == dict(leaves(config.model_dump())).keys()


def test_a_configuration_is_frozen_and_refuses_what_it_does_not_know(subject: Family, config: CellConfig) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1
    for key, section in (("unheard_of", {}), ("model", {"unheard_of": 1}), ("training", {"unheard_of": 1})):
        with pytest.raises(ValidationError, match="unheard_of"):
            subject.config.model_validate({key: section})


def test_a_control_of_a_rate_it_does_not_have_is_refused(subject: Family) -> None:
    wrong = subject.config.model_validate({"rates": {"unheard_of": {"kind": "fixed"}}})
    with pytest.raises(UserError, match="no rate named 'unheard_of'"):
        subject.check(wrong)


def test_cells_that_differ_in_numbers_share_a_pack_and_others_do_not(subject: Family) -> None:
    def cell(**values: Any) -> CellConfig:
        return subject.config.model_validate(values)

    one = cell(rates={"total": {"kind": "target", "target": 1.0}})
    assert structure(cell(seed=5, rates={"total": {"kind": "target", "target": 2.0}})) == structure(one)
    assert structure(
        cell(rates={"total": {"kind": "target", "target": 1.0}}, training={"learning_rate": 1e-4})
    ) == structure(one)
    assert structure(cell(rates={"total": {"kind": "fixed"}})) != structure(one)
    assert structure(cell(rates={"total": {"kind": "target", "target": 1.0}}, training={"steps": 7})) != structure(one)


# --- batches ----------------------------------------------------------------------------------------------------


def test_the_problem_knows_its_domains(problem: Problem, data: DataSet) -> None:
    assert list(problem.domains) == [domain.name for domain in data.domains]
    assert problem.valid == data.domain(Role.VALID).name
    assert problem.train_rows == len(data.domain(Role.TRAIN))
    assert all(0 < problem.quick_rows(name) <= rows for name, rows in problem.domains.items())


def test_a_training_batch_depends_on_its_rows_and_its_generator_only(problem: Problem) -> None:
    first = training_batch(problem, seed=1)
    torch.rand(3)  # the global state is nobody's business
    assert_equal(training_batch(problem, seed=1), first)
    other = training_batch(problem, seed=2)
    assert any(not torch.equal(value, other[name]) for name, value in first.items()), "but on that it does"
    assert {len(value) for value in first.values()} == {6}


def test_drawing_a_batch_leaves_the_data_and_the_global_random_state_alone(problem: Problem) -> None:
    before, evaluated = torch.get_rng_state(), problem.evaluation_batch(problem.valid, slice(0, 4))
    kept = copy.deepcopy(evaluated)
    for value in training_batch(problem).values():
        value.zero_()
    training_batch(problem)
    assert torch.equal(torch.get_rng_state(), before)
    assert_equal(problem.evaluation_batch(problem.valid, slice(0, 4)), kept)


def test_evaluation_batches_are_fixed_and_cover_every_row(
    subject: Family, config: CellConfig, data: DataSet, problem: Problem
) -> None:
    again = subject.problem(config, data, CPU)
    for domain, rows in problem.domains.items():
        whole = problem.evaluation_batch(domain, slice(0, rows))
        assert {len(value) for value in whole.values()} == {rows}
        assert_equal(again.evaluation_batch(domain, slice(0, rows)), whole)
        parts = [problem.evaluation_batch(domain, slice(i, min(i + 7, rows))) for i in range(0, rows, 7)]
        assert_equal({name: torch.cat([part[name] for part in parts]) for name in whole}, whole)


# --- the model --------------------------------------------------------------------------------------------------


def test_the_model_has_parameters_and_no_buffers(problem: Problem) -> None:
    model = problem.build()
    assert list(model.buffers()) == []
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.dtype is torch.float32 for parameter in model.parameters()), "one buffer holds them all"


def test_forward_gives_the_parts_of_the_bound_a_datum(subject: Family, config: CellConfig, problem: Problem) -> None:
    batch = training_batch(problem)
    elbo, _ = seeded(problem)(**batch)
    assert isinstance(elbo, Elbo)
    assert elbo.distortion.shape == (6,)
    assert tuple(elbo.rates) == tuple(problem.rate_names) == tuple(subject.rate_names(config))
    for name, rate in elbo.rates.items():
        assert rate.shape[0] == 6
        assert elbo.rate(name).shape == (6,)
    assert elbo.value().isfinite().all()


def test_gradients_are_finite_and_reach_every_parameter(problem: Problem) -> None:
    model = seeded(problem)
    for seed in range(4):  # a unit that is silent on one batch need not be on the next
        elbo, _ = model(**training_batch(problem, seed, rows=min(64, problem.train_rows)))
        (-elbo.value()).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_one_datums_bound_does_not_depend_on_its_batch(problem: Problem) -> None:
    model, batch = seeded(problem), training_batch(problem)
    whole = model(**batch)[0].value()
    for row in range(6):
        alone = model(**{name: value[row : row + 1] for name, value in batch.items()})[0].value()
        torch.testing.assert_close(alone[0], whole[row], rtol=1e-4, atol=1e-4)  # float32 sums in another order


def test_the_same_seed_builds_the_same_model(problem: Problem) -> None:
    rows = initial_rows(problem.build, [0, 1, 0])
    assert torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[0], rows[1])
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in seeded(problem, 1).parameters()])
    assert torch.equal(rows[1], flat)


def test_a_stack_of_three_is_each_of_them_alone(problem: Problem) -> None:
    flat, batch = initial_rows(problem.build, [0, 1, 2]), training_batch(problem)
    stack = Stack(problem.build(), flat)

    def parts(result: tuple[Elbo, Any], batch: Batch) -> dict[str, torch.Tensor]:
        return {"distortion": result[0].distortion, **{n: result[0].rate(n) for n in result[0].rates}}

    def negative_elbo(views: Views) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        found = stack.apply(parts, batch, shared=True, views=views)
        return (found["distortion"] + sum(found[n] for n in problem.rate_names)).sum(), found

    slopes, together = gradient(negative_elbo, stack.views)
    for cell in range(3):
        model = problem.build()
        model.load_state_dict(unflatten(flat[cell], stack.layout))
        elbo, _ = model(**batch)
        for name, value in parts((elbo, None), batch).items():
            torch.testing.assert_close(together[name][cell], value, rtol=1e-4, atol=1e-4)  # float32, another order
        (-elbo.value()).sum().backward()
        own = torch.cat([parameter.grad.reshape(-1) for parameter in model.parameters() if parameter.grad is not None])
        torch.testing.assert_close(joined(slopes)[cell], own, rtol=1e-3, atol=1e-4 * float(own.abs().max()))


# --- evaluation and training ------------------------------------------------------------------------------------


def test_promised_metrics_are_delivered_on_every_domain_and_no_others(
    subject: Family, config: CellConfig, problem: Problem
) -> None:
    stack = Stack(problem.build(), initial_rows(problem.build, [0, 1]))
    expected = {"distortion", "rate", "elbo", *(f"rate.{n}" for n in problem.rate_names), *subject.metrics_of(config)}
    for domain in problem.domains:
        for quick in (False, True):
            found = evaluate(stack, problem, domain, 16, World(), quick=quick)
            assert found.keys() == expected
            for name, value in found.items():
                assert value.shape == (2,), name
                assert value.isfinite().all(), name


def test_every_metric_has_a_unit(subject: Family) -> None:
    assert all(name and unit.strip() for name, unit in subject.metrics.items())
    assert subject.metrics_of(subject.config()).items() <= subject.metrics.items()


def test_an_evaluation_does_not_depend_on_how_it_is_cut(problem: Problem) -> None:
    stack = Stack(problem.build(), initial_rows(problem.build, [0]))
    coarse, fine = (evaluate(stack, problem, problem.valid, chunk, World()) for chunk in (1000, 5))
    for name, value in coarse.items():
        torch.testing.assert_close(fine[name], value, rtol=1e-5, atol=1e-5)  # float32 parts, float64 sums


def test_every_kind_of_control_runs_on_the_total_and_on_each_rate(
    subject: Family, config: CellConfig, problem: Problem, control: RateControl, recorder: type
) -> None:
    names = subject.rate_names(config)
    for keys in (("total",), names):
        share = {"share": 1.0} if "share" in type(control).model_fields else {}  # of three steps
        rates = {"rates": {key: control.model_dump() | share for key in keys}}
        cell = subject.config.model_validate(config.model_dump() | rates)
        subject.check(cell)
        kept = recorder()
        train_pack(problem, [cell], start_state(problem, [cell], ["x"]), kept)
        result = kept.results["x"]
        assert result.diverged is None
        assert result.step == 3
        assert all(math.isfinite(value) for value in result.metrics.values())
        assert {f"train/beta.{name}" for name in names} <= result.state.history.keys()


def test_a_checkpoint_goes_on_where_it_was(problem: Problem, config: CellConfig, recorder: type) -> None:
    cells = {"x": config, "y": config.model_copy(update={"seed": 1})}
    whole, resumed = recorder(), recorder()
    train_pack(problem, list(cells.values()), start_state(problem, list(cells.values()), list(cells)), whole)
    read = PackState.from_bytes(whole.checkpoints[2], "here")
    train_pack(problem, [cells[name] for name in read.cells], read, resumed)
    for name in cells:
        assert torch.equal(resumed.results[name].state.flat, whole.results[name].state.flat)
        assert resumed.results[name].metrics == whole.results[name].metrics
