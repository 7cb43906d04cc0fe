"""Voices that are none: noise shaped by a slow envelope, for tests of what reads recordings."""

from pathlib import Path
from typing import Any

import numpy as np

from vaesweep.families.emd.data.speech import audio

RATE = 16000
SEPARATOR: dict[str, Any] = {  # of two voices, small enough for tests
    "data.kind": "speech",
    "data.seconds": 0.5,
    "model.latents": 8,
    "model.masker.kind": "tasnet",
    "model.masker.bottleneck": 8,
    "model.masker.hidden": 8,
    "model.masker.skip": 4,
    "model.masker.repeats": 1,
    "model.masker.blocks": 3,
}


def voice(seed: int, seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    """A signal `[time]` with syllables, of largest sample 0.3."""
    draw = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * (2 + seed % 3) * time + seed)
    signal = envelope * np.convolve(draw.normal(size=len(time)), np.ones(4) / 4, mode="same")
    return (0.3 * signal / np.abs(signal).max()).astype(np.float32)


def write_voices(folder: Path) -> Path:
    """Eight speakers with a recording each, of 1.1 to 1.3 seconds, in the new `folder`."""
    for speaker in range(8):
        (folder / f"s{speaker}").mkdir(parents=True)
        audio.write(folder / f"s{speaker}" / "a.wav", voice(speaker, 1.1 + 0.1 * (speaker % 3)), RATE)
    return folder
