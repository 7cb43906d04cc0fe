"""Normalisation of the maskers: the global layer norm of Luo and Mesgarani (2019)."""

from torch import nn


class GlobalLayerNorm(nn.GroupNorm):
    """gLN: zero mean and unit variance over channels and frames of each datum, then a gain and a bias a channel.

    It sees the whole signal, so what follows it is not causal. `[batch, channels, frames]` to the same shape.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels, eps=1e-8)
