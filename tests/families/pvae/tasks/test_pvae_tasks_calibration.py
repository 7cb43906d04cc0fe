"""Calibration by severity: counted row by row, on a criterion that is right for good ears and wrong for bad ones."""

import math

import pytest
import torch

from vaesweep.families.pvae.data.audiograms import DIMS, THRESHOLDS
from vaesweep.families.pvae.tasks.acquisition import INTERVAL, LargestVariance, acquire
from vaesweep.families.pvae.tasks.calibration import Calibration
from vaesweep.families.pvae.tasks.mixture import MixturePredictor

STAGES = THRESHOLDS + 1


def calibration() -> Calibration:
    """Ten listeners each at 10, 25 and 50 dB HL; all seem to be at 6 dB from the second measurement on."""
    severity = torch.tensor([10.0, 25.0, 50.0]).repeat_interleave(10)[None]
    estimate = torch.full((1, 30, STAGES), 9.0)
    estimate[..., 2:] = 6.0
    rmse = torch.full((1, 30, STAGES), 12.0)
    rmse[0, :8, 2:] = 5.0  # right for eight of the ten that hear well
    rmse[0, 10:15, 2:] = 6.9  # for five of the ten between
    covered = torch.full((1, 30, STAGES), 0.8)
    covered[0, 20:] = 0.5
    covered[..., -1] = 0.0
    return Calibration(severity, rmse, estimate, covered)


def test_each_band_has_the_share_stopped_too_early_and_the_coverage_of_its_own_listeners() -> None:
    bands = list(Calibration.from_tensors(calibration().to_tensors()).bands(7.0))
    assert [band.listeners for band in bands] == [10, 10, 10]
    assert [band.too_early for band in bands] == pytest.approx([0.2, 0.5, 1.0])
    assert [band.coverage[3] for band in bands] == pytest.approx([0.8, 0.8, 0.5], abs=1e-3)
    assert [band.label for band in bands] == ["below 20 dB HL", "20 to 35 dB HL", "35 dB HL and more"]


def test_another_threshold_stops_elsewhere() -> None:
    known = calibration()
    never, at_once = ([band.too_early for band in known.bands(threshold)] for threshold in (5.5, 10.0))
    assert never == pytest.approx([0.2, 1.0, 1.0]), "all is measured, which leaves eight listeners below 5.5 dB"
    assert at_once == [1.0, 1.0, 1.0], "12 dB off after the first measurement"


def test_a_band_without_listeners_says_so() -> None:
    known = calibration()
    empty = Calibration(known.severity * 0, known.rmse, known.estimate, known.covered)
    bands = list(empty.bands(7.0))
    assert [band.listeners for band in bands] == [30, 0, 0]
    assert math.isnan(bands[1].too_early)


def test_intervals_of_the_true_distribution_hold_as_often_as_they_should() -> None:
    """A Gaussian predicts data that were drawn from it."""
    rng = torch.Generator().manual_seed(0)
    factor = torch.randn(DIMS, DIMS, generator=rng, dtype=torch.float64)
    covariance = factor @ factor.mT + 4 * torch.eye(DIMS, dtype=torch.float64)
    x = 20 + torch.randn(1500, DIMS, generator=rng, dtype=torch.float64) @ torch.linalg.cholesky(covariance).mT
    one = torch.ones(1, 1, dtype=torch.float64)
    mean = torch.full((DIMS,), 20.0, dtype=torch.float64)
    model = MixturePredictor(one, mean[None, None] * 0, covariance[None, None], mean, torch.ones(DIMS))
    trace = acquire(model, x, (THRESHOLDS,), LargestVariance(), intervals=True)
    assert trace.covered is not None
    held = trace.covered[0].float().mean(0)
    # Dimensions of a row covary: a row counts once, with a standard deviation of 0.4 at most; three of 1500 rows.
    torch.testing.assert_close(held[:-1], torch.full((THRESHOLDS,), INTERVAL), atol=3 * 0.4 / 1500**0.5, rtol=0)
    assert held[-1] == 0
    assert acquire(model, x[:3], (THRESHOLDS,), LargestVariance()).covered is None
