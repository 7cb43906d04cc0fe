"""Mixtures of Gaussians: conditionals, densities and informations are those of scipy, quadrature and Monte Carlo.

The stack has two cells of three components over four dimensions, and rows enough for every subset to be observed once.
"""

import itertools
import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture
from torch import Tensor

from vaesweep.families.pvae.tasks.mixture import MixturePredictor, fit_mixtures
from vaesweep.families.pvae.tasks.predictive import Predictive, RandomNumbers

CELLS, COMPONENTS, DIMS = 2, 3, 4
SUBSETS = list(itertools.product([False, True], repeat=DIMS))
STANDARD_ERRORS = 5  # a right estimator of some dozens of numbers fails one seed in 50 000
assert_close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)


@dataclass(frozen=True)
class Mixture:
    """One mixture in physical units, by scipy alone."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def log_density(self, x: np.ndarray, dims: list[int]) -> np.ndarray:
        """log p of the `dims` of `x` `[..., dim]`."""
        return logsumexp(np.log(self.weights) + self._log_parts(x, dims), axis=-1)

    def responsibilities(self, x: np.ndarray, dims: list[int]) -> np.ndarray:
        joint = np.log(self.weights) + self._log_parts(x, dims)
        return np.exp(joint - logsumexp(joint, axis=-1, keepdims=True))

    def conditional(self, x: np.ndarray, dims: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Mean `[component, dim]` and covariance of each component given the `dims` of one datum `x`."""
        means, covariances = self.means.copy(), self.covariances.copy()
        for k, (m, c) in enumerate(zip(self.means, self.covariances, strict=True)):
            gain = c[:, dims] @ np.linalg.inv(c[np.ix_(dims, dims)])
            means[k] = m + gain @ (x[dims] - m[dims])
            covariances[k] = c - gain @ c[dims]
        return means, covariances

    def sample(self, x: np.ndarray, dims: list[int], count: int, rng: np.random.Generator) -> np.ndarray:
        """`count` draws of all dimensions given the `dims` of one datum `x`."""
        means, covariances = self.conditional(x, dims)
        counts = rng.multinomial(count, self.responsibilities(x, dims))
        drawn = [rng.multivariate_normal(m, c, size=n) for m, c, n in zip(means, covariances, counts, strict=True)]
        return np.where(np.isin(np.arange(len(x)), dims), x, np.concatenate(drawn))

    def _log_parts(self, x: np.ndarray, dims: list[int]) -> np.ndarray:
        parts = zip(self.means, self.covariances, strict=True)
        if not dims:
            return np.zeros((*x.shape[:-1], len(self.means)))
        densities = [multivariate_normal(m[dims], c[np.ix_(dims, dims)]).logpdf(x[..., dims]) for m, c in parts]
        return np.stack([np.asarray(density).reshape(x.shape[:-1]) for density in densities], axis=-1)


def parameters(seed: int, components: int = COMPONENTS) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(seed)
    weights = 0.2 + torch.rand(CELLS, components, generator=draw, dtype=torch.float64)
    means = torch.randn(CELLS, components, DIMS, generator=draw, dtype=torch.float64)
    roots = torch.randn(CELLS, components, DIMS, DIMS, generator=draw, dtype=torch.float64)
    covariances = 0.3 * (roots @ roots.mT) + 0.1 * torch.eye(DIMS, dtype=torch.float64)
    mean, std = torch.tensor([[20.0, 35.0, 50.0, 55.0], [10.0, 15.0, 20.0, 18.0]], dtype=torch.float64)
    return weights / weights.sum(-1, keepdim=True), means, covariances, mean, std


def exact(seed: int, components: int = COMPONENTS) -> list[Mixture]:
    """Each cell of `MixturePredictor(*parameters(seed, components))`."""
    weights, means, covariances, mean, std = (p.numpy() for p in parameters(seed, components))
    return [
        Mixture(w, mean + std * m, std[:, None] * std * c) for w, m, c in zip(weights, means, covariances, strict=True)
    ]


@pytest.fixture
def predictor() -> MixturePredictor:
    return MixturePredictor(*parameters(0))


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    """A datum for every subset of dimensions that may be observed; the second cell observes them in another order."""
    mean, std = parameters(0)[-2:]
    x = mean + std * torch.randn(len(SUBSETS), DIMS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    observed = torch.tensor(SUBSETS)
    return x, torch.stack([observed, observed.roll(5, 0)])


def cases(x: Tensor, observed: Tensor) -> list[tuple[int, int, np.ndarray, list[int]]]:
    """Cell, row, datum and observed dimensions of all that is predicted."""
    places = itertools.product(range(CELLS), range(len(x)))
    return [(cell, row, x[row].numpy(), observed[cell, row].nonzero().flatten().tolist()) for cell, row in places]


def test_predictions_are_the_conditionals_of_the_components(
    predictor: MixturePredictor, data: tuple[Tensor, Tensor]
) -> None:
    x, observed = data
    found, mixtures, (*_, std) = predictor.predict(x, observed), exact(0), parameters(0)
    for cell, row, datum, dims in cases(x, observed):
        means, covariances = mixtures[cell].conditional(datum, dims)
        missing = [dim for dim in range(DIMS) if dim not in dims]
        assert_close(found.mean[cell, row], means)
        variances = np.diagonal(covariances, axis1=1, axis2=2)[:, missing]
        assert_close(found.std[cell, row].square()[:, missing], variances)
        assert_close(found.weights[cell, row], mixtures[cell].responsibilities(datum, dims))
        standardised = mixtures[cell].log_density(datum, dims) + std.log()[dims].sum().item()
        assert_close(found.bound[cell, row], standardised)


def test_what_is_observed_is_certain_and_adds_nothing_to_a_likelihood(
    predictor: MixturePredictor, data: tuple[Tensor, Tensor]
) -> None:
    x, observed = data
    found = predictor.predict(x, observed)
    inside = observed.unsqueeze(-2).expand_as(found.mean)
    assert torch.equal(found.mean[inside], x.expand(CELLS, -1, -1).unsqueeze(-2).expand_as(found.mean)[inside])
    assert float(found.log_densities(x)[inside].abs().max()) < 1e-12


def test_the_surprise_is_the_conditional_density_in_physical_units(
    predictor: MixturePredictor, data: tuple[Tensor, Tensor]
) -> None:
    x, observed = data
    found = predictor.unexplained(x, observed, predictor.predict(x, observed))
    for cell, row, datum, dims in cases(x, observed):
        mixture = exact(0)[cell]
        expected = mixture.log_density(datum, dims) - mixture.log_density(datum, list(range(DIMS)))
        assert float(found[cell, row]) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert (found[observed.all(-1)] == 0).all()


def test_the_last_unobserved_dimension_is_distributed_as_by_quadrature(predictor: MixturePredictor) -> None:
    mean, std = (p.numpy() for p in parameters(0)[-2:])
    rng = np.random.default_rng(2)
    for cell, missing in itertools.product(range(CELLS), range(DIMS)):
        datum = mean + std * rng.standard_normal(DIMS)
        grid = np.linspace(mean[missing] - 15 * std[missing], mean[missing] + 15 * std[missing], 20_001)
        x = np.tile(datum, (len(grid), 1))
        x[:, missing] = grid
        density = np.exp(exact(0)[cell].log_density(x, list(range(DIMS))))
        total = np.trapezoid(density, grid)
        expectation = np.trapezoid(density * grid, grid) / total
        variance = np.trapezoid(density * (grid - expectation) ** 2, grid) / total
        observed = torch.ones(CELLS, 1, DIMS, dtype=torch.bool)
        observed[..., missing] = False
        found = predictor.predict(torch.from_numpy(datum[None]), observed)
        # The trapezoidal rule is exact to rounding for a function this smooth that vanishes at both ends.
        assert float(found.expectation[cell, 0, missing]) == pytest.approx(expectation, rel=1e-8)
        assert float(found.variance[cell, 0, missing]) == pytest.approx(variance, rel=1e-8)


@pytest.mark.parametrize("gap", [math.nan, 1e6, math.inf])
def test_what_stands_in_the_gaps_is_not_looked_at(
    predictor: MixturePredictor, data: tuple[Tensor, Tensor], gap: float
) -> None:
    x, observed = data
    observed = observed[:1].expand(CELLS, -1, -1)
    filled = x.masked_fill(~observed[0], gap)
    clean, gappy = predictor.predict(x, observed), predictor.predict(filled, observed)
    for name in ("weights", "mean", "std", "bound"):
        assert torch.equal(getattr(clean, name), getattr(gappy, name)), name
    draws = RandomNumbers.of(x, 3, seed=0)
    expected = predictor.information(x, observed, clean, draws)
    assert torch.equal(predictor.information(filled, observed, gappy, draws), expected)


def test_single_precision_data_are_predicted_in_double_precision(
    predictor: MixturePredictor, data: tuple[Tensor, Tensor]
) -> None:
    x, observed = data
    rounded = x.float()
    found, expected = predictor.predict(rounded, observed), predictor.predict(rounded.double(), observed)
    assert torch.equal(found.bound, expected.bound)
    assert torch.equal(found.mean, expected.mean)


def test_a_datum_is_predicted_alike_alone_and_among_others(
    predictor: MixturePredictor, data: tuple[Tensor, Tensor]
) -> None:
    x, observed = data
    together = predictor.predict(x, observed)
    alone = [predictor.predict(x[i : i + 1], observed[:, i : i + 1]) for i in range(len(x))]
    for name in ("weights", "mean", "std", "bound"):
        # Another number of rows may order the sums of a matrix product otherwise, no more.
        joined = torch.cat([getattr(single, name) for single in alone], dim=1)
        torch.testing.assert_close(joined, getattr(together, name), rtol=1e-12, atol=1e-12)


def test_the_rows_at_a_time_follow_the_size_of_the_stack(predictor: MixturePredictor) -> None:
    single = MixturePredictor(*(p[:1] for p in parameters(0)[:3]), *parameters(0)[3:])
    assert single.rows // predictor.rows == CELLS
    assert predictor.rows >= 1


def test_covariances_are_those_of_the_joint_conditional(
    predictor: MixturePredictor, data: tuple[Tensor, Tensor]
) -> None:
    x, observed = data
    predictive = predictor.predict(x, observed)
    found = predictor.covariance(observed, predictive)
    for cell, row, datum, dims in cases(x, observed):
        means, covariances = exact(0)[cell].conditional(datum, dims)
        weights = exact(0)[cell].responsibilities(datum, dims)
        within = np.einsum("k,kde->de", weights, covariances)
        missing = np.ix_(*2 * [[dim for dim in range(DIMS) if dim not in dims]])
        between = np.cov(means.T, aweights=weights, ddof=0)
        assert_close(found[cell, row].numpy()[missing], (within + between)[missing])
        assert (found[cell, row, dims] == 0).all()
        assert (found[cell, row, :, dims] == 0).all()
    variance = predictive.variance.masked_fill(observed, 0.0)
    torch.testing.assert_close(found.diagonal(dim1=-2, dim2=-1), variance)


def informations(
    predictor: MixturePredictor, datum: np.ndarray, dims: list[int], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The estimated information of one datum and its standard error, `[cell, dim]` both, by `count` single draws."""
    x = torch.from_numpy(datum).expand(count, -1)
    observed = torch.zeros(CELLS, count, len(datum), dtype=torch.bool)
    observed[..., dims] = True
    predictive = predictor.predict(x, observed)
    found = predictor.information(x, observed, predictive, RandomNumbers.of(x, 1, seed=3)).numpy()
    return found.mean(1), found.std(1) / math.sqrt(count)


@pytest.mark.parametrize("dims", [[], [2], [0, 3]])
def test_the_information_of_a_mixture_is_that_of_plain_monte_carlo(
    predictor: MixturePredictor, dims: list[int]
) -> None:
    mean, std = (p.numpy() for p in parameters(0)[-2:])
    datum = mean + 0.5 * std
    found, error = informations(predictor, datum, dims, 3000)
    every = list(range(DIMS))
    for cell, mixture in enumerate(exact(0)):
        samples = mixture.sample(datum, dims, 20_000, np.random.default_rng(cell))
        for dim in set(every) - set(dims):
            rest = [other for other in every if other != dim]
            ratio = mixture.log_density(samples, every) - mixture.log_density(samples, rest)
            ratio -= mixture.log_density(samples, [*dims, dim]) - mixture.log_density(samples, dims)
            joint_error = math.hypot(error[cell, dim], ratio.std() / math.sqrt(len(samples)))
            assert abs(found[cell, dim] - ratio.mean()) < STANDARD_ERRORS * joint_error
            assert found[cell, dim] > 0
        assert (found[cell, dims] == 0).all()


def test_two_dimensions_tell_each_other_the_same(predictor: MixturePredictor) -> None:
    datum = parameters(0)[-2].numpy()
    for one, other in itertools.combinations(range(DIMS), 2):
        dims = [dim for dim in range(DIMS) if dim not in (one, other)]
        found, error = informations(predictor, datum, dims, 2000)
        # The estimates share their draws; the sum of their errors is no less than the error of their difference.
        assert (np.abs(found[:, one] - found[:, other]) < STANDARD_ERRORS * (error[:, one] + error[:, other])).all()


def gaussian_information(covariance: np.ndarray, dims: list[int], dim: int) -> float:
    """I(x_d; x_U∖d | x_O) = H(O, d) + H(O, U∖d) − H(O) − H(all), by determinants."""
    every = list(range(len(covariance)))
    rest = [other for other in every if other != dim]
    sets = ([*dims, dim], 1), (rest, 1), (dims, -1), (every, -1)
    return 0.5 * sum(sign * np.linalg.slogdet(covariance[np.ix_(s, s)])[1] for s, sign in sets)


@pytest.mark.parametrize("copies", [1, 2])
def test_the_information_of_a_gaussian_is_in_closed_form_however_many_copies_it_is_made_of(
    data: tuple[Tensor, Tensor], copies: int
) -> None:
    x, observed = data
    _, means, covariances, *units = parameters(4, components=1)
    weights = torch.tensor([0.3, 0.7])[:copies].expand(CELLS, -1)
    predictor = MixturePredictor(
        weights / weights.sum(-1, keepdim=True), means.repeat(1, copies, 1), covariances.repeat(1, copies, 1, 1), *units
    )
    found = predictor.information(x, observed, predictor.predict(x, observed), RandomNumbers.of(x, 2, seed=0))
    for cell, row, _, dims in cases(x, observed):
        for dim in range(DIMS):
            expected = 0.0 if dim in dims else gaussian_information(covariances[cell, 0].numpy(), dims, dim)
            assert float(found[cell, row, dim]) == pytest.approx(expected, abs=1e-9)
            assert found[cell, row, dim] > -1e-12


def test_the_information_of_a_gaussian_obeys_the_chain_rule() -> None:
    # I(x_0; x_1, x_2, x_3) = I(x_0; x_1, x_2) + I(x_0; x_3 | x_1, x_2), the middle one of the marginal of three.
    weights, means, covariances, mean, std = parameters(5, components=1)
    x, nothing, none = (
        mean.unsqueeze(0),
        torch.zeros(CELLS, 1, DIMS, dtype=torch.bool),
        RandomNumbers.of(mean[None], 0, 0),
    )
    full = MixturePredictor(weights, means, covariances, mean, std)
    marginal = MixturePredictor(weights, means[..., :3], covariances[..., :3, :3], mean[:3], std[:3])
    some = nothing.clone()
    some[..., 1:3] = True

    def told(predictor: MixturePredictor, x: Tensor, observed: Tensor) -> Tensor:
        return predictor.information(x, observed, predictor.predict(x, observed), none)[..., 0]

    rest = told(marginal, x[:, :3], nothing[..., :3]) + told(full, x, some)
    torch.testing.assert_close(told(full, x, nothing), rest, rtol=1e-10, atol=1e-10)


def complete(predictor: MixturePredictor, x: np.ndarray) -> Predictive:
    """The predictive of data of which all is observed."""
    data = torch.from_numpy(x)
    return predictor.predict(data, torch.ones(predictor.cells, *data.shape, dtype=torch.bool))


def test_one_fitted_component_has_the_moments_of_the_data() -> None:
    x = exact(0)[0].sample(np.zeros(DIMS), [], 500, np.random.default_rng(7))
    predictor = fit_mixtures(x, components=1, seeds=[0])
    data = torch.from_numpy(x[:1])
    found = predictor.predict(data, torch.zeros(1, 1, DIMS, dtype=torch.bool))
    np.testing.assert_allclose(found.expectation[0, 0], x.mean(0))
    np.testing.assert_allclose(found.variance[0, 0], x.var(0), rtol=1e-5)  # and the ridge
    expected = multivariate_normal(x.mean(0), np.cov(x.T, ddof=0)).logpdf(x) + np.log(x.std(0)).sum()
    np.testing.assert_allclose(complete(predictor, x).bound[0], expected, rtol=1e-4)


def test_fits_of_several_seeds_are_cells_and_are_those_of_scikit_learn() -> None:
    x = exact(0)[0].sample(np.zeros(DIMS), [], 400, np.random.default_rng(8))
    stack = complete(fit_mixtures(x, components=3, seeds=[0, 1]), x)
    for cell, seed in enumerate([0, 1]):
        standardised = (x - x.mean(0)) / x.std(0)
        fitted = GaussianMixture(3, reg_covar=1e-6, max_iter=1000, random_state=seed).fit(standardised)
        np.testing.assert_allclose(stack.bound[cell], fitted.score_samples(standardised), rtol=1e-8)
        np.testing.assert_allclose(stack.weights[cell], fitted.predict_proba(standardised), atol=1e-8)
        alone = complete(fit_mixtures(x, components=3, seeds=[seed]), x)
        np.testing.assert_allclose(alone.bound[0], stack.bound[cell], rtol=1e-10)
    assert not torch.allclose(stack.bound[0], stack.bound[1], rtol=1e-3), "a seed decides where the fit starts"
