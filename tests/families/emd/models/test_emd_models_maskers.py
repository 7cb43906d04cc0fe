"""What each masker sees, how large it is, and that a pack of maskers is its models one by one."""

from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from vaesweep.families.emd.models.attention import SelfAttention, positional_encoding
from vaesweep.families.emd.models.masker import MaskerConfig, masker
from vaesweep.families.emd.models.sepformer import (
    DualPath,
    SepFormer,
    SepFormerConfig,
    Transformer,
    TransformerLayer,
    chunked,
    overlap_added,
)
from vaesweep.families.emd.models.sudormrf import SuDoRmRf, SuDoRmRfConfig, UConvBlock
from vaesweep.families.emd.models.tasnet import TasNetConfig, TemporalConvNet
from vaesweep.families.emd.models.waveforms import WaveformDecoder, WaveformEncoder

SMALL: dict[str, dict[str, Any]] = {
    "tasnet": {"bottleneck": 6, "hidden": 8, "skip": 4, "repeats": 2, "blocks": 3},
    "sudormrf": {"bottleneck": 6, "hidden": 8, "blocks": 2, "resolutions": 3},
    "sepformer": {"width": 8, "heads": 2, "feedforward": 12, "layers": 2, "repeats": 2, "chunk": 6},
    "tdanet": {"bottleneck": 6, "hidden": 8, "resolutions": 3, "heads": 2, "repeats": 3},
    "mossformer2": {
        "width": 8,
        "blocks": 2,
        "group": 6,
        "query": 6,
        "rotated": 4,
        "memory": 5,
        "order": 3,
        "kernel": 5,
    },
}
KINDS = [kind.model_fields["kind"].default for kind in get_args(get_args(MaskerConfig)[0])]
LAST_RESIDUAL = 512 * 128 + 128  # counted in the thesis; nothing reads it, and it is not made here


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def small(kind: str, features: int = 5, speakers: int = 2, outputs: int = 7) -> nn.Module:
    return masker(features, speakers, outputs, TypeAdapter(MaskerConfig).validate_python({"kind": kind} | SMALL[kind]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 5, 6, 7, 12, 13, 29])
def test_masks_are_as_long_as_the_encoding(kind: str, frames: int) -> None:
    assert small(kind)(torch.randn(2, 5, frames)).shape == (2, 14, frames)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pack_gives_what_its_models_give(kind: str) -> None:
    """Values and gradients of one stacked float32 model, and of its models in a loop."""
    models = [small(kind) for _ in range(3)]
    stacked, buffers = stack_module_state(models)
    assert not buffers
    x = torch.randn(3, 2, 5, 13)
    packed = vmap(lambda parameters, x: functional_call(models[0], parameters, (x,)))(stacked, x)
    alone = torch.stack([model(each) for model, each in zip(models, x, strict=True)])
    torch.testing.assert_close(packed, alone)
    upstream = torch.randn_like(alone)
    names = list(stacked)
    of_pack = torch.autograd.grad(packed, [stacked[name] for name in names], upstream)
    of_models = torch.autograd.grad(alone, [p for model in models for p in model.parameters()], upstream)
    for number, name in enumerate(names):
        wanted = torch.stack(of_models[number :: len(names)])
        torch.testing.assert_close(of_pack[number], wanted, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_and_input_reaches_the_masks(kind: str) -> None:
    model = small(kind).double()
    x = torch.randn(2, 5, 13, dtype=torch.float64, requires_grad=True)
    wanted = dict(model.named_parameters()) | {"x": x}
    gradients = torch.autograd.grad(model(x).square().sum(), list(wanted.values()))
    assert all(gradient.abs().max() > 1e-12 for gradient in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_the_input_is_left_as_it_was(kind: str) -> None:
    x = torch.randn(2, 5, 13)
    before = x.clone()
    small(kind)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_do_not_depend_on_the_encodings_scale(kind: str) -> None:
    """The first layer normalises."""
    model = small(kind).double()
    x = torch.randn(2, 5, 13, dtype=torch.float64)
    torch.testing.assert_close(model(3 * x), model(x), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_datum_does_not_see_others(kind: str) -> None:
    model, x = small(kind).double(), torch.randn(3, 5, 13, dtype=torch.float64)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]))


def without_norms(model: nn.Module) -> nn.Module:
    """The model with every norm an identity, so that what influences what is local."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
    return model


def influences(model: nn.Module, frame: int, frames: int) -> list[int]:
    """Frames of the input that the masks at `frame` depend on."""
    x = torch.randn(1, 5, frames, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.double()(x)[..., frame].square().sum(), x)
    return gradient.abs().sum((0, 1)).nonzero().flatten().tolist()


def test_a_temporal_network_sees_the_sum_of_its_dilations_to_either_side() -> None:
    """Two repeats of dilations 1, 2, 4: 2 · 7 frames before and after."""
    assert influences(without_norms(small("tasnet")), 30, 61) == list(range(30 - 14, 30 + 15))


def test_norms_let_a_temporal_network_see_everything() -> None:
    assert influences(small("tasnet"), 30, 61) == list(range(61))


def test_masks_of_a_temporal_network_without_norms_move_with_the_signal() -> None:
    model = without_norms(small("tasnet")).double()
    x = torch.randn(1, 5, 61, dtype=torch.float64)
    moved = model(x.roll(3, -1))
    torch.testing.assert_close(moved[..., 17:47], model(x)[..., 14:44])


def test_skips_are_averaged_over_the_depth() -> None:
    """Blocks that all give residual 0 and skip 1 give a mean of 1, whatever their number."""
    model = small("tasnet")
    assert isinstance(model, TemporalConvNet)
    for block in (*model.blocks, model.last):
        final = block[-1]
        nn.init.zeros_(final.weight)
        nn.init.zeros_(final.bias)
        nn.init.ones_(final.bias[-4:])
    seen: list[Tensor] = []
    model.activation.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    model(torch.randn(1, 5, 9))
    torch.testing.assert_close(seen[0], torch.ones(1, 4, 9))


def test_a_u_block_without_its_coarser_resolutions_is_local() -> None:
    """One resolution and two blocks with kernels of five see four frames to either side; two resolutions more."""
    local = masker(5, 1, 7, SuDoRmRfConfig(bottleneck=6, hidden=8, blocks=2, resolutions=1))
    assert influences(without_norms(local), 30, 61) == list(range(30 - 4, 30 + 5))
    wider = masker(5, 1, 7, SuDoRmRfConfig(bottleneck=6, hidden=8, blocks=2, resolutions=2))
    assert len(influences(without_norms(wider), 30, 61)) > 13


def test_masks_of_a_u_network_without_norms_move_by_its_coarsest_frame() -> None:
    """Three resolutions: a signal four frames later is masked four frames later."""
    model = without_norms(small("sudormrf")).double()
    x = torch.randn(1, 5, 120, dtype=torch.float64)
    torch.testing.assert_close(model(x.roll(4, -1))[..., 54:74], model(x)[..., 50:70])


def test_a_u_block_adds_to_its_input_what_all_resolutions_say_of_a_frame() -> None:
    """Frame t is part of frame t // 2, t // 4, ... of the coarser resolutions."""
    block = UConvBlock(SuDoRmRfConfig(bottleneck=6, hidden=8, resolutions=3)).double()
    levels: list[Tensor] = []
    totals: list[Tensor] = []
    for step in block.downsample:
        step.register_forward_hook(lambda module, given, out: levels.append(out))
    block.contract.register_forward_hook(lambda module, given, out: totals.extend([given[0], out]))
    x = torch.randn(2, 6, 13, dtype=torch.float64)
    changed = block(x)
    assert [level.shape[-1] for level in levels] == [13, 7, 4]
    t = torch.arange(13)
    torch.testing.assert_close(totals[0], levels[0] + levels[1][..., t // 2] + levels[2][..., t // 4])
    torch.testing.assert_close(changed, x + totals[1])


@pytest.mark.parametrize("frames", [1, 5, 6, 7, 29])
def test_overlap_add_undoes_chunks_of_which_every_frame_has_two(frames: int) -> None:
    x = torch.randn(2, frames, 3)
    chunks = chunked(x, 6)
    assert chunks.shape[2:] == (6, 3)
    torch.testing.assert_close(overlap_added(chunks, frames), 2 * x)


def test_chunks_are_windows_half_a_chunk_apart() -> None:
    x = torch.randn(2, 12, 3)
    padded = nn.functional.pad(x, (0, 0, 3, 3))
    torch.testing.assert_close(chunked(x, 6), padded.unfold(1, 6, 3).mT)


def copied(attention: SelfAttention) -> nn.MultiheadAttention:
    """Torch's attention with the weights of ours."""
    width = attention.combine.in_features
    reference = nn.MultiheadAttention(width, attention.heads, batch_first=True).double()
    reference.in_proj_weight.data = attention.project.weight.data
    reference.in_proj_bias.data = attention.project.bias.data
    reference.out_proj.weight.data = attention.combine.weight.data
    reference.out_proj.bias.data = attention.combine.bias.data
    return reference


def test_attention_is_that_of_torch() -> None:
    attention = SelfAttention(12, 3).double()
    x = torch.randn(4, 7, 12, dtype=torch.float64)
    torch.testing.assert_close(attention(x), copied(attention)(x, x, x)[0])


def test_a_layer_is_torchs_encoder_layer_that_normalises_first() -> None:
    layer = TransformerLayer(SepFormerConfig(width=12, heads=3, feedforward=10)).double()
    shape = {"dropout": 0.0, "batch_first": True, "norm_first": True, "layer_norm_eps": 1e-6}
    reference = nn.TransformerEncoderLayer(12, 3, 10, **shape).double()
    reference.self_attn = copied(layer.attend[1])
    reference.linear1.load_state_dict(layer.think[1].state_dict())
    reference.linear2.load_state_dict(layer.think[3].state_dict())
    x = torch.randn(4, 7, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x), reference(x))


def test_a_transformer_without_places_does_not_know_the_order() -> None:
    """Its layers alone give permuted frames permuted outputs; with the places added they do not."""
    model = Transformer(SepFormerConfig(width=8, heads=2, feedforward=12, layers=2)).double()
    x = torch.randn(1, 7, 8, dtype=torch.float64)
    order = torch.randperm(7)
    assert not torch.allclose(model(x[:, order]), model(x)[:, order])
    torch.testing.assert_close(model.layers(x[:, order]), model.layers(x)[:, order])


def test_a_transformer_whose_layers_add_nothing_normalises_its_input_with_the_places() -> None:
    model = Transformer(SepFormerConfig(width=8, heads=2, feedforward=12, layers=2))
    for layer in model.layers:
        for last in (layer.attend[1].combine, layer.think[3]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    x = torch.randn(2, 7, 8)
    placed = x + positional_encoding(x)
    torch.testing.assert_close(model(x), nn.functional.layer_norm(placed, [8], eps=1e-6))


@pytest.mark.parametrize("path", ["within", "between"])
def test_there_is_a_way_around_both_transformers(path: str) -> None:
    """A norm whose gain and bias are zero takes a transformer's features away, and leaves what went in."""
    dual = DualPath(SepFormerConfig(width=8, heads=2, feedforward=12, layers=1))
    x = torch.randn(2, 3, 6, 8)
    for name in {"within", "between"} - {path}:
        nn.init.zeros_(getattr(dual, f"{name}_norm").weight)
    features = dual(x) - x
    assert features.abs().max() > 0.1
    torch.testing.assert_close(features.flatten(1).mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(features.flatten(1).std(1, correction=0), torch.ones(2), atol=1e-4, rtol=0)
    nn.init.zeros_(getattr(dual, f"{path}_norm").weight)
    torch.testing.assert_close(dual(x), x)


def test_masks_of_a_sepformer_are_gated_and_its_sources_share_the_gate() -> None:
    """Where what is spread is the same for two sources, so are their masks; a closed gate closes them."""
    model = small("sepformer")
    assert isinstance(model, SepFormer)
    one = model.spread.weight.data[:8].clone(), model.spread.bias.data[:8].clone()
    model.spread.weight.data[8:], model.spread.bias.data[8:] = one
    first, second = model(torch.randn(2, 5, 13)).unflatten(1, (2, 7)).unbind(1)
    torch.testing.assert_close(first, second)
    nn.init.constant_(model.gate.bias, -100.0)
    assert model(torch.randn(2, 5, 13)).abs().max() < 1e-6


def test_a_places_distance_does_not_depend_on_where_it_is() -> None:
    """The inner product of two places is that of their difference."""
    encoded = positional_encoding(torch.zeros(20, 8, dtype=torch.float64))
    products = encoded @ encoded.T
    torch.testing.assert_close(products[3:, 3:], products[:-3, :-3])


def test_places_are_exact_in_bfloat16_too() -> None:
    """An integer above 256 is none of bfloat16's."""
    places = positional_encoding(torch.zeros(2000, 8, dtype=torch.bfloat16))
    exact = positional_encoding(torch.zeros(2000, 8))
    assert places.dtype == torch.bfloat16
    assert (places.float() - exact).abs().max() < 0.005


def test_frames_of_other_chunks_are_seen_between_chunks_alone() -> None:
    model = small("sepformer")
    assert isinstance(model, SepFormer)
    assert influences(model, 20, 41) == list(range(41))
    for path in model.paths[:-1]:
        path.between = nn.Identity()
    assert influences(without_norms(model), 20, 41) == list(range(15, 24)), (
        "its two chunks, frames 15 to 20 and 18 to 23"
    )


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be shared"):
        SepFormerConfig(width=10, heads=4)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="tasnet"):
        TypeAdapter(MaskerConfig).validate_python({"kind": "dprnn"})


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.mark.parametrize(("parameters", "published"), [(1, 5.1), (2, 5.2)])
def test_a_tasnet_is_as_large_as_the_thesis_says(parameters: int, published: float) -> None:
    """Two sources of K = 512; the variational twin has two parameters for each number of encoding and masks.

    The thesis counts a residual of the last block that reaches nothing, and that this masker does without.
    """
    speakers, size = 2, 512
    net = masker(size, speakers, parameters * size, TasNetConfig())
    whole = count(WaveformEncoder(parameters * size), net, WaveformDecoder(size)) + LAST_RESIDUAL
    assert round(whole / 1e6, 1) == published


@pytest.mark.parametrize(("outputs", "parameters"), [(512, 4_968_497), (1024, 5_100_593)])
def test_a_tasnet_masker_has_exactly_these_parameters(outputs: int, parameters: int) -> None:
    """By hand: 1024 + 512·128 + 128, 23 blocks, one without a residual, a PReLU, and all outputs."""
    blocks = 23 * (66_048 + 1 + 1024 + 2048 + 1 + 1024 + 131_328) + (66_048 + 1 + 1024 + 2048 + 1 + 1024 + 65_664)
    by_hand = 1024 + 65_664 + blocks + 1 + 129 * 2 * outputs
    assert count(masker(512, 2, outputs, TasNetConfig())) == parameters == by_hand


def test_a_sudormrf_masker_has_exactly_the_parameters_of_the_thesis() -> None:
    """Two sources of K = 512: 2.609 M in the implementation that the thesis used."""
    assert count(masker(512, 2, 512, SuDoRmRfConfig())) == 2_609_297


def test_a_sudormrf_of_five_resolutions_is_as_large_as_its_paper_says() -> None:
    """Two sources, 512 filters of 21 samples both ways; the paper has one slope a PReLU."""
    slopes = 16 * 511
    net = SuDoRmRf(512, 2 * 512, SuDoRmRfConfig(resolutions=5))
    assert round((count(net) - slopes + 2 * 21 * 512) / 1e6, 1) == 2.7


def test_a_sepformer_masker_has_exactly_the_parameters_of_speechbrains() -> None:
    """Two sources of K = 256: four transformers of 6 318 592, their norms, and what is before and behind them."""
    attention, dense, norms = 4 * (256 * 256 + 256), 2 * 256 * 1024 + 1024 + 256, 2 * 512
    transformers = 4 * (8 * (attention + dense + norms) + 512 + 512)
    around = 512 + 256 * 256 + 1 + (256 * 512 + 512) + 2 * (256 * 256 + 256) + 256 * 256
    assert count(masker(256, 2, 256, SepFormerConfig())) == transformers + around == 25_671_169
