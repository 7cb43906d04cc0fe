"""Every preset of every sweep script is made of cells that can be trained, whatever kind of data it is for."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from vaesweep.family import family
from vaesweep.search.space import check_space
from vaesweep.sweep import cells

SCRIPTS = sorted((Path(__file__).parents[2] / "sweeps").glob("*.py"))
SEARCHES = [script for script in SCRIPTS if script.stem.startswith(("tune_", "envelope_"))]
SWEEPS = [script for script in SCRIPTS if script not in SEARCHES]


def load(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SEARCHES, ids=lambda script: script.stem)
def test_every_space_can_be_searched(script: Path) -> None:
    declared = load(script).SEARCH
    owner = family(declared.family)
    assert declared.name == script.stem
    for data in (declared.default_data, *owner.data_forms):
        for preset in declared.presets(data).values():
            check_space(owner, preset.base, declared.space)


@pytest.mark.parametrize("script", SWEEPS, ids=lambda script: script.stem)
def test_every_preset_can_be_trained(script: Path) -> None:
    module = load(script)
    owner = family(module.SWEEP.family)
    assert module.SWEEP.name == script.stem
    for data in (module.SWEEP.default_data, *owner.data_forms):
        for preset in module.SWEEP.presets(data).values():
            assert cells.expand(owner, preset, {})
