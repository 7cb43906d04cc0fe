"""The masker of SepFormer (Subakan et al., 2021): transformers within and between overlapping chunks of frames.

    gLN ─ 1×1 ─ chunks ─ [ within chunks ─ between chunks ] × repeats ─ PReLU ─ overlap-add ─ 1×1 ─ ReLU ─ 1×1 ─► masks

The paper maps to as many copies as sources before the overlap-add, and on to masks with layers that all copies share.
Here the last 1×1 gives all masks at once, as in the other maskers.
"""

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vaesweep.families.emd.models.layers import Pointwise1d
from vaesweep.families.emd.models.norms import GlobalLayerNorm
from vaesweep.packing import Frozen


class SepFormerConfig(Frozen):
    """The shape of a SepFormer masker; the defaults are the paper's."""

    kind: Literal["sepformer"] = "sepformer"
    width: int = Field(256, ge=1, description="numbers a frame, between and within transformers")
    heads: int = Field(8, ge=1)
    feedforward: int = Field(1024, ge=1, description="hidden units after an attention")
    layers: int = Field(8, ge=1, description="of a transformer")
    repeats: int = Field(2, ge=1, description="of the transformer within chunks and the one between them")
    chunk: int = Field(250, ge=2, multiple_of=2, description="frames; half of them are the next chunk's too")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "SepFormerConfig":
        if self.width % self.heads:
            raise ValueError(f"a width of {self.width} cannot be shared by {self.heads} heads")
        return self


class SepFormer(nn.Module):
    """Masks' parameters from an encoding: `[batch, features, frames]` to `[batch, outputs, frames]`, any real number.

    Frames may be any number: zeros fill the last chunk, and are attended to as the paper's are.
    """

    def __init__(self, features: int, outputs: int, config: SepFormerConfig) -> None:
        super().__init__()
        self.chunk = config.chunk
        self.enter = nn.Sequential(GlobalLayerNorm(features), Pointwise1d(features, config.width))
        self.paths = nn.Sequential(*[DualPath(config) for _ in range(config.repeats)], nn.PReLU())
        self.leave = nn.Sequential(
            Pointwise1d(config.width, config.width), nn.ReLU(), Pointwise1d(config.width, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """One number an output and frame, each from all frames."""
        mixed = self.paths(chunked(self.enter(x).mT, self.chunk))
        return self.leave(overlap_added(mixed, x.shape[-1]).mT)


class DualPath(nn.Module):
    """A transformer within chunks, then one between the frames that have the same position in their chunk.

    `[batch, chunks, chunk, width]` to the same.
    """

    def __init__(self, config: SepFormerConfig) -> None:
        super().__init__()
        self.within = Transformer(config)
        self.between = Transformer(config)

    def forward(self, x: Tensor) -> Tensor:
        """The features after both transformers, in the shape of `x`."""
        x = self.within(x.flatten(0, 1)).unflatten(0, x.shape[:2]).transpose(1, 2)
        return self.between(x.flatten(0, 1)).unflatten(0, x.shape[:2]).transpose(1, 2)


class Transformer(nn.Module):
    """`x` plus attention layers of `x` with a positional encoding added: `[batch, length, width]` to the same."""

    def __init__(self, config: SepFormerConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(*[TransformerLayer(config) for _ in range(config.layers)])

    def forward(self, x: Tensor) -> Tensor:
        """The paper's eq. for f: K layers, and a path around them all."""
        return x + self.layers(x + positional_encoding(x))


class TransformerLayer(nn.Module):
    """Attention, then two dense layers, each of the normalised input and added to it: `[batch, length, width]`."""

    def __init__(self, config: SepFormerConfig) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.LayerNorm(config.width), SelfAttention(config.width, config.heads))
        self.think = nn.Sequential(
            nn.LayerNorm(config.width),
            Dense(config.width, config.feedforward),
            nn.ReLU(),
            Dense(config.feedforward, config.width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The features after attention and dense layers, in the shape of `x`."""
        x = x + self.attend(x)
        return x + self.think(x)


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
    length, width = x.shape[-2:]
    position = torch.arange(length, dtype=x.dtype, device=x.device)
    exponent = torch.arange(0, width, 2, dtype=x.dtype, device=x.device) / width
    angle = position.unsqueeze(-1) * 10_000.0**-exponent
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)[:, :width]


def chunked(x: Tensor, chunk: int) -> Tensor:
    """Chunks of `x` `[batch, frames, width]`, each frame in two: `[batch, chunks, chunk, width]`."""
    hop = chunk // 2
    padded = nn.functional.pad(x, (0, 0, hop, hop + -x.shape[1] % hop))
    halves = padded.unflatten(1, (-1, hop))
    return torch.cat([halves[:, :-1], halves[:, 1:]], dim=2)


def overlap_added(chunks: Tensor, frames: int) -> Tensor:
    """The mean over the two chunks of each frame: `[batch, frames, width]`, the inverse of `chunked`."""
    first, second = chunks.chunk(2, dim=2)
    pad = nn.functional.pad
    both = pad(first, (0, 0, 0, 0, 0, 1)) + pad(second, (0, 0, 0, 0, 1, 0))
    hop = first.shape[2]
    return both.flatten(1, 2)[:, hop : hop + frames] / 2
