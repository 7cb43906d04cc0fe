"""Random masks of observed dimensions, and noise that undoes rounding (thesis, "Missingness", Figure 9).

Both are called on every batch of dynamic missingness, hence few tensor operations. Static missingness is one call of
`draw` for the whole training set.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

WHOLLY_MISSING = 0.1  # share of data of which nothing is observed
WHOLLY_OBSERVED = 0.1


def draw(rows: int, dims: int, generator: torch.Generator) -> Tensor:
    """Draw observed dimensions completely at random: bool `[rows, dims]` on the generator's device.

    Each datum has its own share of missing dimensions `rho ~ U[0, 1]`, after which 10 % of data are made wholly
    missing and 10 % wholly observed; each dimension is then missing with probability `rho`, independently.

    `rho` and the two exceptions come from one uniform number per datum, stretched to [-1/8, 9/8) and clamped: 10 % of
    it is clamped to 0 and 10 % to 1, and what lies between is uniform.
    """
    uniform = torch.rand(rows, dims + 1, generator=generator, device=generator.device)
    between = 1.0 - WHOLLY_MISSING - WHOLLY_OBSERVED
    rho = ((uniform[:, :1] - WHOLLY_OBSERVED) / between).clamp(0.0, 1.0)
    return uniform[:, 1:] >= rho


def draw_acquired(rows: int, dims: int, given: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw observed dimensions as acquisition leaves them: bool `[rows, dims]` on the generator's device.

    `given` dimensions are always observed, and m of the others, m uniform in 0 … all of them: every stage of acquiring
    a datum is equally frequent. These m are chosen completely at random, since no one order suits every model.
    """
    score = torch.rand(rows, dims, generator=generator, device=generator.device)
    score[:, list(given)] = -1.0
    acquirable = dims - len(given)
    m = torch.randint(0, acquirable + 1, (rows, 1), generator=generator, device=generator.device)
    return score.argsort(-1).argsort(-1) < len(given) + m


def dequantise(rows: Tensor, quantum: Tensor, generator: torch.Generator) -> Tensor:
    """Spread `rows` `[..., dim]` uniformly over the steps they were rounded to: plus or minus half a `quantum` `[dim]`.

    `quantum` is in the units of `rows`: divide it by the standard deviation for standardised rows.
    """
    noise = torch.rand(rows.shape, generator=generator, device=rows.device, dtype=rows.dtype)
    return rows + (noise - 0.5) * quantum
