"""The synthetic audiograms have the structure that the thesis describes, and one seed fixes all of them."""

import numpy as np
import pytest
from scipy.optimize import linprog

from vaesweep.data.domains import Role
from vaesweep.families.pvae.data import archetypes
from vaesweep.families.pvae.data.audiograms import CLEAN, COLUMNS, DIMS, FREQUENCIES, THRESHOLDS
from vaesweep.families.pvae.data.sources import load

F = len(FREQUENCIES)


@pytest.fixture(scope="module")
def correlation() -> np.ndarray:
    covariance = archetypes.covariance()
    std = np.sqrt(np.diag(covariance))
    return covariance / np.outer(std, std)


def test_covariance_is_symmetric_and_positive_definite_by_its_documented_bound() -> None:
    covariance = archetypes.covariance()
    assert np.array_equal(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() >= archetypes.OWN**2 * (1 - 1e-9)


def test_covariance_treats_the_ears_alike() -> None:
    swapped = np.r_[F : 2 * F, 0:F, THRESHOLDS]
    covariance = archetypes.covariance()
    np.testing.assert_allclose(covariance, covariance[np.ix_(swapped, swapped)])


def test_higher_age_goes_with_higher_loss_and_more_so_at_high_frequencies(correlation: np.ndarray) -> None:
    with_age = correlation[-1, :F]
    assert (with_age > 0.2).all()
    assert (np.diff(with_age) > 0).all()
    np.testing.assert_allclose(correlation[-1, F:THRESHOLDS], with_age)


def test_on_one_ear_the_covariance_beyond_age_falls_with_distance_in_frequency() -> None:
    with_age = np.outer(archetypes.LOSS_WITH_AGE, archetypes.LOSS_WITH_AGE)
    ear = archetypes.covariance()[:F, :F] - with_age
    octaves = np.abs(np.subtract.outer(np.log2(FREQUENCIES), np.log2(FREQUENCIES)))
    apart = np.triu_indices(F, 1)
    order = np.argsort(octaves[apart], kind="stable")
    assert (np.diff(ear[apart][order]) <= 1e-9).all()


def test_all_frequencies_of_an_ear_covary_more_than_frequencies_of_two_ears() -> None:
    covariance = archetypes.covariance()
    within, across = covariance[:F, :F], covariance[:F, F:THRESHOLDS]
    apart = ~np.eye(F, dtype=bool)
    assert (within[apart] >= across[apart] + archetypes.OVERALL**2).all()


def test_the_same_frequency_covaries_across_ears_beyond_what_age_explains() -> None:
    across = archetypes.covariance()[:F, F:THRESHOLDS]
    with_age = np.outer(archetypes.LOSS_WITH_AGE, archetypes.LOSS_WITH_AGE)
    np.testing.assert_allclose(across - with_age, archetypes.ACROSS**2 * np.eye(F), atol=1e-9)


def test_archetypes_have_the_stated_mean_and_covariance() -> None:
    # 40 000 draws: standard error of a mean <= 18.5/200 = 0.093, of a covariance <= sqrt(2) 18.5²/200 = 2.4; five of
    # them.
    x = archetypes.draw_archetypes(np.random.default_rng(0), 40_000)
    np.testing.assert_allclose(x.mean(axis=0), archetypes.MEAN, atol=5 * 0.093)
    np.testing.assert_allclose(np.cov(x.T), archetypes.covariance(), atol=5 * 2.4)
    assert (np.diff(archetypes.SLOPING_LOSS) > 0).all()


def test_before_noise_every_audiogram_lies_in_the_hull_of_the_archetypes() -> None:
    rng = np.random.default_rng(1)
    corners = archetypes.draw_archetypes(rng)
    for x in archetypes.mix(corners, 50, rng):
        equalities = np.vstack([corners.T, np.ones(len(corners))])
        solution = linprog(np.zeros(len(corners)), A_eq=equalities, b_eq=np.append(x, 1.0), bounds=(0, 1))
        assert solution.success, solution.message


def test_mixing_weights_are_uniform_on_the_simplex() -> None:
    # With unit vectors as archetypes the rows are the weights: each Beta(1, 4), mean 1/5, variance 4/150.
    weights = archetypes.mix(np.eye(5), 20_000, np.random.default_rng(2))
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    np.testing.assert_allclose(weights.mean(axis=0), 0.2, atol=5 * np.sqrt(4 / 150 / 20_000))
    np.testing.assert_allclose(weights.var(axis=0), 4 / 150, rtol=0.06)


def test_observation_noise_is_five_in_every_dimension() -> None:
    noise = archetypes.observe(np.zeros((20_000, DIMS)), np.random.default_rng(3))
    # relative standard error of a standard deviation: 1/sqrt(2 n) = 0.5 %; five of them.
    np.testing.assert_allclose(noise.std(axis=0), 5.0, rtol=0.025)


def test_domains_have_the_sizes_and_roles_of_the_thesis() -> None:
    loaded = archetypes.synthetic(0)
    sizes = {domain.name: (len(domain), domain.role) for domain in loaded.domains}
    assert sizes == {
        "synthetic.train": (3276, Role.TRAIN),
        "synthetic.valid": (410, Role.VALID),
        "synthetic.test": (410, Role.TEST),
        "small_corruption": (1024, Role.UNSEEN),
        "large_corruption": (1024, Role.UNSEEN),
    }
    for domain in loaded.domains:
        assert domain.arrays["x"].shape == (len(domain), len(COLUMNS))
        assert domain.arrays["x"].dtype == np.float32


def test_one_seed_gives_the_same_data_and_another_gives_other_data() -> None:
    first, again, other = (archetypes.synthetic(seed, 100, 20) for seed in (3, 3, 4))
    for a, b, c in zip(first.domains, again.domains, other.domains, strict=True):
        assert np.array_equal(a.arrays["x"], b.arrays["x"])
        assert not np.isclose(a.arrays["x"], c.arrays["x"]).any(axis=1).all()
    assert first.summary == again.summary


def test_more_unseen_rows_leave_the_training_population_as_it_was() -> None:
    few, many = archetypes.synthetic(0, 100, 20), archetypes.synthetic(0, 100, 40)
    for a, b in zip(few.domains[:3], many.domains[:3], strict=True):
        assert np.array_equal(a.arrays["x"], b.arrays["x"])


def test_a_corruption_moves_archetypes_by_the_asked_standard_deviation() -> None:
    start = np.zeros((2_000, DIMS))
    moved = archetypes.corrupt(start, 8.0, np.random.default_rng(0))
    assert moved.std() == pytest.approx(8.0, rel=5 / np.sqrt(2 * start.size))


def test_a_large_corruption_moves_the_population_ten_times_as_far_as_a_small_one() -> None:
    # The mean of a population is the mean of its archetypes up to noise; averaged over 20 seeds and 15 dimensions.
    shifts: dict[str, list[float]] = {"small_corruption": [], "large_corruption": []}
    for seed in range(20):
        domains = {domain.name: domain.arrays["x"] for domain in archetypes.synthetic(seed).domains}
        for name, shift in shifts.items():
            shift.append(float(np.abs(domains[name].mean(axis=0) - domains["synthetic.train"].mean(axis=0)).mean()))
    small, large = (np.mean(shifts[name]) for name in ("small_corruption", "large_corruption"))
    assert 5 < large / small < 12


def test_the_corruption_is_relative_to_the_standard_deviation_of_all_training_entries() -> None:
    loaded = archetypes.synthetic(0)
    overall = loaded.domains[0].arrays["x"].std()
    assert f"0.5 x {overall:.1f} = {0.5 * overall:.1f} dB" in loaded.summary[2]


def test_the_data_of_release_0_1_are_what_they_were() -> None:
    """Or their cells would be trained again."""
    assert load("synthetic", 0).fingerprint() == "c159cb10c36e2fbe"


def test_wide_audiograms_are_other_data_than_those_of_release_0_1() -> None:
    narrow, wide = load("synthetic", 0), load("synthetic_wide", 0)
    assert not set(narrow.fingerprints().values()) & set(wide.fingerprints().values())
    assert {domain.name.partition(".")[0] for domain in wide.domains[:3]} == {"synthetic_wide"}


def test_wide_audiograms_are_kept_before_noise_of_five() -> None:
    for domain in load("synthetic_wide", 0).domains:
        noise = domain.arrays["x"] - domain.arrays[CLEAN]
        assert noise.std() == pytest.approx(archetypes.NOISE, rel=5 / np.sqrt(2 * noise.size))
        assert abs(noise.mean()) < 5 * archetypes.NOISE / np.sqrt(noise.size)
    corners = archetypes.archetypes_of(0, archetypes.WIDE)
    clean = load("synthetic_wide", 0).domain(Role.TEST).arrays[CLEAN]
    weights = np.linalg.lstsq(np.vstack([corners.T, np.ones(5)]), np.vstack([clean.T, np.ones(len(clean))]), rcond=None)
    assert weights[1].max() < 1e-4, "it is a combination of the archetypes"


def test_of_wide_audiograms_the_thresholds_spread_as_archetypes_of_release_0_1_do() -> None:
    """In expectation over archetypes; ages by twice what they did."""
    rng = np.random.default_rng(0)
    variances = [
        archetypes.mix(archetypes.draw_archetypes(rng, width=archetypes.WIDE), 400, rng).var(axis=0) for _ in range(400)
    ]
    expected = np.diag(archetypes.covariance())
    np.testing.assert_allclose(np.mean(variances, axis=0)[:THRESHOLDS], expected[:THRESHOLDS], rtol=0.15)
    assert np.mean(variances, axis=0)[-1] == pytest.approx(4 * expected[-1] * 2 / 15, rel=0.15)


def test_at_5_db_the_task_on_wide_audiograms_is_not_done_by_the_age_or_one_measurement() -> None:
    """By a model that knows all about them: the archetypes, and how the weights are drawn."""
    data = load("synthetic_wide", 0)
    test, corners = data.domain(Role.TEST).arrays, archetypes.archetypes_of(0, archetypes.WIDE)
    weights = np.random.default_rng(1).dirichlet(np.ones(5), 4000) @ corners

    def error(dims: list[int]) -> np.ndarray:
        x = test["x"][:, dims]
        log = -np.square(x[:, None] - weights[None, :, dims]).sum(-1) / (2 * archetypes.NOISE**2)
        share = np.exp(log - log.max(1, keepdims=True))
        estimate = share @ weights / share.sum(1, keepdims=True)
        estimate[:, dims] = x
        return np.sqrt(np.square(test[CLEAN] - estimate).mean(1))

    age = THRESHOLDS
    assert 6 < error([age]).mean() < 13
    assert (error([age, 6]) < 5).mean() < 0.5, "8 kHz, which varies most"
    assert error([*range(DIMS)]).mean() == pytest.approx(4.92, abs=0.1), "all is measured: the noise of 5 dB"
