"""The masker of TDANet (Li, Yang and Hu, 2023): what all resolutions say of the whole signal directs each of them.

    x ─ 1×1 ─ gLN ─ PReLU ─ depthwise ─┬─ depthwise /2 ─┬─ … ─ depthwise /2 ─┐
                                       └── mean ────────┴── mean ─────────── + ─ attention ─ dense ─► global
    global ─► + every resolution:  f_1 … f_L
    f_L ─► direct f_{L-1} ─► direct f_{L-2} ─► … ─► direct f_1 ─ 1×1 ─ + x ─►

    direct:  gLN(depthwise(fine)) · σ(gLN(depthwise(coarse))) + gLN(depthwise(coarse))

One such block, the same weights every time, is gone through again and again, its input the encoding and what it has
made of it. The published model has dropout; this one has none, since a training step is a function of its batch. The
first two resolutions to meet on the way back are the two coarsest, as in the paper's figure.
"""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vaesweep.families.emd.models.attention import SelfAttention, check_heads, positional_encoding
from vaesweep.families.emd.models.layers import OddKernel, Pointwise1d, depthwise
from vaesweep.families.emd.models.norms import GlobalLayerNorm
from vaesweep.packing import Frozen


class TdaNetConfig(Frozen):
    """The shape of a TDANet masker; the defaults are those of the published configuration."""

    kind: Literal["tdanet"] = "tdanet"
    bottleneck: int = Field(128, ge=1, description="channels between repeats")
    hidden: int = Field(512, ge=1, description="channels within the block")
    resolutions: int = Field(5, ge=2, description="L, each half the one before")
    heads: int = Field(8, ge=1, description="of the attention over the coarsest frames")
    repeats: int = Field(16, ge=1, description="times that the one block is gone through")
    kernel: OddKernel = 5

    @model_validator(mode="after")
    def _heads_share_the_channels(self) -> Self:
        check_heads(self.hidden, self.heads)
        return self


class TdaNet(nn.Module):
    """Masks' parameters from an encoding, any real number: `[batch, features, frames]` to `[…, outputs, frames]`."""

    def __init__(self, features: int, outputs: int, config: TdaNetConfig) -> None:
        super().__init__()
        width = config.bottleneck
        self.enter = nn.Sequential(GlobalLayerNorm(features), Pointwise1d(features, width))
        self.block = TopDownBlock(config)
        self.again = nn.Sequential(depthwise(width, 1), nn.PReLU())
        self.repeats = config.repeats
        self.leave = nn.Sequential(nn.PReLU(), Pointwise1d(width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """One number an output and frame, each from all frames."""
        start = self.enter(x)
        x = self.block(start)
        for _ in range(self.repeats - 1):
            x = self.block(self.again(start + x))
        return self.leave(x)


class TopDownBlock(nn.Module):
    """Successively halved resolutions, directed by the global features of all: `[batch, bottleneck, frames]`."""

    def __init__(self, config: TdaNetConfig) -> None:
        super().__init__()
        hidden, kernel = config.hidden, config.kernel
        self.expand = nn.Sequential(Pointwise1d(config.bottleneck, hidden), GlobalLayerNorm(hidden), nn.PReLU())
        strides = [1] + [2] * (config.resolutions - 1)
        self.downsample = nn.ModuleList(
            nn.Sequential(depthwise(hidden, kernel, stride=stride), GlobalLayerNorm(hidden)) for stride in strides
        )
        self.whole = GlobalFeatures(config)
        self.direct = nn.ModuleList(Directed(hidden, kernel) for _ in strides[1:])
        self.contract = Pointwise1d(hidden, config.bottleneck)

    def forward(self, x: Tensor) -> Tensor:
        """`x` plus the finest resolution as the coarser ones direct it."""
        level = self.expand(x)
        levels = [level := step(level) for step in self.downsample]
        frames = levels[-1].shape[-1]
        whole = self.whole(sum(averaged(level, frames) for level in levels))
        *finer, total = [level + stretched(whole, level.shape[-1]) for level in levels]
        for direct, fine in zip(self.direct, reversed(finer), strict=True):
            total = direct(fine, total)
        return x + self.contract(total)


class GlobalFeatures(nn.Module):
    """Attention over frames, then dense layers around a convolution, each added: `[batch, hidden, frames]`."""

    def __init__(self, config: TdaNetConfig) -> None:
        super().__init__()
        hidden, inner = config.hidden, 2 * config.hidden
        self.before, self.after = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.attention = SelfAttention(hidden, config.heads)
        self.think = nn.Sequential(
            Pointwise1d(hidden, inner, bias=False),
            GlobalLayerNorm(inner),
            depthwise(inner, config.kernel),
            nn.ReLU(),
            Pointwise1d(inner, hidden, bias=False),
            GlobalLayerNorm(hidden),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The features after attention and dense layers, in the shape of `x`."""
        frames = self.before(x.mT)
        x = x + self.after(self.attention(frames + positional_encoding(frames))).mT
        return x + self.think(x)


class Directed(nn.Module):
    """Fine features gated and shifted by coarse ones, `[batch, channels, frames]` each, in the shape of the fine."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.fine, self.gate, self.shift = (
            nn.Sequential(depthwise(channels, kernel, bias=False), GlobalLayerNorm(channels)) for _ in range(3)
        )

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """`fine` in every frame times the gate of its part of `coarse`, plus the shift of it."""
        frames = fine.shape[-1]
        gate = stretched(self.gate(coarse).sigmoid(), frames)
        return self.fine(fine) * gate + stretched(self.shift(coarse), frames)


def averaged(x: Tensor, frames: int) -> Tensor:
    """The means over `frames` stretches of `x` `[batch, channels, …]`, which overlap where they cannot be equal."""
    return nn.functional.adaptive_avg_pool1d(x, frames)


def stretched(x: Tensor, frames: int) -> Tensor:
    """`frames` frames, each the one of `x` `[batch, channels, …]` that lies at the same share of the signal."""
    return x[..., torch.arange(frames, device=x.device) * x.shape[-1] // frames]
