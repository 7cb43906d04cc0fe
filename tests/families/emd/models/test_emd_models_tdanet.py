"""TDANet's masker: its size, its one block, what its resolutions see of each other."""

import pytest
import torch
from torch import Tensor, nn

from vaesweep.families.emd.models.masker import masker
from vaesweep.families.emd.models.tdanet import (
    Directed,
    GlobalFeatures,
    TdaNet,
    TdaNetConfig,
    TopDownBlock,
    averaged,
    stretched,
)

SMALL = TdaNetConfig(bottleneck=6, hidden=8, resolutions=3, heads=2, repeats=3)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_it_has_exactly_the_parameters_of_the_published_configuration() -> None:
    """By hand, for two sources of 17 features at 8 kHz (2.3 M in the paper) and of K = 512."""
    attention, dense = 4 * (512 * 512 + 512) + 2 * 1024, 2 * 512 * 1024 + 2048 + 1024 + (5 + 1) * 1024
    block = (128 * 512 + 512 + 1024 + 1) + 5 * (6 * 512 + 1024) + attention + dense
    block += 4 * 3 * (5 * 512 + 1024) + (512 * 128 + 128)
    for features, parameters in ((17, 2_313_671), (512, 2_505_731)):
        around = 2 * features + features * 128 + 128 + (128 + 128 + 1) + 1 + 129 * 2 * features
        assert count(masker(features, 2, features, TdaNetConfig())) == block + around == parameters


def test_repeats_share_their_weights() -> None:
    assert count(TdaNet(5, 7, SMALL)) == count(TdaNet(5, 7, SMALL.model_copy(update={"repeats": 9})))
    assert not torch.allclose(*(TdaNet(5, 7, SMALL)(torch.ones(1, 5, 9)) for _ in range(2)))


def test_every_repeat_starts_from_the_encoding_and_what_was_made_of_it() -> None:
    model = TdaNet(5, 7, SMALL).double()
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    model.block.register_forward_hook(lambda module, given, out: (inputs.append(given[0]), outputs.append(out))[0])
    x = torch.randn(2, 5, 13, dtype=torch.float64)
    model(x)
    start = model.enter(x)
    assert len(inputs) == 3
    torch.testing.assert_close(inputs[0], start)
    for given, before in zip(inputs[1:], outputs, strict=False):
        torch.testing.assert_close(given, model.again(start + before))


@pytest.mark.parametrize(("long", "short"), [(13, 4), (12, 3), (29, 8), (5, 5), (7, 1)])
def test_resolutions_are_brought_together_as_torch_does(long: int, short: int) -> None:
    x, y = torch.randn(2, 3, short), torch.randn(2, 3, long)
    torch.testing.assert_close(stretched(x, long), nn.functional.interpolate(x, size=long, mode="nearest"))
    torch.testing.assert_close(averaged(y, short), nn.functional.adaptive_avg_pool1d(y, short))


def test_coarse_features_gate_and_shift_fine_ones() -> None:
    directed = Directed(3, 5).double()
    fine, coarse = torch.randn(2, 3, 12, dtype=torch.float64), torch.randn(2, 3, 6, dtype=torch.float64)
    t = torch.arange(12) // 2
    expected = directed.fine(fine) * directed.gate(coarse).sigmoid()[..., t] + directed.shift(coarse)[..., t]
    torch.testing.assert_close(directed(fine, coarse), expected)
    nn.init.constant_(directed.gate[1].weight, 0.0)
    nn.init.constant_(directed.gate[1].bias, -100.0)  # closed
    torch.testing.assert_close(directed(fine, coarse), directed.shift(coarse)[..., t])


def test_global_features_are_attention_and_dense_layers_each_added() -> None:
    """Against torch's own attention, with sines and cosines of places in the normalised frames."""
    whole = GlobalFeatures(SMALL).double()
    reference = nn.MultiheadAttention(8, 2, batch_first=True).double()
    reference.in_proj_weight.data = whole.attention.project.weight.data
    reference.in_proj_bias.data = whole.attention.project.bias.data
    reference.out_proj.weight.data = whole.attention.combine.weight.data
    reference.out_proj.bias.data = whole.attention.combine.bias.data
    x = torch.randn(2, 8, 7, dtype=torch.float64)
    place = torch.arange(7, dtype=torch.float64)[:, None] * 1e4 ** -(torch.arange(0, 8, 2, dtype=torch.float64) / 8)
    frames = nn.functional.layer_norm(x.mT, [8]) + torch.stack([place.sin(), place.cos()], -1).flatten(-2)
    attended = nn.functional.layer_norm(reference(frames, frames, frames)[0], [8]).mT + x
    torch.testing.assert_close(whole(x), attended + whole.think(attended))


def test_the_global_features_reach_every_resolution() -> None:
    """From the mean of all, added to each; the two coarsest meet first, and the finest last."""
    block = TopDownBlock(SMALL).double()
    levels: list[Tensor] = []
    given: dict[int, tuple[Tensor, Tensor]] = {}
    wholes: list[tuple[Tensor, Tensor]] = []
    for step in block.downsample:
        step.register_forward_hook(lambda module, args, out: levels.append(out))
    block.whole.register_forward_hook(lambda module, args, out: wholes.append((args[0], out)))
    for number, direct in enumerate(block.direct):
        direct.register_forward_hook(lambda module, args, out, number=number: given.update({number: args}))
    block(torch.randn(1, 6, 12, dtype=torch.float64))
    assert [level.shape[-1] for level in levels] == [12, 6, 3]
    seen, whole = wholes[0]
    torch.testing.assert_close(
        seen, levels[0].unflatten(-1, (3, 4)).mean(-1) + levels[1].unflatten(-1, (3, 2)).mean(-1) + levels[2]
    )
    torch.testing.assert_close(given[0][0], levels[1] + whole.repeat_interleave(2, -1))
    torch.testing.assert_close(given[0][1], levels[2] + whole)
    torch.testing.assert_close(given[1][0], levels[0] + whole.repeat_interleave(4, -1))


def test_a_number_of_channels_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="a width of 8 cannot be shared by 3 heads"):
        TdaNetConfig(hidden=8, heads=3)
