"""Does a rate help the separators of today? Five maskers, variational and deterministic, on Gaussian pulses (study B).

The thesis' three (Conv-TasNet, SuDoRM-RF, SepFormer) and two later ones (TDANet, MossFormer2) in one template, each
beside its own deterministic twin of ReLU masks, at the same data, steps and learning rate.

    python sweeps/rd_curve_separators.py                        a few minutes, one rate, one seed
    python sweeps/rd_curve_separators.py --preset laptop        three rates, three seeds
    python sweeps/rd_curve_separators.py --set 'variant=["tdanet","tdanet_deterministic"]'
"""

from collections.abc import Sequence

from vaesweep.cli.script import main
from vaesweep.families.emd.presets import (
    LAPTOP,
    PAPER,
    PAPER_CONTROL,
    QUICK_CONTROL,
    SMALL_MASKERS,
    SMOKE,
    TARGET_CONTROL,
    Settings,
    deterministic_twins,
    per_datum,
)
from vaesweep.sweep.cells import Preset, Sweep

TARGET = "rates.total.target"  # nats per datum


def presets(data: str) -> dict[str, Preset]:
    """`smoke` takes minutes on two cores, `laptop` half an hour; `paper` has every masker at its paper's size."""
    smoke = SMOKE | {"training.steps": 150, "training.evaluate_every": 50}
    laptop = LAPTOP | {"training.steps": 1000, "data.condition.seconds": 0.25}
    published = {name: {"model.masker.kind": name} for name in SMALL_MASKERS}
    return {
        "smoke": curves(smoke | QUICK_CONTROL, SMALL_MASKERS, [10.0], seeds=1),
        "laptop": curves(laptop | QUICK_CONTROL, SMALL_MASKERS, [3.0, 30.0, 300.0], seeds=3),
        "paper": curves(PAPER | PAPER_CONTROL | {"model.latents": 512}, published, [1.0, 10.0, 100.0], seeds=3),
    }


def curves(settings: Settings, maskers: dict[str, Settings], targets: Sequence[float], seeds: int) -> Preset:
    """Every masker towards `targets`, nats per sample, and its twins of the same seeds."""
    axes = {TARGET: per_datum(targets, settings), "seed": list(range(seeds))}
    return Preset(settings | TARGET_CONTROL, axes, variants=maskers, twins=deterministic_twins(maskers))


SWEEP = Sweep("rd_curve_separators", "emd", presets, default_data="pulses")

if __name__ == "__main__":
    raise SystemExit(main(SWEEP, __doc__, report="vaesweep.families.emd.analysis.report:report"))
