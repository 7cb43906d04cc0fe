"""Gamma samples as functions of standard normal noise, with gradients in the concentration.

Sampling is that of Marsaglia and Tsang (2000), "A simple method for generating gamma variables": G(c + 1) by
rejection, then G(c) = G(c + 1) U^(1/c), here in logarithms. A loop until acceptance would be a branch on a tensor, so
the number of proposals is fixed. At concentrations of at least one a proposal is rejected with probability 0.0484 or
less, hence all six with probability below 1.3e-8; the last one then stands.

One uniform number serves all tests and the power: where it lies within the interval that decided the tests is uniform
again, and independent of their outcome.

The gradient is implicit (Figurnov, Mohamed and Mnih 2018): dz/dc = -(∂F/∂c) / (∂F/∂z) of the distribution function F,
by the approximation that `torch.distributions` uses. Its relative error is below 0.0005, but reaches 0.025 at
concentrations below 0.1 for the rare samples above 0.8.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

PROPOSALS = 6
NUMBERS = PROPOSALS + 1  # of standard normal noise in one sample
NEAREST_TO_MINUS_ONE = -1 + 1e-6  # cube roots at most -1 are no proposals; from here on they are never accepted
SMALL = 1e-10  # below, F(z; c) = z^c / Γ(c + 1) to float64 rounding


def log_gamma_sample(concentration: Tensor, noise: Tensor, lowest: float = -math.inf) -> Tensor:
    """Logarithms of Gamma(concentration, 1) samples, at least `lowest`; `noise` is `[..., *shape, NUMBERS]`.

    Below `lowest` the gradient is that of a sample at `lowest`.
    """
    with torch.no_grad():
        log_sample = marsaglia_tsang(concentration, noise).clamp_min(lowest)
    return _Implicit.apply(*torch.broadcast_tensors(concentration, log_sample))


def marsaglia_tsang(concentration: Tensor, noise: Tensor) -> Tensor:
    """Logarithms of samples, not differentiable: `[*shape]` and `[..., *shape, NUMBERS]` to `[..., *shape]`."""
    d = concentration + 2 / 3
    proposals = (proposal(d, x) for x in noise[..., :PROPOSALS].unbind(-1))
    root, uniform = first_accepted(proposals, torch.special.ndtr(noise[..., PROPOSALS]))
    return d.log() + 3 * root + uniform.log() / concentration


def proposal(d: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """log(1 + t) of the proposal d (1 + t)³ that standard normal `x` makes, and its probability of rejection."""
    t = (x * (9 * d).rsqrt()).clamp_min(NEAREST_TO_MINUS_ONE)
    root = t.log1p()
    # log p = x²/2 + d - d v + d log v with v = (1 + t)³ and x² = 9 d t², less the powers of t that cancel.
    log_accept = 3 * d * (root - t * (1 - t * (0.5 - t / 3)))
    return root, -log_accept.clamp_max(0).expm1()


def first_accepted(proposals: Iterable[tuple[Tensor, Tensor]], uniform: Tensor) -> tuple[Tensor, Tensor]:
    """The first accepted proposal, else the last, and a uniform number independent of it, all in `uniform`'s shape.

    Of each proposal its probability of rejection is given. Proposal i is taken where `uniform` lies between the
    probabilities that i and that i - 1 proposals are rejected; its place between them is the new uniform number.
    """
    chosen, above, below = uniform, torch.ones_like(uniform), torch.ones_like(uniform)
    for candidate, reject in proposals:
        pending = uniform <= below
        chosen = torch.where(pending, candidate, chosen)
        above = torch.where(pending, below, above)
        below = torch.where(pending, below * reject, below)
    none = uniform <= below
    above, below = torch.where(none, below, above), torch.where(none, 0, below)
    tiny = torch.finfo(uniform.dtype).tiny
    return chosen, ((uniform - below) / (above - below).clamp_min(tiny)).clamp(tiny, 1)


def log_sample_gradient(concentration: Tensor, log_sample: Tensor) -> Tensor:
    """d log z / dc of a Gamma(c, 1) sample z at a fixed value of its distribution function, elementwise."""
    z = log_sample.exp().clamp_min(SMALL)
    at_zero = (torch.digamma(concentration + 1) - log_sample) / concentration
    return torch.where(log_sample < math.log(SMALL), at_zero, torch._standard_gamma_grad(concentration, z) / z)


class _Implicit(torch.autograd.Function):
    """`log_sample` as a function of `concentration`, of one shape."""

    @staticmethod
    def forward(concentration: Tensor, log_sample: Tensor) -> Tensor:
        return log_sample.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * log_sample_gradient(*ctx.saved_tensors), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, int | None], *inputs: Tensor) -> tuple[Tensor, int]:
        front = [x.unsqueeze(0) if dim is None else x.movedim(dim, 0) for x, dim in zip(inputs, in_dims, strict=True)]
        return _Implicit.apply(*torch.broadcast_tensors(*front)), 0
