"""Settings: what a word after --set means, and that every fault is refused in one line that names its key."""

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaesweep.errors import UserError
from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.family import family
from vaesweep.rates.controls import FixedBeta, LinearWarmup, TargetRate
from vaesweep.sweep.cells import Preset, expand
from vaesweep.sweep.settings import DEEPEST, build, check_key, combine, parse, written
from vaesweep.training.config import Constant, Cosine, Plateau


def refusal(settings: dict[str, Any]) -> str:
    """The one line with which a configuration is refused."""
    with pytest.raises(UserError) as caught:
        build(PartialVaeCell, settings)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-2.5", -2.5),
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        (".5e1", 5.0),
        ("true", True),
        ("null", None),
        ("cosine", "cosine"),
        ("'12'", "12"),
        ("[0, 1,2]", [0, 1, 2]),
        ("[1e-3,1e30]", [1e-3, 1e30]),
        ("[]", []),
        ("2026-11-22", "2026-11-22"),  # no setting is a date, so nothing is read as one
        ("2026-13-45", "2026-13-45"),
        ("yes", "yes"),  # what YAML 1.1 reads as something is a word here
        ("off", "off"),
        ("1:30", "1:30"),
        ("1__0", "1__0"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("~", "~"),
        (".inf", ".inf"),
        ("True", "True"),
        ("[yes,1_0]", ["yes", "1_0"]),
        ("[[0, 1], ['a b']]", [[0, 1], ["a b"]]),
        ("larger and longer", "larger and longer"),
    ],
)
def test_a_word_becomes_the_value_that_it_reads_as(text: str, value: Any) -> None:
    found = parse([f"training.x={text}"])["training.x"]
    assert found == value
    assert type(found) is type(value)


def test_only_the_first_equals_sign_divides_key_from_value() -> None:
    assert parse(["a.b=c=d"]) == {"a.b": "c=d"}


def test_the_last_of_two_words_for_one_key_counts() -> None:
    assert parse(["seed=1", "seed=2"]) == {"seed": 2}


ODD = [
    f"seed={text}"
    for text in ("", "&a 1", "*a", "<<", "[0,,1]", "[0,]", "[0 1", "'1", '"a\\n"', "1e999", "1e-999", "a#b")
]


@pytest.mark.parametrize(
    "word", ["training.steps", "=3", " =3", "seed=[0,1", "seed={", "seed=!!python/name:os.system", *ODD]
)
def test_what_is_no_setting_is_refused_as_it_was_written(word: str) -> None:
    with pytest.raises(UserError) as caught:
        parse([word])
    assert str(caught.value).startswith(f"--set {word}: ")
    assert "\n" not in str(caught.value)


def test_settings_are_put_into_a_typed_configuration() -> None:
    found = build(PartialVaeCell, {"training.steps": 7, "training.learning_rate": 1e-3, "model.hidden": 8})
    assert (found.training.steps, found.training.learning_rate, found.model.hidden) == (7, 1e-3, 8)
    assert found.training.batch_size == PartialVaeCell().training.batch_size


def test_null_takes_away_what_an_earlier_layer_says_of_a_rate() -> None:
    preset = {"rates.z.kind": "target", "rates.z.target": 2.0, "free_nats.z.nats": 1.0, "free_nats.y.nats": 2.0}
    found = build(PartialVaeCell, combine(preset, {"rates.z": None, "free_nats.z": None, "free_nats.x": None}))
    assert (found.rates, list(found.free_nats)) == ({}, ["y"])


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("training.steps", "many", "valid integer"),
        ("training.steps", 1.5, "fractional"),
        ("training.steps", 0, "greater than or equal to 1"),
        ("training.steps", None, "valid integer"),
        ("training.learning_rate", float("nan"), "finite"),
        ("training.learning_rate", -1.0, "greater than 0"),
        ("model.hidden", [8, 16], "valid integer"),
        ("data.missingness", "sometimes", "'dynamic', 'static' or 'acquisition'"),
        ("training", 3, "dictionary"),
        ("rates", 3, "dictionary"),
        ("rates.total", 3, "dictionary"),
        ("free_nats.z.per", "latent", "'dimension' or 'group'"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_key_and_value(key: str, value: Any, why: str) -> None:
    line = refusal({key: value})
    assert line.startswith(f"setting {key}={value}: ")
    assert why in line


def test_a_number_inside_a_union_is_refused_by_its_own_key() -> None:
    line = refusal({"rates.total.kind": "target", "rates.total.target": -1})
    assert line.startswith("setting rates.total.target=-1: ")


@pytest.mark.parametrize(
    ("key", "better"),
    [
        ("sead", "seed"),
        ("training.stps", "training.steps"),
        ("training.schedule.finl_share", "training.schedule.final_share"),  # in one branch of a union
        ("training.schedule.patiance", "training.schedule.patience"),  # in another
        ("training.early_stopping.wach", "training.early_stopping.watch"),  # in what may be null
        ("rates.total.targt", "rates.total.target"),  # in a union in a dictionary
        ("free_nats.z.nts", "free_nats.z.nats"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_that_exists(key: str, better: str) -> None:
    assert refusal({key: 1}) == f"setting {key}: there is no such setting; did you mean {better}?"


def test_an_unknown_key_that_is_near_nothing_is_refused_with_all_that_exist() -> None:
    assert refusal({"training.xyzzy": 1}).endswith(
        "training has accumulation, average, batch_size, clip_norm, early_stopping, evaluate_every, learning_rate, "
        "precision, pruning, schedule, skip, steps, warm_up, weight_decay"
    )


def test_a_single_value_has_nothing_below_it() -> None:
    assert (
        refusal({"training.steps.foo": 1})
        == "setting training.steps.foo: training.steps is a single value, it has no 'foo'"
    )


def test_a_key_below_a_single_value_that_was_set_is_refused() -> None:
    assert "training was set to a single value before" in refusal({"training": 3, "training.steps": 5})


def test_any_name_goes_in_a_dictionary() -> None:
    check_key(PartialVaeCell, "rates.anything.value")


def test_the_kind_decides_which_branch_of_a_union_it_is() -> None:
    assert build(PartialVaeCell, {"training.schedule.kind": "constant"}).training.schedule == Constant()
    plateau = build(PartialVaeCell, {"training.schedule.kind": "plateau", "training.schedule.patience": 3})
    assert plateau.training.schedule == Plateau(patience=3)


def test_a_default_branch_is_set_without_naming_its_kind() -> None:
    found = build(PartialVaeCell, {"training.schedule.final_share": 0.1})
    assert found.training.schedule == Cosine(final_share=0.1)


def test_a_setting_of_another_branch_is_refused() -> None:
    assert refusal({"training.schedule.patience": 3}).startswith("setting training.schedule.patience=3: ")


def test_an_unknown_kind_is_refused_with_those_that_exist() -> None:
    line = refusal({"rates.total.kind": "bogus"})
    assert "rates.total" in line
    assert all(kind in line for kind in ("fixed", "linear", "sigmoid", "target"))


def test_a_branch_without_its_required_number_is_refused_by_that_key() -> None:
    assert refusal({"rates.total.kind": "target"}).startswith("setting rates.total.target: ")


def test_a_fault_between_two_numbers_is_told_in_one_line() -> None:
    settings = {"rates.total.kind": "target", "rates.total.target": 1.0, "rates.total.initial": 1e9}
    assert "initial β 1e+09 lies outside its bounds" in refusal(settings)


def test_null_takes_away_what_may_be_absent() -> None:
    settings = combine({"training.early_stopping.patience": 3}, {"training.early_stopping": None})
    assert build(PartialVaeCell, settings).training.early_stopping is None


def test_later_layers_count_over_earlier_ones() -> None:
    assert combine({"a": 1, "b": 1}, {"b": 2}, {"c": 3}) == {"a": 1, "b": 2, "c": 3}


def test_a_new_kind_clears_what_was_said_of_the_old_one() -> None:
    preset = {"rates.total.kind": "target", "rates.total.target": 2.0, "rates.total.step_size": 0.1, "seed": 3}
    settings = combine(preset, {"rates.total.kind": "fixed", "rates.total.value": 0.5})
    found = build(PartialVaeCell, settings)
    assert found.rates == {"total": FixedBeta(value=0.5)}
    assert found.seed == 3


def test_the_same_kind_again_clears_nothing() -> None:
    preset = {"rates.total.kind": "target", "rates.total.target": 2.0}
    found = build(PartialVaeCell, combine(preset, {"rates.total.kind": "target", "rates.total.step_size": 0.1}))
    assert found.rates == {"total": TargetRate(target=2.0, step_size=0.1)}


def test_the_kind_of_one_rate_clears_nothing_of_another() -> None:
    preset = {"rates.z.kind": "target", "rates.z.target": 2.0, "training.schedule.final_share": 0.1}
    found = build(PartialVaeCell, combine(preset, {"rates.y.kind": "linear"}))
    assert found.rates == {"z": TargetRate(target=2.0), "y": LinearWarmup()}
    assert found.training.schedule == Cosine(final_share=0.1)


@pytest.mark.parametrize(
    ("key", "text", "why"),
    [
        ("training.steps", "yes", "valid integer, in decimal"),
        ("training.steps", "true", "valid integer, in decimal, such as 20, not true"),
        ("training.steps", "1:30", "valid integer"),
        ("training.steps", "1__0", "valid integer"),
        ("training.steps", "010", "valid integer"),
        ("training.steps", "'12'", "valid integer"),
        ("training.steps", "1e18", "without a point or an exponent"),
        ("training.steps", "1000000000000000000", "at most 1e+09"),
        ("training.steps", "2.5", "fractional"),
        ("training.learning_rate", "1e30", "at most 1000"),
        ("training.learning_rate", "on", "valid number"),
        ("training.learning_rate", "false", "valid number, such as 0.5, not false"),
        ("training.clip_norm", "1e13", "at most 1e+12"),
        ("seed", "-1", "greater than or equal to 0"),
        ("seed", "9223372036854775808", "less than"),
        ("seed", "9007199254740993.0", "without a point or an exponent"),
        ("model.hidden", "1000000", "at most 65536"),
        ("training.batch_size", "100000000", "at most 1.04858e+06"),
        ("data.mirror", "1", "true or false"),
        ("data.mirror", "yes", "true or false"),
        ("data.mirror", "'true'", "true or false"),
        ("model.minimum_std", "[0.1,'0.2']", "valid number"),
        ("acquisition.samples", "1e9", "at most 100000"),
    ],
)
def test_a_word_that_other_readers_would_take_for_another_value_is_refused(key: str, text: str, why: str) -> None:
    line = refusal(parse([f"{key}={text}"]))
    assert line.startswith(f"setting {key}=")
    assert why in line


SCALARS = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(-1e300, 1e300)


@settings(deadline=None)
@given(st.recursive(SCALARS, st.lists, max_leaves=9))
def test_what_was_written_is_read_again(value: Any) -> None:
    try:
        assert parse([f"a={written(value)}"]) == {"a": value}
    except UserError:
        assert written(value).count("[") > DEEPEST


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_text_is_a_value_or_refused(text: str) -> None:
    with contextlib.suppress(UserError):
        (value,) = parse([f"a={text}"]).values()
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert float(text) == value
            assert not set(text.strip(" ")) - set("+-.0123456789eE")


def test_an_axis_of_too_many_values_and_too_many_cells_are_refused() -> None:
    with pytest.raises(UserError, match="more than 10000 values"):
        parse([f"seed=[{'0,' * 10_001}0]"])
    owner, axes = family("pvae"), {"seed": list(range(1000)), "model.latents": list(range(1, 1000))}
    with pytest.raises(
        UserError, match=r"make 999000 cells, and a sweep has 100000 at most \(seed 1000, model.latents 999\)"
    ):
        expand(owner, Preset(), axes)
