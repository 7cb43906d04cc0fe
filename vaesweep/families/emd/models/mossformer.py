"""The masker of MossFormer2 (Zhao et al., 2024): blocks of gated attention and of a gated memory of near frames.

    gLN ─ 1×1 ─ + places ─ [ attention ─ memory ] × blocks ─ LN ─ gLN ─ + skip ─ PReLU ─ 1×1 ─ every source: gate ─ 1×1

    attention:  x ─ half of it a frame later ─┬─ conv ─► u, v      x + conv( (A u · v) · σ(A v · u) )
                                              └─ conv ─► queries and keys of A
    A:          relu(q kᵀ / G)² within groups of G frames, plus q (kᵀ · / frames) over all of them
    memory:     x + 1×1( LN( h + conv_v(h) · m(conv_u(h)) ) ),  h = LN(PReLU(1×1(x)))
    conv:       norm ─ dense ─ SiLU ─ y + depthwise(y)

`m` is a feed-forward sequential memory network whose two dilated convolutions also see what went into the first. The
published model has dropout; this one has none, since a training step is a function of its batch. With the published
sizes the masker has 55 719 010 parameters for two sources of 512 channels.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vaesweep.families.emd.models.attention import Dense, angles, positional_encoding
from vaesweep.families.emd.models.layers import OddKernel, Pointwise1d, depthwise
from vaesweep.families.emd.models.norms import GlobalLayerNorm
from vaesweep.packing import Frozen

NEAR, FAR = slice(0, 2), slice(2, 4)  # of the four scaled copies: queries and keys within groups, and over all frames
LENGTH_EPS, LAYER_EPS = 1e-5, 1e-6  # below which no length is divided by; added to the last norm's variance


class MossFormer2Config(Frozen):
    """The shape of a MossFormer2 masker; the defaults are the large published model's."""

    kind: Literal["mossformer2"] = "mossformer2"
    width: int = Field(512, ge=2, multiple_of=2, description="numbers a frame, between blocks")
    blocks: int = Field(24, ge=1)
    group: int = Field(256, ge=1, description="G, frames that attend to each other by their squares")
    query: int = Field(128, ge=2, description="numbers of a query and of a key")
    rotated: int = Field(32, ge=2, multiple_of=2, description="first numbers of a query that turn with its frame")
    memory: int = Field(256, ge=1, description="channels of the memory")
    order: int = Field(20, ge=1, description="frames to either side that the memory's first convolution sees, and one")
    kernel: OddKernel = 17

    @model_validator(mode="after")
    def _queries_have_what_turns(self) -> "MossFormer2Config":
        if self.rotated > self.query:
            raise ValueError(f"{self.rotated} numbers of a query cannot turn: it has {self.query}")
        return self


class MossFormer2(nn.Module):
    """Masks' parameters from an encoding, any real number, speaker by speaker."""

    def __init__(self, features: int, speakers: int, outputs: int, config: MossFormer2Config) -> None:
        super().__init__()
        width = config.width
        self.speakers = speakers
        self.enter = nn.Sequential(GlobalLayerNorm(features), Pointwise1d(features, width, bias=False))
        self.places = nn.Parameter(torch.ones(1))
        self.blocks = nn.Sequential(
            *[layer for _ in range(config.blocks) for layer in (GatedAttention(config), GatedMemory(config))]
        )
        self.norm, self.whole_norm = nn.LayerNorm(width, eps=LAYER_EPS), GlobalLayerNorm(width)
        self.spread = nn.Sequential(nn.PReLU(), Pointwise1d(width, speakers * width))
        self.signal, self.gate = Pointwise1d(width, width), Pointwise1d(width, width)
        self.leave = Pointwise1d(width, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, features, frames]` to `[batch, speakers · outputs, frames]`, each number from all frames."""
        frames = self.enter(x).mT
        frames = frames + self.places * positional_encoding(frames)
        x = frames.mT + self.whole_norm(self.norm(self.blocks(frames)).mT)
        of_speakers = self.spread(x).unflatten(1, (self.speakers, -1)).flatten(0, 1)
        gated = self.signal(of_speakers).tanh() * self.gate(of_speakers).sigmoid()
        return self.leave(gated).unflatten(0, (-1, self.speakers)).flatten(1, 2)


class GatedAttention(nn.Module):
    """Single-headed attention, its values two streams that gate each other: `[batch, frames, width]` to the same."""

    def __init__(self, config: MossFormer2Config) -> None:
        super().__init__()
        width, kernel = config.width, config.kernel
        self.group, self.rotated = config.group, config.rotated
        self.streams = Convolved(LengthNorm(width), width, 4 * width, kernel)
        self.query = Convolved(LengthNorm(width), width, config.query, kernel)
        self.scale = nn.Parameter(0.02 * torch.randn(4, config.query))
        self.offset = nn.Parameter(torch.zeros(4, config.query))
        self.combine = Convolved(LengthNorm(2 * width), 2 * width, width, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """`x` plus what the gated streams give."""
        shifted = half_later(x)
        streams = self.streams(shifted)
        attended = self.attend(self.query(shifted), streams)
        (v, u), (av, au) = streams.chunk(2, dim=-1), attended.chunk(2, dim=-1)
        return x + self.combine(au * v * (av * u).sigmoid())

    def attend(self, shared: Tensor, values: Tensor) -> Tensor:
        """Attention of `values` `[batch, frames, …]` by queries and keys that are scaled copies of `shared`."""
        frames = shared.shape[1]
        copies = rotated(shared.unsqueeze(1) * self.scale.unsqueeze(1) + self.offset.unsqueeze(1), self.rotated)
        query, key = copies[:, FAR].unbind(1)
        far = query @ (key.mT @ values / frames)
        query, key = (groups(copy, self.group) for copy in copies[:, NEAR].unbind(1))
        weights = ((query @ key.mT) / self.group).relu().square()
        near = (weights @ groups(values, self.group)).flatten(1, 2)[:, :frames]
        return near + far


class GatedMemory(nn.Module):
    """Near frames remembered, and gated: `[batch, frames, width]` to the same."""

    def __init__(self, config: MossFormer2Config) -> None:
        super().__init__()
        width, inner, kernel = config.width, config.memory, config.kernel
        self.enter = nn.Sequential(Dense(width, inner), nn.PReLU(), nn.LayerNorm(inner))
        self.gate = Convolved(nn.LayerNorm(inner), inner, inner, kernel)
        self.signal = Convolved(nn.LayerNorm(inner), inner, inner, kernel)
        self.memory = Memory(inner, config.order)
        self.leave = nn.Sequential(nn.LayerNorm(inner), Dense(inner, width))

    def forward(self, x: Tensor) -> Tensor:
        """`x` plus what is remembered where the gate lets it through."""
        inner = self.enter(x)
        return x + self.leave(inner + self.gate(inner) * self.memory(self.signal(inner)))


class Memory(nn.Module):
    """A feed-forward sequential memory of two dilations: `[batch, frames, channels]` to the same."""

    def __init__(self, channels: int, order: int) -> None:
        super().__init__()
        kernel = 2 * order - 1
        self.project = nn.Sequential(Dense(channels, channels), nn.ReLU(), Dense(channels, channels, bias=False))
        self.near = nn.Sequential(depthwise(channels, kernel, bias=False), ChannelNorm(channels), nn.PReLU(channels))
        self.far = nn.Sequential(
            depthwise(channels, kernel, dilation=2, inputs=2, bias=False), ChannelNorm(channels), nn.PReLU(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`x` plus what the wider convolution gives.

        As published, each of its channels sees two neighbouring ones of what the narrower one gave and was given, in a
        row: half of its channels see the one, half the other.
        """
        projected = self.project(x).mT
        return x + self.far(torch.cat([self.near(projected), projected], dim=1)).mT


class Convolved(nn.Module):
    """A norm, a dense layer, SiLU, and a depthwise convolution added: `[batch, frames, inputs]` to `outputs`."""

    def __init__(self, norm: nn.Module, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(norm, Dense(inputs, outputs), nn.SiLU())
        self.near = depthwise(outputs, kernel, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The features of every frame from those around it."""
        x = self.dense(x)
        return x + self.near(x.mT).mT


class LengthNorm(nn.Module):
    """Frames `[…, width]` of root mean square one, times one gain (scale norm of Nguyen and Salazar, 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factor = width**-0.5
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """`x` over its length."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * self.factor
        return x / length.clamp_min(LENGTH_EPS) * self.gain


class ChannelNorm(nn.GroupNorm):
    """Zero mean and unit variance over the frames of each channel and datum, then a gain and a bias a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, channels, frames]` to the same; a single frame, which torch's module refuses, gives the biases."""
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def half_later(x: Tensor) -> Tensor:
    """`x` `[batch, frames, width]` with the first half of every frame from the frame before."""
    later, now = x.chunk(2, dim=-1)
    return torch.cat([nn.functional.pad(later, (0, 0, 1, 0))[:, :-1], now], dim=-1)


def groups(x: Tensor, group: int) -> Tensor:
    """Groups of frames of `x` `[batch, frames, width]`, zeros after the last: `[batch, groups, group, width]`."""
    return nn.functional.pad(x, (0, 0, 0, -x.shape[1] % group)).unflatten(1, (-1, group))


def rotated(x: Tensor, count: int) -> Tensor:
    """The first `count` numbers of `x` `[…, frames, width]`, in pairs, turned by their frame (Su et al., 2021).

    Pair i turns by 10⁴ ^ (-2 i / count) a frame: products of what is turned depend on how far frames are apart.
    """
    turning, fixed = x.split([count, x.shape[-1] - count], dim=-1)
    pairs = turning.unflatten(-1, (-1, 2))
    angle, (a, b) = angles(x, count), pairs.unbind(-1)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    return torch.cat([torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2), fixed], dim=-1)
