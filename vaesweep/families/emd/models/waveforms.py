"""Linear maps between waveforms and frames: a convolution, and a transposed one (thesis line 921, sizes line 923).

A signal of `time` samples has F = ⌈time / stride⌉ frames, and zeros around it. Frame f spans `kernel` samples from
sample f · stride − ⌊(kernel − stride) / 2⌋ on, so that a sample lies in kernel / stride frames, or in fewer within
(kernel − stride) / 2 samples of 0 or of F · stride. With 16 and 8: in two frames, the first four samples in one, the
last four too where `time` is a multiple of eight.

Both are matrix products of segments of `stride` samples, of which `kernel` is a multiple: a stacked model's convolution
with its own weights is several times slower on a CPU.
"""

import torch
from torch import Tensor, nn

KERNEL, STRIDE = 16, 8  # samples; thesis line 923 gives the stride, Conv-TasNet's window is twice that
INITIAL = 1e-2  # bound of the uniform initial weights: the first estimates lie in [-1, 1] (thesis line 1539)


class WaveformEncoder(nn.Module):
    """Linear filters of a waveform: `[batch, time]` to `[batch, channels, frames]`.

    `channels` is what the encoding needs a frame: K numbers, or 2K where each of K has a location and a scale.
    Raises `ValueError` where `kernel` is no multiple of `stride`.
    """

    def __init__(self, channels: int, kernel: int = KERNEL, stride: int = STRIDE) -> None:
        super().__init__()
        self.overlap = overlap_of(kernel, stride)
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(channels, kernel).uniform_(-INITIAL, INITIAL))

    def forward(self, waveform: Tensor) -> Tensor:
        """Every filter's product with every frame."""
        left = margin(self.overlap, self.stride)
        frames = frames_of(waveform.shape[-1], self.stride)
        length = (frames + self.overlap - 1) * self.stride
        padded = nn.functional.pad(waveform, (left, length - left - waveform.shape[-1]))
        segments = padded.unflatten(-1, (-1, self.stride))
        windows = torch.cat([segments[:, i : i + frames] for i in range(self.overlap)], dim=-1)
        with full_precision(waveform):
            return torch.bmm(self.weight.expand(len(waveform), -1, -1), windows.mT)


class WaveformDecoder(nn.Module):
    """Waveforms of weighted filters, overlapped and added: `[..., inputs, frames]` to `[..., outputs, time]`.

    `outputs` is what a sample needs: 1, or 2 where it has a location and a scale. There is at least one leading axis.
    With one output and an encoder's weights it is that encoder's adjoint.
    Raises `ValueError` where `kernel` is no multiple of `stride`.
    """

    def __init__(self, inputs: int, outputs: int = 1, kernel: int = KERNEL, stride: int = STRIDE) -> None:
        super().__init__()
        self.overlap = overlap_of(kernel, stride)
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(inputs, outputs, kernel).uniform_(-INITIAL, INITIAL))

    def forward(self, frames: Tensor, time: int) -> Tensor:
        """The first `time` samples, which `frames` must cover."""
        flat = frames.flatten(0, -3).to(self.weight.dtype)
        filters = self.weight.flatten(1).mT.expand(len(flat), -1, -1)
        with full_precision(flat):
            windows = torch.bmm(filters, flat)
        windows = windows.unflatten(1, (-1, self.overlap, self.stride))
        last = self.overlap - 1
        pieces = [nn.functional.pad(windows[:, :, i], (i, last - i)) for i in range(self.overlap)]
        added = sum(pieces[1:], pieces[0]).mT.flatten(2)
        left = margin(self.overlap, self.stride)
        return added[..., left : left + time].unflatten(0, frames.shape[:-2])


def full_precision(like: Tensor) -> torch.autocast:
    """Where training is in bfloat16, encoder and decoder are not: three digits are a noise of -50 dB in a signal."""
    return torch.autocast(like.device.type, enabled=False)


def frames_of(time: int, stride: int = STRIDE) -> int:
    """Frames of a signal of `time` samples."""
    return -(-time // stride)


def overlap_of(kernel: int, stride: int) -> int:
    """The number of frames that a sample lies in. Raises `ValueError` where that is no whole number."""
    if kernel % stride:
        raise ValueError(f"a kernel of {kernel} samples is no multiple of the stride, {stride}")
    return kernel // stride


def margin(overlap: int, stride: int) -> int:
    """Samples of the first frame before the signal begins."""
    return (overlap - 1) * stride // 2
