"""Settings that sweeps of hierarchies share: sizes, and the thesis' numbers with their lines; others are ours.

On one core a step of the thesis' models takes 13 to 20 seconds (Poisson) and 19 to 24 (binary images), the continuous
ones the longer: `paper` is for a GPU. The other sizes have narrower blocks and smaller batches, and otherwise the
thesis' hierarchy, step and free nats.
"""

from typing import Any

from vaesweep.families.hvae.models.names import INITIAL, level_name

Settings = dict[str, Any]

CONTINUOUS: Settings = {"model.depth.kind": "continuous"}
ODE_LIKE: Settings = {"model.depth.kind": "ode_like"}
BLOCKS: Settings = {"model.depth.kind": "discrete", "model.depth.blocks": 3}  # of a level, thesis Figures 1 and 2
STEPS = (3, 5, 10, 20, 50, 100)  # a level, after training with 10; thesis Figures 4 and 5 show 3 to some 100 (1000)

WARM_UP: Settings = {"rates.total.kind": "sigmoid", "rates.total.steps": 1000}  # line 1889, of 4000 steps


def free_nats(levels: int) -> Settings:
    """Free nats: one of the initial value and one of each level (line 1889)."""
    names = (INITIAL, *(level_name(level) for level in range(levels)))
    return {f"free_nats.{name}.{key}": value for name in names for key, value in (("nats", 1.0), ("per", "group"))}


CLIP_NORM = 100.0  # ours: the thesis says nothing of clipping
POISSON: Settings = {
    "model.size": 16,
    "model.observation": "gaussian",
    "model.latents": 4,  # line 1883
    "training.clip_norm": CLIP_NORM,
    "evaluation.repeats": 8,  # of some hundred images, of which a rare draw may cost thousands of nats
}
BINARY: Settings = {
    "model.size": 28,
    "model.observation": "bernoulli",
    "model.latents": 16,  # line 1891
    "training.clip_norm": CLIP_NORM,
}
GREY: Settings = {  # 8 bits; the thesis has no such images
    "model.size": 32,
    "model.observation": "logistic",
    "model.latents": 8,
    "training.clip_norm": CLIP_NORM,
    "evaluation.repeats": 1,
}
PAPER_POISSON: Settings = (
    POISSON
    | free_nats(levels=3)
    | {
        "model.width": 128,  # line 1883
        "model.hidden": 128,
        "model.depth.hidden": 128,  # line 1888
        "training.steps": 4000,  # line 1881
        "training.batch_size": 128,
        "training.learning_rate": 3e-4,
        "training.schedule.kind": "constant",
    }
)
PAPER_BINARY: Settings = (
    BINARY
    | free_nats(levels=3)
    | {
        "model.width": 256,  # line 1891
        "model.hidden": 256,
        "model.depth.hidden": 128,
        "training.steps": 50000,
        "training.batch_size": 32,
        "training.learning_rate": 1e-3,
        "training.schedule.kind": "cosine",
        "training.schedule.final_share": 0.1,
    }
)
# Chosen on validation images of Larochelle's binarised MNIST at equal time (docs/hierarchies.md): one level of 7 x 7
# latent pixels with many channels makes more of a core than several levels of few.
_WIDE: Settings = {
    "model.levels": 1,
    "model.finest": 4,
    "model.latents": 8,
    "model.width": 96,
    "model.hidden": 48,
    "model.encoder_blocks": 1,
    "model.depth.hidden": 48,
    "model.top": 32,
    "model.biases": True,
    "model.mean_image": True,
    "training.batch_size": 32,
    "training.steps": 1200,
    "training.learning_rate": 3e-3,
    "training.warm_up": 100,
    "training.skip.most": 10,
    "training.precision": "bfloat16",
}
_NARROW: Settings = {"model.width": 32, "model.hidden": 16, "model.depth.hidden": 16, "model.encoder_blocks": 1}


def is_binary(data: str) -> bool:
    """Whether what `--data` names has binary pixels."""
    return "mnist" in data.partition(":")[0]


def is_grey(data: str) -> bool:
    """Whether what `--data` names has grey pixels of 8 bits."""
    return data.partition(":")[0] == "folder"


def paper(data: str) -> Settings:
    """The thesis' sizes; of grey images those of Poisson ones."""
    if is_grey(data):
        return PAPER_POISSON | GREY
    return PAPER_BINARY if is_binary(data) else PAPER_POISSON


def laptop(data: str) -> Settings:
    """Narrow blocks and small batches: minutes a cell."""
    shared = _NARROW | {"training.batch_size": 32, "training.learning_rate": 2e-3, "training.steps": 1200}
    if is_binary(data):
        return BINARY | free_nats(levels=1) | _WIDE
    if is_grey(data):
        return GREY | free_nats(levels=2) | shared | {"model.levels": 2, "model.finest": 2}
    return POISSON | free_nats(levels=3) | shared


def blocks(data: str) -> Settings:
    """The discrete levels of `laptop` and `smoke`."""
    return BLOCKS | {"model.depth.blocks": 4, "model.depth.zero_prior": True} if is_binary(data) else BLOCKS


def smoke(data: str) -> Settings:
    """Sizes for a few hundred steps."""
    few: Settings = {"model.width": 16, "model.hidden": 8, "model.depth.hidden": 8, "training.batch_size": 16}
    if is_binary(data):
        few |= {"data.rows.train": 2000, "data.rows.valid": 200, "data.rows.test": 200, "training.warm_up": 20}
        few |= {"training.precision": "float32"}
    elif not is_grey(data):
        few |= {"evaluation.repeats": 2}
    return laptop(data) | few | {"training.steps": 400, "training.learning_rate": 3e-3}
