"""Acquisition measures every dimension once, by its rule, and judges each estimate as an exact Gaussian says it should.

The predictors are mixtures of Gaussians, whose conditionals are exact; with one component numpy knows every answer.
The last of six dimensions plays the age, which is given.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vaesweep.tasks.acquisition import (
    ExpectedInformation,
    FixedOrder,
    LargestVariance,
    RandomOrder,
    Rule,
)
from vaesweep.tasks.mixture import MixturePredictor
from vaesweep.tasks.predictive import Draws

CELLS, DIMS, AGE, ROWS = 3, 6, 5, 11
STEPS = DIMS - 1
MEAN = torch.tensor([20.0, 25.0, 35.0, 30.0, 40.0, 55.0], dtype=torch.float64)
STD = torch.tensor([12.0, 9.0, 20.0, 14.0, 17.0, 18.0], dtype=torch.float64)
ORDERS = torch.tensor([[3, 1, 4, 0, 2], [0, 1, 2, 3, 4], [4, 2, 0, 3, 1]])

MakeRule = Callable[[Tensor], Rule]
RULES: dict[str, MakeRule] = {
    "variance": lambda x: LargestVariance(),
    "random": lambda x: RandomOrder.of(x, seed=4),
    "fixed": lambda x: FixedOrder(ORDERS),
    "information": lambda x: ExpectedInformation(Draws.of(x, 3, seed=5)),
}


def mixtures(components: int, cells: slice = slice(None)) -> MixturePredictor:
    draw = torch.Generator().manual_seed(components)
    weights = 0.2 + torch.rand(CELLS, components, generator=draw, dtype=torch.float64)
    means = torch.randn(CELLS, components, DIMS, generator=draw, dtype=torch.float64)
    roots = torch.randn(CELLS, components, DIMS, DIMS, generator=draw, dtype=torch.float64)
    covariances = 0.2 * (roots @ roots.mT) + 0.1 * torch.eye(DIMS, dtype=torch.float64)
    weights = weights / weights.sum(-1, keepdim=True)
    return MixturePredictor(weights[cells], means[cells], covariances[cells], MEAN, STD)


def gaussian(cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance, physical units, of a cell of `mixtures(1)`."""
    nothing = torch.zeros(1, 1, DIMS, dtype=torch.bool)
    single = mixtures(1, slice(cell, cell + 1))
    mean = single.predict(MEAN.unsqueeze(0), nothing).mean[0, 0, 0]
    draw = torch.Generator().manual_seed(1)
    torch.rand(CELLS, 1, generator=draw, dtype=torch.float64)
    torch.randn(CELLS, 1, DIMS, generator=draw, dtype=torch.float64)
    root = torch.randn(CELLS, 1, DIMS, DIMS, generator=draw, dtype=torch.float64)[cell, 0]
    return mean.numpy(), (STD[:, None] * (0.2 * (root @ root.mT) + 0.1 * torch.eye(DIMS)) * STD).numpy()
