"""Data order and noise as a function of (seed, step) alone.

No random state is kept: a resumed cell, a regrouped pack and every data-parallel worker draw what an uninterrupted
single process draws.
"""

import numpy as np
import torch
from torch import Tensor

ORDER, NOISE = 0, 1  # independent streams of one seed


def generator(seed: int, stream: int, number: int, device: torch.device) -> torch.Generator:
    """A generator that depends on its arguments only; neighbouring seeds and numbers give unrelated streams."""
    mixed = np.random.SeedSequence((seed, stream, number)).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(mixed) >> 1)


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
