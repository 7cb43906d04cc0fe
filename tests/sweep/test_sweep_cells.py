"""Cells, their identity, axes, and how cells are grouped into packs."""

import itertools
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from vaesweep.errors import UserError
from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.family import family
from vaesweep.sweep.cells import Cell, Pack, Preset, Sweep, axes_and_single, digest, expand, make_packs
from vaesweep.sweep.settings import build

TARGET = "rates.total.target"
PRESET = Preset({"rates.total.kind": "target", "training.steps": 10}, {TARGET: [0.5, 1.0, 2.0], "seed": [0, 1]})


def cell(
    settings: Mapping[str, Any] | None = None, data: str = "data", values: Mapping[str, Any] | None = None
) -> Cell:
    return Cell(build(PartialVaeCell, settings or {}), "pvae", data, values or {})


BASE = {"training.steps": 10}


def cells_of(settings: Mapping[str, Any], preset: Preset = PRESET) -> list[Cell]:
    return [Cell(config, "pvae", "data", place) for config, place in expand(family("pvae"), preset, settings)]


def identities(settings: Mapping[str, Any], preset: Preset = PRESET) -> list[str]:
    return [one.identity for one in cells_of(settings, preset)]


# Identity


def test_an_identity_is_the_same_in_every_process() -> None:
    code = (
        "from vaesweep.families.pvae.family import PartialVaeCell; from vaesweep.sweep.cells import Cell;"
        "print(Cell(PartialVaeCell(seed=3), 'pvae', 'data', {}).identity)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == cell({"seed": 3}).identity


def test_an_identity_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    one, other = {"seed": 1, "model.hidden": 8}, {"model.hidden": 8, "seed": 1}
    assert cell(one).identity == cell(other).identity


def test_a_default_that_is_written_out_is_the_same_cell() -> None:
    assert cell({"training.batch_size": 64, "training.schedule.kind": "cosine"}).identity == cell().identity


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        {"training.steps": 5},
        {"training.schedule.final_share": 0.5},
        {"training.early_stopping.patience": 20},
        {"training.skip.norm": 400.0},
        {"rates.total.kind": "fixed"},
        {"free_nats.z.nats": 1},
        {"model.hidden": 8},
        {"data.seed": 1},
    ],
    ids=str,
)
def test_an_identity_changes_with_any_setting(settings: dict[str, Any]) -> None:
    assert cell(settings).identity != cell().identity


def test_an_identity_changes_with_the_data() -> None:
    assert cell(data="one").identity != cell(data="other").identity


def test_an_identity_does_not_depend_on_the_axes_that_led_to_it() -> None:
    assert cell(values={"seed": 0}).identity == cell().identity
    turned = Preset(PRESET.base, dict(reversed(PRESET.axes.items())))
    assert sorted(identities({})) == sorted(identities({}, turned))


def test_an_identity_is_sixteen_hex_digits() -> None:
    assert len(cell().identity) == 16
    assert int(cell().identity, 16) >= 0


# Axes


def test_all_values_of_all_axes_are_combined_once() -> None:
    found = cells_of({})
    assert [dict(one.values) for one in found] == [
        {TARGET: target, "seed": seed} for target, seed in itertools.product([0.5, 1.0, 2.0], [0, 1])
    ]
    assert all(one.config.rates["total"].target == one.values[TARGET] for one in found)
    assert all(one.config.seed == one.values["seed"] and one.config.training.steps == 10 for one in found)


def test_a_list_makes_its_key_an_axis() -> None:
    axes, _ = axes_and_single(PRESET, {"training.learning_rate": [1e-3, 1e-2]})
    assert axes == {TARGET: [0.5, 1.0, 2.0], "seed": [0, 1], "training.learning_rate": [1e-3, 1e-2]}


def test_a_list_replaces_the_presets_axis() -> None:
    assert axes_and_single(PRESET, {"seed": [7]})[0]["seed"] == [7]


def test_a_single_value_collapses_an_axis() -> None:
    axes, single = axes_and_single(PRESET, {"seed": 7})
    assert list(axes) == [TARGET]
    assert single == {"seed": 7}


def test_variants_are_one_more_axis_of_named_settings() -> None:
    preset = Preset(BASE, {"seed": [0, 1]}, {"plain": {}, "wide": {"model.hidden": 32, "training.steps": 20}})
    found = cells_of({}, preset)
    assert [dict(one.values) for one in found] == [
        {"variant": name, "seed": seed} for name, seed in itertools.product(["plain", "wide"], [0, 1])
    ]
    assert [one.config.model.hidden for one in found if one.values["variant"] == "wide"] == [32, 32]
    assert {one.config.training.steps for one in found if one.values["variant"] == "plain"} == {10}


def test_what_the_user_sets_stands_above_a_variant() -> None:
    preset = Preset(BASE, {"seed": [0]}, {"wide": {"model.hidden": 32}, "short": {"training.steps": 5}})
    found = cells_of({"training.steps": 7, "variant": "short"}, preset)
    assert [(one.config.training.steps, dict(one.values)) for one in found] == [(7, {"seed": 0})]


def test_a_list_takes_the_place_of_what_the_preset_fixed() -> None:
    assert {one.config.training.steps for one in cells_of({"training.steps": [5, 6]})} == {5, 6}


def test_a_new_kind_takes_away_the_axes_of_the_old_one() -> None:
    found = cells_of({"rates.total.kind": "fixed", "rates.total.value": [0.5, 1.0]})
    assert [dict(one.values) for one in found] == [
        {"seed": seed, "rates.total.value": value} for seed, value in itertools.product([0, 1], [0.5, 1.0])
    ]


def test_the_presets_own_kind_said_again_changes_nothing() -> None:
    assert identities({"rates.total.kind": "target"}) == identities({})


@pytest.mark.parametrize("values", [[1, 1], [0.5, 2.0, 0.5]], ids=str)
def test_a_value_twice_in_a_list_is_refused_by_its_key(values: list[float]) -> None:
    with pytest.raises(UserError, match=r"^axis rates\.total\.target: the same value"):
        cells_of({TARGET: values})


def test_a_value_twice_in_two_spellings_is_refused_too() -> None:
    with pytest.raises(UserError, match="same value"):
        cells_of({TARGET: [1, 1.0]})


def test_an_empty_list_is_refused_by_its_key() -> None:
    with pytest.raises(UserError, match=r"^axis seed: an empty list"):
        cells_of({"seed": []})


def test_a_cell_that_cannot_be_is_refused_whatever_the_others_are() -> None:
    with pytest.raises(UserError, match=r"^setting seed=word"):
        cells_of({"seed": [0, "word"]})


def test_a_control_of_a_rate_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(UserError, match="no rate named 'y'; it has z"):
        cells_of({"rates.y.kind": "fixed"}, Preset())


def test_an_unknown_preset_is_refused_with_those_that_exist() -> None:
    sweep = Sweep("a", "pvae", lambda data: {"small": PRESET, "large": PRESET})
    with pytest.raises(UserError, match="--preset huge: there is no such preset; there are small, large"):
        sweep.preset("huge", "synthetic")


# Packs


@pytest.mark.parametrize("size", [1, 2, 4, 5, 6, 100])
def test_packs_hold_every_cell_once_and_are_as_even_as_they_come(size: int) -> None:
    found = cells_of({"seed": list(range(7))})
    packs = make_packs(found, size)
    held = [one.identity for group in packs for one in group.cells]
    assert sorted(held) == sorted(one.identity for one in found)
    sizes = [len(group.cells) for group in packs]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert len(packs) == -(-len(found) // size)


def test_cells_of_different_structure_never_share_a_pack() -> None:
    packs = make_packs(cells_of({"model.latents": [2, 4], "seed": [0, 1, 2]}), 100)
    assert len(packs) == 2
    assert all(len({one.config.model.latents for one in group.cells}) == 1 for group in packs)


def test_cells_that_differ_in_packed_numbers_share_a_pack() -> None:
    (whole,) = make_packs(cells_of({"training.learning_rate": [1e-3, 1e3]}), 100)
    assert len(whole.cells) == 12


def test_limits_of_skipping_share_a_pack_and_cells_without_skipping_have_their_own() -> None:
    (whole,) = make_packs(cells_of({"training.skip.norm": [200.0, 400.0]}), 100)
    assert len(whole.cells) == 12
    assert len(make_packs(cells_of({"training.skip": [None, {"norm": 400.0}]}), 100)) == 2


def test_cells_of_one_seed_stand_together() -> None:
    packs = make_packs(cells_of({}), 3)
    assert [{one.config.seed for one in group.cells} for group in packs] == [{0}, {1}]


def test_a_packs_identity_is_that_of_its_cells() -> None:
    one, other = cell({"seed": 0}), cell({"seed": 1})
    assert Pack((one, other)).identity == Pack((one, other)).identity
    assert Pack((one, other)).identity != Pack((one,)).identity


def test_no_cells_make_no_packs() -> None:
    assert make_packs([], 4) == []
