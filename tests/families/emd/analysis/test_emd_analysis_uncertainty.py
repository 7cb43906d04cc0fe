"""What separators say of their quality: planted correlations and coverages are found, with intervals that hold."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm
from toy_sweeps import of_variants

from vaesweep.analysis.runs import Runs
from vaesweep.data.domains import Role
from vaesweep.families.emd.analysis.uncertainty import (
    ELBO,
    SI_SDR,
    Evidence,
    Judged,
    Scores,
    evidence,
    level_of,
    pearson,
    uncertainty_table,
    wilson,
)
from vaesweep.families.emd.analysis.uncertainty_figure import draw_uncertainty, rows
from vaesweep.families.emd.trust.calibration import Calibration
from vaesweep.training.finished import FinishedCell

DOMAINS = {"voices.valid": Role.VALID, "voices.test": Role.TEST, "other": Role.UNSEEN}
VARIANTS = {"tasnet": 8.0, "tasnet_tasks": 6.0, "tasnet_deterministic": 7.0}  # dB
MIXTURES, SEEDS = 50, 2
BIAS = {"voices.valid": 0.0, "voices.test": 0.0, "other": 3.0}  # dB, of predictions


def calibration() -> Calibration:
    """Of one score; its intervals for 80 % are 1 dB to either side."""
    draw = torch.Generator().manual_seed(0)
    own = Calibration.fit(torch.randn(20, 1, generator=draw), torch.randn(20, generator=draw))
    residuals = torch.linspace(0.1, 1.3, 10).double()
    residuals[8] = 1.0
    return Calibration(**{**vars(own), "residuals": residuals})


def finished(variant: str, seed: int) -> FinishedCell:
    kept = dict(calibration().tensors())
    for number, (domain, bias) in enumerate(BIAS.items()):
        draw = np.random.default_rng((seed, number, len(variant)))
        achieved = VARIANTS[variant] + 2 * draw.normal(size=MIXTURES)
        predicted = achieved + bias + 0.5 * draw.normal(size=MIXTURES)
        unlike = (np.arange(MIXTURES) < 5) & (domain == "other")
        values = {"achieved_si_sdr": achieved, "predicted_si_sdr": predicted, "unlike": unlike}
        values |= {"si_sdri.mode": 2 * achieved, "audible": np.full(MIXTURES, 2.0)}
        if variant == "tasnet_tasks":
            values["mixture_elbo"] = -achieved + 4 * draw.normal(size=MIXTURES)
        kept |= {f"rows/{domain}/{name}": torch.tensor(value).float() for name, value in values.items()}
    config = {"evaluation": {"samples": 4, "trust": 0.8}}
    data = dict.fromkeys(DOMAINS, "f")
    return FinishedCell(f"{variant}-{seed}", "emd", config, 1, {}, None, (), (1,), {}, {}, kept, domains=data)


def made_up() -> tuple[Runs, list[FinishedCell]]:
    cells = [finished(variant, seed) for variant in VARIANTS for seed in range(SEEDS)]
    return of_variants(VARIANTS, SEEDS, DOMAINS, MIXTURES), cells


@pytest.fixture(scope="module")
def scores() -> Scores:
    return evidence(*made_up())


def test_what_was_planted_is_in_the_table(scores: Scores) -> None:
    table = uncertainty_table(made_up()[0], scores).set_index(["model", "score", "domain"])
    seen, unseen = (table.loc[("tasnet", SI_SDR, domain)] for domain in ("voices.test", "other"))
    planted = 2 / np.sqrt(2**2 + 0.5**2)
    assert seen["correlation_low"] < planted < seen["correlation_high"]
    assert seen["coverage_low"] < 2 * norm.cdf(1 / 0.5) - 1 < seen["coverage_high"]
    assert unseen["coverage_high"] < 0.3
    assert unseen["bias"] == pytest.approx(3.0, abs=0.3)
    assert unseen["unlike"] == pytest.approx(0.1)
    assert (seen["width"], seen["n"], seen["seeds"]) == (pytest.approx(2.0), MIXTURES, SEEDS)
    assert "voices.valid" not in table.index.get_level_values("domain")
    elbo = table.loc[("tasnet_tasks", ELBO, "voices.test")]
    assert elbo["correlation_high"] < 0
    assert np.isnan(elbo["coverage"])
    assert ("tasnet", ELBO, "other") not in table.index


def test_a_cell_that_kept_nothing_says_nothing() -> None:
    runs, cells = made_up()
    bare = [FinishedCell(**{**vars(cell), "kept": {}}) for cell in cells]
    assert evidence(runs, bare) == {}
    assert level_of(bare) == 0
    assert level_of(cells) == 0.8


def test_correlations_are_those_of_numpy() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(2, 4, 30))
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(pearson(one, other), expected)
    assert pearson(np.ones(9), draw.normal(size=9)) == 0


@pytest.mark.parametrize(("share", "count"), [(0.0, 9), (0.8, 40), (1.0, 64)])
def test_wilsons_ends_are_where_the_score_test_just_rejects(share: float, count: int) -> None:
    z = norm.ppf(0.975)

    def statistic(true: float) -> float:
        return (share - true) ** 2 - z**2 * true * (1 - true) / count

    low, high = wilson(share, count)
    for end, outer in ((low, 0.0), (high, 1.0)):
        if end not in (0.0, 1.0):
            inner = brentq(statistic, min(outer, share), max(outer, share)) if 0 < share < 1 else end
            assert end == pytest.approx(inner, abs=1e-6)
            assert statistic(end) == pytest.approx(0, abs=1e-9)


def of(draw: np.random.Generator, count: int, data: str = "same", like: float = 0.6) -> Judged:
    common = draw.normal(size=count)
    own = like * common + np.sqrt(1 - like**2) * draw.normal(size=count)
    return Judged(common, own, np.zeros(count, bool), 1.0, data)


def test_a_correlations_interval_holds_the_truth_as_often_as_it_says() -> None:
    draw, held = np.random.default_rng(1), []
    for _ in range(150):
        found = Evidence({str(seed): of(draw, 60, str(seed)) for seed in range(2)}).correlation
        held.append(found.low < 0.6 < found.high)
    assert 0.88 <= np.mean(held) <= 0.99


def test_seeds_that_share_mixtures_count_them_once() -> None:
    draw = np.random.default_rng(2)
    own = of(draw, 60)
    shared, separate = Evidence({"0": own, "1": own}), Evidence({str(s): of(draw, 60, str(s)) for s in range(2)})
    assert (shared.mixtures, separate.mixtures) == (60, 120)
    alone = Evidence({"0": own}).correlation
    assert (shared.correlation.low, shared.correlation.high) == (alone.low, alone.high)
    widths = [found.correlation.high - found.correlation.low for found in (shared, separate)]
    assert widths[1] < widths[0]
    assert shared.coverage.low <= wilson(shared.coverage.mean, 60)[0]


def test_coverage_of_what_is_like_validation_leaves_the_rest_out() -> None:
    score, achieved = np.zeros(4), np.array([0.0, 0.5, 5.0, 6.0])
    own = Judged(score, achieved, np.array([False, False, True, True]), 1.0, "f")
    found = Evidence({"0": own})
    assert found.coverage.mean == 0.5
    assert found.coverage_of_like == 1.0
    assert np.isnan(Evidence({"0": Judged(score, achieved, np.ones(4, bool), 1.0, "f")}).coverage_of_like)


def test_the_figure_shows_the_best_of_each_kind(scores: Scores, tmp_path: Path) -> None:
    shown = ["voices.test", "other"]
    chosen = rows(scores, {"tasnet", "tasnet_tasks"}, "voices.valid", shown)
    assert [(row.model, row.score) for row in chosen] == [
        ("tasnet", SI_SDR),
        ("tasnet_deterministic", SI_SDR),
        ("tasnet_tasks", ELBO),
    ]
    draw_uncertainty(chosen, shown, 0.8, "toy", tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
