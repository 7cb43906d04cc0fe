"""Posteriors, priors and likelihoods of variational TasNets: the rows of the thesis' table 3 (study B, appendix L).

All variational rows have beta masks and rates by one sample; the first two are deterministic. The thesis trains on
speech with K = 512 and does not say how rates were weighted: `smoke` and `laptop` compare the rows at equal target
rates, `paper` takes the free nats and β of the best row of its table 2. The adaptive row's rates include those of the
single sources, which the others do not have. The Student-t row is not the thesis' but of its author's later work.

    python sweeps/priors_vitasnet.py
    python sweeps/priors_vitasnet.py --data speech:~/LibriSpeech/train-clean-100,unseen=~/VCTK
    python sweeps/priors_vitasnet.py --preset laptop --set 'variant=["gauss","flow"]'
"""

from vaesweep.cli.script import main
from vaesweep.families.emd.forms import is_speech
from vaesweep.families.emd.presets import (
    DETERMINISTIC,
    GAMMA_BETA,
    LAPTOP,
    PAPER,
    QUICK_CONTROL,
    SMOKE,
    SPEECH,
    SPEECH_PAPER,
    SPEECH_SMOKE,
    TARGET_CONTROL,
    Settings,
    per_datum,
)
from vaesweep.sweep.cells import Preset, Sweep

TARGET = "rates.total.target"  # nats per datum
CONTROL = QUICK_CONTROL | TARGET_CONTROL
BEST_OF_TABLE_2 = {
    "rates.total.kind": "fixed",
    "rates.total.value": 1 / 64,
    "free_nats.encoding.nats": 128,
    "free_nats.masks.nats": 128,
}
TASKS = {"model.single_source_task": True, "model.mixture_task": True}
VARIANTS = {
    "gauss": {"model.encoding": "gaussian"},
    "gamma": {},
    "flow": {"model.encoding": "gaussian", "model.prior.kind": "flow"},
    "adaptive": {"model.prior.kind": "adaptive"} | TASKS,
    "cauchy": {"model.likelihood.kind": "cauchy"},
    "student_t": {"model.likelihood.kind": "student_t"},
}
TWINS = {"tasnet_si_sdr": DETERMINISTIC | {"model.likelihood.kind": "si_sdr"}, "tasnet_blr": DETERMINISTIC}


def presets(data: str) -> dict[str, Preset]:
    """`smoke` takes minutes on two cores, `laptop` an hour, of voices a night."""
    if is_speech(data):
        return {
            "smoke": rows(SPEECH_SMOKE, 3.0, seeds=1),
            "laptop": rows(SPEECH, 30.0, seeds=1),
            "paper": Preset(SPEECH_PAPER | GAMMA_BETA | BEST_OF_TABLE_2, {"seed": [0]}, VARIANTS, TWINS),
        }
    return {
        "smoke": rows(SMOKE | {"training.steps": 150, "training.evaluate_every": 50}, 3.0, seeds=1),
        "laptop": rows(LAPTOP | {"training.steps": 600, "data.condition.seconds": 0.25}, 10.0, seeds=3),
        "paper": Preset(PAPER | GAMMA_BETA | BEST_OF_TABLE_2, {"seed": [0, 1, 2]}, VARIANTS, TWINS),
    }


def rows(settings: Settings, target: float, seeds: int) -> Preset:
    """All rows at `target` nats per sample."""
    axes = {TARGET: per_datum([target], settings), "seed": list(range(seeds))}
    return Preset(settings | GAMMA_BETA | CONTROL, axes, VARIANTS, TWINS)


SWEEP = Sweep("priors_vitasnet", "emd", presets, default_data="pulses")

if __name__ == "__main__":
    raise SystemExit(main(SWEEP, __doc__, report="vaesweep.families.emd.analysis.report:report"))
