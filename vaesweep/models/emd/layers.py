"""Layers of the maskers, each in the formulation that is fastest when a pack of models is one stacked model.

`vmap` turns a convolution with a model's own weights into one with a group a model, which is slow on a CPU. So a 1×1
convolution is a batched matrix product here and a depthwise one a sum of shifted copies. Both are convolutions still:
parameters, shapes and initial values are those of `nn.Conv1d`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


class Pointwise(nn.Conv1d):
    """A 1×1 convolution: `[batch, inputs, frames]` to `[batch, outputs, frames]`."""

    bias: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The same matrix for every frame."""
        weight = self.weight.squeeze(-1).expand(len(x), -1, -1)
        return torch.baddbmm(self.bias.unsqueeze(-1), weight, x)


class Depthwise(nn.Conv1d):
    """A convolution of every channel with a kernel of its own, zeros around: `[batch, channels, ⌈frames / stride⌉]`."""

    bias: Tensor

    def __init__(self, channels: int, kernel: int, *, dilation: int = 1, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride=stride, dilation=dilation, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Output t is centred on input `stride` · t."""
        weight = self.weight.squeeze(1)
        return _DepthwiseSum.apply(x, weight, self.dilation[0], self.stride[0]) + self.bias.unsqueeze(-1)


class PReLU(nn.PReLU):
    """x where x > 0, else w x, with one learnt w: a mixture of ReLU and identity, in any shape."""

    def forward(self, x: Tensor) -> Tensor:
        """(1 − w) ReLU(x) + w x."""
        return torch.lerp(torch.relu(x), x, self.weight)


class _DepthwiseSum(torch.autograd.Function):
    """Σ_j w_j x shifted by tap j: `x` `[..., channels, frames]`, `weight` `[..., channels, kernel]`, broadcast.

    Written out, as autograd would allocate and fill a whole tensor for each slice it differentiates. `x` is never the
    smaller one of a broadcast.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, dilation: int, stride: int) -> Tensor:
        centre, *others = _taps(x.shape[-1], weight.shape[-1], dilation, stride)
        out = x[..., centre[2]] * _tap(weight, centre)
        for tap in others:
            out[..., tap[1]].addcmul_(x[..., tap[2]], _tap(weight, tap))
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: Tensor) -> None:
        x, weight, ctx.dilation, ctx.stride = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        to_x = gradient.new_zeros(x.shape)
        to_weight: dict[int, Tensor] = {}
        for tap in _taps(x.shape[-1], weight.shape[-1], ctx.dilation, ctx.stride):
            number, outputs, inputs = tap
            to_x[..., inputs].add_(gradient[..., outputs] * _tap(weight, tap))
            to_weight[number] = (gradient[..., outputs] * x[..., inputs]).sum(-1)
        ordered = torch.stack([to_weight[number] for number in sorted(to_weight)], dim=-1)
        return to_x, ordered.sum_to_size(weight.shape), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, *sizes: int) -> tuple[Tensor, int]:
        x = x.expand(info.batch_size, *x.shape) if in_dims[0] is None else x.movedim(in_dims[0], 0)
        if in_dims[1] is not None:
            weight = weight.movedim(in_dims[1], 0)
            weight = weight.reshape(len(weight), *[1] * (x.dim() - weight.dim()), *weight.shape[1:])
        return _DepthwiseSum.apply(x, weight, *sizes), 0


Tap = tuple[int, slice, slice]  # its number in the kernel, the outputs it reaches, the inputs it reads there


def _taps(frames: int, kernel: int, dilation: int, stride: int) -> Iterator[Tap]:
    """The taps of a kernel, the central one first, which alone reaches every output."""
    outputs, centre = -(-frames // stride), (kernel - 1) // 2
    for number in sorted(range(kernel), key=lambda number: abs(number - centre)):
        offset = (number - centre) * dilation
        first = max(0, -(offset // stride))
        end = max(first, min(outputs, (frames - 1 - offset) // stride + 1))
        start = first * stride + offset
        yield number, slice(first, end), slice(start, start + (end - first) * stride, stride)


def _tap(weight: Tensor, tap: Tap) -> Tensor:
    """Weights of one tap, `[..., channels, 1]`."""
    return weight[..., tap[0], None]
