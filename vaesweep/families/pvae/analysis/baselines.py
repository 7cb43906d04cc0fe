"""The classical baselines of a sweep: Gaussian mixtures that acquire the very data its cells acquired, and stop.

A mixture is fitted to the complete data of the training domain, of which a partial VAE sees a part only; it is judged
by the cells' rules, on the cells' rows, with the cells' random orders and by the same stopping criteria. Where cells
trained on mirrored ears, mixtures are fitted to these too. Fits from several starts stand for the seeds, and where the
cells were trained on several splits of the data, so are the mixtures. `area_nll` is left out: a mixture has no noise on
what it observed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vaesweep.data.domains import DataSet, Domain, Role
from vaesweep.families.pvae.data.audiograms import CLEAN
from vaesweep.families.pvae.evaluation import (
    ADAPTIVE,
    AGE,
    STOPPING_RULE,
    AcquisitionConfig,
    Criteria,
    Population,
    RuleName,
    by_ending,
    rule_maker,
    select_populations,
)
from vaesweep.families.pvae.family import MIRROR
from vaesweep.families.pvae.tasks.acquisition import Trace, acquire, area
from vaesweep.families.pvae.tasks.mixture import MixturePredictor, fit_mixtures

COMPONENTS = (1, 5, 10, 20)
MIRRORED_COMPONENTS = (5, 10, 20, 30)
FITS = (0, 1, 2)  # starts of a mixture's fit; a single Gaussian has one maximum
STOPS = ("stop_offset", "stop_index", "stop_rmse")

Place = tuple[str, str]  # domain, rule
Kind = tuple[int, bool]  # components, and whether it is fitted to mirrored ears


@dataclass(frozen=True)
class Baseline:
    """Mixtures of `components` Gaussians, one of every fit and split, fitted to mirrored ears too where `mirrored`.

    `metrics` has `[fit]` by domain and metric, named as a cell's. `curves` `[fit, M + 1]` is the mean RMSE of the data
    of a domain under a rule, dB, against the data before noise if they are known. `areas` by split `[fit, row]` is the
    area of every datum, measurement·dB.
    """

    components: int
    metrics: dict[Place, np.ndarray]
    curves: dict[Place, np.ndarray]
    areas: dict[Place, dict[str, np.ndarray]]
    mirrored: bool = False

    @property
    def name(self) -> str:
        """The name in tables."""
        return mixture_name(self.components, mirrored=self.mirrored)

    @property
    def kind(self) -> Kind:
        """What distinguishes it from other baselines."""
        return self.components, self.mirrored


def mixture_name(components: int, *, mirrored: bool = False) -> str:
    """The name in tables of mixtures of `components` Gaussians."""
    name = "Gaussian" if components == 1 else f"Gaussian mixture of {components}"
    return f"{name}, mirrored ears" if mirrored else name


def fit(x: np.ndarray, components: int, *, mirrored: bool = False) -> MixturePredictor:
    """Fit mixtures of `components` Gaussians to complete data `x` `[row, dim]`, from one start if one Gaussian.

    With `mirrored` to the data and once more to the data with their ears swapped, as cells see them.
    """
    seen = np.concatenate([x, x[:, MIRROR]]) if mirrored else x
    return fit_mixtures(seen, components, FITS if components > 1 else FITS[:1])


def kinds(*, mirrored: bool) -> list[Kind]:
    """The baselines of cells that have trained on mirrored ears, or have not."""
    return [(count, False) for count in COMPONENTS] + [(count, True) for count in MIRRORED_COMPONENTS if mirrored]


def measure(
    data: Mapping[str, DataSet], config: AcquisitionConfig, measured: Sequence[Kind] | None = None
) -> list[Baseline]:
    """Baselines that acquire by the settings `config`: by largest variance on validation, test and unseen data.

    Likewise by the expected reduction where the cells have that rule. By the other rules, on test and unseen data, only
    the first baseline acquires and the one that validation chooses: a random order leaves no two data with the same
    observed set, and takes longer than all else. The expected information is among the rules where the cells have it.
    `data` are those of every split.
    """
    measured = kinds(mirrored=False) if measured is None else measured
    populations = {split: _populations(one, config.rows) for split, one in data.items()}
    fits = {
        kind: [
            _Fit(split, kind, fit(one.domain(Role.TRAIN).arrays["x"], kind[0], mirrored=kind[1]), populations[split])
            for split, one in data.items()
        ]
        for kind in measured
    }
    adaptive = tuple(rule for rule in ADAPTIVE if rule == STOPPING_RULE or rule in config.rules)
    baselines = {kind: _all_splits([one.judge(adaptive, config) for one in fitted]) for kind, fitted in fits.items()}
    valid = next(iter(populations.values()))[0].name
    best = best_baseline(list(baselines.values()), valid)
    other_rules: tuple[RuleName, ...] = ("random", "single_best", "information")
    other_rules = other_rules if "information" in config.rules else other_rules[:-1]
    for kind in {measured[0], best.kind}:
        others = _all_splits([one.judge(other_rules, config) for one in fits[kind]])
        baselines[kind] = _joined(baselines[kind], others)
    return list(baselines.values())


def _populations(data: DataSet, rows: int) -> list[Population]:
    """What is acquired, the validation domain first."""
    return select_populations([_population(domain) for domain in data.domains if domain.role is not Role.TRAIN], rows)


def _population(domain: Domain) -> Population:
    arrays = {name: torch.as_tensor(array).float() for name, array in domain.arrays.items()}
    return Population(domain.name, arrays["x"], domain.role, arrays.get(CLEAN))


def best_baseline(baselines: Sequence[Baseline], valid: str, rule: RuleName = STOPPING_RULE) -> Baseline:
    """The baseline with the lowest mean area by `rule` on the validation domain called `valid`."""
    return min(baselines, key=lambda baseline: float(baseline.metrics[valid, f"area_rmse.{rule}"].mean()))


class _Fit:
    """A stack of fits on one split and the populations that they acquire, the validation domain first."""

    def __init__(self, split: str, kind: Kind, predictor: MixturePredictor, populations: Sequence[Population]) -> None:
        self._split, self._kind, self._predictor = split, kind, predictor
        self._valid, *self._other_populations = populations

    def judge(self, rules: Sequence[RuleName], config: AcquisitionConfig) -> Baseline:
        """Acquire by `rules`; on validation data by the adaptive ones only, which models are chosen by."""
        components, mirrored = self._kind
        baseline = Baseline(components, {}, {}, {}, mirrored)
        plans = {rule: rule_maker(rule, self._predictor, self._valid) for rule in rules}
        criteria: dict[str, Criteria] = {}
        for population in (self._valid, *self._other_populations):
            for rule, plan in plans.items():
                if population is self._valid and rule not in ADAPTIVE:
                    continue
                trace = acquire(self._predictor, population.x, AGE, plan(population.x), population.clean)
                self._add_areas(baseline, population.name, rule, trace)
                if rule == STOPPING_RULE:
                    for ending, errors in by_ending(trace).items():
                        criteria.setdefault(ending, Criteria.fit(errors, config))
                        _add_stops(baseline, population.name, criteria[ending].judge(errors, config.threshold), ending)
        return baseline

    def _add_areas(self, baseline: Baseline, domain: str, rule: str, trace: Trace) -> None:
        baseline.metrics[domain, f"area_unexplained.{rule}"] = area(trace.unexplained).mean(-1).numpy()
        for ending, errors in by_ending(trace).items():
            baseline.metrics[domain, f"area_rmse{ending}.{rule}"] = area(errors.rmse).mean(-1).numpy()
        rmse = trace.rmse if trace.clean_rmse is None else trace.clean_rmse
        baseline.curves[domain, rule] = rmse.mean(1).numpy()
        baseline.areas[domain, rule] = {self._split: area(trace.rmse).numpy()}


def _add_stops(baseline: Baseline, domain: str, stops: Mapping[str, torch.Tensor], ending: str) -> None:
    for name, value in stops.items():
        metric, _, by = name.partition(".")
        if metric in STOPS:
            baseline.metrics[domain, f"{metric}{ending}.{by}"] = value.numpy()


def _all_splits(parts: Sequence[Baseline]) -> Baseline:
    """The fits on every split as one baseline."""
    first = parts[0]
    return Baseline(
        first.components,
        {place: np.concatenate([part.metrics[place] for part in parts]) for place in first.metrics},
        {place: np.concatenate([part.curves[place] for part in parts]) for place in first.curves},
        {place: {k: v for part in parts for k, v in part.areas[place].items()} for place in first.areas},
        first.mirrored,
    )


def _joined(baseline: Baseline, addition: Baseline) -> Baseline:
    return Baseline(
        baseline.components,
        baseline.metrics | addition.metrics,
        baseline.curves | addition.curves,
        baseline.areas | addition.areas,
        baseline.mirrored,
    )
