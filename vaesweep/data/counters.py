"""Random numbers as a function of (stream, index, counter), without a generator's state.

The bits are SplitMix64 (Steele, Lea, Flood 2014, doi 10.1145/2660193.2660195): each (stream, index) has a generator of
its own, whose seed is itself hashed, and `counter` picks one of its outputs. All is 64-bit integer arithmetic that
wraps, so bits are equal on every machine and device, whatever else is computed beside them.
"""

import math
from enum import IntEnum

import torch
from torch import Tensor


class Stream(IntEnum):
    """The purpose that numbers are drawn for; the same index gives independent numbers in each stream."""

    PARAMETERS = 0
    NOISE = 1
    MODULATION = 2
    ENCODING = 3  # of latent variables, where models are evaluated
    MASKS = 4
    SOURCES = 5
    PIXELS = 6  # noise of images
    LATENTS = 7  # of latent images, where models are evaluated
    BRIDGES = 8  # between the points of latent paths, there too
    BINARY = 9  # binary images from grey ones
    MIXING = 10  # of recordings: who, what, how loud, where
    ROOMS = 11  # that recordings are heard in
    DEQUANTISATION = 12  # of training signals
    SPEEDS = 13  # of speakers in training


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


GOLDEN = _signed(0x9E3779B97F4A7C15)
AT_ONCE = 1 << 20  # numbers that are worked on at a time: each takes 64 bits several times over
MULTIPLIERS = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def splitmix(seed: Tensor, counter: Tensor) -> Tensor:
    """Output number `counter`, from 0, of the SplitMix64 generator with `seed`: 64 bits as int64, broadcast."""
    word = seed + (counter + 1) * GOLDEN
    word = (word ^ _shifted(word, 30)) * MULTIPLIERS[0]
    word = (word ^ _shifted(word, 27)) * MULTIPLIERS[1]
    return word ^ _shifted(word, 31)


def random_bits(stream: Stream, index: Tensor, counter: Tensor) -> Tensor:
    """64 random bits as int64, of the broadcast shape of `index` and `counter`, both int64 and at least 0."""
    return splitmix(splitmix(index, torch.full_like(index, stream)), counter)


def uniform(stream: Stream, index: Tensor, counter: Tensor) -> Tensor:
    """Uniform on [0, 1), float64 in steps of 2⁻⁵³, of the broadcast shape of `index` and `counter`."""
    return _shifted(random_bits(stream, index, counter), 11).double() * 2**-53


def normal(stream: Stream, index: Tensor, count: int) -> Tensor:
    """Standard normals `[row, count]`, float32, for `index` `[row]`; a smaller count gives the first of them.

    Box-Muller (1958): the halves of each 64 bits are two uniforms, which become two normals that stand side by side.
    No normal exceeds sqrt(66 ln 2) = 6.8 in size. Beside the normals themselves memory for a few `AT_ONCE` is taken.
    """
    pairs = (count + 1) // 2
    normals = torch.empty(len(index), pairs, 2, device=index.device)
    size = max(1, AT_ONCE // max(1, len(index)))
    for start in range(0, pairs, size):
        bits = random_bits(stream, index[:, None], torch.arange(start, min(start + size, pairs), device=index.device))
        radius = (-2 * ((_shifted(bits, 32) + 0.5) * 2**-32).log()).sqrt()
        angle = (bits & 0xFFFFFFFF) * (math.tau * 2**-32)
        torch.stack([radius * angle.cos(), radius * angle.sin()], -1, out=normals[:, start : start + size])
    return normals.flatten(1)[:, :count]


def _shifted(word: Tensor, places: int) -> Tensor:
    """Shift right without the sign: int64 stands for 64 unsigned bits."""
    return (word >> places) & ((1 << (64 - places)) - 1)
