"""Gaps are differences within a cell; planted shifts come back, per target and over the sweep."""

from collections.abc import Callable

import pandas as pd
import pytest

from vaesweep.analysis.gaps import gap_table
from vaesweep.analysis.runs import Runs
from vaesweep.analysis.table import cells_table, other_axes
from vaesweep.vocabulary import Outcome

SweepOf = Callable[..., Runs]
PAIRS = {("toy.train", "toy.test"): 1.0, ("toy.test", "elsewhere"): 5.0, ("toy.train", "elsewhere"): 6.0}


def gaps_of(runs: Runs) -> pd.DataFrame:
    return gap_table(cells_table(runs), other_axes(runs))


def test_planted_shifts_come_back_exactly_although_seeds_differ(sweep_of: SweepOf) -> None:
    """The seeds' noise is the same on every domain of a cell, so pairing removes it whole."""
    gaps = gaps_of(sweep_of([1.0, 2.0], 3, noise=5.0)).set_index(["from", "to", "metric"]).sort_index()
    for pair, shift in PAIRS.items():
        for metric, expected in (
            ("distortion", shift),
            ("negative_elbo", shift),
            ("rate", 0.0),
            ("rmse_db", shift / 2),
        ):
            rows = gaps.loc[(*pair, metric)]
            assert len(rows) == 3  # two targets and the whole sweep
            assert rows[["gap", "low", "high"]].to_numpy() == pytest.approx(expected, abs=1e-9)
            assert rows["n_seeds"].eq(3).all()


def test_only_train_to_test_and_to_unseen_domains_are_gaps(sweep_of: SweepOf) -> None:
    gaps = gaps_of(sweep_of([1.0], 2))
    assert set(zip(gaps["from"], gaps["to"], strict=True)) == set(PAIRS)


def test_the_whole_sweep_comes_last_without_a_target(sweep_of: SweepOf) -> None:
    gaps = gaps_of(sweep_of([1.0, 2.0], 2))
    assert gaps["target_rate"].isna().sum() == 12
    assert gaps["target_rate"].tail(12).isna().all()


def test_other_axes_split_the_targets(sweep_of: SweepOf) -> None:
    gaps = gaps_of(sweep_of([1.0, 2.0], 2, extra={"model.latents": [2, 4]}))
    distortion = gaps[(gaps["metric"] == "distortion") & (gaps["to"] == "toy.test")]
    assert list(gaps.columns[:2]) == ["target_rate", "model.latents"]
    assert len(distortion) == 5
    assert distortion["n_seeds"].eq(2).all()


def test_diverged_cells_have_no_gap(sweep_of: SweepOf) -> None:
    gaps = gaps_of(sweep_of([1.0, 2.0], 3, {"1.0-2": Outcome.DIVERGED}))
    assert gaps.loc[gaps["target_rate"] == 1.0, "n_seeds"].eq(2).all()
    assert gaps.loc[gaps["target_rate"] == 2.0, "n_seeds"].eq(3).all()


def test_one_seed_has_a_gap_and_no_interval(sweep_of: SweepOf) -> None:
    gaps = gaps_of(sweep_of([1.0], 1))
    assert gaps["gap"].notna().all()
    assert gaps[["low", "high"]].isna().all(axis=None)


def test_a_group_has_the_gaps_that_it_has_alone(sweep_of: SweepOf) -> None:
    """To the last bit: what other cells are in the table changes nothing."""
    runs = sweep_of([1.0, 2.0, 3.0], 9, {"2.0-4": Outcome.DIVERGED}, noise=5.0)
    table = cells_table(runs)
    together = gap_table(table, other_axes(runs))
    for target in (1.0, 2.0, 3.0):
        alone = gap_table(table[table["target_rate"] == target], other_axes(runs))
        for rows in (alone[alone["target_rate"] == target], alone[alone["target_rate"].isna()]):
            own = together[together["target_rate"] == target].drop(columns="target_rate").reset_index(drop=True)
            pd.testing.assert_frame_equal(
                own, rows.drop(columns="target_rate").reset_index(drop=True), check_exact=True
            )
