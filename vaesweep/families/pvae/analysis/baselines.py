"""The classical baselines of a sweep: Gaussian mixtures that acquire the very data its cells acquired, and stop.

A mixture is fitted to the complete data of the training domain, of which a partial VAE sees a part only; it is judged
by the cells' rules, on the cells' rows, with the cells' random orders and by the same stopping criteria. Fits from
several starts stand for the seeds. `area_nll` is left out: a mixture has no noise on what it observed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vaesweep.data.domains import DataSet, Role
from vaesweep.families.pvae.evaluation import (
    ADAPTIVE,
    AGE,
    STOPPING_RULE,
    AcquisitionConfig,
    Criteria,
    Population,
    RuleName,
    rule_maker,
    select_populations,
)
from vaesweep.families.pvae.tasks.acquisition import Trace, acquire, area
from vaesweep.families.pvae.tasks.mixture import MixturePredictor, fit_mixtures

COMPONENTS = (1, 5, 10, 20)
FITS = (0, 1, 2)  # starts of a mixture's fit; a single Gaussian has one maximum
STOPS = ("stop_offset", "stop_index", "stop_rmse")

Place = tuple[str, str]  # domain, rule


@dataclass(frozen=True)
class Baseline:
    """Mixtures of `components` Gaussians, one of every fit.

    `metrics` has `[fit]` by domain and metric, named as a cell's; `curves` `[fit, M + 1]` the mean RMSE of a domain's
    data under a rule, dB; `areas` `[row]` every datum's area, the mean over fits, measurement·dB.
    """

    components: int
    metrics: dict[Place, np.ndarray]
    curves: dict[Place, np.ndarray]
    areas: dict[Place, np.ndarray]

    @property
    def name(self) -> str:
        """The name in tables."""
        return mixture_name(self.components)


def mixture_name(components: int) -> str:
    """The name in tables of mixtures of `components` Gaussians."""
    return "Gaussian" if components == 1 else f"Gaussian mixture of {components}"


def fit(x: np.ndarray, components: int) -> MixturePredictor:
    """Fit mixtures of `components` Gaussians to complete data `x` `[row, dim]`, from one start if one Gaussian."""
    return fit_mixtures(x, components, FITS if components > 1 else FITS[:1])


def measure(data: DataSet, config: AcquisitionConfig, components: Sequence[int] = COMPONENTS) -> list[Baseline]:
    """Baselines that acquire by the settings `config`: by largest variance on validation, test and unseen data.

    Likewise by the expected reduction where the cells have that rule. By the other rules, on test and unseen data, only
    the first baseline acquires and the one that validation chooses: a random order leaves no two data with the same
    observed set, and takes longer than all else. The expected information is among the rules where the cells have it.
    """
    domains = [domain for domain in data.domains if domain.role is not Role.TRAIN]
    x = [Population(domain.name, torch.as_tensor(domain.arrays["x"]).float(), domain.role) for domain in domains]
    populations = select_populations(x, config.rows)
    train = data.domain(Role.TRAIN).arrays["x"]
    fits = {count: _Fit(fit(train, count), populations) for count in components}
    adaptive = tuple(rule for rule in ADAPTIVE if rule == STOPPING_RULE or rule in config.rules)
    baselines = {count: fitted.judge(adaptive, config) for count, fitted in fits.items()}
    best = best_baseline(list(baselines.values()), populations[0].name)
    other_rules: tuple[RuleName, ...] = ("random", "single_best", "information")
    other_rules = other_rules if "information" in config.rules else other_rules[:-1]
    for count in {components[0], best.components}:
        baselines[count] = _joined(baselines[count], fits[count].judge(other_rules, config))
    return list(baselines.values())


def best_baseline(baselines: Sequence[Baseline], valid: str, rule: RuleName = STOPPING_RULE) -> Baseline:
    """The baseline with the lowest mean area by `rule` on the validation domain called `valid`."""
    return min(baselines, key=lambda baseline: float(baseline.metrics[valid, f"area_rmse.{rule}"].mean()))


class _Fit:
    """A stack of fits and the populations that they acquire, the validation domain first."""

    def __init__(self, predictor: MixturePredictor, populations: Sequence[Population]) -> None:
        self._predictor = predictor
        self._valid, *self._other_populations = populations

    def judge(self, rules: Sequence[RuleName], config: AcquisitionConfig) -> Baseline:
        """Acquire by `rules`; on validation data by the adaptive ones only, which models are chosen by."""
        baseline = Baseline(self._predictor.components, {}, {}, {})
        plans = {rule: rule_maker(rule, self._predictor, self._valid) for rule in rules}
        criteria: Criteria | None = None
        for population in (self._valid, *self._other_populations):
            for rule, plan in plans.items():
                if population is self._valid and rule not in ADAPTIVE:
                    continue
                trace = acquire(self._predictor, population.x, AGE, plan(population.x))
                _add_areas(baseline, population.name, rule, trace)
                if rule == STOPPING_RULE:
                    criteria = criteria or Criteria.fit(trace, config)
                    _add_stops(baseline, population.name, criteria.judge(trace, config.threshold))
        return baseline


def _add_areas(baseline: Baseline, domain: str, rule: str, trace: Trace) -> None:
    for name in ("rmse", "unexplained"):
        baseline.metrics[domain, f"area_{name}.{rule}"] = area(getattr(trace, name)).mean(-1).numpy()
    baseline.curves[domain, rule] = trace.rmse.mean(1).numpy()
    baseline.areas[domain, rule] = area(trace.rmse).mean(0).numpy()


def _add_stops(baseline: Baseline, domain: str, stops: dict[str, torch.Tensor]) -> None:
    for name, value in stops.items():
        if name.partition(".")[0] in STOPS:
            baseline.metrics[domain, name] = value.numpy()


def _joined(baseline: Baseline, addition: Baseline) -> Baseline:
    return Baseline(
        baseline.components,
        baseline.metrics | addition.metrics,
        baseline.curves | addition.curves,
        baseline.areas | addition.areas,
    )
