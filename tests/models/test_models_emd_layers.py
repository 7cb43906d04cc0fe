"""The layers are the convolutions, norms and activations of torch, and masks of a pack are those of its models."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from vaesweep.models.emd.layers import Depthwise, Pointwise, PReLU
from vaesweep.models.emd.norms import GlobalLayerNorm

CASES = [(7, 3, 1, 1), (7, 3, 4, 1), (2, 3, 4, 1), (9, 5, 1, 2), (8, 5, 1, 2), (1, 5, 1, 2), (8, 5, 2, 3), (6, 1, 1, 1)]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(("frames", "kernel", "dilation", "stride"), CASES)
def test_a_depthwise_layer_and_its_gradients_are_those_of_a_grouped_convolution(
    frames: int, kernel: int, dilation: int, stride: int
) -> None:
    layer = Depthwise(4, kernel, dilation=dilation, stride=stride).double()
    x = drawn(3, 4, frames)
    padding = (kernel - 1) // 2 * dilation
    conv = nn.functional.conv1d(x, layer.weight, layer.bias, stride, padding, dilation, groups=4)
    torch.testing.assert_close(layer(x), conv)
    wanted = [x, *layer.parameters()]
    upstream = torch.randn_like(conv)
    torch.testing.assert_close(
        torch.autograd.grad(layer(x), wanted, upstream), torch.autograd.grad(conv, wanted, upstream)
    )


def test_a_pointwise_layer_is_a_convolution_of_kernel_one() -> None:
    layer = Pointwise(4, 5).double()
    x = drawn(3, 4, 7)
    torch.testing.assert_close(layer(x), nn.functional.conv1d(x, layer.weight, layer.bias))


def test_a_prelu_and_its_gradients_are_those_of_torch() -> None:
    layer, reference = PReLU().double(), nn.PReLU().double()
    x = drawn(3, 4, 7)
    torch.testing.assert_close(layer(x), reference(x))
    ours = torch.autograd.grad(layer(x).square().sum(), [x, layer.weight])
    torch.testing.assert_close(ours, torch.autograd.grad(reference(x).square().sum(), [x, reference.weight]))


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


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shared", [True, False])
def test_a_packs_depthwise_gradients_are_those_of_its_models(shared: bool, stride: int) -> None:
    """In `vmap` of `grad`, with an input a model or one for all."""
    models = [Depthwise(4, 3, dilation=1, stride=stride).double() for _ in range(3)]
    stacked, _ = stack_module_state(models)
    x = drawn(2, 4, 9) if shared else drawn(3, 2, 4, 9)

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(models[0], parameters, (x,)).square().sum()

    packed = vmap(grad(loss, argnums=(0, 1)), in_dims=(0, None if shared else 0))(stacked, x)
    for number, model in enumerate(models):
        alone = grad(loss, argnums=(0, 1))(dict(model.named_parameters()), x if shared else x[number])
        torch.testing.assert_close(packed[1][number], alone[1])
        torch.testing.assert_close({name: value[number] for name, value in packed[0].items()}, alone[0])


def test_a_packs_shared_kernel_is_applied_to_every_models_input() -> None:
    layer = Depthwise(4, 3, dilation=2).double()
    x = drawn(3, 2, 4, 9)
    torch.testing.assert_close(vmap(layer)(x), torch.stack([layer(each) for each in x]))
