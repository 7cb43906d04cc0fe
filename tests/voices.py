"""Voices that are none: noise shaped by a slow envelope, for tests of what reads recordings."""

import numpy as np

RATE = 16000


def voice(seed: int, seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    """A signal `[time]` with syllables, of largest sample 0.3."""
    draw = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * (2 + seed % 3) * time + seed)
    signal = envelope * np.convolve(draw.normal(size=len(time)), np.ones(4) / 4, mode="same")
    return (0.3 * signal / np.abs(signal).max()).astype(np.float32)
