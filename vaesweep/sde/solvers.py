"""Solvers of a fixed step, one step each: Euler-Maruyama, Euler-Heun, reversible Heun. Stateless, for diagonal noise.

Orders of convergence: Kloeden and Platen (1992) for the first, its Stratonovich twin by the same expansion, and Kidger
et al. (2021b, "Efficient and accurate gradients for neural SDEs") for the reversible one. `tests/sde` measures them.
A solver never branches on values and changes no tensor in place: it runs under autograd, `torch.func` and a compiler.
"""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vaesweep.sde.terms import Sde, Terms


class Carry(NamedTuple):
    """The state between two steps, `[batch, *latent]`; `twin` and the last `terms` are reversible Heun's own."""

    state: Tensor
    running: Tensor | None = None
    against: Tensor | None = None
    twin: Tensor | None = None
    terms: Terms | None = None


class Orders(NamedTuple):
    """Orders of convergence, powers of the step in the error: of paths (`strong`) and of expectations (`weak`)."""

    strong: float
    weak: float


class Solver(ABC):
    """One step of a scheme, with the calculus that it solves and its orders of convergence.

    `additive` are the orders where the diffusion does not depend on the state, `diagonal` where that of each component
    depends on this component alone, and `ordinary` is the order without noise.

    `exact_rate` says whether, where the noise is additive, the path rate of a latent SDE is the KL divergence of the
    two chains that the steps themselves make, so that a bound with it is a bound whatever the step: the drift and u
    must not see the step's own noise. Otherwise it is one only as the steps become small.
    """

    name: str
    calculus: Literal["ito", "stratonovich"]
    additive: Orders
    diagonal: Orders
    ordinary: int
    exact_rate: bool

    def begin(self, sde: Sde, start: Tensor) -> Carry:
        """The carry before the first step, given the state `[batch, *latent]` at depth 0."""
        return Carry(start)

    @abstractmethod
    def step(self, sde: Sde, carry: Carry, s: float, end: float, dw: Tensor) -> Carry:
        """The carry after a step from depth `s` to `end` along the increment `dw` `[batch, *latent]`."""


class EulerMaruyama(Solver):
    """y' = y + f(s, y) ds + g(s, y) dW. One evaluation a step."""

    name = "euler_maruyama"
    calculus = "ito"
    additive = Orders(1.0, 1.0)
    diagonal = Orders(0.5, 1.0)
    ordinary = 1
    exact_rate = True

    def step(self, sde: Sde, carry: Carry, s: float, end: float, dw: Tensor) -> Carry:
        """One step."""
        terms = sde.at(s, carry.state)
        return _explicit(carry, terms, terms.diffusion, end - s, dw)


class EulerHeun(Solver):
    """ŷ = y + g(s, y) dW, y' = y + f(s, y) ds + (g(s, y) + g(s', ŷ)) dW / 2.

    Two evaluations a step, one where the noise is additive: ŷ is then not needed, and this is Euler-Maruyama.
    """

    name = "euler_heun"
    calculus = "stratonovich"
    additive = Orders(1.0, 1.0)
    diagonal = Orders(1.0, 1.0)
    ordinary = 1
    exact_rate = True

    def step(self, sde: Sde, carry: Carry, s: float, end: float, dw: Tensor) -> Carry:
        """One step."""
        terms = sde.at(s, carry.state)
        diffusion = terms.diffusion
        if not sde.additive:
            ahead = sde.at(end, torch.addcmul(carry.state, diffusion, dw))
            diffusion = (diffusion + ahead.diffusion) / 2
        return _explicit(carry, terms, diffusion, end - s, dw)


class ReversibleHeun(Solver):
    """ŷ' = 2y - ŷ + f ds + g dW, y' = y + (f + f') ds / 2 + (g + g') dW / 2, fields at ŷ and ŷ' (Kidger et al. 2021b).

    One evaluation a step and one to begin with. Each step can be undone in closed form. Integrals beside the state are
    taken along ŷ. Strong order 1/2 is proven for noise that does not commute; diagonal noise commutes, and there the
    difference of ŷ and y, of order 1/2, cancels between both ends of a step.

    f' at ŷ' sees the increment of its own step, which a latent SDE's optimiser can use to undo the noise at a cost that
    is too small: path rates are no divergences, and bounds with them are none (`exact_rate`).
    """

    name = "reversible_heun"
    calculus = "stratonovich"
    additive = Orders(1.0, 2.0)
    diagonal = Orders(1.0, 1.0)
    ordinary = 2
    exact_rate = False

    def begin(self, sde: Sde, start: Tensor) -> Carry:
        """The carry before the first step, with the twin at the state."""
        return Carry(start, twin=start, terms=sde.at(0.0, start))

    def step(self, sde: Sde, carry: Carry, s: float, end: float, dw: Tensor) -> Carry:
        """One step. RuntimeError of a carry that another solver began."""
        if carry.twin is None or carry.terms is None:
            raise RuntimeError("reversible Heun steps on from what it began")
        old, half = carry.terms, (end - s) / 2
        twin = torch.addcmul(torch.add(2 * carry.state - carry.twin, old.drift, alpha=end - s), old.diffusion, dw)
        new = sde.at(end, twin)
        state = torch.add(carry.state, old.drift + new.drift, alpha=half)
        state = torch.addcmul(state, old.diffusion + new.diffusion, dw, value=0.5)
        running = _plus(_plus(carry.running, old.running, half), new.running, half)
        return Carry(state, running, _ito(carry.against, old.against, dw), twin, new)


SOLVERS: dict[str, Solver] = {solver.name: solver for solver in (EulerMaruyama(), EulerHeun(), ReversibleHeun())}


def _explicit(carry: Carry, terms: Terms, diffusion: Tensor, ds: float, dw: Tensor) -> Carry:
    """A step by the drift at its start."""
    state = torch.addcmul(torch.add(carry.state, terms.drift, alpha=ds), diffusion, dw)
    return Carry(state, _plus(carry.running, terms.running, ds), _ito(carry.against, terms.against, dw))


def _plus(total: Tensor | None, integrand: Tensor | None, ds: float) -> Tensor | None:
    if integrand is None:
        return total
    return integrand * ds if total is None else torch.add(total, integrand, alpha=ds)


def _ito(total: Tensor | None, integrand: Tensor | None, dw: Tensor) -> Tensor | None:
    if integrand is None:
        return total
    return integrand * dw if total is None else torch.addcmul(total, integrand, dw)
