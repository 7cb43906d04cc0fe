"""A cell's identity follows what training depends on, and nothing else."""

from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from vaesweep.family import family, family_names
from vaesweep.packing import Frozen, Since
from vaesweep.sweep.identity import (
    differing,
    identities_of_0_1,
    identity,
    settings_of_0_1,
    training_part,
)
from vaesweep.sweep.settings import build

VALUES = {
    "seed": st.integers(0, 5),
    "training.steps": st.integers(1, 4000),
    "training.learning_rate": st.sampled_from([1e-3, 1e-4]),
    "training.schedule.kind": st.sampled_from(["constant", "cosine", "plateau"]),
    "training.early_stopping.patience": st.integers(1, 20),
    "control": st.sampled_from([("fixed", 0.5), ("fixed", 1.0), ("linear", 0.5), ("linear", 1.0)]),
    "pretraining.training.steps": st.integers(1, 3),
}


def with_control(values: dict[str, Any]) -> dict[str, Any]:
    kind, value = values.pop("control", (None, None))
    return values | ({"rates.total.kind": kind, "rates.total.value": value} if kind else {})


SETTINGS = st.fixed_dictionaries({}, optional=VALUES).map(with_control)


def config(**values: Any) -> Any:
    return build(family("pvae").config, values)


def of(values: dict[str, Any], data: str = "data") -> str:
    return identity(family("pvae"), build(family("pvae").config, values), data)


@settings(max_examples=150, deadline=None)
@given(SETTINGS, SETTINGS)
def test_configurations_have_one_identity_where_they_are_equal_and_two_where_they_differ(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    owner = family("pvae")
    same = build(owner.config, one) == build(owner.config, other)
    assert (of(one) == of(other)) is same


@pytest.mark.parametrize("name", family_names())
def test_what_is_set_to_its_default_is_as_if_it_were_not_set(name: str) -> None:
    owner = family(name)
    dumped = owner.config.model_validate(owner.config().model_dump())
    assert identity(owner, dumped, "data") == identity(owner, owner.config(), "data")
    assert differing(owner.config()) == {}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("pvae", {"acquisition.rows": 7}),
        ("pvae", {"acquisition.rules": ("variance", "random")}),
        ("hvae", {"evaluation.steps": (20, 40)}),
        ("hvae", {"evaluation.draws": 5}),
    ],
)
def test_settings_of_the_evaluation_leave_the_training_what_it_is(name: str, values: dict[str, Any]) -> None:
    owner = family(name)
    plain, evaluated = (identity(owner, build(owner.config, v), "data") for v in ({}, values))
    assert training_part(evaluated) == plain
    assert evaluated != plain
    trained = build(owner.config, values | {"training.steps": 17})
    assert training_part(identity(owner, trained, "data")) != plain


def test_the_data_that_are_trained_on_are_part_of_it() -> None:
    assert of({}, "these") != of({}, "those")


class OldModel(Frozen):
    """A configuration as a release had it."""

    kind: Literal["model"] = "model"
    width: int = 4


class NewModel(OldModel):
    """The same with one more setting."""

    depth: Annotated[int, Since("9.9"), Field(ge=1)] = 1


class Outer(Frozen):
    """A configuration that holds one, and a dictionary of them."""

    model: NewModel = NewModel()
    models: dict[str, NewModel] = {}


def test_a_setting_that_came_later_is_not_part_of_the_older_identity() -> None:
    assert settings_of_0_1(NewModel(width=5)) == OldModel(width=5).model_dump(mode="json")
    assert settings_of_0_1(Outer(models={"a": NewModel()})) == {
        "model": OldModel().model_dump(),
        "models": {"a": OldModel().model_dump()},
    }


@pytest.mark.parametrize(
    "used", [NewModel(depth=2), Outer(model=NewModel(depth=2)), Outer(models={"a": NewModel(depth=2)})]
)
def test_a_cell_that_uses_it_was_none_of_the_earlier_release(used: Frozen) -> None:
    assert settings_of_0_1(used) is None


def test_a_share_of_training_is_no_setting_of_0_1() -> None:
    owner, fingerprints = family("pvae"), ["a", "b"]
    plain = build(owner.config, {"rates.total.kind": "linear"})
    shared = build(owner.config, {"rates.total.kind": "linear", "rates.total.share": 0.5})
    assert len(list(identities_of_0_1(owner, plain, fingerprints))) == 2
    assert list(identities_of_0_1(owner, shared, fingerprints)) == []
