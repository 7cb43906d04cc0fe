"""Rate-distortion curve of variational TasNets on Gaussian pulses, or on voices (thesis study B, Figures 2 and 10).

Trains separators towards many target rates, and deterministic twins beside them, and evaluates every cell on mixtures
like those trained on and on every shifted condition or unseen corpus. A twin's masks are ReLU's, as Conv-TasNet's, or
exponentials, as the modes of log-normal masks are. The highest targets are beyond what the model reaches: their points
are open.

    python sweeps/rd_curve_vitasnet.py                        a small curve, on quarters of a second
    python sweeps/rd_curve_vitasnet.py --preset laptop        half seconds, three seeds
    python sweeps/rd_curve_vitasnet.py --data pulses:conditions=noise_0+noise_1 --set 'variant="variational"'
    python sweeps/rd_curve_vitasnet.py --data speech:~/LibriSpeech/train-clean-100,unseen=~/VCTK --preset laptop
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from vaesweep.cli.script import main
from vaesweep.families.emd.forms import is_speech
from vaesweep.families.emd.presets import (
    DETERMINISTIC,
    DETERMINISTIC_EXP,
    LAPTOP,
    PAPER,
    PAPER_CONTROL,
    PAPER_TARGETS,
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
TWINS = {"deterministic": DETERMINISTIC, "deterministic_exp": DETERMINISTIC_EXP}


def presets(data: str) -> dict[str, Preset]:
    """`smoke` takes minutes on two cores, `laptop` an hour; `paper` is as the thesis has it (lines 1555 to 1567).

    Those of voices are larger: `laptop` takes hours, `paper` is for GPUs (lines 1515 to 1547).
    """
    if is_speech(data):
        return {
            "smoke": curve(SPEECH_SMOKE | QUICK_CONTROL, [3.0, 30.0], seeds=1),
            "laptop": curve(SPEECH | QUICK_CONTROL, [10.0, 100.0], seeds=1, twins={"deterministic": DETERMINISTIC}),
            "paper": curve(SPEECH_PAPER | PAPER_CONTROL, [64.0, 128.0, 256.0, 512.0], seeds=1),
        }
    return {
        "smoke": curve(SMOKE | QUICK_CONTROL, [0.1, 0.3, 1.0, 3.0, 10.0, 30.0], seeds=2),
        "laptop": curve(LAPTOP | QUICK_CONTROL, [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 50.0, 70.0, 100.0, 300.0], seeds=3),
        "paper": curve(PAPER | PAPER_CONTROL, PAPER_TARGETS, seeds=3),
    }


def curve(
    settings: Settings, targets: Sequence[float], seeds: int, twins: Mapping[str, Settings] = MappingProxyType(TWINS)
) -> Preset:
    """Cells towards `targets`, nats per sample, and as many of each twin as seeds."""
    axes = {TARGET: per_datum(targets, settings), "seed": list(range(seeds))}
    return Preset(settings | TARGET_CONTROL, axes, variants={"variational": {}}, twins=twins)


SWEEP = Sweep("rd_curve_vitasnet", "emd", presets, default_data="pulses")

if __name__ == "__main__":
    raise SystemExit(main(SWEEP, __doc__, report="vaesweep.families.emd.analysis.report:report"))
