"""The masker of Conv-TasNet: a temporal convolutional network (Luo and Mesgarani, 2019).

    encoding ─ gLN ─ 1×1 ─► x ─┬─ block ─ residual ─ + ─┬─ block ─ residual ─ + ─► … ─ block
                               │    │                │  │    │                │           │
                               └────┼────────────────┘  └────┼────────────────┘           │
                                    └─ skip ─────────────────┴─ skip ────────────── skip ─┴─ mean ─ PReLU ─ 1×1 ─► masks

A block: 1×1 ─ PReLU ─ gLN ─ dilated depthwise ─ PReLU ─ gLN ─ 1×1; the last layer gives residual and skip side by side.
The dilation doubles from block to block and starts anew in every repeat.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from vaesweep.families.emd.models.layers import OddKernel, Pointwise1d, depthwise
from vaesweep.families.emd.models.norms import GlobalLayerNorm
from vaesweep.packing import Frozen


class TasNetConfig(Frozen):
    """The shape of a temporal convolutional network; the defaults are Conv-TasNet's and the thesis' (line 1563)."""

    kind: Literal["tasnet"] = "tasnet"
    bottleneck: int = Field(128, ge=1, description="channels between blocks")
    hidden: int = Field(512, ge=1, description="channels within a block")
    skip: int = Field(128, ge=1, description="channels of the sum over blocks")
    repeats: int = Field(3, ge=1)
    blocks: int = Field(8, ge=1, description="blocks a repeat, of dilation 1, 2, 4, ...")
    kernel: OddKernel = 3


class TemporalConvNet(nn.Module):
    """Masks' parameters from an encoding: `[batch, features, frames]` to `[batch, outputs, frames]`, any real number.

    The sum of the skips is divided by the number of blocks, which the thesis found more stable (line 1525). The last
    block's residual would reach nothing, so it has none: 65 664 fewer parameters than are counted in the paper's 5.1 M.
    """

    def __init__(self, features: int, outputs: int, config: TasNetConfig) -> None:
        super().__init__()
        self.widths = [config.bottleneck, config.skip]
        self.norm = GlobalLayerNorm(features)
        self.bottleneck = Pointwise1d(features, config.bottleneck)
        *dilations, last = [2**number for number in range(config.blocks)] * config.repeats
        self.blocks = nn.ModuleList(block(config, sum(self.widths), dilation) for dilation in dilations)
        self.last = block(config, config.skip, last)
        self.activation = nn.PReLU()
        self.masks = Pointwise1d(config.skip, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """One number an output and frame, each from all frames."""
        x = self.bottleneck(self.norm(x))
        skips = []
        for layer in self.blocks:
            residual, skip = layer(x).split(self.widths, dim=1)
            x = x + residual
            skips.append(skip)
        total = sum(skips, self.last(x))
        return self.masks(self.activation(total / (len(skips) + 1)))


def block(config: TasNetConfig, outputs: int, dilation: int) -> nn.Sequential:
    """A depthwise separable convolution between normalisations: `[batch, bottleneck, frames]` to `outputs` channels."""
    return nn.Sequential(
        Pointwise1d(config.bottleneck, config.hidden),
        nn.PReLU(),
        GlobalLayerNorm(config.hidden),
        depthwise(config.hidden, config.kernel, dilation=dilation),
        nn.PReLU(),
        GlobalLayerNorm(config.hidden),
        Pointwise1d(config.hidden, outputs),
    )
