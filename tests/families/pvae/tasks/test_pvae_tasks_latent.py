"""Predictions by latent variables agree with a model whose posterior, conditionals and informations are known.

It is linear and Gaussian, z ~ N(0, I) and x = W z + b + noise, where each dimension depends on one latent only: then
the posterior is a product over latents, whatever is observed, and x is jointly Gaussian.
"""

import itertools
import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from vaesweep.distributions import Gaussian, standard_gaussian
from vaesweep.families.pvae.tasks import latent
from vaesweep.families.pvae.tasks.acquisition import ExpectedInformation, LargestVariance, Rule, acquire
from vaesweep.families.pvae.tasks.latent import LatentModels, LatentPredictor, normal_points
from vaesweep.families.pvae.tasks.mixture import MixturePredictor
from vaesweep.families.pvae.tasks.predictive import RandomNumbers

CELLS, DIMS, LATENTS = 2, 5, 2
MEAN = torch.tensor([20.0, 30.0, 40.0, 25.0, 55.0], dtype=torch.float64)
STD = torch.tensor([10.0, 12.0, 20.0, 9.0, 18.0], dtype=torch.float64)
SUBSETS = torch.tensor(list(itertools.product([False, True], repeat=DIMS)))
MANY = 4096
# The Sobol sequence's error in a smooth mean is about 1/MANY, of a standard deviation; ten times that.
assert_close = partial(torch.testing.assert_close, rtol=0, atol=10 / MANY)


@dataclass(frozen=True)
class Linear:
    """The models in standardised units: `loading` `[cell, dim, latent]`, `offset` and `noise` `[cell, dim]`."""

    loading: Tensor
    offset: Tensor
    noise: Tensor

    @property
    def covariance(self) -> Tensor:
        return self.loading @ self.loading.mT + torch.diag_embed(self.noise.square())

    def posterior(self, x: Tensor, observed: Tensor) -> Gaussian:
        weight = observed / self.noise.square().unsqueeze(1)
        precision = 1 + torch.einsum("crd,cdl->crl", weight, self.loading.square())
        pull = torch.einsum("crd,cdl->crl", (x - self.offset.unsqueeze(1)) * weight, self.loading)
        return Gaussian(pull / precision, -0.5 * precision.log())

    def observation(self, z: Tensor) -> Gaussian:
        mean = torch.einsum("crsl,cdl->crsd", z, self.loading) + self.offset[:, None, None]
        return Gaussian(mean, self.noise.log()[:, None, None].expand_as(mean))

    def models(self, shift: float = 0.0, widening: float = 1.0) -> LatentModels:
        """Its posterior moved by `shift` standard deviations and made wider by a factor; exact by default."""

        def approximate(x: Tensor, observed: Tensor) -> Gaussian:
            q = self.posterior(x, observed)
            return Gaussian(q.mean + shift * q.log_std.exp(), q.log_std + math.log(widening))

        def prior(z: Tensor) -> Tensor:
            return standard_gaussian(z).log_prob(z).sum(-1)

        return LatentModels(len(self.loading), LATENTS, approximate, self.observation, prior)

    def exactly(self) -> MixturePredictor:
        """The conditionals of x, which are known of a Gaussian."""
        weights = torch.ones(len(self.loading), 1)
        return MixturePredictor(weights, self.offset.unsqueeze(1), self.covariance.unsqueeze(1), MEAN, STD)

    def cell(self, number: int) -> "Linear":
        some = slice(number, number + 1)
        return Linear(self.loading[some], self.offset[some], self.noise[some])


@pytest.fixture
def linear() -> Linear:
    draw = torch.Generator().manual_seed(0)
    size, offset, noise = torch.rand(3, CELLS, DIMS, generator=draw, dtype=torch.float64)
    latent_of = torch.tensor([[0, 0, 1, 1, 0], [1, 0, 0, 1, 1]])
    loading = torch.nn.functional.one_hot(latent_of, LATENTS) * (0.6 + 0.4 * size).unsqueeze(-1)
    return Linear(loading, 0.5 * offset - 0.25, 0.4 + 0.3 * noise)


@pytest.fixture
def x() -> Tensor:
    """Data that are nowhere far out in the models' tails, where few samples would fall."""
    noise = torch.randn(len(SUBSETS), DIMS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return MEAN + 0.6 * STD * noise


@pytest.fixture
def observed() -> Tensor:
    """A datum for every subset of dimensions."""
    return SUBSETS.expand(CELLS, -1, -1)


def predictor(models: LatentModels, weighted: bool, samples: int = MANY, seed: int = 0) -> LatentPredictor:
    return LatentPredictor(models, MEAN, STD, samples=samples, weighted=weighted, seed=seed)


def missing(values: Tensor, observed: Tensor) -> Tensor:
    """`values` of unobserved dimensions, in standard deviations."""
    return (values / STD).masked_fill(observed, 0.0)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_exact_posterior_predicts_the_conditional_gaussian(
    linear: Linear, x: Tensor, observed: Tensor, weighted: bool
) -> None:
    found = predictor(linear.models(), weighted).predict(x, observed)
    expected = linear.exactly().predict(x, observed)
    assert_close(missing(found.expectation, observed), missing(expected.expectation, observed))
    upper = [missing(p.quantile(0.9), observed) for p in (found, expected)]
    assert_close(*upper)
    variances = [missing(missing(p.variance, observed), observed) for p in (found, expected)]
    assert_close(*variances)


@pytest.mark.parametrize("weighted", [False, True])
def test_dimensions_share_what_the_posteriors_samples_share(
    linear: Linear, x: Tensor, observed: Tensor, weighted: bool
) -> None:
    latents, exact = predictor(linear.models(), weighted), linear.exactly()
    found, expected = (p.covariance(observed, p.predict(x, observed)) for p in (latents, exact))
    scale = STD.unsqueeze(-1) * STD
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=0.01)
    assert (found[observed.unsqueeze(-1).expand_as(found)] == 0).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_the_bound_is_tight_and_the_samples_count_fully_where_the_posterior_is_exact(
    linear: Linear, x: Tensor, observed: Tensor, weighted: bool
) -> None:
    found = predictor(linear.models(), weighted, samples=50).predict(x, observed)
    torch.testing.assert_close(found.bound, linear.exactly().predict(x, observed).bound, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.weights, torch.full_like(found.weights, 1 / 50), rtol=1e-9, atol=0)
    torch.testing.assert_close(found.effective_samples, torch.full_like(found.bound, 50), rtol=1e-9, atol=0)


def test_the_bound_of_plain_samples_lacks_the_divergence_from_the_posterior(
    linear: Linear, x: Tensor, observed: Tensor
) -> None:
    wrong, standardised = linear.models(shift=0.5, widening=1.5), ((x - MEAN) / STD).expand(CELLS, -1, -1)
    q, p = (posterior(standardised, observed) for posterior in (wrong.posterior, linear.posterior))
    gap = kl_divergence(*(Normal(g.mean, g.log_std.exp()) for g in (q, p))).sum(-1)
    evidence = linear.exactly().predict(x, observed).bound
    found = predictor(wrong, weighted=False).predict(x, observed).bound
    torch.testing.assert_close(found, evidence - gap, rtol=0, atol=0.01)  # the divergence is half a nat
    tighter = predictor(wrong, weighted=True, samples=8).predict(x, observed).bound
    assert float((found - evidence).max()) < -0.1
    assert (tighter > found).double().mean() > 0.9
    converged = predictor(wrong, weighted=True).predict(x, observed).bound
    torch.testing.assert_close(converged, evidence, rtol=0, atol=0.01)


def test_a_wrong_posterior_misleads_plain_samples_and_not_weighted_ones(
    linear: Linear, x: Tensor, observed: Tensor
) -> None:
    wrong, exact = linear.models(shift=0.7, widening=1.4), linear.exactly().predict(x, observed)
    standardised = ((x - MEAN) / STD).expand(CELLS, -1, -1)
    plain = predictor(wrong, weighted=False).predict(x, observed)
    misled = wrong.observation(wrong.posterior(standardised, observed).mean.unsqueeze(2)).mean.squeeze(2)
    assert_close(missing(plain.expectation - MEAN, observed), missing(STD * misled, observed))
    errors = []
    for samples in (64, 1024, 16384):
        weighted = predictor(wrong, weighted=True, samples=samples).predict(x, observed)
        errors.append(float(missing(weighted.expectation - exact.expectation, observed).abs().mean()))
        assert (weighted.effective_samples < samples).all()
        assert (weighted.effective_samples > samples / 5).all()
    # At least as fast as the root of the number of samples, of which there are 16 times as many each time.
    assert errors[2] < errors[1] / 4 < errors[0] / 16
    assert errors[2] < 1e-3
    assert float(missing(plain.expectation - exact.expectation, observed).abs().mean()) > 0.1
    variance_error = (weighted.variance / exact.variance).masked_fill(observed, 1.0) - 1
    assert float(variance_error.abs().max()) < 0.01


@pytest.mark.parametrize("weighted", [False, True])
def test_the_surprise_is_that_of_the_conditional_gaussian(
    linear: Linear, x: Tensor, observed: Tensor, weighted: bool
) -> None:
    models = linear.models() if not weighted else linear.models(shift=0.3, widening=1.2)
    latents, exact = predictor(models, weighted, samples=16384), linear.exactly()
    found = latents.unexplained(x, observed, latents.predict(x, observed))
    expected = exact.unexplained(x, observed, exact.predict(x, observed))
    # A density is a mean of terms that vary more than those of a prediction do: correct to one per cent.
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01)
    assert float(found[observed.all(-1)].abs().max()) < 1e-9


def test_nothing_observed_is_as_surprising_as_the_joint_density_says(linear: Linear, x: Tensor) -> None:
    nothing = torch.zeros(CELLS, len(x), DIMS, dtype=torch.bool)
    latents = predictor(linear.models(), weighted=False, samples=16384)
    found = latents.unexplained(x, nothing, latents.predict(x, nothing))
    scaled = STD[:, None] * linear.covariance * STD
    joint = MultivariateNormal(MEAN + STD * linear.offset.unsqueeze(1), scaled.unsqueeze(1))
    torch.testing.assert_close(found, -joint.log_prob(x), rtol=0, atol=0.01)


@pytest.mark.parametrize("known", [[], [0], [2, 4]])
def test_the_expected_information_is_the_mutual_information(linear: Linear, x: Tensor, known: list[int]) -> None:
    rows = 2000
    data = x[:1].expand(rows, -1)
    observed = torch.zeros(CELLS, rows, DIMS, dtype=torch.bool)
    observed[..., known] = True
    latents, exact = predictor(linear.models(), weighted=False, samples=256), linear.exactly()
    draws = RandomNumbers.of(data, 1, seed=2)
    found = latents.information(data, observed, latents.predict(data, observed), draws)
    expected = exact.information(data, observed, exact.predict(data, observed), draws)[:, 0]
    error = found.std(1) / math.sqrt(rows)
    # Five standard errors, and the grain of a posterior of 256 points.
    assert ((found.mean(1) - expected).abs() < 5 * error + 0.01).all()
    assert (found[..., known] == 0).all()
    assert float(expected.amax()) > 0.05, "there is something to be told"


@pytest.mark.parametrize("gap", [math.nan, 1e6, math.inf])
@pytest.mark.parametrize("weighted", [False, True])
def test_what_stands_in_the_gaps_is_not_looked_at(linear: Linear, x: Tensor, weighted: bool, gap: float) -> None:
    observed = SUBSETS.expand(CELLS, -1, -1)
    latents, filled = predictor(linear.models(0.3), weighted, samples=20), x.masked_fill(~SUBSETS, gap)
    clean, gappy = latents.predict(x, observed), latents.predict(filled, observed)
    for name in ("weights", "mean", "std", "bound"):
        assert torch.equal(getattr(clean, name), getattr(gappy, name)), name
    draws = RandomNumbers.of(x, 2, seed=0)
    expected = latents.information(x, observed, clean, draws)
    assert torch.equal(latents.information(filled, observed, gappy, draws), expected)
    assert torch.equal(clean.complete(x, observed), gappy.complete(filled, observed))


def test_predictions_do_not_change_from_call_to_call_and_cells_share_their_numbers(
    linear: Linear, x: Tensor, observed: Tensor
) -> None:
    latents = predictor(linear.models(), weighted=False, samples=32)
    first, second = latents.predict(x, observed), latents.predict(x, observed)
    assert torch.equal(first.mean, second.mean)
    for cell in range(CELLS):
        alone = predictor(linear.cell(cell).models(), weighted=False, samples=32).predict(x, observed[:1])
        torch.testing.assert_close(alone.mean[0], first.mean[cell], rtol=1e-12, atol=1e-12)
    other = predictor(linear.models(), weighted=False, samples=32, seed=1).predict(x, observed)
    assert not torch.allclose(other.mean, first.mean)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rule", ["variance", "information"])
def test_acquisition_does_not_depend_on_how_many_data_are_predicted_at_a_time(
    linear: Linear, x: Tensor, rule: str, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents, data = predictor(linear.models(0.2), weighted, samples=16), x[:9]
    rules: dict[str, Rule] = {
        "variance": LargestVariance(),
        "information": ExpectedInformation(RandomNumbers.of(data, 3, seed=0)),
    }
    whole = acquire(latents, data, [4], rules[rule])
    monkeypatch.setattr(latent, "LARGEST_CHUNK", 4 * CELLS * 16)
    assert latents.rows == 4
    split = acquire(latents, data, [4], rules[rule])
    assert torch.equal(split.order, whole.order)
    for name in ("rmse", "nll", "unexplained", "bound", "effective_samples", "variance"):
        torch.testing.assert_close(getattr(split, name), getattr(whole, name), rtol=1e-10, atol=1e-10)


def test_acquisition_by_samples_is_acquisition_by_the_conditional_gaussian(linear: Linear, x: Tensor) -> None:
    traces = [acquire(p, x, [4], LargestVariance()) for p in (predictor(linear.models(), False), linear.exactly())]
    assert torch.equal(traces[0].order, traces[1].order)
    torch.testing.assert_close(traces[0].rmse, traces[1].rmse, rtol=0, atol=10 / MANY * float(STD.max()))
    torch.testing.assert_close(traces[0].bound, traces[1].bound)


@pytest.mark.parametrize("dims", [1, 4])
def test_the_points_are_standard_normal_and_even(dims: int) -> None:
    points = normal_points(MANY, dims, seed=3)
    assert points.shape == (MANY, dims)
    assert torch.isfinite(points).all()
    torch.testing.assert_close(points.mean(0), torch.zeros(dims, dtype=torch.float64), rtol=0, atol=2e-3)
    torch.testing.assert_close(
        points.T.cov().reshape(dims, dims), torch.eye(dims, dtype=torch.float64), rtol=0, atol=5e-3
    )
    # Independent points would leave a distance of about 0.8 / √MANY.
    distances = [kstest(points[:, dim].numpy(), norm.cdf).statistic for dim in range(dims)]
    assert max(distances) < 2 / MANY
    assert torch.equal(points, normal_points(MANY, dims, seed=3))
    assert not np.allclose(points, normal_points(MANY, dims, seed=4))


@pytest.mark.parametrize(("samples", "rows"), [(1, latent.LARGEST_CHUNK // CELLS), (10 * latent.LARGEST_CHUNK, 1)])
def test_the_rows_at_a_time_follow_cells_and_samples(linear: Linear, samples: int, rows: int) -> None:
    assert predictor(linear.models(), False, samples).rows == rows


# --- samples of the prior beside those of the posterior ---------------------------------------------------------


def with_prior(models: LatentModels, count: int) -> LatentModels:
    """The same models, with samples of their standard normal priors."""
    return replace(models, prior=normal_points(count, LATENTS, seed=7).expand(CELLS, -1, -1))


def test_a_posterior_that_misses_is_mended_by_samples_of_the_prior(linear: Linear, x: Tensor, observed: Tensor) -> None:
    """Three standard deviations off and far too narrow: its own samples say nothing of where the truth is."""
    wrong, exact = linear.models(shift=3.0, widening=0.2), linear.exactly().predict(x, observed)
    alone = predictor(wrong, weighted=True).predict(x, observed)
    mended = predictor(with_prior(wrong, MANY), weighted=True).predict(x, observed)
    errors = [missing(found.expectation - exact.expectation, observed).abs().max() for found in (alone, mended)]
    assert errors[0] > 0.5
    assert errors[1] < 0.05
    assert (mended.bound - exact.bound).abs().max() < 0.05


def test_samples_of_the_prior_leave_an_exact_posterior_exact(linear: Linear, x: Tensor, observed: Tensor) -> None:
    found = predictor(with_prior(linear.models(), MANY), weighted=True).predict(x, observed)
    exact = linear.exactly().predict(x, observed)
    assert_close(missing(found.expectation, observed), missing(exact.expectation, observed))
    torch.testing.assert_close(found.bound, exact.bound, rtol=0, atol=0.01)


def test_plain_predictions_do_not_use_the_prior(linear: Linear, x: Tensor, observed: Tensor) -> None:
    found = [
        predictor(m, weighted=False, samples=64).predict(x, observed).mean.shape[2]
        for m in (linear.models(), with_prior(linear.models(), 64))
    ]
    assert found == [64, 64]
