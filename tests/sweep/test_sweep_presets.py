"""Every preset of every sweep script is made of cells that can be trained, whatever kind of data it is for."""

import importlib.util
from pathlib import Path

import pytest

from vaesweep.family import family
from vaesweep.sweep import cells

SCRIPTS = sorted((Path(__file__).parents[2] / "sweeps").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_every_preset_can_be_trained(script: Path) -> None:
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    owner = family(module.SWEEP.family)
    assert module.SWEEP.name == script.stem
    for data in (module.SWEEP.default_data, *owner.data_forms):
        for preset in module.SWEEP.presets(data).values():
            assert cells.expand(owner, preset, {})
