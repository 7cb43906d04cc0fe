"""Intervals hold the truth as often as they say: over seeds, and over seeds and data at once."""

from dataclasses import astuple

import numpy as np
import pytest
from scipy import stats

from vaesweep.analysis.intervals import crossed_interval, t_interval, t_intervals


def layout(draw: np.random.Generator, seeds: int, data: int, spread: tuple[float, float, float]) -> np.ndarray:
    """Effects of seeds, of data and of both, around zero: `[seed, datum]`."""
    of_seeds, of_data, of_both = spread
    return (
        of_seeds * draw.normal(size=(seeds, 1))
        + of_data * draw.normal(size=(1, data))
        + of_both * draw.normal(size=(seeds, data))
    )


@pytest.mark.parametrize(
    ("seeds", "data", "spread"),
    [
        (3, 64, (0.3, 2.0, 1.0)),
        (2, 64, (0.3, 2.0, 1.0)),
        (5, 20, (1.0, 1.0, 1.0)),
        (3, 64, (0.0, 2.0, 0.5)),
        (3, 64, (1.0, 0.1, 0.1)),
    ],
)
def test_an_interval_over_seeds_and_data_holds_the_truth_nineteen_times_in_twenty(
    seeds: int, data: int, spread: tuple[float, float, float]
) -> None:
    draw = np.random.default_rng(7)
    found = [crossed_interval(layout(draw, seeds, data, spread)) for _ in range(1000)]
    share = np.mean([interval.low <= 0 <= interval.high for interval in found])
    assert 0.93 <= share <= 0.98


def test_an_interval_over_seeds_alone_misses_what_the_data_add() -> None:
    """Why there is the other one: mixtures of very different difficulty, that all seeds share."""
    draw = np.random.default_rng(7)
    layouts = [layout(draw, 3, 16, (0.1, 2.0, 0.1)) for _ in range(400)]
    seeds_alone = np.mean([abs(t_interval(v.mean(1)).mean) > t_interval(v.mean(1)).high - v.mean() for v in layouts])
    both = np.mean([not crossed_interval(v).low <= 0 <= crossed_interval(v).high for v in layouts])
    assert seeds_alone > 0.3
    assert both < 0.08


def test_where_data_are_alike_it_is_the_interval_over_seeds() -> None:
    values = np.array([1.0, 2.0, 4.0])
    crossed, seeds = crossed_interval(np.tile(values[:, None], (1, 50))), t_interval(values)
    assert (crossed.mean, crossed.n) == (seeds.mean, seeds.n)
    assert crossed.low == pytest.approx(seeds.low)


def test_where_seeds_are_alike_it_is_the_interval_over_data() -> None:
    values = np.random.default_rng(1).normal(size=40)
    crossed = crossed_interval(np.tile(values, (3, 1)))
    assert crossed.low == pytest.approx(values.mean() - stats.t.ppf(0.975, 39) * stats.sem(values))


def test_one_seed_or_one_datum_has_no_interval_and_no_difference_has_none_around_it() -> None:
    assert np.isnan(crossed_interval(np.ones((1, 5))).low)
    assert np.isnan(crossed_interval(np.ones((5, 1))).low)
    nothing = crossed_interval(np.zeros((3, 4)))
    assert (nothing.mean, nothing.low, nothing.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("replicates", [0, 1, 2, 3, 9, 200])
@pytest.mark.parametrize("missing", [False, True])
def test_intervals_of_many_rows_are_those_of_each_to_the_last_bit(replicates: int, missing: bool) -> None:
    values = np.random.default_rng(replicates).normal(3, 2, (7, replicates))
    if missing and replicates:
        values[2, 0] = np.nan
    for found, row in zip(t_intervals(values), values, strict=True):
        np.testing.assert_equal(astuple(found), astuple(t_interval(row)))


def test_the_quantile_is_students() -> None:
    """Against scipy.stats, which takes too long to import to be used."""
    for replicates in (2, 3, 10, 1000):
        values = np.random.default_rng(0).normal(size=replicates)
        low, high = stats.t.interval(0.95, replicates - 1, values.mean(), stats.sem(values))
        found = t_interval(values)
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
