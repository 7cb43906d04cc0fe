"""A level of top-down blocks: what is drawn from where, what it costs, and who sees the image (Child 2021)."""

import math

import pytest
import torch
from tiny_hierarchies import lively, shaped
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from vaesweep.families.hvae.models.discrete import DiscreteLevel, TopDownBlock

WIDTH, LATENTS, EDGE, BATCH = 6, 2, 4, 3
EXACT = {"rtol": 1e-10, "atol": 1e-10}  # float64


@pytest.fixture
def level() -> DiscreteLevel:
    """Two blocks with random weights."""
    found = lively(shaped("discrete")).levels[1]
    assert isinstance(found, DiscreteLevel)
    return found


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def stream() -> Tensor:
    return drawn(BATCH, WIDTH, EDGE, EDGE, seed=3)


@pytest.fixture
def signal() -> Tensor:
    return drawn(BATCH, WIDTH, EDGE, EDGE, seed=4)


@pytest.fixture
def noise() -> Tensor:
    return drawn(BATCH, 2, LATENTS, EDGE, EDGE, seed=5)


def prior_of(block: TopDownBlock, stream: Tensor) -> tuple[Normal, Tensor]:
    """The prior and the features beside it, from the block's first channels on: mean, log std, features."""
    found = block.prior(stream)
    return Normal(found[:, :LATENTS], found[:, LATENTS : 2 * LATENTS].exp()), found[:, 2 * LATENTS :]


def posterior_of(block: TopDownBlock, stream: Tensor, signal: Tensor) -> Normal:
    found = block.posterior(torch.cat([stream, signal], dim=1))
    return Normal(found[:, :LATENTS], found[:, LATENTS:].exp())


def written_out(
    level: DiscreteLevel, stream: Tensor, noise: Tensor, signal: Tensor | None
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Figure 2 (left) of the thesis with torch.distributions: the stream, each block's rate and its log ratio."""
    rates, ratios = [], []
    for number, block in enumerate(level.blocks):
        assert isinstance(block, TopDownBlock)
        p, features = prior_of(block, stream)
        q = p if signal is None else posterior_of(block, stream, signal)
        z = q.mean + q.stddev * noise[:, number]
        rates.append(kl_divergence(q, p))
        ratios.append(q.log_prob(z) - p.log_prob(z))
        stream = stream + features + torch.nn.functional.conv2d(z, block.project.weight[..., None, None])
        stream = stream + block.project.bias[:, None, None]
        stream = stream + block.residual.block(stream)
    return stream, rates, ratios


@pytest.mark.parametrize("informed", [True, False])
def test_a_level_is_the_figure_written_out(
    level: DiscreteLevel, stream: Tensor, noise: Tensor, signal: Tensor, informed: bool
) -> None:
    """Features of the prior are added whether z comes from posterior or prior, and all blocks see one signal."""
    told = signal if informed else None
    walk, (end, rates, ratios) = level(stream, noise, told), written_out(level, stream, noise, told)
    torch.testing.assert_close(walk.state, end, **EXACT)
    torch.testing.assert_close(walk.rate, torch.stack(rates, 1), **EXACT)
    torch.testing.assert_close(walk.log_ratio, torch.stack(ratios, 1), **EXACT)
    assert walk.rate.shape == (BATCH, 2, LATENTS, EDGE, EDGE)
    if informed:
        assert float(walk.rate.detach().min()) > 0, "random weights: no posterior is its prior"


def test_the_prior_costs_nothing(level: DiscreteLevel, stream: Tensor, noise: Tensor) -> None:
    walk = level(stream, noise, None)
    for cost in (walk.rate, walk.log_ratio):
        assert torch.equal(cost, torch.zeros_like(noise))


def test_a_rate_is_the_mean_log_ratio_of_what_is_drawn(level: DiscreteLevel, stream: Tensor, signal: Tensor) -> None:
    """Of the first block, whose posterior does not depend on the noise: the rate is one number a latent."""
    draws = 6000
    noise = drawn(draws, 2, LATENTS, EDGE, EDGE, seed=6)
    with torch.no_grad():
        walk = level(stream[:1].expand(draws, -1, -1, -1), noise, signal[:1].expand(draws, -1, -1, -1))
    ratio, rate = walk.log_ratio[:, 0], walk.rate[0, 0]
    error = ratio.std(0) / math.sqrt(draws)
    assert ((ratio.mean(0) - rate).abs() < 5 * error).all()  # five standard errors, 32 latents
    # Of both blocks together, whose second posterior depends on the first one's draw: both are random.
    total = (walk.log_ratio - walk.rate).sum((1, 2, 3, 4))
    assert abs(float(total.mean())) < 5 * float(total.std()) / math.sqrt(draws)


def test_features_are_added_to_the_path_by_themselves(
    level: DiscreteLevel, stream: Tensor, noise: Tensor, signal: Tensor
) -> None:
    """With no latent variable and no residual, the path gains the prior's features and nothing else."""
    block = level.blocks[0]
    assert isinstance(block, TopDownBlock)
    with torch.no_grad():
        for silent in (*block.project.parameters(), *block.residual.block.expand.parameters()):
            silent.zero_()
    _, features = prior_of(block, stream)
    for told in (signal, None):
        torch.testing.assert_close(block(stream, noise[:, 0], told).state, stream + features, **EXACT)


def test_of_one_path_the_prior_is_the_same_whatever_the_signal(
    level: DiscreteLevel, stream: Tensor, noise: Tensor, signal: Tensor
) -> None:
    """The rate differs with the signal, its prior does not: KL(q || p) + H(q) is an expectation under q of -log p."""
    block = level.blocks[0]
    assert isinstance(block, TopDownBlock)
    p, _ = prior_of(block, stream)
    for told in (signal, 2 * signal):
        q = posterior_of(block, stream, told)
        crossed = 0.5 * ((q.variance + (q.mean - p.mean) ** 2) / p.variance + math.log(2 * math.pi)) + p.stddev.log()
        torch.testing.assert_close(block(stream, noise[:, 0], told).rate + q.entropy(), crossed, **EXACT)


def test_every_block_has_weights_and_a_latent_variable_of_its_own(
    level: DiscreteLevel, stream: Tensor, noise: Tensor, signal: Tensor
) -> None:
    first, second = level.blocks
    for name, weight in first.named_parameters():
        assert not torch.equal(weight, dict(second.named_parameters())[name])
    other = noise.clone()
    other[:, 1] += 1
    one, moved = level(stream, noise, signal), level(stream, other, signal)
    assert torch.equal(one.rate, moved.rate), "of the second noise nothing depends but where the path ends"
    assert not torch.allclose(one.state, moved.state)


def test_a_levels_noise_has_one_for_each_block(level: DiscreteLevel, stream: Tensor) -> None:
    with pytest.raises(ValueError, match=r"zip\(\)"):
        level(stream, drawn(BATCH, 3, LATENTS, EDGE, EDGE, seed=5), None)


def test_posteriors_begin_near_enough_to_priors_to_train_and_priors_near_the_standard_normal() -> None:
    torch.manual_seed(0)
    config = shaped("discrete", {"hidden": 16}, width=32, hidden=16, latents=4)
    block = TopDownBlock(config.width, 16, 4, 4)
    p, _ = prior_of(block, torch.randn(BATCH, 32, EDGE, EDGE))
    assert float(p.mean.detach().abs().max()) < 0.1
    assert float(p.stddev.detach().log().abs().max()) < 0.1
    walk = block(torch.randn(BATCH, 32, EDGE, EDGE), torch.randn(BATCH, 4, EDGE, EDGE), torch.randn(BATCH, 32, 4, 4))
    assert 0 < float(walk.rate.detach().mean()) < 0.5
