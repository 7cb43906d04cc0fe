"""MossFormer2's masker: its size, its attention against a loop over frames, its memory against torch's own modules."""

import pytest
import torch
from torch import nn

from vaesweep.families.emd.models.masker import masker
from vaesweep.families.emd.models.mossformer import (
    ChannelNorm,
    GatedAttention,
    GatedMemory,
    LengthNorm,
    Memory,
    MossFormer2,
    MossFormer2Config,
    half_later,
    rotated,
)

SMALL = MossFormer2Config(width=8, blocks=2, group=4, query=6, rotated=4, memory=5, order=3, kernel=5)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_it_has_exactly_the_parameters_of_the_published_model() -> None:
    """By hand, for two sources of 512 features; with 16 samples a filter 55.7 M, as the paper says."""
    streams = 1 + 512 * 2048 + 2048 + 17 * 2048
    query, scales = 1 + 512 * 128 + 128 + 17 * 128, 8 * 128
    combine = 1 + 1024 * 512 + 512 + 17 * 512
    convolved = 512 + 256 * 256 + 256 + 17 * 256
    recalled = (256 * 256 + 256) + 256 * 256 + 39 * 256 * 3 + 2 * 2 * 256 + 2 * 256
    memory = (512 * 256 + 256 + 1) + 512 + 2 * convolved + recalled + 512 + (256 * 512 + 512)
    blocks = 24 * (streams + query + scales + combine + memory)
    around = 1024 + 512 * 512 + 1 + 2 * 1024 + (1 + 512 * 1024 + 1024) + 2 * (512 * 512 + 512) + 512 * 512
    own = sum(parameter.numel() for parameter in masker(512, 2, 512, MossFormer2Config()).parameters())
    assert own == blocks + around == 55_719_010
    assert round((own + 2 * 16 * 512) / 1e6, 1) == 55.7


def test_attention_is_that_of_a_loop_over_frames() -> None:
    """Squares of positive products within groups of four, and plain products over all eleven frames."""
    attention = GatedAttention(SMALL).double()
    nn.init.normal_(attention.scale)
    nn.init.normal_(attention.offset)
    shared, values = torch.randn(1, 11, 6).double(), torch.randn(1, 11, 3).double()
    near_query, near_key, far_query, far_key = (
        rotated(shared * scale + offset, 4)[0] for scale, offset in zip(attention.scale, attention.offset, strict=True)
    )
    expected = torch.zeros(11, 3, dtype=torch.float64)
    for i in range(11):
        for j in range(11):
            expected[i] += values[0, j] * (far_query[i] @ far_key[j]) / 11
            if i // 4 == j // 4:
                expected[i] += values[0, j] * ((near_query[i] @ near_key[j]) / 4).clamp_min(0) ** 2
    torch.testing.assert_close(attention.attend(shared, values)[0], expected)


def test_products_of_what_is_turned_depend_on_the_distance_alone() -> None:
    frames = torch.ones(20, 1, dtype=torch.float64)
    query, key = (rotated(frames * torch.randn(6, dtype=torch.float64), 4) for _ in range(2))
    products = query @ key.T
    torch.testing.assert_close(products[3:, 3:], products[:-3, :-3])
    assert not torch.allclose(products[0], products[0, 0].expand(20))
    torch.testing.assert_close(query.norm(dim=-1), query[0].norm().expand(20))


def test_streams_gate_each_other_and_are_added() -> None:
    attention = GatedAttention(SMALL).double()
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    streams = attention.streams(half_later(x))
    attended = attention.attend(attention.query(half_later(x)), streams)
    v, u = streams[..., :16], streams[..., 16:]
    gated = attended[..., 16:] * v * torch.sigmoid(attended[..., :16] * u)
    torch.testing.assert_close(attention(x), x + attention.combine(gated))


def test_half_of_a_frame_comes_a_frame_later() -> None:
    x = torch.arange(12.0).reshape(1, 3, 4)
    assert half_later(x).tolist() == [[[0, 0, 2, 3], [0, 1, 6, 7], [4, 5, 10, 11]]]


def test_the_length_norm_is_torchs_root_mean_square_norm() -> None:
    norm = LengthNorm(7).double()
    nn.init.constant_(norm.gain, 1.7)
    x = torch.randn(2, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(norm(x), 1.7 * nn.functional.rms_norm(x, [7], eps=0.0))
    assert norm(torch.zeros(1, 1, 7, dtype=torch.float64)).eq(0).all()


def test_the_channel_norm_is_torchs_instance_norm_and_takes_single_frames() -> None:
    own, reference = ChannelNorm(4), nn.InstanceNorm1d(4, affine=True)
    x = torch.randn(3, 4, 9)
    torch.testing.assert_close(own(x), reference(x))
    assert own(torch.randn(1, 4, 1)).abs().max() < 1e-4


def test_the_memory_has_two_dilated_convolutions() -> None:
    """The second, of dilation two, sees neighbouring channels of what the first gave and was given, in a row."""
    memory = Memory(4, 3).double()
    x = torch.randn(2, 15, 4, dtype=torch.float64)
    projected = memory.project(x).mT
    first = nn.functional.conv1d(projected, memory.near[0].weight, padding=2, groups=4)
    first = nn.functional.prelu(nn.functional.instance_norm(first), memory.near[2].weight)
    both = torch.cat([first, projected], 1)
    second = torch.stack(
        [
            nn.functional.conv1d(both[:, 2 * c : 2 * c + 2], memory.far[0].weight[c : c + 1], padding=4, dilation=2)[
                :, 0
            ]
            for c in range(4)
        ],
        dim=1,
    )
    second = nn.functional.prelu(nn.functional.instance_norm(second), memory.far[2].weight)
    torch.testing.assert_close(memory(x), x + second.mT)


def test_a_closed_gate_remembers_nothing() -> None:
    block = GatedMemory(SMALL).double()
    for parameter in block.gate.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(block(x), x + block.leave(block.enter(x)))


def test_sources_share_the_gate_and_are_told_apart_by_what_is_spread() -> None:
    model = MossFormer2(5, 2, 7, SMALL)
    spread = model.spread[1]
    spread.weight.data[8:], spread.bias.data[8:] = spread.weight.data[:8].clone(), spread.bias.data[:8].clone()
    first, second = model(torch.randn(2, 5, 13)).unflatten(1, (2, 7)).unbind(1)
    torch.testing.assert_close(first, second)
    nn.init.constant_(model.gate.bias, -100.0)
    assert model(torch.randn(2, 5, 13)).abs().max() < 1e-6


def test_more_that_turns_than_a_query_has_is_refused() -> None:
    with pytest.raises(ValueError, match="8 numbers of a query cannot turn: it has 6"):
        MossFormer2Config(query=6, rotated=8)
