"""How well separators know their quality: predicted against achieved, mixture by mixture (thesis, Figure 3).

A score is either the SI-SDR that was predicted, judged by the one achieved, or the mixture's ELBO, judged by the SI-SDR
improvement as in the thesis; both in the values that cells keep of every mixture. Correlations are Pearson's, the mean
over seeds of each seed's own, with a bootstrap interval over mixtures: seeds that share their mixtures share the draws.
Coverage has the wider of Wilson's interval over mixtures and, where seeds share mixtures, the crossed one over both.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import ndtri

from vaesweep.analysis.intervals import LEVEL, Interval, crossed_interval
from vaesweep.analysis.runs import Runs
from vaesweep.data.domains import Role
from vaesweep.families.emd.analysis.generalisation import models, per_mixture
from vaesweep.families.emd.trust.calibration import ACHIEVED, PREDICTED, UNLIKE, Calibration
from vaesweep.training.evaluate import ROWS
from vaesweep.training.finished import FinishedCell

SI_SDR, ELBO = "predicted_si_sdr", "mixture_elbo"  # the scores
RESAMPLES = 1000
COLUMNS = ("model", "score", "domain", "role", "n", "seeds", "correlation", "correlation_low", "correlation_high")
COVERAGE = ("coverage", "coverage_low", "coverage_high", "coverage_of_like", "unlike", "bias", "error", "width")


@dataclass(frozen=True)
class Judged:
    """One score of one cell on one domain: `score`, `achieved` and `unlike` `[mixture]`, and what the data were.

    `half_width`, dB, is that of the cell's intervals; NaN, and no mixture `unlike`, where the score is no prediction.
    """

    score: np.ndarray
    achieved: np.ndarray
    unlike: np.ndarray
    half_width: float
    data: str

    @property
    def within(self) -> np.ndarray:
        """Whether what was achieved lies in the interval, `[mixture]`."""
        return np.abs(self.score - self.achieved) <= self.half_width


@dataclass(frozen=True)
class Evidence:
    """One score of one model on one domain, by seed."""

    by_seed: Mapping[str, Judged] = field(default_factory=dict)

    @property
    def shared(self) -> bool:
        """Whether all seeds were judged on the same mixtures."""
        return len({(own.data, len(own.score)) for own in self.by_seed.values()}) == 1

    @property
    def mixtures(self) -> int:
        """Mixtures, each counted once."""
        sizes = [len(own.score) for own in self.by_seed.values()]
        return max(sizes) if self.shared else sum(sizes)

    @property
    def correlation(self) -> Interval:
        """Of score and achieved, the mean over seeds."""
        draw = np.random.default_rng(0)
        seeds = list(self.by_seed.values())
        mean = float(np.mean([pearson(own.score, own.achieved) for own in seeds]))
        picks = [draw.integers(len(own.score), size=(RESAMPLES, len(own.score))) for own in seeds]
        if self.shared:
            picks = picks[:1] * len(seeds)
        resampled = np.mean(
            [pearson(own.score[pick], own.achieved[pick]) for own, pick in zip(seeds, picks, strict=True)], axis=0
        )
        low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(mean, float(low), float(high), len(seeds))

    @property
    def coverage(self) -> Interval:
        """The share of mixtures within their intervals."""
        within = [own.within for own in self.by_seed.values()]
        share = float(np.mean([own.mean() for own in within]))
        low, high = wilson(share, self.mixtures)
        if self.shared and len(within) > 1 and self.mixtures > 1:
            crossed = crossed_interval(np.stack(within).astype(float))
            low, high = max(min(low, crossed.low), 0.0), min(max(high, crossed.high), 1.0)
        return Interval(share, low, high, len(within))

    @property
    def coverage_of_like(self) -> float:
        """The share within their intervals of the mixtures that are not `unlike`; NaN without one."""
        like = [own.within[~own.unlike] for own in self.by_seed.values()]
        values = np.concatenate(like)
        return float(values.mean()) if len(values) else float("nan")

    def mean(self, quantity: str) -> float:
        """The mean over seeds and mixtures of a quantity of `Judged`."""
        return float(np.mean([np.mean(getattr(own, quantity)) for own in self.by_seed.values()]))


Scores = dict[str, dict[str, dict[str, Evidence]]]  # by model, score and domain


def pearson(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's correlation over the last axis; 0 where one of the two does not vary."""
    one, other = (values - values.mean(-1, keepdims=True) for values in (one, other))
    size = np.sqrt((one**2).sum(-1) * (other**2).sum(-1))
    return np.where(size > 1e-12, (one * other).sum(-1) / np.maximum(size, 1e-12), 0.0)


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's interval of a share of `count`."""
    z = float(ndtri((1 + LEVEL) / 2))
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(float(centre - half), 0.0), min(float(centre + half), 1.0)


def of_cell(cell: FinishedCell) -> Iterator[tuple[str, str, Judged]]:
    """Score, domain and what is known of its mixtures; nothing of a cell that kept neither score."""
    calibration = Calibration.of(cell.kept)
    half_width = calibration.half_width(_level(cell)) if calibration else float("nan")
    improvement = per_mixture(cell)
    for domain, better in improvement.items():
        data = cell.domains.get(domain) or cell.cell
        kept = {
            name: cell.kept[place].double().numpy()
            for name in (PREDICTED, ACHIEVED, UNLIKE, ELBO)
            if (place := f"{ROWS}/{domain}/{name}") in cell.kept
        }
        if calibration and {PREDICTED, ACHIEVED, UNLIKE} <= set(kept):
            heard = ~np.isnan(kept[ACHIEVED])
            score, achieved, unlike = (kept[name][heard] for name in (PREDICTED, ACHIEVED, UNLIKE))
            if len(score):
                yield SI_SDR, domain, Judged(score, achieved, unlike > 0, half_width, data)
        if ELBO in kept:
            yield ELBO, domain, Judged(kept[ELBO], better, np.zeros(len(better), bool), float("nan"), data)


def level_of(cells: Iterable[FinishedCell]) -> float:
    """The share that the intervals of `cells` are to hold, the first one's where they differ; 0 without one."""
    levels = (_level(cell) for cell in cells if Calibration.of(cell.kept))
    return next(levels, 0.0)


def _level(cell: FinishedCell) -> float:
    return float(cell.config.get("evaluation", {}).get("trust", 0.0))


def evidence(runs: Runs, cells: Iterable[FinishedCell]) -> Scores:
    """All scores of a sweep's cells by model, score and domain. Cells are read one by one."""
    places = models(runs)
    found: dict[str, dict[str, dict[str, dict[str, Judged]]]] = {}
    for cell in cells:
        if cell.cell in places:
            model, seed = places[cell.cell]
            for score, domain, own in of_cell(cell):
                found.setdefault(model, {}).setdefault(score, {}).setdefault(domain, {})[seed] = own
    return {
        model: {
            score: {domain: Evidence(seeds) for domain, seeds in by_domain.items()}
            for score, by_domain in by_score.items()
        }
        for model, by_score in found.items()
    }


def uncertainty_table(runs: Runs, scores: Scores) -> pd.DataFrame:
    """A row a model, score and domain, the validation domain left out: what it is calibrated on is no evidence."""
    roles = {domain.name: domain.role for domain in runs.record.domains}
    rows = [
        _row(model, score, domain, role, by_domain[domain])
        for model, by_score in scores.items()
        for score, by_domain in by_score.items()
        for domain, role in roles.items()
        if domain in by_domain and role is not Role.VALID
    ]
    return pd.DataFrame(rows, columns=[*COLUMNS, *COVERAGE])


def _row(model: str, score: str, domain: str, role: Role, own: Evidence) -> dict[str, object]:
    correlation = own.correlation
    values = (model, score, domain, str(role), own.mixtures, len(own.by_seed))
    row: dict[str, object] = dict(
        zip(COLUMNS, (*values, correlation.mean, correlation.low, correlation.high), strict=True)
    )
    if score == SI_SDR:
        coverage = own.coverage
        errors = [seed.score - seed.achieved for seed in own.by_seed.values()]
        numbers = (
            *(coverage.mean, coverage.low, coverage.high, own.coverage_of_like, own.mean("unlike")),
            float(np.mean([error.mean() for error in errors])),
            float(np.mean([np.abs(error).mean() for error in errors])),
            2 * own.mean("half_width"),
        )
        row |= dict(zip(COVERAGE, numbers, strict=True))
    return row
