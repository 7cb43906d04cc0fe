"""Every preset of every sweep script is made of cells that can be trained, whatever kind of data it is for."""

import importlib.util
from pathlib import Path

import pytest

from vaesweep.families import family
from vaesweep.sweep import cells

SCRIPTS = sorted((Path(__file__).parents[2] / "sweeps").glob("*.py"))
DATA = {"pvae": ("synthetic", "nhanes:DIR"), "emd": ("pulses",), "hvae": ("poisson", "binarised_mnist:DIR")}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_every_preset_can_be_trained(script: Path) -> None:
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    name = next(kind for kind in ("cdvae", "pvae", "vitasnet") if script.stem.endswith(kind))
    owner = family({"cdvae": "hvae", "pvae": "pvae", "vitasnet": "emd"}[name])
    for data in DATA[owner.name]:
        for preset in module.presets(data).values():
            assert cells.expand(owner, preset, {})
