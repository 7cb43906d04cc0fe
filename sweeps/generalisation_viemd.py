"""Variational and deterministic separators on seen and unseen data: the thesis' generalisation tables (1 and 4).

Conv-TasNet, SuDoRM-RF and SepFormer, each variational at one target rate and deterministic, on the same data, steps and
learning rate. `separation_generalisation.csv` has the SI-SDRi of each on every domain and the drop to unseen ones,
`separation_differences.csv` every difference between two of them, within seed and mixture.

    python sweeps/generalisation_viemd.py                                                      on pulses, in minutes
    python sweeps/generalisation_viemd.py --preset laptop --data speech:DIR,unseen=DIR2        on voices, in hours
    python sweeps/generalisation_viemd.py --preset paper --data librimix:DIR,unseen=DIR2 --set data.heard=noisy --gpus 1
"""

from vaesweep.cli.script import main
from vaesweep.families.emd.forms import is_speech
from vaesweep.families.emd.presets import (
    LAPTOP,
    PAPER,
    QUICK_CONTROL,
    SMALL_MASKERS,
    SMOKE,
    SPEECH,
    SPEECH_MASKERS,
    SPEECH_PAPER,
    SPEECH_SMOKE,
    TARGET_CONTROL,
    Settings,
    deterministic_twins,
    per_datum,
)
from vaesweep.sweep.cells import Preset, Sweep

THESIS = ("tasnet", "sudormrf", "sepformer")
PAPER_CONTROL = TARGET_CONTROL | {
    "rates.total.initial": 1e-9,
    "rates.total.step_size": 1e-4,
}  # line 1541, noisy condition
PAPER_TARGET = 256.0  # nats per sample, line 1517


def presets(data: str) -> dict[str, Preset]:
    """`smoke` takes minutes on two cores, `laptop` an hour, of voices a night; `paper` is the thesis' (line 1515)."""
    published = {name: {"model.masker.kind": name} for name in THESIS}
    small = {name: SMALL_MASKERS[name] for name in THESIS}
    if is_speech(data):
        voices = {name: SPEECH_MASKERS[name] for name in THESIS}
        return {
            "smoke": table(SPEECH_SMOKE | QUICK_CONTROL | TARGET_CONTROL, small, 10.0, seeds=1),
            "laptop": table(SPEECH | QUICK_CONTROL | TARGET_CONTROL, voices, 100.0, seeds=1),
            "paper": table(SPEECH_PAPER | PAPER_CONTROL, published, PAPER_TARGET, seeds=1),
        }
    smoke = SMOKE | {"training.steps": 150, "training.evaluate_every": 50}
    laptop = LAPTOP | {"training.steps": 1000, "data.condition.seconds": 0.25}
    return {
        "smoke": table(smoke | QUICK_CONTROL | TARGET_CONTROL, small, 10.0, seeds=2),
        "laptop": table(laptop | QUICK_CONTROL | TARGET_CONTROL, small, 30.0, seeds=3),
        "paper": table(PAPER | {"model.latents": 512} | PAPER_CONTROL, published, PAPER_TARGET, seeds=3),
    }


def table(settings: Settings, maskers: dict[str, Settings], target: float, seeds: int) -> Preset:
    """Every masker at `target` nats per sample, and its deterministic twin, with the same seeds."""
    axes = {"seed": list(range(seeds))}
    base = settings | {"rates.total.target": per_datum([target], settings)[0]}
    return Preset(base, axes, variants=maskers, twins=deterministic_twins(maskers))


SWEEP = Sweep("generalisation_viemd", "emd", presets, default_data="pulses")

if __name__ == "__main__":
    raise SystemExit(main(SWEEP, __doc__, report="vaesweep.families.emd.analysis.report:report"))
