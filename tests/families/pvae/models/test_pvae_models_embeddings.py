"""Every embedding of a partial datum reads what is observed, and nothing else."""

import pytest
import torch
from torch import nn

from vaesweep.families.pvae.models.embeddings import Attention, Concatenation, PointNetPlus

DIMS = 5


@pytest.fixture(params=["sum", "attention", "concatenation"])
def embed(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    kinds = {"sum": PointNetPlus(DIMS, 4, 6), "attention": Attention(DIMS, 4, 6), "concatenation": Concatenation(DIMS)}
    return kinds[request.param]


def test_it_is_as_wide_as_it_says(embed: nn.Module) -> None:
    assert embed(torch.randn(3, DIMS), torch.rand(3, DIMS) > 0.5).shape == (3, embed.width)


def test_what_stands_in_the_gaps_is_not_looked_at(embed: nn.Module) -> None:
    x, observed = torch.randn(3, DIMS), torch.rand(3, DIMS) > 0.5
    assert torch.equal(embed(x, observed), embed(x.masked_fill(~observed, torch.nan), observed))


def test_a_datum_with_nothing_observed_is_encoded_without_nan(embed: nn.Module) -> None:
    assert embed(torch.randn(2, DIMS), torch.zeros(2, DIMS, dtype=torch.bool)).isfinite().all()


def test_every_observed_value_and_every_gap_counts(embed: nn.Module) -> None:
    x, observed = torch.randn(1, DIMS), torch.ones(1, DIMS, dtype=torch.bool)
    whole = embed(x, observed)
    for dim in range(DIMS):
        moved, without = x.clone(), observed.clone()
        moved[0, dim] += 1.0
        without[0, dim] = False
        assert not torch.allclose(embed(moved, observed), whole)
        assert not torch.allclose(embed(x, without), whole)


def test_a_value_of_zero_is_not_a_gap(embed: nn.Module) -> None:
    """Zero is the mean of standardised data."""
    x, observed = torch.zeros(1, DIMS), torch.ones(1, DIMS, dtype=torch.bool)
    without = observed.clone()
    without[0, 2] = False
    assert not torch.allclose(embed(x, observed), embed(x, without))


def test_attention_tells_how_much_is_observed() -> None:
    """The average of equal features is the same for one and for five of them; the share observed is not."""
    torch.manual_seed(0)
    embed = Attention(DIMS, 4, 6)
    with torch.no_grad():
        embed.embed.identity.copy_(embed.embed.identity[:1].expand(DIMS, -1))
    one, all_ = torch.zeros(1, DIMS, dtype=torch.bool), torch.ones(1, DIMS, dtype=torch.bool)
    one[0, 0] = True
    x = torch.ones(1, DIMS)
    torch.testing.assert_close(embed(x, one)[:, :-1], embed(x, all_)[:, :-1])
    assert embed(x, one)[0, -1].item() == pytest.approx(1 / DIMS)
