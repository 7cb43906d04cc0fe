"""Curves are the thesis' moving averages, their intervals are over seeds, and planted optima are found."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vaesweep.analysis.curves import (
    CURVE,
    HIGHEST_ELBO,
    LOWEST_DISTORTION,
    default_window,
    hidden_by_interval,
    monotone_within_interval,
    moving_average,
    optimum,
    rd_curve,
)
from vaesweep.analysis.intervals import t_interval
from vaesweep.analysis.runs import Runs
from vaesweep.analysis.table import cells_table
from vaesweep.errors import UserError
from vaesweep.vocabulary import Outcome

SweepOf = Callable[..., Runs]
TARGETS = [0.5 + 0.5 * step for step in range(19)]  # 0.5 to 9.5 nats


def points(rates: list[float], distortions: list[float], seeds: list[int] | None = None) -> pd.DataFrame:
    """Cells on one domain, as `cells_table` gives them."""
    frame = pd.DataFrame({"rate": rates, "distortion": distortions, "seed": seeds or 0})
    frame["elbo"] = -frame["rate"] - frame["distortion"]
    return frame.assign(domain="d", role="test", outcome="finished", saturated="")


def lines(curve: pd.DataFrame, domain: str = "d") -> pd.DataFrame:
    return curve[(curve["kind"] == CURVE) & (curve["domain"] == domain)].reset_index(drop=True)


def test_the_moving_average_is_the_one_computed_by_hand() -> None:
    average = moving_average(points([4.0, 1.0, 3.0, 2.0], [10.0, 40.0, 20.0, 26.0]), window=3)
    assert average["rate"].tolist() == [2.0, 3.0]
    assert average["distortion"].tolist() == pytest.approx([86 / 3, 56 / 3])
    assert average["elbo"].tolist() == pytest.approx([-86 / 3 - 2, -56 / 3 - 3])
    assert average["n_cells"].tolist() == [3, 3]


def test_a_window_wider_than_the_sweep_is_the_sweep() -> None:
    assert moving_average(points([1.0, 3.0], [4.0, 2.0]), window=9)["distortion"].tolist() == [3.0]


def test_the_t_interval_is_scipys() -> None:
    values = np.array([3.1, 2.7, 3.6])
    low, high = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    found = t_interval(np.append(values, np.nan))
    assert (found.low, found.high, found.n) == (pytest.approx(low), pytest.approx(high), 3)


def test_one_replicate_has_a_mean_and_no_interval() -> None:
    found = t_interval(np.array([2.0]))
    assert (found.mean, found.n) == (2.0, 1)
    assert np.isnan([found.low, found.high]).all()


def test_seeds_at_equal_rates_give_the_t_interval_at_each_rate() -> None:
    values = np.array([[9.0, 10.0, 12.0], [5.0, 5.5, 6.5]])
    table = points([1.0] * 3 + [2.0] * 3, values.ravel().tolist(), [0, 1, 2] * 2)
    curve = lines(rd_curve(table, window=1))
    for rate, seeds in zip((1.0, 2.0), values, strict=True):
        row = curve[curve["rate"] == rate].iloc[0]
        expected = stats.t.interval(0.95, 2, loc=seeds.mean(), scale=stats.sem(seeds))
        assert (row["distortion_low"], row["distortion_high"]) == pytest.approx(expected)
        assert row["n_seeds"] == 3


@pytest.mark.parametrize("seeds", [1, 2, 3, 10])
def test_planted_optima_are_found(sweep_of: SweepOf, seeds: int) -> None:
    """D = (R − 6)²/4 + 20 is least at 6 and D + R at 4, both of which are targets."""
    curve = rd_curve(cells_table(sweep_of(TARGETS, seeds)))
    for domain in ("toy.train", "elsewhere"):
        for kind, planted in ((LOWEST_DISTORTION, 6.0), (HIGHEST_ELBO, 4.0)):
            row = optimum(curve, domain, kind)
            assert row is not None
            assert row["rate"] == pytest.approx(planted)
            assert not row["at_edge"]
            if seeds > 1:
                assert row["rate_low"] <= planted <= row["rate_high"]


def test_the_optimums_span_is_that_of_the_seeds_own_optima() -> None:
    rates = [1.0, 2.0, 3.0, 4.0, 5.0]
    tables = [
        points(rates, [abs(rate - best) + 9 for rate in rates], [seed] * 5) for seed, best in enumerate((2, 3, 3))
    ]
    row = optimum(rd_curve(pd.concat(tables), window=1), "d", LOWEST_DISTORTION)
    assert row is not None
    assert (row["rate_low"], row["rate_high"]) == (2.0, 3.0)


def test_an_optimum_at_the_end_of_the_rates_says_so(sweep_of: SweepOf) -> None:
    row = optimum(rd_curve(cells_table(sweep_of([1.0, 2.0, 3.0], 2))), "toy.test", LOWEST_DISTORTION)
    assert row is not None
    assert row["at_edge"]
    assert row["rate"] == pytest.approx(3.0)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_order_of_the_runs_does_not_matter(sweep_of: SweepOf, seeds: int) -> None:
    table = cells_table(sweep_of(TARGETS, seeds))
    shuffled = table.sample(frac=1, random_state=3).sort_values("domain", kind="stable")
    expected = rd_curve(table.sort_values("domain", kind="stable"))
    pd.testing.assert_frame_equal(rd_curve(shuffled), expected)


def test_one_seed_has_a_curve_and_no_interval(sweep_of: SweepOf) -> None:
    curve = rd_curve(cells_table(sweep_of(TARGETS, 1)))
    assert curve[["distortion", "elbo"]].notna().all(axis=None)
    assert curve[["distortion_low", "elbo_high", "rate_low", "rate_high"]].isna().all(axis=None)
    assert (curve["n_seeds"] == 1).all()


def test_one_cell_is_a_curve_of_one_point(sweep_of: SweepOf) -> None:
    curve = rd_curve(cells_table(sweep_of([2.0], 1)))
    assert curve.groupby(["domain", "kind"]).size().eq(1).all()


def test_one_target_still_has_an_interval_over_its_seeds(sweep_of: SweepOf) -> None:
    curve = lines(rd_curve(cells_table(sweep_of([2.0], 3))), "toy.test")
    assert curve[["distortion_low", "distortion_high"]].notna().all(axis=None)


def test_ragged_seeds_say_where_they_overlap() -> None:
    table = pd.concat(
        [points([1.0, 2.0, 3.0, 4.0], [9.0, 7.0, 6.0, 5.0], [0] * 4), points([1.0, 2.0], [8.0, 7.5], [1] * 2)]
    )
    curve = lines(rd_curve(table, window=1))
    assert curve.loc[curve["rate"] < 2, "n_seeds"].eq(2).all()
    alone = curve[curve["rate"] > 3]
    assert alone["n_seeds"].eq(1).all()
    assert alone["distortion_low"].isna().all()


def test_equal_rates_do_not_break_the_curve() -> None:
    table = points([2.0] * 6, [5.0, 6.0, 7.0, 5.0, 6.0, 7.0], [0, 0, 0, 1, 1, 1])
    curve = lines(rd_curve(table))
    assert curve["rate"].eq(2.0).all()
    assert np.isfinite(curve["distortion_low"]).all()


@pytest.mark.parametrize("outcome", [Outcome.DIVERGED, Outcome.FAILED])
def test_only_finished_cells_make_the_curve(sweep_of: SweepOf, outcome: Outcome) -> None:
    lost = {f"9.5-{seed}": outcome for seed in range(2)}
    with_lost = rd_curve(cells_table(sweep_of(TARGETS, 2, lost)), window=1)
    without = rd_curve(cells_table(sweep_of(TARGETS[:-1], 2)), window=1)
    pd.testing.assert_frame_equal(with_lost, without)


def test_no_finished_cell_gives_an_empty_curve(sweep_of: SweepOf) -> None:
    assert rd_curve(cells_table(sweep_of([1.0], 1, {"1.0-0": Outcome.FAILED}))).empty


def test_a_falling_curve_is_monotone_and_a_rising_one_is_not(sweep_of: SweepOf) -> None:
    falling = rd_curve(cells_table(sweep_of([t for t in TARGETS if t <= 6], 3)))
    assert monotone_within_interval(falling, "toy.test")
    assert not monotone_within_interval(rd_curve(cells_table(sweep_of(TARGETS, 3))), "toy.test")


def test_a_rise_within_the_seeds_interval_is_forgiven_and_with_one_seed_it_is_not() -> None:
    rates, noise = [1.0, 2.0, 3.0], [0.4, -0.4, 0.1]
    tables = [points(rates, [9 + e, 8.0 - e, 8.05 + e], [seed] * 3) for seed, e in enumerate(noise)]
    assert monotone_within_interval(rd_curve(pd.concat(tables), window=1), "d")
    assert not monotone_within_interval(rd_curve(points(rates, [9.0, 8.0, 8.05]), window=1), "d")


def test_the_default_window_grows_with_the_sweep() -> None:
    assert [default_window(cells) for cells in (1, 20, 45, 100)] == [1, 1, 3, 5]


def test_a_window_of_no_cells_is_refused(sweep_of: SweepOf) -> None:
    with pytest.raises(UserError, match="1 or more"):
        rd_curve(cells_table(sweep_of([1.0], 1)), window=0)


def test_a_trend_is_hidden_where_seeds_differ_by_more_than_the_curve_falls(sweep_of: SweepOf) -> None:
    agreeing = rd_curve(cells_table(sweep_of(TARGETS, 3)))
    assert not hidden_by_interval(agreeing, "toy.test")
    table = cells_table(sweep_of(TARGETS, 3))
    table["distortion"] += 1000.0 * table["seed"].astype(float)
    assert hidden_by_interval(rd_curve(table), "toy.test")
