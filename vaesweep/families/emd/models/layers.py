"""Convolutions of the maskers, in the formulations that are fastest when a pack of models is one stacked model."""

from typing import Annotated

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn


class Pointwise1d(nn.Conv1d):
    """A 1×1 convolution: `[batch, inputs, frames]` to `[batch, outputs, frames]`.

    It is computed as a batched matrix product: on a CPU, `vmap` of a convolution over its weights is one with a group a
    model, which takes two to three times as long.
    """

    bias: Tensor | None

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """The same matrix for every frame."""
        return affine(self.weight.squeeze(-1), self.bias, x)


def affine(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """`weight` `[outputs, inputs]` times every frame of `x` `[batch, inputs, frames]`, plus `bias` `[outputs]`."""
    matrices = weight.expand(len(x), -1, -1)
    return torch.bmm(matrices, x) if bias is None else torch.baddbmm(bias.unsqueeze(-1), matrices, x)


def depthwise(
    channels: int, kernel: int, *, dilation: int = 1, stride: int = 1, inputs: int = 1, bias: bool = True
) -> nn.Conv1d:
    """A convolution of each channel by itself, zeros around: `[batch, channels, frames]` to ⌈frames / stride⌉ of them.

    Output t is centred on input `stride` · t; `kernel` is odd. With several `inputs` a channel is made of so many
    neighbouring ones.
    """
    padding = (kernel - 1) // 2 * dilation
    return nn.Conv1d(inputs * channels, channels, kernel, stride, padding, dilation, groups=channels, bias=bias)


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError(f"a kernel of {kernel} frames has no centre; an odd number has one")
    return kernel


OddKernel = Annotated[int, Field(ge=1), AfterValidator(_odd)]
"""Frames that a depthwise convolution combines."""
