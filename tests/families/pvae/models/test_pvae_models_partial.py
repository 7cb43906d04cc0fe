"""The partial VAE sees a set: which dimensions are observed and what they hold, never their order nor the gaps."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from vaesweep.families.pvae.models.partial import RATE, PartialVae, PartialVaeConfig, PointNetPlus

DIMS, BATCH = 7, 12
CONFIG = PartialVaeConfig(latents=3, embedding=5, features=11, hidden=13)

Data = tuple[Tensor, Tensor, Tensor]


@pytest.fixture
def model() -> PartialVae:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PartialVae(DIMS, CONFIG).double()


@pytest.fixture
def data() -> Data:
    """Values, a mask and noise; the first datum is wholly unobserved, the second wholly observed."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(BATCH, DIMS, generator=draw, dtype=torch.float64)
    observed = torch.rand(BATCH, DIMS, generator=draw) < 0.5
    observed[0], observed[1] = False, True
    return x, observed, torch.randn(BATCH, CONFIG.latents, generator=draw, dtype=torch.float64)


def gradients(model: PartialVae, data: Data) -> dict[str, Tensor]:
    model.zero_grad()
    model(*data)[0].value().sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_the_encoding_does_not_depend_on_the_order_of_dimensions(model: PartialVae, data: Data) -> None:
    x, observed, _ = data
    before = model.posterior(x, observed)
    order = torch.randperm(DIMS, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        model.embed.identity.copy_(model.embed.identity[order])
    after = model.posterior(x[:, order], observed[:, order])
    torch.testing.assert_close(after.mean, before.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(after.log_std, before.log_std, rtol=1e-12, atol=1e-12)


def test_identities_tell_dimensions_apart(model: PartialVae, data: Data) -> None:
    x, observed, _ = data
    order = torch.arange(DIMS).roll(1)
    moved = model.posterior(x[:, order], observed[:, order]).mean
    assert not torch.allclose(moved[1:], model.posterior(x, observed).mean[1:], atol=1e-3)


@pytest.mark.parametrize("gap", [0.0, 1e6, math.nan, math.inf])
def test_what_stands_in_the_gaps_changes_neither_the_bound_nor_its_gradient(
    model: PartialVae, data: Data, gap: float
) -> None:
    x, observed, noise = data
    filled = (x.masked_fill(~observed, gap), observed, noise)
    (clean, _), (gappy, _) = model(*data), model(*filled)
    assert torch.equal(clean.distortion, gappy.distortion)
    assert torch.equal(clean.rates[RATE], gappy.rates[RATE])
    expected, found = gradients(model, data), gradients(model, filled)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_nothing_observed_says_nothing(model: PartialVae, data: Data) -> None:
    x, observed, noise = data
    posterior = model.posterior(x, observed)
    assert torch.equal(posterior.mean[0], torch.zeros(CONFIG.latents, dtype=torch.float64))
    assert torch.equal(posterior.log_std[0], torch.zeros(CONFIG.latents, dtype=torch.float64))
    elbo, _ = model(*data)
    assert torch.equal(elbo.rates[RATE][0], torch.zeros(CONFIG.latents, dtype=torch.float64))
    assert elbo.distortion[0] == 0
    assert elbo.rate(RATE)[1] > 0
    none = torch.zeros_like(observed)
    for name, gradient in gradients(model, (torch.full_like(x, math.nan), none, noise)).items():
        assert torch.equal(gradient, torch.zeros_like(gradient)), name


def test_the_factored_embedding_is_a_layer_over_value_times_identity_beside_identity(data: Data) -> None:
    x, observed, _ = data
    with torch.random.fork_rng():
        torch.manual_seed(3)
        embed = PointNetPlus(DIMS, embedding=5, features=11).double()
    weight = torch.cat([embed.slope.weight, embed.offset.weight], dim=1)
    direct = torch.zeros(BATCH, 11, dtype=torch.float64)
    for datum in range(BATCH):
        for d in observed[datum].nonzero().flatten().tolist():
            identity = embed.identity[d]
            direct[datum] += torch.relu(weight @ torch.cat([x[datum, d] * identity, identity]) + embed.offset.bias)
    torch.testing.assert_close(embed(x, observed), direct, rtol=1e-12, atol=1e-12)
    assert torch.equal(embed(x, observed)[0], torch.zeros(11, dtype=torch.float64))


def test_the_observations_standard_deviation_never_falls_below_its_floor(model: PartialVae) -> None:
    z = 100 * torch.randn(500, CONFIG.latents, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    std = model.observation(z).log_std.exp().detach()
    assert float(std.min()) >= CONFIG.minimum_std * (1 - 1e-12)  # exp(log(·)) rounds
    assert float(std.min()) == pytest.approx(CONFIG.minimum_std, rel=1e-3), "far out the floor is what remains"


@pytest.mark.parametrize("latents", [1, 2, 9])
@pytest.mark.parametrize("layers", [1, 3])
def test_any_size_has_the_shapes_it_should(latents: int, layers: int) -> None:
    config = PartialVaeConfig(latents=latents, embedding=3, features=5, hidden=6, layers=layers)
    elbo, observation = PartialVae(DIMS, config)(
        torch.zeros(4, DIMS), torch.ones(4, DIMS, dtype=torch.bool), torch.zeros(4, latents)
    )
    assert elbo.distortion.shape == (4,)
    assert elbo.rates[RATE].shape == (4, latents)
    assert observation.mean.shape == observation.log_std.shape == (4, DIMS)


def test_the_bound_is_that_of_torch_distributions(model: PartialVae, data: Data) -> None:
    x, observed, noise = data
    q = model.posterior(x, observed)
    elbo, observation = model(*data)
    expected = kl_divergence(Normal(q.mean, q.log_std.exp()), Normal(torch.zeros_like(q.mean), 1.0))
    torch.testing.assert_close(elbo.rates[RATE], expected, rtol=1e-10, atol=1e-12)
    decoded = model.observation(q.mean + q.log_std.exp() * noise)
    density = Normal(decoded.mean, decoded.log_std.exp()).log_prob(x)
    torch.testing.assert_close(elbo.distortion, -(density * observed).sum(-1))
    assert torch.equal(observation.mean, decoded.mean)


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
@pytest.mark.parametrize("prior", ["standard", "mixture"])
@pytest.mark.parametrize("embed", ["sum", "attention", "concatenation"])
def test_every_kind_of_model_is_a_bound_that_reads_only_what_is_observed(
    posterior: str, prior: str, embed: str, data: Data
) -> None:
    """Its mean over samples is below log p(x_O), estimated by importance weights of many samples."""
    kinds = {"posterior": posterior, "prior": prior, "embed": embed, "linear_path": True, "prior_components": 3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PartialVae(DIMS, PartialVaeConfig.model_validate(CONFIG.model_dump() | kinds)).double()
    x, observed, _ = data
    draws = 4000
    noise = torch.randn(draws * BATCH, CONFIG.latents, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    rows, seen = x.repeat(draws, 1), observed.repeat(draws, 1)
    with torch.no_grad():
        elbo = model(rows, seen, noise)[0].value().reshape(draws, BATCH)
        z, log_q = model.posterior(rows, seen).draw(noise)
        log_p = Normal(model.observation(z).mean, model.observation(z).log_std.exp()).log_prob(rows)
        log_ratio = ((log_p * seen).sum(-1) + model.prior.total(z) - log_q.sum(-1)).reshape(draws, BATCH)
    evidence = log_ratio.logsumexp(0) - math.log(draws)
    assert (elbo.mean(0) <= evidence + 1e-9).all()
    torch.testing.assert_close(log_ratio.mean(0), elbo.mean(0), rtol=0, atol=0.1)
    gaps = (x.masked_fill(~observed, torch.nan), observed, noise[:BATCH])
    assert torch.equal(model(*gaps)[0].value(), model(x, observed, noise[:BATCH])[0].value())


def test_the_analytic_rate_is_never_negative(model: PartialVae) -> None:
    draw = torch.Generator().manual_seed(5)
    x = 30 * torch.randn(400, DIMS, generator=draw)
    observed = torch.rand(400, DIMS, generator=draw) < 0.5
    elbo, _ = model.float()(x, observed, torch.zeros(400, CONFIG.latents))
    # In float32 a rate near 0 is a difference of terms of order one: rounding may leave it a few 1e-7 below.
    assert float(elbo.rates[RATE].detach().min()) >= -5e-7


def test_the_sampled_rate_has_the_analytic_one_as_its_mean(model: PartialVae, data: Data) -> None:
    x, observed, _ = data
    analytic = model(*data)[0].rate(RATE)
    model.config = model.config.model_copy(update={"analytic_kl": False})
    draws = 5000
    noise = torch.randn(draws * BATCH, CONFIG.latents, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    sampled = model(x.repeat(draws, 1), observed.repeat(draws, 1), noise)[0].rate(RATE).reshape(draws, BATCH)
    error = sampled.std(0) / math.sqrt(draws)
    # Five standard errors; the wholly unobserved datum's estimate is exactly zero every time.
    assert ((sampled.mean(0) - analytic).abs() <= 5 * error + 1e-12).all()


# --- several draws ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_several_draws_are_single_ones_side_by_side(posterior: Any) -> None:
    torch.manual_seed(0)
    config = PartialVaeConfig(latents=3, posterior=posterior, prior="mixture", prior_components=4, linear_path=True)
    model = PartialVae(5, config).double()
    x, observed = torch.randn(7, 5, dtype=torch.float64), torch.rand(7, 5) < 0.5
    noise = torch.randn(7, 4, 3, dtype=torch.float64)
    elbo, _ = model(x, observed, noise)
    assert elbo.draws is not None
    for number in range(4):
        single, _ = model(x, observed, noise[:, number])
        torch.testing.assert_close(elbo.draws.distortion[:, number], single.distortion)
        torch.testing.assert_close(elbo.draws.rate("z")[:, number], single.rate("z"))
    torch.testing.assert_close(elbo.distortion, elbo.draws.distortion.mean(-1))


def test_a_floor_of_each_dimensions_own_is_kept() -> None:
    floors = (0.1, 0.2, 5.0)
    model = PartialVae(3, PartialVaeConfig(latents=2, minimum_std=floors))
    std = model.observation(torch.randn(50, 2)).log_std.exp()
    assert (std.amin(0) > torch.tensor(floors)).all()
    assert std[:, 0].min() < 5.0
