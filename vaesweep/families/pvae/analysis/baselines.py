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
    acquired,
    rule_maker,
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
        """What tables call it."""
        return mixture_name(self.components)


def mixture_name(components: int) -> str:
    """What tables call mixtures of so many Gaussians."""
    return "Gaussian" if components == 1 else f"Gaussian mixture of {components}"


def fit(x: np.ndarray, components: int) -> MixturePredictor:
    """Mixtures of so many Gaussians, from every start that may lead elsewhere, of complete data `x` `[row, dim]`."""
    return fit_mixtures(x, components, FITS if components > 1 else FITS[:1])


def measure(data: DataSet, config: AcquisitionConfig, components: Sequence[int] = COMPONENTS) -> list[Baseline]:
    """Baselines that acquire as `config` tells: by largest variance on validation, test and unseen data.

    So by the expected reduction where the cells have that rule. By every other rule, on test and unseen data, only the
    first and the one that validation chooses: a random order leaves no two data with the same observed set, and takes
    longer than all else. The expected information is among the rules where the cells have it.
    """
    domains = [domain for domain in data.domains if domain.role is not Role.TRAIN]
    x = [Population(domain.name, torch.as_tensor(domain.arrays["x"]).float(), domain.role) for domain in domains]
    populations = acquired(x, config.rows)
    train = data.domain(Role.TRAIN).arrays["x"]
    fits = {count: _Fit(fit(train, count), populations) for count in components}
    adaptive = tuple(rule for rule in ADAPTIVE if rule == STOPPING_RULE or rule in config.rules)
    found = {count: one.judge(adaptive, config) for count, one in fits.items()}
    best = chosen(list(found.values()), populations[0].name)
    others: tuple[RuleName, ...] = ("random", "single_best", "information")
    others = others if "information" in config.rules else others[:-1]
    for count in {components[0], best.components}:
        found[count] = _joined(found[count], fits[count].judge(others, config))
    return list(found.values())


def chosen(baselines: Sequence[Baseline], valid: str, rule: RuleName = STOPPING_RULE) -> Baseline:
    """The one with the lowest mean area by `rule` on the validation domain called `valid`."""
    return min(baselines, key=lambda baseline: float(baseline.metrics[valid, f"area_rmse.{rule}"].mean()))


class _Fit:
    """A stack of fits and what they acquire: the validation domain first."""

    def __init__(self, predictor: MixturePredictor, populations: Sequence[Population]) -> None:
        self._predictor = predictor
        self._valid, *self._others = populations

    def judge(self, rules: Sequence[RuleName], config: AcquisitionConfig) -> Baseline:
        """Acquire by `rules`; on validation data by the adaptive ones only, which models are chosen by."""
        found = Baseline(self._predictor.components, {}, {}, {})
        plans = {rule: rule_maker(rule, self._predictor, self._valid) for rule in rules}
        criteria: Criteria | None = None
        for population in (self._valid, *self._others):
            for rule, plan in plans.items():
                if population is self._valid and rule not in ADAPTIVE:
                    continue
                trace = acquire(self._predictor, population.x, AGE, plan(population.x))
                _note(found, population.name, rule, trace)
                if rule == STOPPING_RULE:
                    criteria = criteria or Criteria.fit(trace, config)
                    _note_stops(found, population.name, criteria.judge(trace, config.threshold))
        return found


def _note(found: Baseline, domain: str, rule: str, trace: Trace) -> None:
    for name in ("rmse", "unexplained"):
        found.metrics[domain, f"area_{name}.{rule}"] = area(getattr(trace, name)).mean(-1).numpy()
    found.curves[domain, rule] = trace.rmse.mean(1).numpy()
    found.areas[domain, rule] = area(trace.rmse).mean(0).numpy()


def _note_stops(found: Baseline, domain: str, stops: dict[str, torch.Tensor]) -> None:
    for name, value in stops.items():
        if name.partition(".")[0] in STOPS:
            found.metrics[domain, name] = value.numpy()


def _joined(one: Baseline, other: Baseline) -> Baseline:
    return Baseline(one.components, one.metrics | other.metrics, one.curves | other.curves, one.areas | other.areas)
