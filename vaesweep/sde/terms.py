"""Stochastic differential equations for solvers: pure functions of depth, state and explicit tensors.

    dy = drift(s, y) ds + diffusion(s, y) dW,    diagonal noise, over unit depth s in [0, 1]

Fields are pure functions of all tensors that they depend on, so that a solver may evaluate them again in the backward
pass (`checkpoint`), under `torch.func` and in the stochastic adjoint (`adaptive`).
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

Tensors = tuple[Tensor, ...]


class Terms(NamedTuple):
    """The fields at one depth and state, `[batch, *latent]` each or broadcast to it.

    `running` is integrated beside the state, without noise: the augmented state of Li et al. (2020), elementwise.
    `against` is integrated against the Brownian increments, as an Ito integral: a log density ratio's martingale part.
    """

    drift: Tensor
    diffusion: Tensor
    running: Tensor | None = None
    against: Tensor | None = None


Field = Callable[[Tensors, float, Tensor], Terms]  # tensors, depth, state


class Sde(NamedTuple):
    """A field and all tensors that it depends on beside depth and state: parameters, context.

    Where it is `additive` the diffusion does not depend on the state; Ito and Stratonovich solutions are the same then,
    and no solver evaluates the field twice for the diffusion's sake.
    """

    field: Field
    tensors: Tensors = ()
    additive: bool = False

    def at(self, s: float, y: Tensor) -> Terms:
        """The terms at depth `s` and state `y` `[batch, *latent]`."""
        return self.field(self.tensors, s, y)
