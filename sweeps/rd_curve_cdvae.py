"""Rate-distortion curves of hierarchical VAEs, continuous and discrete in depth (the thesis has none of study C).

Trains hierarchies towards many target rates, on the total of all their rates, and evaluates every cell on images like
those trained on and on others.

    python sweeps/rd_curve_cdvae.py                                     a small curve, on Poisson images
    python sweeps/rd_curve_cdvae.py --preset laptop --data poisson:unseen=noise_2+modes_2
    python sweeps/rd_curve_cdvae.py --preset paper --data mnist:DIR --gpus 1
"""

from collections.abc import Sequence

from vaesweep.cli.script import main
from vaesweep.families.hvae.presets import (
    BLOCKS,
    CONTINUOUS,
    Settings,
    blocks,
    is_binary,
    is_grey,
    laptop,
    paper,
    smoke,
)
from vaesweep.sweep.cells import Preset, Sweep
from vaesweep.sweep.settings import combine

TARGET = "rates.total.target"  # nats per image
CONTROL = {
    "rates.total.kind": "target",
    "rates.total.floor": 1e-5,
    "rates.total.step_size": 0.02,
    "rates.total.smoothing": 0.9,
    "training.schedule.kind": "constant",  # β moves with the learning rate, and so few steps leave it no time to wait
}
POISSON = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]  # which of the two solutions it is takes ln 2 = 0.69 nats
BINARY = [4.0, 8.0, 16.0, 24.0, 32.0, 48.0]


def presets(data: str) -> dict[str, Preset]:
    """`smoke` takes minutes on two cores, `laptop` most of an hour; `paper` has the thesis' sizes."""
    targets = BINARY if is_binary(data) or is_grey(data) else POISSON
    return {
        "smoke": curve(smoke(data) | {"training.steps": 300}, blocks(data), targets[2::2], seeds=2),
        "laptop": curve(laptop(data) | {"training.steps": 800}, blocks(data), targets[1:6], seeds=3),
        "paper": curve(paper(data), BLOCKS, targets, seeds=3),
    }


def curve(settings: Settings, discrete: Settings, targets: Sequence[float], seeds: int) -> Preset:
    """Cells of both kinds towards `targets`, without free nats: below a target there is nothing to be free of."""
    charged = {key: value for key, value in settings.items() if not key.startswith("free_nats")}
    variants = {"continuous": CONTINUOUS, "discrete": discrete}
    return Preset(combine(charged, CONTROL), {TARGET: list(targets), "seed": list(range(seeds))}, variants)


SWEEP = Sweep("rd_curve_cdvae", "hvae", presets, default_data="poisson")

if __name__ == "__main__":
    raise SystemExit(main(SWEEP, __doc__, report="vaesweep.families.hvae.analysis.report:report"))
