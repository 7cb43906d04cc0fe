"""The masker of SepFormer (Subakan et al., 2021): transformers within and between overlapping chunks of frames.

    gLN ─ 1×1 ─ chunks ─ [ within ─ between chunks ] × repeats ─ PReLU ─ 1×1 ─┬─ overlap-add ─ gate ─ 1×1 ─► masks
                                                                              └─ … of every source

    within, between:  x ─┬─ + places ─ K layers ─ LN ─ gLN ─ + ─►          gate:  tanh(1×1) · σ(1×1)
                         └───────────────────────────────────┘

The norms after the layers, the skips around them and the gate are not in the paper but in the implementation that its
results come from, SpeechBrain's: 25 671 169 parameters for two sources of 256 channels. All sources share the gate and
the last 1×1.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vaesweep.families.emd.models.attention import Dense, SelfAttention, check_heads, positional_encoding
from vaesweep.families.emd.models.layers import Pointwise1d
from vaesweep.families.emd.models.norms import GlobalLayerNorm
from vaesweep.packing import Frozen

LAYER_EPS = 1e-6  # added to variances by the norms of frames


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
        check_heads(self.width, self.heads)
        return self


class SepFormer(nn.Module):
    """Masks' parameters from an encoding, any real number, speaker by speaker.

    Frames may be any number: zeros fill the last chunk, and are attended to as the paper's are.
    """

    def __init__(self, features: int, speakers: int, outputs: int, config: SepFormerConfig) -> None:
        super().__init__()
        width = config.width
        self.chunk, self.speakers = config.chunk, speakers
        self.enter = nn.Sequential(GlobalLayerNorm(features), Pointwise1d(features, width, bias=False))
        self.paths = nn.Sequential(*[DualPath(config) for _ in range(config.repeats)], nn.PReLU())
        self.spread = Dense(width, speakers * width)
        self.signal, self.gate = Pointwise1d(width, width), Pointwise1d(width, width)
        self.leave = Pointwise1d(width, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, features, frames]` to `[batch, speakers · outputs, frames]`, each number from all frames."""
        mixed = self.spread(self.paths(chunked(self.enter(x).mT, self.chunk)))
        of_speakers = mixed.unflatten(-1, (self.speakers, -1)).movedim(-2, 1).flatten(0, 1)
        added = overlap_added(of_speakers, x.shape[-1]).mT
        gated = self.signal(added).tanh() * self.gate(added).sigmoid()
        return self.leave(gated).unflatten(0, (-1, self.speakers)).flatten(1, 2)


class DualPath(nn.Module):
    """A transformer within chunks, then one between the frames that have the same position in their chunk.

    The features of each are normalised over the whole datum and added to what went in: `[batch, chunks, chunk, width]`
    to the same.
    """

    def __init__(self, config: SepFormerConfig) -> None:
        super().__init__()
        self.within, self.within_norm = Transformer(config), GlobalLayerNorm(config.width)
        self.between, self.between_norm = Transformer(config), GlobalLayerNorm(config.width)

    def forward(self, x: Tensor) -> Tensor:
        """The features after both transformers, in the shape of `x`."""
        x = x + _over_last(self.within_norm, _of_rows(self.within, x))
        between = _of_rows(self.between, x.transpose(1, 2)).transpose(1, 2)
        return x + _over_last(self.between_norm, between)


def _of_rows(transformer: nn.Module, x: Tensor) -> Tensor:
    """`transformer` of every row of `x` `[batch, rows, length, width]`."""
    return transformer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _over_last(norm: nn.Module, x: Tensor) -> Tensor:
    """A norm of `[batch, channels, frames]`, of `x` `[batch, rows, length, channels]`."""
    return norm(x.flatten(1, 2).mT).mT.unflatten(1, x.shape[1:3])


class Transformer(nn.Module):
    """Attention layers of `x` with a positional encoding added, normalised: `[batch, length, width]` to the same."""

    def __init__(self, config: SepFormerConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(*[TransformerLayer(config) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.width, eps=LAYER_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Features of every frame from all frames of its row."""
        return self.norm(self.layers(x + positional_encoding(x)))


class TransformerLayer(nn.Module):
    """Attention, then two dense layers, each of the normalised input and added to it: `[batch, length, width]`."""

    def __init__(self, config: SepFormerConfig) -> None:
        super().__init__()
        self.attend = nn.Sequential(
            nn.LayerNorm(config.width, eps=LAYER_EPS), SelfAttention(config.width, config.heads)
        )
        self.think = nn.Sequential(
            nn.LayerNorm(config.width, eps=LAYER_EPS),
            Dense(config.width, config.feedforward),
            nn.ReLU(),
            Dense(config.feedforward, config.width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The features after attention and dense layers, in the shape of `x`."""
        x = x + self.attend(x)
        return x + self.think(x)


def chunked(x: Tensor, chunk: int) -> Tensor:
    """Chunks of `x` `[batch, frames, width]`, each frame in two: `[batch, chunks, chunk, width]`."""
    hop = chunk // 2
    padded = nn.functional.pad(x, (0, 0, hop, hop + -x.shape[1] % hop))
    halves = padded.unflatten(1, (-1, hop))
    return torch.cat([halves[:, :-1], halves[:, 1:]], dim=2)


def overlap_added(chunks: Tensor, frames: int) -> Tensor:
    """The sum over the two chunks of each frame: `[batch, frames, width]`, twice the inverse of `chunked`."""
    first, second = chunks.chunk(2, dim=2)
    pad = nn.functional.pad
    both = pad(first, (0, 0, 0, 0, 0, 1)) + pad(second, (0, 0, 0, 0, 1, 0))
    hop = first.shape[2]
    return both.flatten(1, 2)[:, hop : hop + frames]
