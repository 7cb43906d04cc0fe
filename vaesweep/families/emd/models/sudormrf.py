"""The masker of improved SuDoRM-RF (Tzinis et al., 2020; improved: Tzinis et al., 2022): U-shaped convolution blocks.

    x ─ 1×1 ─ gLN ─ PReLU ─ depthwise ─ gLN ─┬─ depthwise /2 ─ gLN ─┬─ depthwise /2 ─ gLN ─┐   each half as long
                                             +◄─────────── ×2 ──────+◄─────────── ×2 ──────┘   nearest frame
                                             └─ gLN ─ PReLU ─ 1×1 ─ + x ─►

The masker is such blocks one after another, between a 1×1 convolution of the normalised encoding and one to the masks.
Four resolutions, and a slope a channel in the last PReLU of a block, are those of the implementation that the thesis
used: 2 609 297 parameters for two sources of 512 channels.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from vaesweep.families.emd.models.layers import OddKernel, Pointwise1d, depthwise
from vaesweep.families.emd.models.norms import GlobalLayerNorm
from vaesweep.packing import Frozen


class SuDoRmRfConfig(Frozen):
    """The shape of a SuDoRM-RF masker; the defaults are the thesis' (section 3, after Asteroid's)."""

    kind: Literal["sudormrf"] = "sudormrf"
    bottleneck: int = Field(128, ge=1, description="channels between blocks")
    hidden: int = Field(512, ge=1, description="channels within a block")
    blocks: int = Field(16, ge=1)
    resolutions: int = Field(4, ge=1, description="of a block, each half the one before")
    kernel: OddKernel = 5


class SuDoRmRf(nn.Module):
    """Masks' parameters from an encoding: `[batch, features, frames]` to `[batch, outputs, frames]`, any real number.

    Frames may be any number: where one resolution has an odd one, the next has half of it rounded up.
    """

    def __init__(self, features: int, outputs: int, config: SuDoRmRfConfig) -> None:
        super().__init__()
        self.body = nn.Sequential(
            GlobalLayerNorm(features),
            Pointwise1d(features, config.bottleneck),
            *[UConvBlock(config) for _ in range(config.blocks)],
            nn.PReLU(),
            Pointwise1d(config.bottleneck, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """One number an output and frame, each from all frames."""
        return self.body(x)


class UConvBlock(nn.Module):
    """Features of successively halved resolutions, added up on the way back: `[batch, bottleneck, frames]`."""

    def __init__(self, config: SuDoRmRfConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.expand = nn.Sequential(Pointwise1d(config.bottleneck, hidden), GlobalLayerNorm(hidden), nn.PReLU())
        strides = [1] + [2] * (config.resolutions - 1)
        self.downsample = nn.ModuleList(
            nn.Sequential(depthwise(hidden, config.kernel, stride=stride), GlobalLayerNorm(hidden))
            for stride in strides
        )
        self.contract = nn.Sequential(GlobalLayerNorm(hidden), nn.PReLU(hidden), Pointwise1d(hidden, config.bottleneck))

    def forward(self, x: Tensor) -> Tensor:
        """`x` plus the sum of all resolutions' features."""
        level = self.expand(x)
        levels = [level := step(level) for step in self.downsample]
        total = levels.pop()
        while levels:
            finer = levels.pop()
            total = finer + doubled(total, finer.shape[-1])
        return x + self.contract(total)


def doubled(x: Tensor, frames: int) -> Tensor:
    """The first `frames` of `x` `[..., frames / 2]` with each of its frames twice."""
    return x.unsqueeze(-1).expand(*x.shape, 2).flatten(-2)[..., :frames]
