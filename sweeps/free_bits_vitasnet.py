"""Free nats and fixed β of variational TasNets, the grid of the thesis' table 2 (study B, lines 1318 to 1329).

Gamma encodings and beta masks; free nats λ are those of one latent variable at one time, and each rate has a β of its
own. The thesis trains on speech with K = 512, as `--preset paper --data librimix:DIR` does; by default the mixtures are
of Gaussian pulses, and the model is their smaller one.

    python sweeps/free_bits_vitasnet.py
    python sweeps/free_bits_vitasnet.py --preset laptop --data pulses:conditions=noise_0+noise_1
    python sweeps/free_bits_vitasnet.py --preset paper --data librimix:~/Libri2Mix,unseen=~/VCTK-2mix --gpus 1
"""

from vaesweep.cli.script import main
from vaesweep.families.emd.forms import is_speech
from vaesweep.families.emd.presets import (
    GAMMA_BETA,
    LAPTOP,
    PAPER,
    SMOKE,
    SPEECH,
    SPEECH_PAPER,
    SPEECH_SMOKE,
    Settings,
)
from vaesweep.sweep.cells import Preset, Sweep

GRID = (  # λ of encodings, λ of masks, 1/β of encodings, 1/β of masks
    (0, 0, 1, 1),
    (8, 8, 1, 1),
    (64, 64, 1, 1),
    (128, 128, 1, 1),
    (128, 128, 8, 8),
    (128, 128, 64, 64),
    (128, 128, 128, 128),
    (128, 128, 8, 128),
    (128, 128, 128, 8),
)


def presets(data: str) -> dict[str, Preset]:
    """`smoke` takes minutes on two cores, `laptop` an hour, of voices a night."""
    variants = {f"λ {a} {b}, 1/β {c} {d}": row(a, b, c, d) for a, b, c, d in GRID}
    sizes = {
        "smoke": (SMOKE | {"training.steps": 150, "training.evaluate_every": 50}, 1),
        "laptop": (LAPTOP | {"training.steps": 1000, "data.condition.seconds": 0.25}, 3),
        "paper": (PAPER, 3),
    }
    if is_speech(data):
        sizes = {"smoke": (SPEECH_SMOKE, 1), "laptop": (SPEECH, 1), "paper": (SPEECH_PAPER, 1)}
    return {
        name: Preset(settings | GAMMA_BETA, {"seed": list(range(seeds))}, variants)
        for name, (settings, seeds) in sizes.items()
    }


def row(encoding: float, masks: float, inverse_encoding: float, inverse_masks: float) -> Settings:
    """One row of the table."""
    return {
        "free_nats.encoding.nats": encoding,
        "free_nats.masks.nats": masks,
        "rates.encoding.kind": "fixed",
        "rates.encoding.value": 1 / inverse_encoding,
        "rates.masks.kind": "fixed",
        "rates.masks.value": 1 / inverse_masks,
    }


SWEEP = Sweep("free_bits_vitasnet", "emd", presets, default_data="pulses")

if __name__ == "__main__":
    raise SystemExit(main(SWEEP, __doc__, report="vaesweep.families.emd.analysis.report:report"))
