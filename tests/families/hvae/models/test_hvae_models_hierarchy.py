"""The whole hierarchy: its bound in parts, what it generates, and how far data reach into it."""

import math

import pytest
import torch
from tiny_hierarchies import KINDS, images, lively, noises, shaped
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from vaesweep.elbo import Elbo
from vaesweep.families.hvae.models.blocks import Head
from vaesweep.families.hvae.models.hierarchy import GlobalPosterior, Hierarchy, PixelDecoder
from vaesweep.families.hvae.models.observation import Observation
from vaesweep.training.stack import Stack, initial_rows

ROWS = 3
BEGINNINGS = {"continuous": 374.92573921567964, "ode_like": 283.22873629724563, "discrete": 773.5425407330367}
EXACT = {"rtol": 1e-10, "atol": 1e-10}  # float64


def levels_of(model: Hierarchy, noise: dict[str, Tensor]) -> list[Tensor]:
    return [noise[f"level_{level}_noise"] for level in range(model.config.levels)]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(kind: str) -> Hierarchy:
    return lively(shaped(kind))


@pytest.fixture
def x(model: Hierarchy) -> Tensor:
    return images(model.config, ROWS)


@pytest.fixture
def noise(model: Hierarchy) -> dict[str, Tensor]:
    return noises(model.config, ROWS)


# --- the bound --------------------------------------------------------------------------------------------------


def test_the_bound_is_made_of_a_distortion_an_initial_rate_and_one_of_each_level(
    model: Hierarchy, x: Tensor, noise: dict[str, Tensor]
) -> None:
    elbo, output = model(x, **noise)
    assert tuple(elbo.rates) == model.config.rate_names == ("initial", "level_0", "level_1")
    parameters = model.initial(model.bottom_up(x)[0])
    q = Normal(parameters[:, :2], parameters[:, 2:].exp())
    expected = kl_divergence(q, Normal(torch.zeros_like(q.mean), 1.0))
    torch.testing.assert_close(elbo.rates["initial"], expected, **EXACT)
    torch.testing.assert_close(elbo.distortion, output.observation.nll(x), **EXACT)
    total = elbo.distortion + sum(elbo.rates[name].flatten(1).sum(1) for name in elbo.rates)
    torch.testing.assert_close(elbo.value(), -total, **EXACT)
    assert output.log_weight.shape == elbo.value().shape == (ROWS,)


@pytest.mark.parametrize("observation", ["gaussian", "bernoulli"])
def test_the_distortion_is_that_of_torch_distributions(kind: str, observation: str) -> None:
    model = lively(shaped(kind, observation=observation))
    x, noise = images(model.config, ROWS), noises(model.config, ROWS)
    elbo, output = model(x, **noise)
    found = output.observation
    if observation == "gaussian":
        expected = Normal(found.mean, found.log_std.exp()).log_prob(x)
    else:
        expected = Bernoulli(logits=found.logits).log_prob(x)
    assert expected.shape == x.shape
    torch.testing.assert_close(elbo.distortion, -expected.sum((1, 2, 3)), **EXACT)


def test_rates_are_of_each_latent_variable_and_none_of_an_ode_like_level(
    kind: str, model: Hierarchy, x: Tensor, noise: dict[str, Tensor]
) -> None:
    elbo, _ = model(x, **noise)
    blocks = (2,) if kind == "discrete" else ()
    assert elbo.rates["initial"].shape == (ROWS, 2, 4, 4)
    for level, edge in ((0, 4), (1, 8)):
        rate = elbo.rates[f"level_{level}"].detach()
        assert rate.shape == (ROWS, *blocks, 2, edge, edge)
        assert torch.equal(rate, torch.zeros_like(rate)) if kind == "ode_like" else float(rate.min()) > 0


def test_the_mean_log_weight_is_the_bound(kind: str, model: Hierarchy) -> None:
    """The rates are analytic, or integrals of the drifts; log weights are ratios of densities of what was drawn."""
    draws = 1000
    x, noise = images(model.config, 1).expand(draws, -1, -1, -1), noises(model.config, draws)
    with torch.no_grad():
        elbo, output = model(x, **noise)
    apart = output.log_weight - elbo.value()  # of mean zero: distortions, which vary most, are in both
    assert abs(float(apart.mean())) < 5 * float(apart.std()) / math.sqrt(draws)  # five standard errors
    assert float(apart.std()) > 0.1


def test_each_level_starts_where_the_one_above_has_ended(model: Hierarchy, x: Tensor, noise: dict[str, Tensor]) -> None:
    """By hand: levels, interpolation between them and the decoder."""
    signals = model.bottom_up(x)
    parameters = model.initial(signals[0])
    z = parameters[:, :2] + parameters[:, 2:].exp() * noise["initial_noise"]
    first = model.levels[0](model.top(z), noise["level_0_noise"], signals[0])
    between = torch.nn.functional.interpolate(first.state, scale_factor=2, mode="nearest")
    second = model.levels[1](between, noise["level_1_noise"], signals[1])
    elbo, output = model(x, **noise)
    torch.testing.assert_close(elbo.rates["level_0"], first.rate, **EXACT)
    torch.testing.assert_close(elbo.rates["level_1"], second.rate, **EXACT)
    torch.testing.assert_close(output.observation.mean, model.decoder(second.state).mean, **EXACT)


@pytest.mark.parametrize("finest", [1, 2, 4])
@pytest.mark.parametrize("observation", ["gaussian", "bernoulli"])
def test_latent_pixels_may_be_of_several_pixels(kind: str, finest: int, observation: str) -> None:
    model = lively(shaped(kind, finest=finest, observation=observation))
    x, noise = images(model.config, ROWS), noises(model.config, ROWS)
    assert noise["level_1_noise"].shape[-1] == noise["level_0_noise"].shape[-1] * 2 == 8 // finest
    elbo, output = model(x, **noise)
    assert output.observation.mean.shape == output.observation.entropy().shape == x.shape
    assert isinstance(elbo, Elbo)
    assert elbo.value().isfinite().all()
    moved = images(model.config, ROWS)
    moved[:, :, -1, -1] += 1
    assert not torch.equal(model.bottom_up(moved)[1], model.bottom_up(x)[1]), "every pixel is seen"


def test_a_continuous_hierarchy_takes_as_many_steps_as_its_noise_has() -> None:
    model = lively(shaped("continuous"))
    x = images(model.config, ROWS)
    found = [model(x, **noises(model.config, ROWS, draws=draws))[0].value() for draws in (1, 4, 9)]
    assert all(value.isfinite().all() for value in found)
    assert not torch.allclose(found[0], found[1])


# --- how far data reach -----------------------------------------------------------------------------------------


def test_nothing_of_an_ode_like_hierarchy_depends_on_data_but_its_initial_value() -> None:
    model = lively(shaped("ode_like", levels=3))
    x, noise = images(model.config, ROWS), noises(model.config, ROWS)
    signals = [signal.detach().requires_grad_() for signal in model.bottom_up(x)]
    model.bottom_up.forward = lambda x: signals  # type: ignore[method-assign]
    elbo, output = model(x, **noise)
    loss = elbo.value().sum() + output.log_weight.sum()
    slopes = torch.autograd.grad(loss, signals, allow_unused=True)
    assert slopes[0] is not None
    assert float(slopes[0].abs().max()) > 0
    assert slopes[1:] == (None, None)


@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_every_signal_is_used_by_other_hierarchies(kind: str) -> None:
    model = lively(shaped(kind, levels=3))
    x, noise = images(model.config, ROWS), noises(model.config, ROWS)
    signals = [signal.detach().requires_grad_() for signal in model.bottom_up(x)]
    model.bottom_up.forward = lambda x: signals  # type: ignore[method-assign]
    slopes = torch.autograd.grad(model(x, **noise)[0].value().sum(), signals)
    assert all(float(slope.abs().max()) > 0 for slope in slopes)


# --- generation -------------------------------------------------------------------------------------------------


def test_with_all_levels_informed_an_image_is_its_reconstruction(
    model: Hierarchy, x: Tensor, noise: dict[str, Tensor]
) -> None:
    _, output = model(x, **noise)
    found = model.generate(noise["initial_noise"], levels_of(model, noise), x, informed=2)
    assert torch.equal(found.mean, output.observation.mean)
    assert torch.equal(found.entropy(), output.observation.entropy())


def test_with_no_level_informed_nothing_depends_on_the_image(
    model: Hierarchy, x: Tensor, noise: dict[str, Tensor]
) -> None:
    free = model.generate(noise["initial_noise"], levels_of(model, noise))
    told = model.generate(noise["initial_noise"], levels_of(model, noise), x.requires_grad_(), informed=0)
    assert torch.equal(told.mean, free.mean)
    assert torch.autograd.grad(told.mean.sum(), x, allow_unused=True) == (None,)


def test_the_prior_of_the_initial_value_is_the_standard_normal(model: Hierarchy, noise: dict[str, Tensor]) -> None:
    """Generation from the prior begins at the noise itself; then it follows the priors of the levels."""
    state = model.top(noise["initial_noise"])
    for level, own in zip(model.levels, levels_of(model, noise), strict=True):
        wider = state.shape[-1] < own.shape[-1]
        state = torch.nn.functional.interpolate(state, scale_factor=2) if wider else state
        state = level(state, own, None).state
    found = model.generate(noise["initial_noise"], levels_of(model, noise))
    torch.testing.assert_close(found.mean, model.decoder(state).mean, **EXACT)


def test_with_one_level_informed_the_image_is_seen_through_the_topmost_signal_alone(
    model: Hierarchy, x: Tensor, noise: dict[str, Tensor]
) -> None:
    signals = [signal.detach().requires_grad_() for signal in model.bottom_up(x)]
    model.bottom_up.forward = lambda x: signals  # type: ignore[method-assign]
    found = model.generate(noise["initial_noise"], levels_of(model, noise), x, informed=1)
    first, second = torch.autograd.grad(found.mean.sum(), signals, allow_unused=True)
    assert first is not None
    assert float(first.abs().max()) > 0
    assert second is None


@pytest.mark.parametrize("informed", [1, 2])
def test_levels_cannot_be_told_of_an_image_that_is_not_there(
    model: Hierarchy, noise: dict[str, Tensor], informed: int
) -> None:
    with pytest.raises(ValueError, match="there is none"):
        model.generate(noise["initial_noise"], levels_of(model, noise), informed=informed)


@pytest.mark.parametrize("informed", [-1, 3])
def test_levels_that_are_not_there_cannot_be_told(
    model: Hierarchy, x: Tensor, noise: dict[str, Tensor], informed: int
) -> None:
    with pytest.raises(ValueError, match="0 to 2 levels"):
        model.generate(noise["initial_noise"], levels_of(model, noise), x, informed=informed)


# --- precision --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [1, 2])
def test_products_in_bfloat16_leave_rates_and_weights_in_float32(kind: str, cells: int) -> None:
    """Sums over steps and latent variables of three digits each would lose whole nats."""
    config = shaped(kind)
    stack = Stack(Hierarchy(config), initial_rows(lambda: Hierarchy(config), list(range(cells))))
    batch = {name: value.float() for name, value in noises(config, ROWS).items()} | {"x": images(config, ROWS).float()}
    with torch.autocast("cpu", torch.bfloat16):
        found = stack.apply(
            lambda result, batch: [result[0].distortion, *result[0].rates.values(), result[1].log_weight],
            batch,
            shared=True,
        )
    assert {value.dtype for value in found} == {torch.float32}


@pytest.mark.parametrize("observation", ["gaussian", "bernoulli"])
def test_parameters_of_distributions_leave_in_float32_and_not_in_three_digits(kind: str, observation: str) -> None:
    config = shaped(kind, observation=observation, top=3)
    model = lively(config).float()
    seen: list[Tensor] = []
    for part in model.modules():
        if isinstance(part, Head | GlobalPosterior | PixelDecoder):
            part.register_forward_hook(lambda module, given, result: seen.append(of(result)))

    def of(result: Tensor | Observation) -> Tensor:
        if isinstance(result, Tensor):
            return result
        return torch.cat([value.flatten() for value in vars(result).values()])

    with torch.autocast("cpu", torch.bfloat16):
        model(images(config, ROWS).float(), **{name: noise.float() for name, noise in noises(config, ROWS).items()})
    assert len(seen) == 2 + (8 if kind == "discrete" else 0)
    for parameters in seen:
        assert parameters.dtype is torch.float32
        assert float((parameters != parameters.bfloat16().float()).float().mean()) > 0.9


# --- a global initial value, biases -----------------------------------------------------------------------------


def test_a_global_initial_value_is_dense_and_decides_every_place_of_the_topmost_level(kind: str) -> None:
    config = shaped(kind, top=3)
    model = lively(config)
    x, noise = images(config, ROWS), noises(config, ROWS)
    assert noise["initial_noise"].shape == (ROWS, 3, 1, 1)
    elbo, _ = model(x, **noise)
    assert elbo.rates["initial"].shape == (ROWS, 3, 1, 1)
    q = model._posterior(model.bottom_up(x)[0], noise["initial_noise"])
    pixel = x[:1].clone().requires_grad_()
    (slope,) = torch.autograd.grad(
        model._posterior(model.bottom_up(pixel)[0], noise["initial_noise"]).mean.sum(), pixel
    )
    assert (slope.abs() > 0).all(), "every pixel is seen"
    z = q.mean[:1].detach().requires_grad_()
    start = model.start(0, z)
    assert start.shape[-2:] == (4, 4)
    for place in start.abs().sum(1).flatten():
        (slope,) = torch.autograd.grad(place, z, retain_graph=True)
        assert (slope.abs() > 0).all()


def test_biases_of_places_begin_at_zero_and_are_added_where_a_level_begins(kind: str) -> None:
    torch.manual_seed(0)
    plain = Hierarchy(shaped(kind))
    torch.manual_seed(0)
    biased = Hierarchy(shaped(kind, biases=True))
    x, noise = images(plain.config, ROWS).float(), {n: v.float() for n, v in noises(plain.config, ROWS).items()}
    torch.testing.assert_close(biased(x, **noise)[0].value(), plain(x, **noise)[0].value())
    with torch.no_grad():
        biased.biases[1].normal_()
    above = torch.randn(ROWS, *biased.biases[0].shape)
    torch.testing.assert_close(
        biased.start(1, above) - plain.start(1, above), biased.biases[1].expand(ROWS, -1, -1, -1)
    )
    assert not torch.allclose(biased(x, **noise)[0].value(), plain(x, **noise)[0].value())


def test_what_is_new_leaves_todays_models_as_they_begin(kind: str) -> None:
    """Names and first values of parameters, of a seed: the sums of earlier versions."""
    torch.manual_seed(0)
    model = Hierarchy(shaped(kind))
    assert {name.partition(".")[0] for name, _ in model.named_parameters()} <= {
        *("bottom_up", "initial", "top", "levels", "decoder")
    }
    total = float(sum(parameter.detach().double().abs().sum() for parameter in model.parameters()))
    assert total == pytest.approx(BEGINNINGS[kind], rel=1e-6)
