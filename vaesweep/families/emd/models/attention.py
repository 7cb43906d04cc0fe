"""Attention over frames, and what goes with it: dense layers of the last axis, and where a frame is."""

import math

import torch
from torch import Tensor, nn


def check_heads(width: int, heads: int) -> None:
    """Refuse a width that so many heads cannot share."""
    if width % heads:
        raise ValueError(f"a width of {width} cannot be shared by {heads} heads")


class SelfAttention(nn.Module):
    """Multi-head self-attention, every frame to every frame: `[batch, length, width]` to the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = Dense(width, 3 * width)
        self.combine = Dense(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """softmax(Q Kᵀ / √d) V of every head, mixed."""
        split = self.project(x).unflatten(-1, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        return self.combine((scores.softmax(-1) @ value).transpose(1, 2).flatten(-2))


class Dense(nn.Linear):
    """A linear layer of the last axis that is one matrix product, also where a pack's models have their own weights."""

    def forward(self, x: Tensor) -> Tensor:
        """`[..., inputs]` to `[..., outputs]`."""
        return super().forward(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


def positional_encoding(x: Tensor) -> Tensor:
    """Sines and cosines of the position of each frame of `x` `[..., length, width]`: `[length, width]`.

    Their wavelengths go from 2π to 2π · 10⁴ frames (Vaswani et al., 2017, section 3.5).
    """
    width = x.shape[-1]
    angle = angles(x, width)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)[:, :width].to(x.dtype)


def angles(x: Tensor, count: int) -> Tensor:
    """Angles of the frames of `x` `[..., length, _]`: `[length, ⌈count / 2⌉]`, place · 10⁴ ^ (-2 i / count).

    In float32 at least: in bfloat16 no place beyond 256 is exact.
    """
    kind = torch.promote_types(x.dtype, torch.float32)
    position = torch.arange(x.shape[-2], dtype=kind, device=x.device)
    exponent = torch.arange(0, count, 2, dtype=kind, device=x.device) / count
    return position.unsqueeze(-1) * 10_000.0**-exponent
