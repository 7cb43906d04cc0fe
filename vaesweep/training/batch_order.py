"""Data order and noise as a function of (seed, step) alone.

No random state is kept: a resumed cell, a regrouped pack and every data-parallel worker draw what an uninterrupted
single process draws.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ORDER, NOISE, ROW_NOISE, READING = 0, 1, 2, 3  # independent streams of one seed


def generator(seed: int, stream: int, number: int, device: torch.device) -> torch.Generator:
    """A generator that depends on its arguments only; neighbouring seeds and numbers give unrelated streams."""
    return torch.Generator(device).manual_seed(_mixed(seed, stream, number) >> 1)


def _mixed(*numbers: int) -> int:
    """64 bits that depend on all of the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


@dataclass(frozen=True)
class Draws:
    """What is random about some rows of a step's batch, as a function of seed, step and place in the batch.

    `rows` `[batch]` are those of the whole batch, `share` the places in it that are drawn.
    """

    seed: int
    step: int
    rows: Tensor
    share: slice
    device: torch.device

    @property
    def places(self) -> range:
        """The places in the batch that are drawn."""
        return range(self.share.start, self.share.stop)

    def of_batch(self) -> torch.Generator:
        """A generator of the whole batch: who uses it draws the whole batch, and keeps the share."""
        return generator(self.seed, NOISE, self.step, self.device)

    def of_row(self, place: int) -> torch.Generator:
        """A generator of the row at one place: no other row's draws depend on it."""
        return torch.Generator(self.device).manual_seed(_mixed(self.seed, ROW_NOISE, self.step, place) >> 1)

    def number_of_row(self, place: int) -> int:
        """A number in [0, 2^62) that is the row's own, of what is read for it."""
        return _mixed(self.seed, READING, self.step, place) >> 2


class BatchOrder:
    """The rows of each step's batch: every epoch a fresh permutation, a last short batch left out."""

    def __init__(self, seed: int, rows: int, batch_size: int, device: torch.device) -> None:
        self._seed, self._rows, self._device = seed, rows, device
        self._batch = min(batch_size, rows)
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.long)

    def rows(self, step: int) -> Tensor:
        """Row numbers of step `step` (from 0): `[batch]`."""
        epoch, place = divmod(step, self._rows // self._batch)
        if epoch != self._epoch:
            order = torch.randperm(self._rows, generator=generator(self._seed, ORDER, epoch, torch.device("cpu")))
            self._permutation, self._epoch = order.to(self._device), epoch
        return self._permutation[place * self._batch : (place + 1) * self._batch]
