"""The bottom-up path: residual blocks and average pooling, from pixels to one signal a level (thesis line 1711)."""

import torch.nn.functional as F
from torch import Tensor, nn

from vaesweep.families.hvae.models.blocks import Pointwise2d, ResidualBlock, halve
from vaesweep.families.hvae.models.config import HierarchyConfig


class BottomUp(nn.Module):
    """Deterministic network from an image to the signals that the levels' posteriors see."""

    def __init__(self, config: HierarchyConfig) -> None:
        super().__init__()
        self._finest = config.finest
        depth = config.levels * config.encoder_blocks
        self.stem = Pointwise2d(config.finest**2, config.width)
        self.levels = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(config.width, config.hidden, depth) for _ in range(config.encoder_blocks)))
            for _ in range(config.levels)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """`[batch, 1, size, size]` to the levels' signals `[batch, width, height, width]`, the topmost first."""
        signals: list[Tensor] = []
        signal = self.stem(F.pixel_unshuffle(x, self._finest))
        for level in reversed(self.levels):
            signal = level(halve(signal) if signals else signal)
            signals.insert(0, signal)
        return signals
