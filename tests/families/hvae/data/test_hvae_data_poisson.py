"""Images of Poisson equations solve them, are noisy by the stated amount, and are functions of their index."""

import numpy as np
import pytest
import torch
from scipy import stats

from vaesweep.data.domains import DataSet, Role, Standardisation
from vaesweep.families.hvae.data import Grid, ImagesConfig, Pixels, PoissonCondition, load, poisson_nll, solutions
from vaesweep.families.hvae.data.poisson import observe

EVERY = "poisson:unseen=noise_2+modes_2"


@pytest.fixture(scope="module")
def data() -> DataSet:
    return load(EVERY, ImagesConfig())


def spacing(condition: PoissonCondition) -> float:
    return 1 / (condition.size - 1 if condition.grid is Grid.BORDERED else condition.size + 1)


def laplacian_error(condition: PoissonCondition) -> float:
    """The largest error of -Δh = f inside the square, with differences of second order, f's largest value being 1."""
    inner = condition.grid is Grid.INNER
    worst, step = 0.0, spacing(condition)
    line = np.arange(condition.size + 2) * step if inner else np.arange(condition.size) * step
    for mode, h in zip(condition.modes, solutions(condition), strict=True):
        h = np.pad(h, 1) if inner else h  # zero on the border, which the inner grid leaves out
        centre = h[1:-1, 1:-1]
        minus_laplacian = (4 * centre - h[2:, 1:-1] - h[:-2, 1:-1] - h[1:-1, 2:] - h[1:-1, :-2]) / step**2
        wave = np.sin(mode * np.pi * line)[1:-1]
        worst = max(worst, np.abs(minus_laplacian - wave[:, None] * wave).max())
    return worst


@pytest.mark.parametrize("grid", Grid)
def test_solutions_solve_the_equation_with_an_error_that_falls_as_the_square_of_the_spacing(grid: Grid) -> None:
    coarse, fine = (PoissonCondition(size=size, grid=grid, modes=(1, 2, 3)) for size in (32, 128))
    ratio = (spacing(coarse) / spacing(fine)) ** 2
    assert laplacian_error(fine) < 2e-3
    assert laplacian_error(coarse) / laplacian_error(fine) == pytest.approx(ratio, rel=0.1)  # next order: h² relative


def test_the_border_is_zero_where_the_grid_has_it() -> None:
    h = solutions(PoissonCondition(grid=Grid.BORDERED))
    for edge in (h[:, 0], h[:, -1], h[:, :, 0], h[:, :, -1]):
        np.testing.assert_allclose(edge, 0, atol=1e-15)
    assert np.abs(solutions(PoissonCondition())).min() > 1e-4


def test_there_are_1024_observations_split_as_in_the_thesis(data: DataSet) -> None:
    assert [len(data.domain(role)) for role in (Role.TRAIN, Role.VALID, Role.TEST)] == [820, 102, 102]
    assert [domain.name for domain in data.domains if domain.role is Role.UNSEEN] == [
        "poisson_noise_2",
        "poisson_modes_2",
    ]
    indices = np.concatenate([domain.arrays["indices"] for domain in data.domains])
    assert len(np.unique(indices)) == len(indices) == 1024 + 2 * 102
    for domain in data.domains:
        assert domain.arrays["images"].dtype == np.float32
        assert domain.arrays["images"].shape == (len(domain), 1, 16, 16)


def test_every_domain_shows_its_solutions_in_equal_proportions(data: DataSet) -> None:
    for domain in data.domains:
        assert isinstance(domain.condition, PoissonCondition)
        truth = solutions(domain.condition)
        distance = ((domain.arrays["images"] - truth) ** 2).sum((2, 3))
        nearest = distance.argmin(1)  # no noise of these is as large as half the distance between solutions
        assert (np.bincount(nearest, minlength=len(truth)) == len(domain) // len(truth)).all()


def test_noise_is_gaussian_of_the_stated_scale_and_independent(data: DataSet) -> None:
    for domain in data.domains:
        condition, indices = domain.condition, domain.arrays["indices"]
        assert isinstance(condition, PoissonCondition)
        truth = solutions(condition)[indices % len(condition.modes)]
        z = ((domain.arrays["images"][:, 0] - truth) / condition.noise).reshape(len(domain), -1)
        assert abs(z.mean()) < 4 / z.size**0.5
        assert abs(z.var() - 1) < 4 * (2 / z.size) ** 0.5
        assert stats.kstest(z.ravel(), "norm").pvalue > 1e-4  # seeds are fixed: passes always once it passes
        for other in (z[:, 1:] * z[:, :-1], z[1:] * z[:-1]):  # pixels beside each other, images beside each other
            assert abs(other.mean()) < 4 / other.size**0.5


def test_an_observation_depends_on_its_index_alone() -> None:
    condition = PoissonCondition()
    whole = observe(condition, np.arange(2000))
    order = np.random.default_rng(0).permutation(2000)[:300]
    np.testing.assert_array_equal(observe(condition, order), whole[order])
    np.testing.assert_array_equal(observe(condition, np.array([1717])), whole[[1717]])


def test_unseen_domains_have_the_same_rows_whichever_others_are_asked_for(data: DataSet) -> None:
    (alone,) = (d for d in load("poisson:unseen=modes_2", ImagesConfig()).domains if d.role is Role.UNSEEN)
    np.testing.assert_array_equal(alone.arrays["images"], data.domains[-1].arrays["images"])


def test_caps_keep_the_first_rows_and_change_none_of_them(data: DataSet) -> None:
    config = ImagesConfig.model_validate({"rows": {"train": 40, "test": 6, "valid": 1000}})
    few = load(EVERY, config)
    assert [len(domain) for domain in few.domains] == [40, 102, 6, 6, 6]
    for domain, whole in zip(few.domains, data.domains, strict=True):
        np.testing.assert_array_equal(domain.arrays["images"], whole.arrays["images"][: len(domain)])


def test_other_sizes_and_grids_are_other_data() -> None:
    settings = [{}, {"size": 8}, {"grid": "bordered"}, {"rows": {"train": 100}}]
    found = [load("poisson", ImagesConfig.model_validate(values)) for values in settings]
    assert len({data.fingerprint() for data in found}) == len(settings)
    assert found[1].domains[0].arrays["images"].shape == (820, 1, 8, 8)
    assert load("poisson", ImagesConfig()).fingerprint() == found[0].fingerprint()


def test_training_pixels_are_standardised_by_one_scale_that_the_summary_tells(data: DataSet) -> None:
    train = data.domain(Role.TRAIN)
    pixels = train.arrays["images"].astype(np.float64)
    scale = data.standardisation
    assert scale.mean.shape == scale.std.shape == (1,)
    assert scale.mean[0] == pytest.approx(pixels.mean())
    assert scale.std[0] == pytest.approx(pixels.std())
    assert f"mean {scale.mean[0]:.5g} and standard deviation {scale.std[0]:.5g}" in data.summary[-1]


def test_the_exact_likelihood_is_that_of_a_mixture_of_gaussians_in_standardised_units() -> None:
    condition, scale = PoissonCondition(size=4), Standardisation(np.array([0.01]), np.array([0.02]))
    images = torch.as_tensor(observe(condition, np.arange(6)) - 0.01) / 0.02
    centres = (solutions(condition).reshape(2, -1) - 0.01) / 0.02
    flat = images.flatten(1).double().numpy()
    logs = [stats.multivariate_normal(c, (condition.noise / 0.02) ** 2 * np.eye(16)).logpdf(flat) for c in centres]
    expected = -np.logaddexp(*logs) + np.log(2)
    np.testing.assert_allclose(poisson_nll(images, condition, scale), expected, rtol=1e-10)


def test_its_mean_is_the_entropy_that_the_thesis_comes_near(data: DataSet) -> None:
    """The solutions are so far apart that the entropy is a Gaussian's and the log 2 of which one it is."""
    noise = 5e-3 / data.standardisation.std[0]
    entropy = 256 * np.log(noise * np.sqrt(2 * np.pi * np.e)) + np.log(2)
    assert entropy == pytest.approx(66.3, abs=0.2)  # 67.6 nats is what the thesis reaches
    train = Pixels(data.domain(Role.TRAIN), data.standardisation, torch.device("cpu"))
    nll = poisson_nll(train.batch(slice(None)), PoissonCondition(), data.standardisation)
    assert nll.shape == (820,)
    assert float(nll.mean()) == pytest.approx(entropy, abs=4 * (128 / 820) ** 0.5)  # 128: half the pixels


def test_what_was_not_trained_on_is_less_likely_under_the_training_condition_than_under_its_own(data: DataSet) -> None:
    for domain in data.domains[3:]:
        assert isinstance(domain.condition, PoissonCondition)
        images = Pixels(domain, data.standardisation, torch.device("cpu")).batch(slice(None))
        own, other = (
            poisson_nll(images, condition, data.standardisation) for condition in (domain.condition, PoissonCondition())
        )
        assert (own < other).all()
