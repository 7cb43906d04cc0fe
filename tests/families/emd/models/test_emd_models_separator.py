"""The bound of a separator is the sum of its parts, each computed a second time by other means."""

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch import distributions as td

from vaesweep.distributions import convolve
from vaesweep.families.emd.models.latents import encoding_latent, log_positive
from vaesweep.families.emd.models.separator import (
    Separation,
    Separator,
    SeparatorConfig,
    noise_shapes,
    permuted,
    rate_names,
)
from vaesweep.likelihoods import BlrPrior, blr_nll, cauchy_nll, log_mse, si_sdr, student_t_nll

MASKER = {"kind": "tasnet", "bottleneck": 4, "hidden": 4, "skip": 4, "repeats": 1, "blocks": 2}
TIME, BATCH = 101, 3
ENCODINGS, MASKS = (
    ("deterministic", "gaussian", "log_normal", "gamma"),
    ("relu", "sigmoid", "exp", "log_normal", "beta"),
)
EVERY_TASK = {"single_source_task": True, "mixture_task": True}


def configured(**values: Any) -> SeparatorConfig:
    return SeparatorConfig.model_validate({"latents": 5, "masker": MASKER} | values)


def built(config: SeparatorConfig) -> Separator:
    """A separator in float64 whose weights are not small, so that nothing is near its prior."""
    torch.manual_seed(0)
    model = Separator(config).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def signals(config: SeparatorConfig) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    sources = torch.randn(BATCH, config.speakers, TIME, dtype=torch.float64)
    return sources.sum(1) + 0.1 * torch.randn(BATCH, TIME, dtype=torch.float64), sources


def noise(config: SeparatorConfig, seed: int = 2) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    shapes = noise_shapes(config, TIME)
    return {name: torch.randn(BATCH, *shape, dtype=torch.float64) for name, shape in shapes.items()}


def forward(config: SeparatorConfig) -> tuple[Any, Separation]:
    return built(config)(*signals(config), **noise(config))


def reference(q: Any) -> td.Distribution:
    """The same distribution by torch."""
    kind, found = type(q).__name__, vars(q)
    match kind:
        case "Gaussian":
            return td.Normal(found["mean"], found["log_std"].exp())
        case "LogNormal":
            return td.LogNormal(found["log_mean"], found["log_std"].exp())
        case "Gamma":
            return td.Gamma(found["concentration"], torch.ones_like(found["concentration"]))
    return td.Beta(found["a"], found["b"])


ZERO, HALF, ONE = (torch.tensor(number, dtype=torch.float64) for number in (0.0, 0.5, 1.0))
PRIORS = {
    "gaussian": td.Normal(ZERO, ONE),
    "log_normal": td.LogNormal(ZERO, ONE),
    "gamma": td.Gamma(HALF, ONE),
    "beta": td.Beta(ONE, ONE),
}


# --- the parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_pair_of_kinds_has_the_rates_that_it_says(encoding: str, masks: str) -> None:
    config = configured(encoding=encoding, masks=masks)
    elbo, found = forward(config)
    frames = math.ceil(TIME / 8)
    shapes = {"encoding": (BATCH, 5, frames), "masks": (BATCH, 2, 5, frames)}
    assert {name: tuple(rate.shape) for name, rate in elbo.rates.items()} == {n: shapes[n] for n in rate_names(config)}
    assert ("encoding" in elbo.rates, "masks" in elbo.rates) == (encoding in PRIORS, masks in PRIORS)
    assert elbo.distortion.shape == (BATCH,)
    assert elbo.value().isfinite().all()
    assert found.estimates.shape == (BATCH, 2, TIME)


@pytest.mark.parametrize(("encoding", "masks"), [("gaussian", "log_normal"), ("gamma", "beta"), ("log_normal", "beta")])
def test_analytic_rates_are_the_divergences_that_torch_has(encoding: str, masks: str) -> None:
    config = configured(encoding=encoding, masks=masks)
    elbo, found = forward(config)
    model, (mixture, _) = built(config), signals(config)
    q, in_own_order = model.encode(mixture), model.mask(found.encoding)
    torch.testing.assert_close(elbo.rates["encoding"], td.kl_divergence(reference(q), PRIORS[encoding]))
    torch.testing.assert_close(elbo.rates["masks"], td.kl_divergence(reference(in_own_order), PRIORS[masks]))


@pytest.mark.parametrize(("encoding", "masks"), [("gaussian", "log_normal"), ("gamma", "beta")])
def test_sampled_rates_are_log_density_ratios_of_the_samples(encoding: str, masks: str) -> None:
    config = configured(encoding=encoding, masks=masks, kl="sample")
    elbo, found = forward(config)
    q = reference(built(config).encode(signals(config)[0]))
    expected = q.log_prob(found.encoding) - PRIORS[encoding].log_prob(found.encoding)
    torch.testing.assert_close(elbo.rates["encoding"], expected)


def test_the_mask_prior_is_where_it_is_said_to_be() -> None:
    elbo, found = forward(config := configured(mask_prior_location=0.9))
    q = reference(built(config).mask(found.encoding))
    torch.testing.assert_close(elbo.rates["masks"], td.kl_divergence(q, td.LogNormal(0.9, 1.0)))


@pytest.mark.parametrize("encoding", ["gaussian", "gamma"])
def test_the_adaptive_prior_is_the_distribution_of_the_sum(encoding: str) -> None:
    config = configured(encoding=encoding, prior={"kind": "adaptive"}, speakers=3)
    elbo, _ = forward(config)
    model, (mixture, sources) = built(config), signals(config)
    parts = [reference(model.encode_sources(sources[:, n])) for n in range(3)]
    own = {"gaussian": td.Normal(ZERO, ONE / math.sqrt(3)), "gamma": td.Gamma(HALF / 3, ONE)}[encoding]
    if encoding == "gaussian":
        summed = td.Normal(sum(p.loc for p in parts), sum(p.scale.square() for p in parts).sqrt())
    else:
        summed = td.Gamma(sum(p.concentration for p in parts), 1.0)
    torch.testing.assert_close(elbo.rates["encoding"], td.kl_divergence(reference(model.encode(mixture)), summed))
    for n, part in enumerate(parts):
        torch.testing.assert_close(elbo.rates["sources"][:, n], td.kl_divergence(part, own))


@pytest.mark.parametrize("encoding", ["gaussian", "gamma"])
def test_rates_under_the_adaptive_prior_can_fall_to_nothing(encoding: str) -> None:
    """An optimiser of nothing but the rates, from a separator that is far from its prior, finds no floor."""
    config = configured(encoding=encoding, prior={"kind": "adaptive"}, masks="beta")
    model, (mixture, sources), drawn = built(config), signals(config), noise(config)
    optimiser = torch.optim.Adam(model.parameters(), 0.05)
    start = 0.0
    for _ in range(400):
        optimiser.zero_grad()
        elbo, _ = model(mixture, sources, **drawn)
        loss = sum(elbo.rates[name].mean() for name in ("encoding", "sources"))
        start = start or loss.item()
        loss.backward()
        optimiser.step()
    assert start > 0.3
    assert loss.item() < 0.01


def test_the_sum_of_sources_at_their_prior_has_the_mixtures() -> None:
    """N(0, 1/N) adds up to N(0, 1), Gamma(1/2N) to Gamma(1/2)."""
    like = torch.zeros(4, dtype=torch.float64)
    for kind in ("gaussian", "gamma"):
        own, whole = encoding_latent(kind, 3).prior, encoding_latent(kind).prior
        assert own is not None
        assert whole is not None
        assert convolve([own(like)] * 3).kl(whole(like)).abs().max() < 1e-12


def test_the_flow_is_the_prior_of_mixtures_and_sources() -> None:
    config = configured(prior={"kind": "flow"}, single_source_task=True)
    elbo, found = forward(config)
    model, (mixture, sources) = built(config), signals(config)
    assert model.flow is not None
    q = reference(model.encode(mixture))
    expected = q.log_prob(found.encoding) - model.flow.log_prob(found.encoding)
    torch.testing.assert_close(elbo.rates["encoding"], expected)
    part, log_q = model.encode(sources[:, 1]).draw(noise(config)["source_noise"][:, 1])
    torch.testing.assert_close(elbo.rates["sources"][:, 1], log_q - model.flow.log_prob(part))


LIKELIHOODS = {
    "blr": lambda s, e: blr_nll(s, e, BlrPrior()),
    "cauchy": lambda s, e, raw: cauchy_nll(s, e, log_positive(raw)),
    "student_t": lambda s, e, raw: student_t_nll(s, e, log_positive(raw), 4.0),
    "si_sdr": lambda s, e: -si_sdr(s, e),
    "log_mse": log_mse,
}


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_distortion_is_the_least_over_all_permutations(likelihood: str) -> None:
    config = configured(speakers=3, likelihood={"kind": likelihood})
    elbo, found = forward(config)
    mixture, sources = signals(config)
    drawn = noise(config)
    with torch.no_grad():
        _, _, decoded = built(config).separate(mixture, drawn["encoding_noise"], drawn["mask_noise"])
    for b in range(BATCH):
        sums = {
            order: sum(
                float(LIKELIHOODS[likelihood](sources[b, n], *(d[b, order[n]] for d in decoded))) for n in range(3)
            )
            for order in permutations(range(3))
        }
        best = min(sums, key=lambda order: sums[order])
        assert elbo.distortion[b].item() == pytest.approx(sums[best], rel=1e-9)
        assert tuple(found.order[b].tolist()) == best
        torch.testing.assert_close(found.estimates[b], decoded[0][b, list(best)])


def test_exchanged_sources_exchange_what_is_found_and_leave_the_bound() -> None:
    config = configured()
    model, (mixture, sources) = built(config), signals(config)
    plain, one = model(mixture, sources, **noise(config))
    moved, other = model(mixture, sources.flip(1), **noise(config))
    torch.testing.assert_close(moved.value(), plain.value())
    torch.testing.assert_close(other.estimates, one.estimates.flip(1))
    torch.testing.assert_close(other.masks, one.masks.flip(1))


def test_the_tasks_add_their_distortions() -> None:
    config = configured(**EVERY_TASK)
    model, (mixture, sources), drawn = built(config), signals(config), noise(config)
    elbo, found = model(mixture, sources, **drawn)
    plain, _ = built(configured())(mixture, sources, drawn["encoding_noise"], drawn["mask_noise"])
    expected = plain.distortion + blr_nll(mixture, model.decode(found.encoding, TIME)[0], BlrPrior())
    for n in range(2):
        z, _ = model.encode(sources[:, n]).draw(drawn["source_noise"][:, n])
        expected = expected + blr_nll(sources[:, n], model.decode(z, TIME)[0], BlrPrior())
    torch.testing.assert_close(elbo.distortion, expected)


@pytest.mark.parametrize("prior", ["standard", "adaptive"])
def test_the_mixtures_bound_needs_no_references(prior: str) -> None:
    config = configured(prior={"kind": prior}, **EVERY_TASK)
    model, (mixture, sources) = built(config), signals(config)
    _, found = model(mixture, sources, **noise(config))
    _, other = model(mixture, torch.randn_like(sources), **noise(config))
    assert found.uncertainty is not None
    torch.testing.assert_close(other.uncertainty, found.uncertainty)
    rate = td.kl_divergence(reference(model.encode(mixture)), PRIORS["gaussian"]).sum((1, 2))
    of_mixture = blr_nll(mixture, model.decode(found.encoding, TIME)[0], BlrPrior())
    torch.testing.assert_close(found.uncertainty, of_mixture + rate)


# --- estimates -----------------------------------------------------------------------------------------------------


def test_the_mode_is_what_is_sampled_without_noise() -> None:
    """Noise of zero: a sample of Gaussians and log-normals is the mode, and so is the mean over many."""
    config = configured(encoding="gaussian", masks="log_normal")
    model, (mixture, sources), drawn = built(config), signals(config), noise(config)
    with torch.no_grad():
        quiet = {name: 0 * values for name, values in drawn.items()}
        _, found = model(mixture, sources, **quiet)
        torch.testing.assert_close(found.estimates, found.mode())
        many = {name: torch.stack([0 * values] * 3) for name, values in drawn.items()}
        mean = model.mean_estimate(mixture, many)
        order = model.order(sources, (mean,))
        torch.testing.assert_close(permuted(mean, order), found.mode())


def test_the_mean_estimate_is_the_mean_of_samples_matched_to_the_mode() -> None:
    config = configured(speakers=3)
    model, (mixture, _) = built(config), signals(config)
    samples = [noise(config, seed) for seed in range(4)]
    many = {name: torch.stack([one[name] for one in samples]) for name in samples[0]}
    with torch.no_grad():
        mean = model.mean_estimate(mixture, many)
        fixed = model.separate_by_points(mixture)[2][0]
        for b in range(BATCH):
            total = torch.zeros(3, TIME, dtype=torch.float64)
            for one in samples:
                signal = model.separate(mixture, one["encoding_noise"], one["mask_noise"])[2][0][b]
                cosines = [
                    sum(float(torch.cosine_similarity(fixed[b, n], signal[order[n]], dim=0)) for n in range(3))
                    for order in permutations(range(3))
                ]
                total += signal[list(list(permutations(range(3)))[int(np.argmax(cosines))])]
            torch.testing.assert_close(mean[b], total / 4)


def test_a_deterministic_separator_has_one_estimate() -> None:
    _, found = forward(configured(encoding="deterministic", masks="exp"))
    assert found.mode() is found.estimates


def test_the_decoder_takes_large_masks_as_a_thousand() -> None:
    config = configured(encoding="deterministic", masks="log_normal")
    model, (mixture, sources) = built(config), signals(config)
    with torch.no_grad():
        model.masker.masks.bias.view(2, 2, 5)[:] = torch.tensor([500.0, -50.0])[:, None]
        model.masker.masks.weight[:] = 0.0
    elbo, found = model(mixture, sources, **noise(config))
    decoded = model.decode(1e3 * model.encoder(mixture).unsqueeze(1).expand(-1, 2, -1, -1), TIME)[0]
    torch.testing.assert_close(found.estimates, decoded)
    gradients = torch.autograd.grad(-elbo.value().sum(), list(model.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert gradients[[name for name, _ in model.named_parameters()].index("masker.masks.bias")].abs().max() > 1, "back"


def test_in_bfloat16_signals_and_distributions_are_float32() -> None:
    config = configured()
    torch.manual_seed(0)
    model = Separator(config)
    mixture, sources = (values.float() for values in signals(config))
    drawn = {name: values.float() for name, values in noise(config).items()}
    plain, _ = model(mixture, sources, **drawn)
    with torch.autocast("cpu", torch.bfloat16):
        rough, found = model(mixture, sources, **drawn)
        q = model.mask(found.encoding)
    assert found.estimates.dtype == rough.distortion.dtype == q.log_mean.dtype == torch.float32
    assert found.encoding.dtype == torch.float32
    digits = found.estimates.view(torch.int32) & 0xFFFF
    assert (digits != 0).float().mean() > 0.9, "no numbers of eight digits that were widened"
    torch.testing.assert_close(rough.rate("encoding"), plain.rate("encoding"))


# --- template and configuration ----------------------------------------------------------------------------------


def test_a_deterministic_separator_is_encode_mask_apply_decode() -> None:
    config = configured(encoding="deterministic", masks="relu")
    model, (mixture, sources) = built(config), signals(config)
    elbo, found = model(mixture, sources)
    z = model.encoder(mixture)
    masks = model.masker(z).relu().reshape(BATCH, 2, 5, -1)
    apart = torch.stack([model.decoder(masks[:, n] * z, TIME)[:, 0] for n in range(2)], 1)
    torch.testing.assert_close(found.estimates, apart.gather(1, found.order[..., None].expand_as(apart)))
    assert dict(elbo.rates) == {}
    torch.testing.assert_close(elbo.value(), -elbo.distortion)


def test_variational_twins_differ_in_what_encoder_and_masker_give_only() -> None:
    twins = Separator(configured(encoding="deterministic", masks="relu")), Separator(configured())
    shapes = [{name: tuple(p.shape) for name, p in model.named_parameters()} for model in twins]
    differ = {name for name in shapes[0] if shapes[0][name] != shapes[1][name]}
    assert shapes[0].keys() == shapes[1].keys()
    assert differ == {"encoder.weight", "masker.masks.weight", "masker.masks.bias"}


@pytest.mark.parametrize(("encoding", "masks", "millions"), [("deterministic", "relu", 5.1), ("gaussian", "beta", 5.2)])
def test_sizes_are_those_of_the_thesis(encoding: str, masks: str, millions: float) -> None:
    """Line 1528; the last block's residual, which reaches nothing and is not made here, is counted there."""
    config = SeparatorConfig.model_validate(
        {"latents": 512, "encoding": encoding, "masks": masks, "masker": {"kind": "tasnet"}}
    )
    count = sum(parameter.numel() for parameter in Separator(config).parameters()) + 128 * 512 + 128
    assert round(count / 1e6, 1) == millions


def test_the_margin_has_a_gradient_and_no_value() -> None:
    config, plain = configured(margin_weight=3.0), configured()
    (mixture, sources), drawn = signals(config), noise(config)
    model, without = built(config), built(plain)
    elbo, found = model(mixture, sources, **drawn)
    other, _ = without(mixture, sources, **drawn)
    assert torch.equal(elbo.distortion, other.distortion)
    beyond = (found.estimates.abs() - 1).clamp_min(0).sum()
    expected = torch.autograd.grad(other.distortion.sum(), without.decoder.weight)[0]
    expected = expected + 3 * torch.autograd.grad(beyond, model.decoder.weight, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(elbo.distortion.sum(), model.decoder.weight)[0], expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoding": "log_normal", "prior": {"kind": "adaptive"}}, "closed form"),
        ({"encoding": "gamma", "prior": {"kind": "flow"}}, "of Gaussian encodings"),
        ({"encoding": "deterministic", "prior": {"kind": "flow"}}, "deterministic encoding cannot have the prior flow"),
        ({"kernel": 12, "stride": 8}, "no multiple of the stride"),
        ({"latents": 0}, "greater than or equal to 1"),
        ({"masks": "beta", "mask_prior_location": 0.9}, "of log_normal masks"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        configured(**values)


@pytest.mark.parametrize("encoding", ["gaussian", "log_normal", "gamma"])
def test_an_encoder_that_says_nothing_has_no_rate(encoding: str) -> None:
    """Zero weights are the prior, so that a rate can fall to nothing."""
    config = configured(encoding=encoding, masks="beta")
    model = built(config)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    elbo, _ = model(*signals(config), **noise(config))
    assert all(rate.abs().max() < 1e-12 for rate in elbo.rates.values())


def test_silence_and_noise_give_finite_bounds_and_gradients() -> None:
    config = configured(**EVERY_TASK)
    model = built(config)
    mixture, sources = signals(config)
    sources = torch.cat([torch.zeros_like(sources[:1]), sources[1:]])
    elbo, _ = model(torch.cat([torch.zeros_like(mixture[:1]), mixture[1:]]), sources, **noise(config))
    gradients = torch.autograd.grad(-elbo.value().sum(), list(model.parameters()))
    assert elbo.value().isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)
