"""The maskers' convolutions and norm are what their definitions say."""

import pytest
import torch
from torch import Tensor, nn

from vaesweep.families.emd.models.layers import Pointwise1d, depthwise
from vaesweep.families.emd.models.norms import GlobalLayerNorm
from vaesweep.families.emd.models.tasnet import TasNetConfig

CASES = [(7, 3, 1, 1), (7, 3, 4, 1), (2, 3, 4, 1), (9, 5, 1, 2), (8, 5, 1, 2), (1, 5, 1, 2), (8, 5, 2, 3), (6, 1, 1, 1)]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(("frames", "kernel", "dilation", "stride"), CASES)
def test_output_t_of_a_depthwise_convolution_is_centred_on_input_stride_t(
    frames: int, kernel: int, dilation: int, stride: int
) -> None:
    layer = depthwise(4, kernel, dilation=dilation, stride=stride).double()
    x = drawn(3, 4, frames)
    reach = range(-(kernel // 2), kernel // 2 + 1)
    wanted = torch.zeros(3, 4, -(-frames // stride), dtype=torch.float64) + layer.bias[:, None]
    for t in range(wanted.shape[-1]):
        for tap, offset in enumerate(reach):
            place = t * stride + offset * dilation
            if 0 <= place < frames:
                wanted[..., t] += layer.weight[:, 0, tap] * x[..., place]
    torch.testing.assert_close(layer(x), wanted)


def test_a_pointwise_layer_is_a_convolution_of_kernel_one() -> None:
    layer = Pointwise1d(4, 5).double()
    x = drawn(3, 4, 7)
    torch.testing.assert_close(layer(x), nn.functional.conv1d(x, layer.weight, layer.bias))


def test_a_global_layer_norm_has_mean_zero_and_variance_one_over_channels_and_frames() -> None:
    layer = GlobalLayerNorm(4).double()
    normed = layer(5 + 3 * drawn(3, 4, 50)).flatten(1)
    torch.testing.assert_close(normed.mean(1), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(normed.var(1, correction=0), torch.ones(3, dtype=torch.float64))


def test_a_global_layer_norm_is_a_group_norm_of_one_group() -> None:
    layer = GlobalLayerNorm(4).double()
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    x = drawn(3, 4, 7)
    torch.testing.assert_close(layer(x), nn.functional.group_norm(x, 1, layer.weight, layer.bias, 1e-8))


def test_a_kernel_without_a_centre_is_refused() -> None:
    with pytest.raises(ValueError, match="no centre"):
        TasNetConfig(kernel=4)
