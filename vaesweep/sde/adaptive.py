"""Steps as small as a tolerance asks for, and the stochastic adjoint (Li et al. 2020), by torchsde.

The augmented state goes through torchsde as one flat vector, state and path rate, of which the state alone is driven
by the Brownian motion. Solutions are Stratonovich, by the midpoint rule; where the diffusion does not depend on the
state they are the Ito ones too. This is for looking closely at a trained model, not for packs: one step size serves the
whole batch, and `torch.func` cannot map it.

The midpoint rule's field sees the increment of its own step, and the step's size depends on the noise: a path rate is
an estimate here, and no divergence at any tolerance.
"""

from typing import Any, NamedTuple

import torch
import torchsde
from torch import Tensor

from vaesweep.errors import UserError
from vaesweep.sde.terms import Sde

FIRST_STEP, SMALLEST_STEP = 2.0**-2, 2.0**-12
RESOLUTION = 1e-7  # of depth: torchsde rounds to so many decimals, far below the smallest step
METHOD = "midpoint"


class AdaptiveSolution(NamedTuple):
    """State and integral beside it at depth 1, `[batch, *latent]`, and the number of evaluations of the field."""

    state: Tensor
    running: Tensor | None
    evaluations: int


def adaptive(sde: Sde, start: Tensor, entropy: int, *, tolerance: float, adjoint: bool = False) -> AdaptiveSolution:
    """The solution from `start` `[batch, *latent]` along the Brownian path of `entropy`, the same at every tolerance.

    A step is as large as keeps the difference to two half steps, in root mean square over the batch of the augmented
    state, below `tolerance` (absolute, and relative to the state). With `adjoint` gradients are those of the adjoint
    SDE, solved backwards at the same tolerance: their memory does not grow with the steps, and they are approximate.
    Gradients flow to `start` and to the tensors of the `sde`. UserError of a tolerance that is not positive.
    """
    if not tolerance > 0:
        raise UserError(f"tolerance of the adaptive solver must be above 0, not {tolerance}")
    flat = _Flat(sde, start)
    arguments: dict[str, Any] = {
        "bm": _path(start, entropy), "method": METHOD, "dt": FIRST_STEP, "dt_min": SMALLEST_STEP,
        "adaptive": True, "rtol": tolerance, "atol": tolerance,
    }  # fmt: skip
    depths = torch.tensor([0.0, 1.0], dtype=torch.float64, device=start.device)
    if adjoint:
        arguments |= {"adjoint_params": sde.tensors, "adjoint_adaptive": True}
        arguments |= {"adjoint_method": METHOD, "adjoint_rtol": tolerance, "adjoint_atol": tolerance}
        states = torchsde.sdeint_adjoint(flat, flat.begin, depths, **arguments)
    else:
        states = torchsde.sdeint(flat, flat.begin, depths, **arguments)
    state, *running = (part.unflatten(1, start.shape[1:]) for part in states[-1].split(flat.size, dim=1))
    return AdaptiveSolution(state, running[0] if running else None, flat.evaluations)


def path_increments(start: Tensor, entropy: int, steps: int) -> Tensor:
    """The increments `[batch, step, *latent]` of the path that `adaptive` follows from `start`, for a fixed step.

    A power of two is fast; grids finer than the smallest step of `adaptive` are not resolved.
    """
    path = _path(start, entropy)
    parts = [path(i / steps, (i + 1) / steps) for i in range(steps)]
    return torch.stack(parts, dim=1).unflatten(2, start.shape[1:])


def _path(start: Tensor, entropy: int) -> torchsde.BrownianInterval:
    """A Brownian path that depends on its `entropy` alone, not on the points at which it is read: a tree of halves."""
    size = (len(start), start[0].numel())
    tree = {"halfway_tree": True, "tol": RESOLUTION}
    return torchsde.BrownianInterval(0.0, 1.0, size, dtype=start.dtype, device=start.device, entropy=entropy, **tree)


class _Flat:
    """An SDE as torchsde takes it: `[batch, number]`, the state's numbers and then those of the integral beside it."""

    noise_type, sde_type = "diagonal", "stratonovich"

    def __init__(self, sde: Sde, start: Tensor) -> None:
        self._sde, self._shape, self.evaluations = sde, start.shape, 0
        state = start.flatten(1)
        self.size = state.shape[1]
        with torch.no_grad():
            running = sde.at(0.0, start).running
        self.begin = state if running is None else torch.cat([state, torch.zeros_like(state)], dim=1)

    def f_and_g_prod(self, s: Tensor, y: Tensor, dw: Tensor) -> tuple[Tensor, Tensor]:
        """The drift of the augmented state, and its diffusion times the increment."""
        self.evaluations += 1
        z = y[:, : self.size].unflatten(1, self._shape[1:])
        terms = self._sde.at(float(s), z)
        noise = (terms.diffusion * dw.unflatten(1, self._shape[1:])).flatten(1)
        drift = terms.drift.flatten(1)
        if terms.running is None:
            return drift, noise
        running = terms.running.flatten(1)
        return torch.cat([drift, running], dim=1), torch.cat([noise, torch.zeros_like(running)], dim=1)

    def g_prod(self, s: Tensor, y: Tensor, dw: Tensor) -> Tensor:
        """The diffusion of the augmented state times the increment."""
        return self.f_and_g_prod(s, y, dw)[1]
