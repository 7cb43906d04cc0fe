"""Settings that sweeps of separators on Gaussian pulses share: sizes, and the thesis' numbers with their lines.

A rate per time step is R / T there, with T the samples of a signal (line 1523). The table at 1318 confirms it: with
everything penalised in full R_z is 4.08, and 512 gamma variables every eight samples with concentrations at softplus(0)
are 512 / 8 · 0.0636 = 4.07 nats from their prior. The project's controls count nats per datum, hence `per_datum`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

Settings = dict[str, Any]
SAMPLE_RATE = 8000  # Hz, samples a second

PAPER_TARGETS = tuple(10.0 ** (exponent / 4) for exponent in range(-12, 13))  # nats per sample, 1e-3 to 1e3: line 1609
EPOCH = 128  # steps: 2048 mixtures (line 1557) in batches of 16, of which the thesis does not say the size for pulses
SKIPPING: Settings = {"training.skip.norm": 1e9, "training.skip.most": 10}  # a rare step that is not finite ends none
# Nats per datum, above a usual gradient's norm: 100 to 12 000 where a signal has 2000 samples, and growing with their
# number. A bound of 10 always binds; it was measured neither to help nor to harm (docs/separation.md).
CLIP, PAPER_CLIP = 1e5, 1e6
SI_SDR: Settings = {"watch": "si_sdr.sample", "better": "more"}  # on validation mixtures: lines 1525 and 1566
PAPER: Settings = SKIPPING | {
    "data.replicate": 0,  # every seed has mixtures of its own (line 1557)
    "training.steps": 800 * EPOCH,  # line 1566; line 1525 for the patience of the schedule, 1566 for the stopping
    "training.batch_size": 16,
    "training.learning_rate": 3e-4,
    "training.clip_norm": PAPER_CLIP,
    "training.evaluate_every": EPOCH,
    "training.schedule.kind": "plateau",
    "training.schedule.patience": 50,
    **{f"training.{rule}.{key}": value for rule in ("schedule", "early_stopping") for key, value in SI_SDR.items()},
    "training.early_stopping.patience": 60,
    "evaluation.samples": 16,
}
PAPER_CONTROL: Settings = {"rates.total.initial": 1e-6, "rates.total.step_size": 0.01}  # line 1541

QUICK_CONTROL: Settings = {"rates.total.initial": 1e-2, "rates.total.step_size": 0.02, "rates.total.smoothing": 0.9}
LAPTOP: Settings = SKIPPING | {
    "data.replicate": 0,
    "data.condition.seconds": 0.5,
    "data.rows.test": 128,
    "training.steps": 2000,
    "training.batch_size": 8,
    "training.learning_rate": 2e-3,
    "training.clip_norm": CLIP,
    "evaluation.samples": 4,
}
SMOKE: Settings = LAPTOP | {
    "data.replicate": 1,  # the same mixtures for all: one compilation, and packs across seeds
    "data.condition.seconds": 0.25,
    "data.rows.train": 512,
    "data.rows.valid": 32,
    "data.rows.test": 32,
    "training.steps": 500,
    "training.learning_rate": 3e-3,
    "training.evaluate_every": 100,
}

TARGET_CONTROL: Settings = {"rates.total.kind": "target", "rates.total.floor": 1e-9}
DETERMINISTIC: Settings = {"model.encoding": "deterministic", "model.masks": "relu"}
DETERMINISTIC_EXP: Settings = DETERMINISTIC | {
    "model.masks": "exp"
}  # the mode of a log-normal mask, without its spread
SMALL_MASKERS: dict[str, Settings] = {  # of 7000 to 15 000 parameters for two sources of 32 channels
    name: {f"model.masker.{key}": value for key, value in {"kind": name, **sizes}.items()}
    for name, sizes in {
        "tasnet": {"bottleneck": 16, "hidden": 16, "skip": 8, "repeats": 1},
        "sudormrf": {"bottleneck": 16, "hidden": 32, "blocks": 3},
        "sepformer": {"width": 16, "heads": 4, "feedforward": 32, "layers": 1, "repeats": 1, "chunk": 32},
        "tdanet": {"bottleneck": 16, "hidden": 24, "resolutions": 4, "heads": 4, "repeats": 3},
        "mossformer2": {
            "width": 16,
            "blocks": 2,
            "group": 32,
            "query": 16,
            "rotated": 8,
            "memory": 16,
            "order": 8,
            "kernel": 9,
        },
    }.items()
}
SPEECH: Settings = SKIPPING | {  # Conv-TasNet of 0.37 M parameters, for two cores (docs/separation.md)
    "data.kind": "speech",
    "data.seconds": 2.0,
    "data.speed.low": 0.9,  # two hundred recordings are few: they are soon known by heart
    "data.speed.high": 1.1,
    "data.rows.valid": 32,
    "data.rows.test": 64,
    "model.latents": 256,
    "model.kernel": 32,  # a frame every 2 ms: half the work of the published 1 ms
    "model.stride": 16,
    "model.masker.kind": "tasnet",
    "model.masker.bottleneck": 64,
    "model.masker.hidden": 128,
    "model.masker.skip": 64,
    "model.masker.repeats": 2,
    "model.masker.blocks": 6,
    "training.steps": 10_000,
    "training.batch_size": 4,
    "training.learning_rate": 3e-3,
    "training.clip_norm": CLIP,
    "training.precision": "bfloat16",
    "training.evaluate_every": 1000,
    "evaluation.samples": 4,
}
SPEECH_SMOKE: Settings = SPEECH | {
    "data.seconds": 1.0,
    "data.rows.valid": 8,
    "data.rows.test": 8,
    "model.latents": 64,
    "model.masker.bottleneck": 16,
    "model.masker.hidden": 32,
    "model.masker.skip": 16,
    "model.masker.repeats": 1,
    "training.steps": 300,
    "training.evaluate_every": 100,
    "evaluation.samples": 2,
}
SPEECH_PAPER: Settings = PAPER | {  # on LibriMix: lines 1517 to 1541, with its TasNet's own sizes (line 921)
    "data.kind": "speech",
    "data.seconds": 3.0,
    "data.rows.valid": 3000,
    "data.rows.test": 3000,
    "model.latents": 512,
    "model.masker.kind": "tasnet",
    "training.steps": 200 * 3475,  # epochs of 13 900 mixtures in batches of 4
    "training.batch_size": 4,
    "training.evaluate_every": 3475,
    "training.early_stopping.keep": "best",
}
SPEECH_MASKERS: dict[str, Settings] = {  # of about as many parameters as Conv-TasNet's
    "tasnet": {key: value for key, value in SPEECH.items() if key.startswith("model.masker.")},
    "sudormrf": {
        "model.masker.kind": "sudormrf",
        "model.masker.bottleneck": 64,
        "model.masker.hidden": 128,
        "model.masker.blocks": 13,
    },
    "sepformer": {
        "model.masker.kind": "sepformer",
        "model.masker.width": 64,
        "model.masker.heads": 4,
        "model.masker.feedforward": 128,
        "model.masker.layers": 2,
        "model.masker.repeats": 2,
        "model.masker.chunk": 100,
    },
}
GAMMA_BETA: Settings = {"model.encoding": "gamma", "model.masks": "beta", "model.kl": "sample"}  # lines 1312 and 1533


def deterministic_twins(maskers: Mapping[str, Settings]) -> dict[str, Settings]:
    """A deterministic twin of every masker, `<name>_deterministic`, which findings compare with it."""
    return {f"{name}_deterministic": masker | DETERMINISTIC for name, masker in maskers.items()}


def per_datum(rates: Iterable[float], preset: Mapping[str, Any]) -> list[float]:
    """Rates in nats per sample of the signals of a preset, in nats per datum."""
    samples = SAMPLE_RATE * preset.get("data.seconds", preset.get("data.condition.seconds", 3.0))
    return [float(f"{rate * samples:.6g}") for rate in rates]
