"""Search over training configurations of variational TasNets on Gaussian pulses, at a fixed target rate.

The objective is the SI-SDR improvement of the modes of validation mixtures.

    python sweeps/tune_vitasnet.py                                  minutes, on quarters of a second
    python sweeps/tune_vitasnet.py --preset laptop                  half seconds
    python sweeps/tune_vitasnet.py --objective minimise=valid/distortion minimise=valid/rate_encoding_per_dimension
    python sweeps/tune_vitasnet.py --data speech:~/LibriSpeech/train-clean-100 --preset laptop --gpus 1
"""

from vaesweep.cli.search_script import main
from vaesweep.families.emd.forms import is_speech
from vaesweep.families.emd.presets import (
    LAPTOP,
    QUICK_CONTROL,
    SMOKE,
    SPEECH,
    SPEECH_SMOKE,
    TARGET_CONTROL,
    Settings,
    per_datum,
)
from vaesweep.search.objectives import maximise
from vaesweep.search.search import Search, SearchPreset
from vaesweep.search.space import choice, integers, loguniform

TARGET = 3.0  # nats per sample
SPACE = {
    "training.learning_rate": loguniform(5e-4, 2e-2),
    "rates.total.step_size": loguniform(5e-3, 5e-2),
    "training.batch_size": choice([4, 8, 16]),
    "model.latents": integers(16, 64, log=True),
}


def presets(data: str) -> dict[str, SearchPreset]:
    """`smoke` takes minutes on two cores, `laptop` an hour; those of voices are for GPUs but for `smoke`."""
    smoke, laptop = (SPEECH_SMOKE, SPEECH) if is_speech(data) else (SMOKE, LAPTOP)
    return {
        "smoke": SearchPreset(at_target(smoke | {"training.steps": 200}), trials=6, batch=3, confirm=2),
        "laptop": SearchPreset(at_target(laptop | {"data.replicate": 1}), trials=32, batch=8, confirm=3),
    }


def at_target(settings: Settings) -> Settings:
    """`settings` with a control that steers the total rate to `TARGET`."""
    (target,) = per_datum([TARGET], settings)
    return settings | QUICK_CONTROL | TARGET_CONTROL | {"rates.total.target": target}


SEARCH = Search("tune_vitasnet", "emd", presets, SPACE, [maximise("valid/si_sdri.mode")], default_data="pulses")

if __name__ == "__main__":
    raise SystemExit(main(SEARCH, __doc__))
