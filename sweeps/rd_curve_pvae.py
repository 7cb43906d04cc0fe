"""Rate-distortion curve of the partial VAE of audiograms (thesis study A, Figure 7).

Trains the family towards many target rates, evaluates every cell on the training population's partitions and on unseen
populations, and draws distortion and negative ELBO against rate.

    python sweeps/rd_curve_pvae.py                                         a small curve on synthetic audiograms
    python sweeps/rd_curve_pvae.py --preset paper --data nhanes:DIR        the thesis' 45 targets and 3 seeds
    python sweeps/rd_curve_pvae.py --set model.latents=2 seed=[0,1,2,3]    any setting, any axis
"""

from vaesweep.cli.script import main
from vaesweep.families.pvae.presets import PAPER_SEEDS_REAL, PAPER_SEEDS_SYNTHETIC, PAPER_TARGETS
from vaesweep.sweep.cells import Preset, Sweep

TARGET = "rates.total.target"  # nats per datum
CONTROL = {"rates.total.kind": "target"}


def presets(data: str) -> dict[str, Preset]:
    """`smoke` and `laptop` take minutes on two cores; `paper` is as the thesis has it (line 770)."""
    seeds = PAPER_SEEDS_SYNTHETIC if data.startswith("synthetic") else PAPER_SEEDS_REAL
    return {
        "smoke": Preset(
            base=CONTROL | {"training.steps": 2500},
            axes={TARGET: [0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0], "seed": [0, 1, 2]},
        ),
        "laptop": Preset(
            base=CONTROL | {"training.steps": 8000},
            axes={TARGET: list(PAPER_TARGETS[::3]), "seed": [0, 1, 2]},
        ),
        "paper": Preset(
            base=CONTROL | {"training.steps": 16000, "training.evaluate_every": 400},
            axes={TARGET: list(PAPER_TARGETS), "seed": list(range(seeds))},
        ),
    }


SWEEP = Sweep("rd_curve_pvae", "pvae", presets)

if __name__ == "__main__":
    raise SystemExit(main(SWEEP, __doc__))
