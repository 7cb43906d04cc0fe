"""Signals of any length taken apart in windows: gains that explain the mixture, speakers that stay, no seams.

    window ─ separated ─ gains that explain the mixture ─ speakers matched ─ faded into the last window

A signal is taken in windows, each half over the next, so that memory does not grow with it. Estimates of a window have
a gain, and a sign, of their own, since the likelihood leaves them free: those are taken whose sum comes closest to the
mixture (least squares). Speakers are matched to those of the window before by the half that they share.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from vaesweep.permutation import best_assignment

QUIET = 1e-10  # of a signal's energy: below it there is nothing to be matched or scaled

Separate = Callable[[np.ndarray, tuple[float, float]], np.ndarray]


def in_windows(
    separate: Separate, read: Callable[[int, int], np.ndarray], frames: int, sample_rate: int, window: float
) -> Iterator[np.ndarray]:
    """The sources piece after piece, `[speaker, piece]`, of `frames` samples that `read(start, count)` gives.

    `separate(mixture, span)` gives the sources `[speaker, time]` of a window, whose `span` is in seconds of the signal.
    No more than two windows of `window` seconds are held.
    """
    hop = max(round(window * sample_rate / 2), 1)
    rise = (np.arange(hop, dtype=np.float32) + 0.5) / hop
    tail = np.zeros((0, 0), np.float32)  # of the last window, its second half; that of the very last may be shorter
    for start in range(0, max(frames - hop, 1), hop):
        count = min(2 * hop, frames - start)
        sources = separate(read(start, count), (start / sample_rate, (start + count) / sample_rate))
        if start:
            sources = sources[matching(tail, sources[:, :hop])]
            yield tail * (1 - rise) + sources[:, :hop] * rise
        else:
            yield sources[:, :hop]
        tail = sources[:, hop:]
    if tail.shape[-1]:
        yield tail


def fitted(mixture: Tensor, estimates: Tensor) -> Tensor:
    """`estimates` `[speaker, time]`, each times the number with which their sum comes closest to `mixture` `[time]`.

    Nothing is made of silence: an estimate without energy stays silent, and so does all of a silent mixture.
    """
    energy = estimates.square().sum(-1)
    sounds = energy > QUIET * energy.max().clamp_min(torch.finfo(estimates.dtype).tiny)
    if not bool(mixture.square().sum() > 0) or not bool(sounds.any()):
        return torch.zeros_like(estimates)
    unit = torch.where(sounds, energy, 1.0).rsqrt().unsqueeze(-1) * estimates * sounds.unsqueeze(-1)
    gains = torch.linalg.lstsq(unit.T.double(), mixture.double().unsqueeze(-1), driver="gelsd").solution
    return (gains * unit.double()).to(estimates.dtype)


def matching(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """The order of `now` in which it comes closest to `before`, `[speaker, time]` each: `[speaker]`."""
    count = min(before.shape[-1], now.shape[-1])
    one, other = torch.as_tensor(before[:, :count]).double(), torch.as_tensor(now[:, :count]).double()
    losses = (one.unsqueeze(1) - other.unsqueeze(0)).square().sum(-1)
    return best_assignment(losses).order.numpy()
