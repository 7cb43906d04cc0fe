"""Binary images from intensities: a pixel is 1 with its intensity as probability (Salakhutdinov and Murray, 2008)."""

import torch
from torch import Tensor

from vaesweep.data.counters import Stream, uniform
from vaesweep.families.hvae.data.parts import CHUNK

HALF = 128  # the first intensity of 0 to 255 that is not below one half
ROW, CENTRE = 2**16, 2**15  # counters between a row of pixels and the next, and the image's centre


def thresholded(images: Tensor) -> Tensor:
    """Binary images, uint8 of the same shape: 1 where the intensity, 0 to 255, is at least one half of 255."""
    return (images >= HALF).to(torch.uint8)


def binarised_by_index(images: Tensor, indices: Tensor) -> Tensor:
    """Binary images, uint8, from `images` `[row, 1, height, width]`, uint8: always the same for an index.

    `indices` are `[row]`. Draws are keyed by the pixel's place from the centre too: a border of zeros changes none.
    """
    height, width = images.shape[-2:]
    down, right = (CENTRE - side // 2 + torch.arange(side, device=images.device) for side in (height, width))
    counters = ROW * down[:, None] + right
    parts = zip(images.split(CHUNK), indices.split(CHUNK), strict=True)
    return torch.cat([(_uniforms(index, counters) * 255 < grey).to(torch.uint8) for grey, index in parts])


def _uniforms(indices: Tensor, counters: Tensor) -> Tensor:
    return uniform(Stream.BINARY, indices[:, None, None, None], counters)


def binarised_at_random(images: Tensor, generator: torch.Generator) -> Tensor:
    """Binary images, float32, from `images` of intensities 0 to 255, by a generator on the images' device."""
    return torch.bernoulli(images.float() / 255, generator=generator)
