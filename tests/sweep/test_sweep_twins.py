"""Twins stand beside a sweep's curve: variants without rates, once a seed; the sweeps of separators have them."""

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vaesweep.errors import UserError
from vaesweep.family import family
from vaesweep.sweep.cells import Preset, axes_and_single, expand

TARGET = "rates.total.target"
DETERMINISTIC = {"model.encoding": "deterministic", "model.masks": "relu"}
PRESET = Preset(
    {"rates.total.kind": "target", "free_nats.masks.nats": 1.0, "training.steps": 10},
    {TARGET: [1.0, 2.0, 3.0], "seed": [0, 1]},
    variants={"variational": {}},
    twins={"deterministic": DETERMINISTIC},
)
SWEEPS = Path(__file__).parents[2] / "sweeps"


def places(settings: Mapping[str, Any], preset: Preset = PRESET) -> list[dict[str, Any]]:
    return [place for _, place in expand(family("emd"), preset, settings)]


def test_a_twin_is_there_once_a_seed_and_has_no_rates() -> None:
    cells = expand(family("emd"), PRESET, {})
    twins = [(config, place) for config, place in cells if place["variant"] == "deterministic"]
    assert [place for _, place in twins] == [{"variant": "deterministic", "seed": seed} for seed in (0, 1)]
    assert all(config.rates == {} and config.free_nats == {} for config, _ in twins)
    assert all(config.training.steps == 10 for config, _ in twins)
    assert len(cells) == 3 * 2 + 2


def test_twins_are_on_the_axis_of_variants() -> None:
    axes, _ = axes_and_single(PRESET, {})
    assert axes["variant"] == ["variational", "deterministic"]


def test_what_the_user_says_of_rates_is_not_for_twins() -> None:
    found = places({TARGET: [1.0, 5.0], "rates.total.initial": 0.1, "seed": 3})
    assert found.count({"variant": "deterministic"}) == 1
    assert len(found) == 3


def test_a_twin_can_be_left_out_or_asked_for_alone() -> None:
    assert all(place.get("variant") != "deterministic" for place in places({"variant": "variational"}))
    assert places({"variant": "deterministic"}) == [{"seed": 0}, {"seed": 1}]
    with pytest.raises(UserError, match="there are variational, deterministic"):
        places({"variant": "determinstic"})


def test_further_axes_are_for_twins_too() -> None:
    found = places({"model.latents": [4, 8]})
    assert [p["model.latents"] for p in found if p["variant"] == "deterministic"] == [4, 8, 4, 8]


@pytest.mark.parametrize(
    "script", ["rd_curve_vitasnet", "free_bits_vitasnet", "priors_vitasnet", "rd_curve_separators"]
)
def test_every_preset_of_the_separators_makes_cells(script: str) -> None:
    made = runpy.run_path(str(SWEEPS / f"{script}.py"))["presets"]("pulses")
    assert made.keys() == {"smoke", "laptop", "paper"}
    for name, preset in made.items():
        cells = expand(family("emd"), preset, {})
        seeds = {config.seed for config, _ in cells}
        assert len({family("emd").loading(config) for config, _ in cells}) == (1 if name == "smoke" else len(seeds))
        assert len(cells) >= 7


def test_the_papers_targets_are_nats_a_sample_of_three_seconds() -> None:
    paper = runpy.run_path(str(SWEEPS / "rd_curve_vitasnet.py"))["presets"]("pulses")["paper"]
    assert paper.axes[TARGET][0] == pytest.approx(1e-3 * 24000)
    assert paper.axes[TARGET][-1] == pytest.approx(1e3 * 24000)
