"""Blocks of hierarchies are the convolutions that they are said to be, written in another way."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_hierarchies import images, lively, shaped
from torch import nn

from vaesweep.families.hvae.models.blocks import SMALL, ConvBlock, Pointwise2d, ResidualBlock, double, halve
from vaesweep.families.hvae.models.bottom_up import BottomUp

EXACT = {"rtol": 1e-12, "atol": 1e-12}  # the same sums in float64, in another order


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_a_pointwise_map_is_a_convolution_of_kernel_one() -> None:
    pointwise, reference = Pointwise2d(5, 7).double(), nn.Conv2d(5, 7, 1).double()
    reference.load_state_dict({"weight": pointwise.weight[:, :, None, None], "bias": pointwise.bias})
    x = torch.randn(3, 5, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(pointwise(x), reference(x), **EXACT)


def test_a_pointwise_map_begins_as_a_convolution_does_times_its_scale() -> None:
    pointwise, small = Pointwise2d(16, 4000), Pointwise2d(16, 4000, scale=0.1)
    bound = 1 / math.sqrt(16)  # of PyTorch's uniform initialisation of a convolution with 16 inputs
    for parameter in (pointwise.weight, pointwise.bias):
        assert float(parameter.detach().abs().max()) == pytest.approx(bound, rel=1e-2)  # the largest of 4000 and more
    assert float(small.weight.detach().abs().max()) == pytest.approx(0.1 * bound, rel=1e-2)


@pytest.mark.parametrize("shape", [(2, 2), (4, 6), (3, 5, 8, 2), (2, 1, 3, 4, 4)])
def test_halving_is_average_pooling(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    expected = F.avg_pool2d(x.reshape(-1, 1, *shape[-2:]), 2).reshape(*shape[:-2], shape[-2] // 2, shape[-1] // 2)
    torch.testing.assert_close(halve(x), expected, **EXACT)


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (2, 3, 4, 6)])
def test_doubling_is_nearest_neighbour_interpolation(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    assert torch.equal(double(x), F.interpolate(x, scale_factor=2, mode="nearest"))


def test_halving_undoes_doubling() -> None:
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(halve(double(x)), x)


def test_a_block_is_kernels_of_one_three_three_and_one_narrow_in_the_middle() -> None:
    block = ConvBlock(6, 3, 9).double()
    layers = []
    for part in (block.reduce, block.first, block.second, block.expand):
        weight = part.weight if part.weight.dim() == 4 else part.weight[:, :, None, None]
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[-1], padding=weight.shape[-1] // 2).double()
        layer.load_state_dict({"weight": weight, "bias": part.bias})
        layers.append(layer)
    assert [(one.in_channels, one.out_channels, one.kernel_size[0]) for one in layers] == [
        (6, 3, 1), (3, 3, 3), (3, 3, 3), (3, 9, 1),
    ]  # fmt: skip
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    reduce, first, second, expand = layers
    reference = nn.Sequential(reduce, nn.GELU(), first, nn.GELU(), second, nn.GELU(), expand)
    torch.testing.assert_close(block(x), reference(F.gelu(x)), **EXACT)


@pytest.mark.parametrize("depth", [1, 4, 16])
def test_a_residual_blocks_last_weights_fall_with_the_square_root_of_the_paths_depth(depth: int) -> None:
    def last(depth: int) -> torch.Tensor:
        torch.manual_seed(3)
        return ResidualBlock(8, 4, depth).block.expand.weight

    torch.testing.assert_close(last(depth), last(1) / math.sqrt(depth))


def test_a_residual_path_of_any_depth_keeps_the_scale_of_its_input() -> None:
    x = torch.randn(8, 32, 8, 8)
    path = nn.Sequential(*(ResidualBlock(32, 16, 64) for _ in range(64)))
    assert 0.9 < float(path(x).detach().std() / x.std()) < 1.5


def test_a_path_has_as_many_blocks_as_its_depth_says() -> None:
    """Encoder: over all levels. Top-down blocks: over all levels. Decoder: its own."""
    config = shaped("discrete", {"blocks": 3}, encoder_blocks=2, decoder_blocks=2)
    torch.manual_seed(4)
    path = BottomUp(config)
    assert sum(isinstance(module, ResidualBlock) for module in path.modules()) == 2 * 2
    bound = (2 * 2) ** -0.5 / math.sqrt(config.hidden)
    largest = max(float(level[i].block.expand.weight.detach().abs().max()) for level in path.levels for i in (0, 1))
    assert 0.9 * bound < largest <= bound  # uniform: the largest of 120


def test_signals_stand_at_the_levels_resolutions_the_topmost_first() -> None:
    config = shaped("continuous", size=16, levels=3)
    signals = lively(config).bottom_up(images(config, 2))
    assert [tuple(one.shape) for one in signals] == [(2, 6, 4, 4), (2, 6, 8, 8), (2, 6, 16, 16)]
    assert [one.shape[-1] for one in signals] == [config.resolution(level) for level in range(3)]


def test_the_lowest_signal_sees_its_pixels_before_the_ones_above_do() -> None:
    """The lowest is the first level's output, and each one above is made of the average-pooled one below it."""
    config = shaped("continuous")
    path, x = lively(config).bottom_up, images(config, 2)
    lowest = path.levels[1](F.conv2d(x, path.stem.weight[:, :, None, None], path.stem.bias))
    upper = path.levels[0](F.avg_pool2d(lowest, 2))
    for found, expected in zip(path(x), (upper, lowest), strict=True):
        torch.testing.assert_close(found, expected, **EXACT)


def test_a_block_that_begins_small_has_gradients_in_all_of_its_layers() -> None:
    block = ConvBlock(6, 3, 9, scale=SMALL)
    block(torch.randn(2, 6, 4, 4)).sum().backward()
    assert all(float(parameter.grad.abs().max()) > 0 for parameter in block.parameters() if parameter.grad is not None)
    assert all(parameter.grad is not None for parameter in block.parameters())
