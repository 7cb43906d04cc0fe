"""Remainders of Stirling's approximations, where log Γ and ψ themselves would cancel: KLs of gammas and of betas.

    log Γ(x) = (x - ½) log x - x + ½ log 2π + φ(x)            ψ(x) = log x + δ(x)

At x = 10⁵ log Γ is a million and a KL a few nats, of which float32 would keep one digit. Both remainders are small.
"""

import torch
from torch import Tensor

HALF_LOG_2PI = 0.9189385332046727
FROM = 8.0  # from here on the series are exact to float64's rounding beyond the eighth digit, and float32's entirely


def phi(x: Tensor) -> Tensor:
    """φ(x) = log Γ(x) - (x - ½) log x + x - ½ log 2π, elementwise, of positive `x`."""
    small, large = x.clamp_max(FROM), x.clamp_min(FROM)
    inverse = 1 / large
    square = inverse * inverse
    series = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188))))
    direct = torch.lgamma(small) - (small - 0.5) * small.log() + small - HALF_LOG_2PI
    return torch.where(x < FROM, direct, series)


def delta(x: Tensor) -> Tensor:
    """δ(x) = ψ(x) - log x, elementwise, of positive `x`."""
    small, large = x.clamp_max(FROM), x.clamp_min(FROM)
    inverse = 1 / large
    square = inverse * inverse
    series = -inverse / 2 - square * (
        1 / 12 - square * (1 / 120 - square * (1 / 252 - square * (1 / 240 - square / 132)))
    )
    return torch.where(x < FROM, torch.digamma(small) - small.log(), series)
