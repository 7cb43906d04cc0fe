"""Every metric has a curve of its own for every domain and regime, on one rate axis, and planted optima are found."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from vaesweep.analysis.curves import CURVE, rd_curve
from vaesweep.analysis.gaps import NEGATIVE_ELBO
from vaesweep.analysis.groups import OWN_RATE, POINT, REGIME, grouped_table, named, regime_axes, single
from vaesweep.analysis.metric_curves import (
    COLUMNS,
    OPTIMUM,
    VALUE,
    Metric,
    metric_curve,
    optimal_rates,
    part,
)
from vaesweep.analysis.runs import Runs
from vaesweep.analysis.table import cells_table
from vaesweep.families.pvae.analysis.metrics import metrics_of
from vaesweep.vocabulary import Outcome

SweepOf = Callable[..., Runs]
TARGETS = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0]
PLANTED = {  # the rate of every metric's optimum; of the error at the stop where it is nearest 7 dB
    "distortion": 6.0,
    NEGATIVE_ELBO: 4.0,
    "area_rmse.variance": 3.0,
    "area_rmse.random": 3.0,
    "area_unexplained.variance": 3.0,
    "stop_offset.uncertainty": 2.0,
    "stop_index.uncertainty": 2.0,
    "stop_rmse.uncertainty": 3.0,
}


def curve_of(runs: Runs, threshold: float | None = 7.0) -> pd.DataFrame:
    points = grouped_table(runs)
    return metric_curve(points, regime_axes(runs), metrics_of(points, threshold))


@pytest.mark.parametrize("seeds", [1, 3])
def test_planted_optima_are_found(acquiring: SweepOf, seeds: int) -> None:
    curve = curve_of(acquiring(TARGETS, seeds))
    for metric, rate in PLANTED.items():
        for domain in ("toy.test", "elsewhere"):
            (row,) = [row for _, row in part(curve, "", metric, domain, OPTIMUM).iterrows()]
            assert row["rate"] == pytest.approx(rate), metric
            assert seeds == 1 or row["rate_low"] <= rate <= row["rate_high"]


def test_the_test_domains_distortion_is_that_of_the_rate_distortion_curve(sweep_of: SweepOf) -> None:
    runs = sweep_of(TARGETS, 3)
    expected = rd_curve(cells_table(runs)).query("kind == 'curve' and domain == 'toy.test'")
    found = part(curve_of(runs), "", "distortion", "toy.test", CURVE)
    columns = {"rate": "rate", VALUE: "distortion", "low": "distortion_low", "high": "distortion_high"}
    for mine, theirs in columns.items():
        np.testing.assert_allclose(found[mine].to_numpy(), expected[theirs].to_numpy())


def test_regimes_have_curves_of_their_own(acquiring: SweepOf) -> None:
    runs = acquiring(TARGETS, 2, extra={"variant": ["static", "dynamic"]}, lowered={"dynamic": 9.0})
    curve = curve_of(runs)
    static, dynamic = (part(curve, name, "area_rmse.variance", "toy.test", CURVE) for name in ("static", "dynamic"))
    np.testing.assert_allclose(static[VALUE].to_numpy() - dynamic[VALUE].to_numpy(), 9.0)
    assert list(dict.fromkeys(curve[REGIME])) == ["static", "dynamic"]
    assert (curve["variant"] == curve[REGIME]).all()


def test_an_axis_of_rates_makes_points_of_a_curve_and_no_regimes(sweep_of: SweepOf) -> None:
    runs = sweep_of([1.0], 2, extra={"rates.total.beta": [0.5, 1.0, 2.0], "model.latents": [2, 4]})
    assert regime_axes(runs) == ["model.latents"]
    points = grouped_table(runs)
    assert list(dict.fromkeys(points[REGIME])) == ["latents 2", "latents 4"]
    assert set(points[POINT]) == {"target 1, beta 0.5", "target 1, beta 1", "target 1, beta 2"}


def test_all_domains_stand_at_the_test_domains_rate(acquiring: SweepOf) -> None:
    """Unusual data have a higher rate under the same model; its optimum must not move right for it."""
    runs = acquiring(TARGETS, 2)
    shifted = (runs.finals["domain"] == "elsewhere") & (runs.finals["metric"] == "rate")
    runs.finals.loc[shifted, "value"] += 2.5
    (row,) = [row for _, row in part(curve_of(runs), "", "area_rmse.variance", "elsewhere", OPTIMUM).iterrows()]
    assert row["rate"] == pytest.approx(3.0)
    assert row[OWN_RATE] == pytest.approx(5.5)


def test_the_span_is_that_of_the_seeds_own_optima(acquiring: SweepOf) -> None:
    runs = acquiring(TARGETS, 3)
    away = (runs.finals["cell"] == "3.0-1") & (runs.finals["metric"] == "area_rmse.variance")
    runs.finals.loc[away, "value"] += 5
    points = grouped_table(runs)
    rates = optimal_rates(points[points["domain"] == "toy.test"], Metric("area_rmse.variance", ""))
    (row,) = [row for _, row in part(curve_of(runs), "", "area_rmse.variance", "toy.test", OPTIMUM).iterrows()]
    assert rates.nunique() == 2
    assert (row["rate_low"], row["rate_high"]) == (rates.min(), rates.max())


def test_a_value_that_is_not_finite_is_left_out_of_its_own_curve_only(acquiring: SweepOf) -> None:
    runs = acquiring(TARGETS, 1)
    lost = (runs.finals["cell"] == "8.0-0") & (runs.finals["metric"] == "area_rmse.random")
    runs.finals.loc[lost, "value"] = np.inf
    curve = curve_of(runs)
    assert part(curve, "", "area_rmse.random", "toy.test", CURVE)["rate"].max() == pytest.approx(6.0)
    assert part(curve, "", "area_rmse.variance", "toy.test", CURVE)["rate"].max() == pytest.approx(8.0)


def test_the_oracles_offset_is_no_metric_and_other_numbers_are_none_either(acquiring: SweepOf) -> None:
    names = [metric.name for metric in metrics_of(grouped_table(acquiring([1.0], 1)))]
    assert names[:2] == ["distortion", NEGATIVE_ELBO]
    assert "stop_offset.oracle" not in names
    assert "rmse_db" not in names


def test_without_a_finished_cell_the_curve_is_empty(sweep_of: SweepOf) -> None:
    curve = curve_of(sweep_of([1.0], 1, {"1.0-0": Outcome.DIVERGED}))
    assert curve.empty
    assert list(curve.columns) == [REGIME, *COLUMNS]


def test_a_sweep_of_seeds_alone_has_one_point(sweep_of: SweepOf) -> None:
    runs = sweep_of([1.0], 3)
    runs = replace(
        runs, record=replace(runs.record, axes={"seed": [0, 1, 2]}), cells=runs.cells.drop(columns="rates.total.target")
    )
    points = grouped_table(runs)
    assert single(points)
    assert named(points[REGIME].iloc[0], points[POINT].iloc[0]) == "all cells"
