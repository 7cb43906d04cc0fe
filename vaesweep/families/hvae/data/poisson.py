"""Noisy observations of solutions of Poisson equations, keyed by index (thesis, "Synthetic Poisson equation data set").

-Δh = f on the unit square with h = 0 on its border, for f(x, y) = sin(aπx) sin(bπy), has the solution
h = f / ((a² + b²) π²). The thesis takes a = b = 1 and a = b = 3; 16 x 16 pixels; Gaussian noise of scale 5e-3; 1024
observations in equal proportions, split 80/10/10.

It gives neither the grid nor the scale. With one standard deviation for all pixels, which is the scale here, only the
inner grid i / (size + 1) agrees with its numbers: the data's entropy, below which no model's negative ELBO is in
expectation, is 66.3 nats there, and the thesis reaches 67.6 (line 1786) on 102 test images, whose mean has a standard
error of 1.1.
With pixels from border to border the entropy is 80.8 nats, with pixels' centres at (i + 1/2) / size 73.9.

Observation i is a function of (i, condition) alone: solution number i modulo their count, and noise that is computed in
float64 and rounded to float32, so that arrays and fingerprint are equal on every machine.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri

from vaesweep.data.counters import Stream, uniform
from vaesweep.data.domains import DataSet, Domain, Role
from vaesweep.families.hvae.data.config import Grid, ImagesConfig, PoissonCondition
from vaesweep.families.hvae.data.parts import data_set

KIND = "poisson"
SIZE = 16
PARTS = {Role.TRAIN: 820, Role.VALID: 102, Role.TEST: 102}  # of 1024, rounded as in `domains.partition`
SHIFTS: Mapping[str, Mapping[str, Any]] = {  # not in the thesis
    "noise_2": {"noise": 1e-2},  # twice the noise
    "modes_2": {"modes": (2,)},  # a = b = 2
}


def solutions(condition: PoissonCondition) -> np.ndarray:
    """The noiseless images `[mode, size, size]`, float64, on the condition's grid."""
    size = condition.size
    line = np.linspace(0, 1, size) if condition.grid is Grid.BORDERED else np.arange(1, size + 1) / (size + 1)
    waves = np.sin(np.pi * np.array(condition.modes)[:, None] * line)
    scale = 2 * (np.pi * np.array(condition.modes)) ** 2
    return waves[:, :, None] * waves[:, None, :] / scale[:, None, None]


def observe(condition: PoissonCondition, indices: np.ndarray) -> np.ndarray:
    """The observations `[row, 1, size, size]`, float32, of `indices` `[row]`."""
    pixels = torch.arange(condition.size**2)
    draws = uniform(Stream.PIXELS, torch.as_tensor(indices)[:, None], pixels).numpy() + 2.0**-54  # never zero
    noise = ndtri(draws).reshape(-1, condition.size, condition.size)
    images = solutions(condition)[indices % len(condition.modes)] + condition.noise * noise
    return images.astype(np.float32)[:, None]


def load(shifts: Sequence[str], config: ImagesConfig) -> DataSet:
    """The 1024 observations, and as many of each of `shifts`, names of `SHIFTS`, as there are for testing.

    Training observations are the first 820 indices, then come validation and test, then each shift in the order of
    `SHIFTS`: its rows do not depend on which others are asked for.
    """
    training = PoissonCondition(size=config.size or SIZE, grid=config.grid)
    splits = [(f"{KIND}.{role}", role, training, rows) for role, rows in PARTS.items()]
    splits += [
        (f"{KIND}_{name}", Role.UNSEEN, training.model_copy(update=dict(shift)), PARTS[Role.TEST])
        for name, shift in SHIFTS.items()
    ]
    domains, start = [], 0
    for name, role, condition, rows in splits:
        if role is not Role.UNSEEN or name.removeprefix(f"{KIND}_") in shifts:
            indices = np.arange(start, start + rows)[: config.rows.of(role)]
            arrays = {"images": observe(condition, indices), "indices": indices}
            domains.append(Domain(name, role, arrays, condition))
        start += rows
    return data_set(domains)
