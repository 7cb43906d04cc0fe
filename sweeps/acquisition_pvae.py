"""Acquiring audiograms with partial VAEs: which rate is best for which use (thesis study A, Figures 6 to 10).

Every cell acquires the audiograms of every domain by its own predictions and learns when to stop, so that each point
of the rate-distortion curve carries the area under its information curve, its stopping offset and its stopping index.

    python sweeps/acquisition_pvae.py                                       synthetic, static and dynamic missingness
    python sweeps/acquisition_pvae.py --data nhanes:DIR                     real audiograms, seen and unseen years
    python sweeps/acquisition_pvae.py --preset steps --data nhanes:DIR      what each change to the model gives
"""

from vaesweep.analysis import acquisition
from vaesweep.cli.script import main
from vaesweep.families.pvae import PAPER_SEEDS_REAL, PAPER_SEEDS_SYNTHETIC, PAPER_TARGETS
from vaesweep.sweep.cells import Preset, Sweep

TARGET = "rates.total.target"  # nats per datum
CURVE = {"rates.total.kind": "target", "acquisition.rules": ("variance", "random", "unweighted")}
EVERY_RULE = ("variance", "unweighted", "random", "single_best", "information")
REGIMES = {
    "static": {"data.missingness": "static", "data.dequantise": False},
    "dynamic": {"data.missingness": "dynamic", "data.dequantise": True},
}


def presets(data: str) -> dict[str, Preset]:
    """`steps` changes the model one thing at a time; the others are rate sweeps, `paper` as the thesis has it."""
    synthetic = data.startswith("synthetic")
    seeds = PAPER_SEEDS_SYNTHETIC if synthetic else PAPER_SEEDS_REAL
    base = CURVE | {"acquisition.threshold": 5.0 if synthetic else 7.0}  # dB, thesis Figure 9
    regimes = REGIMES if synthetic else {"dynamic": REGIMES["dynamic"]}
    return {
        "smoke": Preset(
            base | {"training.steps": 2500, "acquisition.rows": 256, "acquisition.samples": 50},
            {TARGET: [0.5, 1.0, 2.0, 3.0, 5.0, 8.0], "seed": [0, 1, 2]},
            regimes,
        ),
    }


if __name__ == "__main__":
    raise SystemExit(main(Sweep("acquisition_pvae", "pvae", presets), __doc__, further=acquisition.report))
