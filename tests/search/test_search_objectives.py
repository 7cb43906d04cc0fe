"""Objectives: which number of a cell they are, and which do not exist."""

import math

import pytest

from vaesweep.errors import UserError
from vaesweep.family import family
from vaesweep.search.objectives import Objective, maximise, minimise, parse, resolve

PVAE = family("pvae")
DATA = PVAE.example()
NUMBERS = {
    "synthetic.valid/elbo": -9.0,
    "synthetic.train/elbo": -7.0,
    "synthetic.test/elbo": -9.5,
    "synthetic.valid/distortion": 6.0,
}


def value(objective: Objective) -> float:
    (one,) = resolve([objective], PVAE, PVAE.config(), DATA)
    return one.value(NUMBERS)


def test_an_objective_is_a_metric_of_a_domain_by_role_or_name() -> None:
    assert value(maximise("valid/elbo")) == -9.0
    assert value(maximise("synthetic.test/elbo")) == -9.5
    assert value(minimise("valid/distortion")) == 6.0


def test_a_gap_is_the_difference_of_one_metric_on_two_domains() -> None:
    assert value(minimise("valid/elbo", less="train")) == -2.0


def test_a_number_that_a_cell_has_not_is_none() -> None:
    assert math.isnan(value(minimise("valid/rmse_observed")))


@pytest.mark.parametrize(("objective", "sign"), [(minimise("valid/rate"), 1), (maximise("valid/elbo"), -1)])
def test_the_sign_makes_less_better(objective: Objective, sign: int) -> None:
    assert resolve([objective], PVAE, PVAE.config(), DATA)[0].sign == sign


@pytest.mark.parametrize(
    ("objective", "held_out"),
    [
        (maximise("valid/elbo"), ()),
        (minimise("valid/elbo", less="train"), ()),
        (maximise("test/elbo"), ("synthetic.test",)),
        (maximise("small_corruption/elbo"), ("small_corruption",)),
    ],
)
def test_domains_that_no_choice_should_look_at_are_known(objective: Objective, held_out: tuple[str, ...]) -> None:
    assert resolve([objective], PVAE, PVAE.config(), DATA)[0].held_out == held_out


@pytest.mark.parametrize(
    ("objectives", "said"),
    [
        ([], "no objective"),
        ([maximise("valid/elbow")], "did you mean 'elbo'?"),
        ([maximise("vaild/elbo")], "did you mean 'valid'?"),
        ([maximise("unseen/elbo")], "no domain 'unseen'"),
        ([minimise("valid/elbo", less="trian")], "did you mean 'train'?"),
        ([minimise("elbo")], "DOMAIN/METRIC"),
        ([maximise("valid/elbo"), maximise("valid/elbo")], "twice"),
    ],
)
def test_an_objective_that_does_not_exist_is_refused_in_one_line(objectives: list[Objective], said: str) -> None:
    with pytest.raises(UserError) as error:
        resolve(objectives, PVAE, PVAE.config(), DATA)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_objectives_are_typed_as_direction_domain_and_metric() -> None:
    assert parse(["minimise=valid/rate", "maximise=valid-train/elbo"]) == (
        minimise("valid/rate"),
        maximise("valid/elbo", less="train"),
    )
    for word in ("valid/elbo", "maximize=valid/elbo", "maximise=elbo"):
        with pytest.raises(UserError, match="--objective"):
            parse([word])
