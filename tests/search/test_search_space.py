"""Spaces: what a distribution samples, and what is refused before anything is asked."""

import math
from typing import Any

import optuna
import pytest

from vaesweep.errors import UserError
from vaesweep.family import family
from vaesweep.search.space import (
    Distribution,
    check_space,
    choice,
    integers,
    is_packed,
    loguniform,
    uniform,
    without_fixed,
)

PVAE = family("pvae")
BASE = {"training.steps": 20, "rates.total.kind": "target", "rates.total.target": 1.0}


def refusal(space: dict[str, Distribution], base: dict[str, Any] = BASE) -> str:
    with pytest.raises(UserError) as error:
        check_space(PVAE, base, space)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "distribution", "said"),
    [
        ("training.learning_rat", loguniform(1e-4, 1e-2), "did you mean training.learning_rate?"),
        ("training.learning_rate", loguniform(1e-2, 1e-4), "is empty"),
        ("training.learning_rate", loguniform(1e-3, 1e-3), "is one value"),
        ("training.learning_rate", loguniform(0, 1e-2), "has no logarithm"),
        ("training.learning_rate", uniform(1e-3, math.inf), "is no range"),
        ("training.learning_rate", uniform(-1, 1), "training.learning_rate=-1"),
        ("model.latents", integers(0, 4), "model.latents=0"),
        ("model.latents", integers(2.5, 4), "no range of integers"),  # type: ignore[arg-type]
        ("model.latents", uniform(2, 4), "model.latents=2.76"),
        ("training.batch_size", choice([]), "nothing to choose from"),
        ("training.batch_size", choice([32]), "the only choice"),
        ("training.batch_size", choice([32, 64, 32]), "twice"),
        ("training.batch_size", choice([32, [64]]), "is no choice"),
        ("training.schedule.kind", choice(["cosine", "cosin"]), "training.schedule.kind"),
        ("rates.total.value", loguniform(0.1, 1), "rates.total.value"),
        ("data.seed", choice([0, 1]), "seeds are drawn"),
        ("seed", integers(0, 9), "seeds are drawn"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_in_one_line(key: str, distribution: Any, said: str) -> None:
    assert said in refusal({key: distribution})


def test_a_structural_number_that_the_family_refuses_is_found_at_the_end_where_it_does() -> None:
    emd = family("emd")
    base = {"model.masker.kind": "sepformer", "model.masker.heads": 4, "model.masker.width": 16}
    check_space(emd, base, {"model.masker.width": choice([16, 32])})
    with pytest.raises(UserError, match=r"space model.masker.width=18"):
        check_space(emd, base, {"model.masker.width": choice([16, 18])})


def test_settings_of_pretraining_can_be_searched() -> None:
    base = BASE | {"pretraining.training.steps": 10}
    check_space(PVAE, base, {"pretraining.training.learning_rate": loguniform(1e-4, 1e-2)})
    assert "did you mean" in refusal({"pretraining.training.learning_rat": loguniform(1e-4, 1e-2)}, base)


def test_what_is_loaded_is_no_part_of_a_space() -> None:
    emd = family("emd")
    with pytest.raises(UserError, match="changes what is loaded"):
        check_space(emd, {}, {"data.condition.seconds": choice([0.25, 0.5])})


def test_a_set_key_is_fixed_and_no_longer_searched() -> None:
    space = {"model.latents": integers(2, 4), "training.learning_rate": loguniform(1e-4, 1e-2)}
    assert list(without_fixed(space, {"model.latents": 3, "training.steps": 5})) == ["training.learning_rate"]
    with pytest.raises(UserError, match="nothing is left"):
        without_fixed(space, {"model.latents": 3, "training.learning_rate": 1e-3})
    with pytest.raises(UserError, match="no axes"):
        without_fixed(space, {"training.steps": [5, 10]})


@pytest.mark.parametrize(
    ("key", "distribution", "packed"),
    [
        ("training.learning_rate", loguniform(1e-4, 1e-2), True),
        ("rates.total.target", uniform(1, 3), True),
        ("model.latents", integers(2, 4), False),
        ("training.batch_size", choice([16, 32]), False),
    ],
)
def test_packed_numbers_and_structure_are_told_apart(key: str, distribution: Distribution, packed: bool) -> None:
    assert is_packed(PVAE, BASE, key, distribution) is packed


@pytest.mark.parametrize(
    ("distribution", "inside"),
    [
        (uniform(2, 3), lambda value: 2 <= value <= 3),
        (loguniform(1e-4, 1e-2), lambda value: 1e-4 <= value <= 1e-2),
        (integers(2, 5), lambda value: value in {2, 3, 4, 5}),
        (integers(2, 64, log=True), lambda value: value in range(2, 65)),
        (choice([32, "word", None]), lambda value: value in (32, "word", None)),
    ],
)
def test_samples_lie_in_the_distribution(distribution: Distribution, inside: Any) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values = [study.ask({"x": distribution.of_optuna()}).params["x"] for _ in range(40)]
    assert all(inside(value) for value in values)
    assert all(inside(value) for value in distribution.tried())
    assert len(set(values)) > 1


def test_half_of_a_loguniform_range_lies_below_its_geometric_mean() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [study.ask({"x": loguniform(1e-4, 1e-2).of_optuna()}).params["x"] for _ in range(400)]
    below = sum(value < 1e-3 for value in drawn)
    assert abs(below - 200) < 50  # five standard deviations of a fair coin's 400 throws
