"""Predicted quality: intervals hold what they state on exchangeable mixtures, and nothing is promised of others."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from vaesweep.families.emd.trust.calibration import (
    METRICS,
    Calibration,
    Scored,
    judge,
    mixtures_needed,
    uses,
)

TRIALS, FRESH = 1200, 20


def drawn(count: int, draw: np.random.Generator) -> Scored:
    """Mixtures of which no straight line is true: skewed scores, heavy tails, more noise where quality is poor."""
    quality = draw.gamma(2.0, 2.0, size=count)
    scores = np.stack([np.log(quality + 0.1) + 0.3 * draw.normal(size=count), draw.standard_t(3, size=count)], -1)
    achieved = 10 - quality**1.5 + (0.5 + 0.4 * quality) * draw.standard_t(3, size=count)
    return Scored(torch.tensor(scores), torch.tensor(achieved))


@pytest.mark.parametrize(("count", "level"), [(8, 0.8), (32, 0.8), (33, 0.5), (64, 0.9)])
def test_intervals_hold_at_least_what_they_state_and_not_much_more(count: int, level: float) -> None:
    """Split conformal: between `level` and `level` + 1 / (n + 1), of n mixtures that were not fitted to."""
    draw, covered, unlike = np.random.default_rng(count), [], []
    for _ in range(TRIALS):
        own = Calibration.fit(*drawn(count, draw))
        fresh = drawn(FRESH, draw)
        covered.append(((own.predict(fresh.scores) - fresh.achieved).abs() <= own.half_width(level)).double().mean())
        unlike.append(own.unlike(fresh.scores).double().mean())
    rest = count - count // 2
    error = 4 * float(np.std(covered)) / math.sqrt(TRIALS)  # four standard errors, over calibrations
    assert level - error <= np.mean(covered) <= level + 1 / (rest + 1) + error
    assert np.mean(unlike) <= 1 / (rest + 1) + 4 * float(np.std(unlike)) / math.sqrt(TRIALS)


def test_other_mixtures_are_unlike_and_their_coverage_is_not_promised() -> None:
    draw = np.random.default_rng(0)
    own = Calibration.fit(*drawn(64, draw))
    fresh = drawn(200, draw)
    moved = fresh.scores + torch.tensor([0.0, 60.0])
    assert own.unlike(moved).all()
    assert own.unlike(fresh.scores).double().mean() < 0.2


def test_the_regression_is_the_ridge_that_never_falls() -> None:
    """Against a general minimiser, of a score that quality falls with and one that it rises with."""
    draw = np.random.default_rng(1)
    scores = draw.normal(size=(40, 3)) * [1.0, 20.0, 0.1] + [0.0, 5.0, -3.0]
    achieved = 2 * scores[:, 0] - 0.3 * scores[:, 1] + 4 * scores[:, 2] + draw.normal(size=40)
    own = Calibration.fit(torch.tensor(scores), torch.tensor(achieved))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0)).numpy()[:20]
    standard = (scores[order] - scores[order].mean(0)) / scores[order].std(0)
    centred = achieved[order] - achieved[order].mean()
    found = minimize(
        lambda slope: ((centred - standard @ slope) ** 2).sum() + (slope**2).sum(), np.ones(3), bounds=[(0, None)] * 3
    )
    np.testing.assert_allclose(own.slope.numpy(), found.x, atol=1e-4)
    assert own.slope[1] == 0
    fresh = draw.normal(size=(5, 3))
    expected = achieved[order].mean() + (fresh - scores[order].mean(0)) / scores[order].std(0) @ found.x
    np.testing.assert_allclose(own.predict(torch.tensor(fresh)).numpy(), expected, atol=1e-2)
    leverage = np.linalg.solve(standard.T @ standard + np.eye(3), standard.T).T
    np.testing.assert_allclose(
        own.distance(torch.tensor(scores[order])).numpy(), (leverage * standard).sum(-1), rtol=1e-6
    )


def test_a_score_that_never_varied_makes_any_other_value_of_it_unlike() -> None:
    draw = np.random.default_rng(2)
    scores = np.stack([draw.normal(size=20), np.full(20, 7.0)], -1)
    own = Calibration.fit(torch.tensor(scores), torch.tensor(draw.normal(size=20)))
    assert own.predict(torch.tensor(scores)).isfinite().all()
    assert own.unlike(torch.tensor([0.0, 30.0]))
    assert not own.unlike(torch.tensor([float(scores[:, 0].mean()), 7.0]))


@pytest.mark.parametrize("level", [0.1, 0.5, 0.8, 0.9, 0.99])
def test_as_many_mixtures_are_needed_as_make_the_interval_finite(level: float) -> None:
    def width(count: int) -> float:
        return Calibration.fit(torch.randn(count, 1), torch.randn(count)).half_width(level)

    needed = mixtures_needed(level)
    assert math.isfinite(width(needed))
    assert needed == 4 or width(needed - 1) == math.inf


def test_a_wider_share_has_a_wider_interval() -> None:
    own = Calibration.fit(*drawn(60, np.random.default_rng(3)))
    widths = [own.half_width(level) for level in (0.2, 0.5, 0.8, 0.95)]
    assert all(one < other for one, other in pairwise(widths))
    assert own.half_width(0.99) == math.inf


def test_a_calibration_is_read_back_from_what_is_kept() -> None:
    own = Calibration.fit(*drawn(20, np.random.default_rng(4)))
    again = Calibration.of({"signal_scale": torch.ones(1)} | own.tensors())
    assert again is not None
    fresh = drawn(5, np.random.default_rng(5)).scores
    assert torch.equal(again.predict(fresh), own.predict(fresh))
    assert again.half_width(0.8) == own.half_width(0.8)
    assert Calibration.of({}) is None
    assert Calibration.of(dict(list(own.tensors().items())[1:])) is None


def test_metrics_are_those_of_numpy() -> None:
    draw = np.random.default_rng(6)
    predicted, achieved = draw.normal(size=50), draw.normal(size=50) + 0.4
    found = judge(torch.tensor(predicted), torch.tensor(achieved), torch.arange(50) < 5, 0.7)
    assert found.keys() == METRICS.keys()
    error = predicted - achieved
    wanted = {
        "trust_correlation": np.corrcoef(predicted, achieved)[0, 1],
        "trust_bias": error.mean(),
        "trust_error": np.abs(error).mean(),
        "trust_coverage": np.mean(np.abs(error) <= 0.7),
        "trust_width": 1.4,
        "trust_unlike": 0.1,
    }
    assert {name: float(value) for name, value in found.items()} == pytest.approx(wanted)
    constant = judge(torch.full((50,), 3.0).double(), torch.tensor(achieved), torch.zeros(50) > 0, 0.7)
    assert float(constant["trust_correlation"]) == 0


# The cells of a pack


def domains() -> dict[str, Scored]:
    draw = np.random.default_rng(7)
    pairs = {name: [drawn(count, draw) for _ in range(2)] for name, count in (("valid", 16), ("test", 9), ("new", 7))}
    return {name: Scored(*(torch.stack(values) for values in zip(*own, strict=True))) for name, own in pairs.items()}


def test_every_domain_but_the_validation_has_metrics_and_all_keep_their_mixtures() -> None:
    scored = domains()
    found = uses(scored, "valid", 0.8)
    assert found.metrics.keys() == {f"{domain}/{name}" for domain in ("test", "new") for name in METRICS}
    assert {tuple(value.shape) for value in found.metrics.values()} == {(2,)}
    for domain, own in scored.items():
        assert found.kept[f"rows/{domain}/predicted_si_sdr"].shape == own.achieved.shape
        torch.testing.assert_close(found.kept[f"rows/{domain}/achieved_si_sdr"], own.achieved.float())
    for cell in range(2):
        alone = Calibration.of({name: value[cell] for name, value in found.kept.items()})
        assert alone is not None
        expected = Calibration.fit(scored["valid"].scores[cell], scored["valid"].achieved[cell])
        assert torch.equal(alone.residuals, expected.residuals)


def test_a_mixture_without_a_sound_counts_nowhere() -> None:
    scored = domains()
    silent = {name: Scored(own.scores, _silenced(own.achieved)) for name, own in scored.items()}
    shorter = {name: Scored(own.scores[:, 1:], own.achieved[:, 1:]) for name, own in scored.items()}
    found, expected = (uses(own, "valid", 0.8) for own in (silent, shorter))
    assert {name: value.tolist() for name, value in found.metrics.items()} == {
        name: value.tolist() for name, value in expected.metrics.items()
    }


def _silenced(achieved: Tensor) -> Tensor:
    return torch.cat([torch.full_like(achieved[:, :1], torch.nan), achieved[:, 1:]], 1)


def test_too_few_validation_mixtures_calibrate_nothing() -> None:
    scored = domains()
    few = scored | {"valid": Scored(scored["valid"].scores[:, :6], scored["valid"].achieved[:, :6])}
    assert uses(few, "valid", 0.8).kept == {}
    assert uses(scored, "valid", 0.99).metrics == {}
