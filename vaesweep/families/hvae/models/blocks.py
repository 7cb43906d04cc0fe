"""Convolutional blocks of hierarchies (Child 2021, section 3; thesis lines 1711 and 1731).

A block is four convolutions with kernels of 1, 3, 3 and 1, narrow in the middle. The two of kernel 1 are matrix
products over channels that stand last, which leaves what the others see channels-last as well: on a CPU that nearly
halves a step.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALL = 0.1  # of initial weights, where a function is to begin near zero and yet have gradients in all of its layers


class Pointwise2d(nn.Module):
    """A convolution of kernel 1: `[batch, inputs, height, width]` to `[batch, outputs, height, width]`."""

    def __init__(self, inputs: int, outputs: int, *, scale: float = 1.0) -> None:
        super().__init__()
        linear = nn.Linear(inputs, outputs)
        self.weight = nn.Parameter(linear.weight.detach() * scale)
        self.bias = nn.Parameter(linear.bias.detach() * scale)

    def forward(self, x: Tensor) -> Tensor:
        """The same linear map of every pixel's channels."""
        return pointwise(x, self.weight, self.bias)


class Dense(nn.Module):
    """A linear map between images of all their numbers: `[batch, *inputs]` to `[batch, *outputs]`, three axes each."""

    def __init__(self, inputs: tuple[int, int, int], outputs: tuple[int, int, int]) -> None:
        super().__init__()
        self._outputs = outputs
        linear = nn.Linear(math.prod(inputs), math.prod(outputs))
        self.weight, self.bias = nn.Parameter(linear.weight.detach()), nn.Parameter(linear.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """The image that belongs to an image."""
        return F.linear(x.flatten(-3), self.weight, self.bias).unflatten(-1, self._outputs)


class ConvBlock(nn.Module):
    """Four convolutions with kernels 1, 3, 3 and 1, a GELU before each.

    `scale` multiplies the last layer's initial weights: `SMALL` begins with next to nothing, and 1/√depth keeps a
    residual path of that many blocks at the scale of its input.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.reduce = Pointwise2d(inputs, hidden)
        self.first = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.second = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.expand = Pointwise2d(hidden, outputs, scale=scale)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, inputs, height, width]` to `[batch, outputs, height, width]`."""
        x = self.reduce(F.gelu(x))
        x = self.first(F.gelu(x))
        x = self.second(F.gelu(x))
        return self.expand(F.gelu(x))


class Head(ConvBlock):
    """A block that ends in parameters of a distribution: its last layer is in the precision of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, inputs, height, width]` to `[batch, outputs, height, width]`."""
        return exact(self.expand, F.gelu(self.second(F.gelu(self.first(F.gelu(self.reduce(F.gelu(x))))))))


class ResidualBlock(nn.Module):
    """x + block(x), with the last weights scaled for a path of `depth` such blocks."""

    def __init__(self, width: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.block = ConvBlock(width, hidden, width, scale=depth**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """`x` plus its block, `[batch, width, height, width]` as `x`."""
        return x + self.block(x)


def exact(layer: Pointwise2d | Dense, x: Tensor) -> Tensor:
    """The result of a layer in the precision of its weights, whatever that of products is."""
    with torch.autocast(x.device.type, enabled=False):
        result: Tensor = layer(x.to(layer.weight.dtype))
    return result


def pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`weight` `[outputs, inputs]` applied to the channels of `[batch, inputs, height, width]`."""
    return F.linear(x.movedim(-3, -1), weight, bias).movedim(-1, -3)


def halve(x: Tensor) -> Tensor:
    """Average over squares of two by two pixels: `[…, height, width]` to `[…, height / 2, width / 2]`."""
    *_, height, width = x.shape
    return x.unflatten(-1, (width // 2, 2)).unflatten(-3, (height // 2, 2)).mean((-3, -1))


def double(x: Tensor) -> Tensor:
    """Upsampling by nearest neighbours: every pixel of `[…, height, width]` becomes two by two equal ones."""
    return x.repeat_interleave(2, -1).repeat_interleave(2, -2)
