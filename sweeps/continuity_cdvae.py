"""Does a CD-VAE gain where its steps are made finer after training (thesis study C, Figures 4 and 5)?

Trains hierarchies that are continuous in depth, their ODE-like comparison and very deep VAEs, and evaluates those that
have steps with other steps than in training, along the same Brownian paths.

    python sweeps/continuity_cdvae.py                                   a look, on Poisson images
    python sweeps/continuity_cdvae.py --preset laptop                   five seeds, an answer
    python sweeps/continuity_cdvae.py --preset paper --data binarised_mnist:DIR --gpus 1
"""

from vaesweep.cli.script import main
from vaesweep.families.hvae.presets import (
    BLOCKS,
    CONTINUOUS,
    ODE_LIKE,
    STEPS,
    WARM_UP,
    Settings,
    blocks,
    laptop,
    paper,
    smoke,
)
from vaesweep.sweep.cells import Preset, Sweep


def presets(data: str) -> dict[str, Preset]:
    """`smoke` takes minutes on two cores, `laptop` most of an hour; `paper` is as the thesis has it."""
    return {
        "smoke": kinds(smoke(data) | {"rates.total.steps": 100}, blocks(data), seeds=2),
        "laptop": kinds(laptop(data) | {"rates.total.steps": 300}, blocks(data), seeds=5),
        "paper": kinds(paper(data), BLOCKS, seeds=3),
    }


def kinds(settings: Settings, discrete: Settings, seeds: int) -> Preset:
    """A cell of every kind of hierarchy and seed."""
    stepped = {"evaluation.steps": STEPS}
    variants = {"continuous": CONTINUOUS | stepped, "ODE-like": ODE_LIKE | stepped, "discrete": discrete}
    return Preset(WARM_UP | settings, {"seed": list(range(seeds))}, variants)


SWEEP = Sweep("continuity_cdvae", "hvae", presets, default_data="poisson")

if __name__ == "__main__":
    raise SystemExit(main(SWEEP, __doc__, report="vaesweep.families.hvae.analysis.report:report"))
