"""Acquiring audiograms with partial VAEs: which rate is best for which use (thesis study A, Figures 6 to 10).

Every cell acquires the audiograms of every domain by its own predictions and learns when to stop, so that each point
of the rate-distortion curve carries the area under its information curve, its stopping offset and its stopping index.

    python sweeps/acquisition_pvae.py                                        synthetic, static and dynamic missingness
    python sweeps/acquisition_pvae.py --preset paper --data nhanes:DIR       real audiograms, seen and unseen years
    python sweeps/acquisition_pvae.py --preset rules                         all acquisition rules, ten seeds: Figure 6
    python sweeps/acquisition_pvae.py --preset steps --data nhanes:DIR       from the thesis' model to the best one
    python sweeps/acquisition_pvae.py --preset best --data nhanes:DIR        three seeds of the best one
    python sweeps/acquisition_pvae.py --preset splits --data nhanes:DIR      a short one on three splits, and mixtures
    python sweeps/acquisition_pvae.py --preset cycles --data nhanes:DIR      each cycle left out of training in turn
"""

from vaesweep.cli.script import main
from vaesweep.families.pvae.presets import (
    PAPER_SEEDS_REAL,
    PAPER_SEEDS_SYNTHETIC,
    PAPER_TARGETS,
    SHORT,
    STEPS_TO_THE_BEST,
    THESIS_CYCLES,
)
from vaesweep.sweep.cells import Preset, Sweep

TARGET = "rates.total.target"  # nats per datum
THRESHOLDS = {True: 5.0, False: 7.0}  # dB, of synthetic and real data: thesis Figure 9
REGIMES = {
    "static": {"data.missingness": "static", "data.dequantise": False},
    "dynamic": {"data.missingness": "dynamic", "data.dequantise": True},
}


def presets(data: str) -> dict[str, Preset]:
    """`smoke` and `laptop` take minutes on two cores; `paper` is as the thesis has it (line 770)."""
    synthetic = data.startswith("synthetic")
    threshold = {"acquisition.threshold": THRESHOLDS[synthetic]}
    adaptive = ("variance", "random", "unweighted", "unweighted_random")  # the latter two are the thesis' method
    curve = threshold | {"rates.total.kind": "target", "acquisition.rules": adaptive}
    small = curve | {"training.steps": 2500, "acquisition.rows": 256, "acquisition.samples": 50}
    paper = curve | {"training.steps": 16000, "training.evaluate_every": 400}
    seeds = list(range(PAPER_SEEDS_SYNTHETIC if synthetic else PAPER_SEEDS_REAL))
    thesis = ("unweighted", "unweighted_random", "unweighted_single_best")
    every = threshold | {
        "acquisition.rules": ("variance", "reduction", "random", "single_best", "information", *thesis)
    }
    steps = threshold | {"acquisition.rules": ("variance", "unweighted"), "acquisition.rows": 4096}
    best = STEPS_TO_THE_BEST["importance weighted"] | {"acquisition.rules": ("variance", "reduction")}
    return {
        "smoke": Preset(small, {TARGET: [0.5, 1.0, 2.0, 3.0, 5.0, 8.0], "seed": [0, 1, 2]}, REGIMES),
        "laptop": Preset(
            curve | {"training.steps": 8000}, {TARGET: list(PAPER_TARGETS[::3]), "seed": [0, 1, 2]}, REGIMES
        ),
        "paper": Preset(paper, {TARGET: list(PAPER_TARGETS), "seed": seeds}, REGIMES),
        "rules": Preset(every | {"training.steps": 16000}, {"seed": list(range(10))}),
        "steps": Preset(steps, {"seed": [0, 1, 2]}, STEPS_TO_THE_BEST),
        "best": Preset(steps | best, {"seed": [0, 1, 2]}),
        "splits": Preset(steps | best | SHORT, {"data.seed": [0, 1, 2], "seed": [0, 1]}),
        "cycles": Preset(steps | best | SHORT, {"data.held_out": list(THESIS_CYCLES), "seed": [0, 1]}),
    }


SWEEP = Sweep("acquisition_pvae", "pvae", presets, default_data="synthetic_wide")

if __name__ == "__main__":
    raise SystemExit(main(SWEEP, __doc__, report="vaesweep.families.pvae.analysis.report:report"))
