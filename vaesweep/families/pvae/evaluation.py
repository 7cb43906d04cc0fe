"""Evaluate a trained pack of partial VAEs in use, as the thesis does: acquire audiograms, and stop.

Every cell acquires the data of every domain by its own predictions (thesis study A, section 3.2), under each of the
rules asked for; a stopping criterion is fitted on the validation domain (section 3.3) and judged on all. The results
are metrics of the cell, so that each has its own optimum on the rate axis, and tensors that stay with its
weights: information curves, the area of every datum, the greedy order, the stopping criterion, its calibration.

Errors are against what was measured. Where a domain has its audiograms before noise too, as synthetic ones have, they
are also against these, which is the thesis' error there: metrics whose name ends in `_clean`. Rules and criteria that
begin with `unweighted` are by samples without importance weights, the thesis' method.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from vaesweep.data.domains import Role
from vaesweep.distributions import Gaussian, TriangularGaussian
from vaesweep.families.pvae.data.audiograms import THRESHOLDS
from vaesweep.families.pvae.models.partial import PartialVae
from vaesweep.families.pvae.tasks.acquisition import (
    ExpectedInformation,
    ExpectedReduction,
    FixedOrder,
    LargestVariance,
    RandomOrder,
    Rule,
    Trace,
    acquire,
    area,
    single_best_order,
)
from vaesweep.families.pvae.tasks.calibration import CALIBRATION, calibrate
from vaesweep.families.pvae.tasks.latent import LatentModels, LatentPredictor, Posterior, normal_points
from vaesweep.families.pvae.tasks.predictive import Predictor, RandomNumbers
from vaesweep.families.pvae.tasks.stopping import (
    StopOutcome,
    StoppingModel,
    StopResult,
    constant_index,
    first_below,
    shifted_threshold,
)
from vaesweep.packing import Frozen
from vaesweep.training.problem import Uses
from vaesweep.training.stack import Stack

AGE = (THRESHOLDS,)  # the dimensions that are known from the start: thesis line 691
TRACED = 1 << 24  # entries of a trace's largest tensor: cells are evaluated so many at a time
ORDER_ROWS = 256  # validation data that the greedy order is searched on
FANTASIES = 8  # draws a datum for the expected information

RuleName = Literal[
    "variance",
    "reduction",
    "unweighted",
    "random",
    "single_best",
    "information",
    "unweighted_random",
    "unweighted_single_best",
]
RuleMaker = Callable[[Tensor], Rule]
STOPPING_RULE: RuleName = "variance"
# Rules that need the prediction alone; models are chosen, compared and used by them.
ADAPTIVE: Mapping[RuleName, Rule] = {"variance": LargestVariance(), "reduction": ExpectedReduction()}
UNWEIGHTED: RuleName = "unweighted"  # largest variance by unweighted samples; other such rules begin with it
SHIFTED = "shifted"
RANDOM = 0  # seed of random orders and of imagined values
CURVES = ("rmse", "nll", "unexplained")
CLEAN = "_clean"  # ends the names of errors against the audiograms before noise


class AcquisitionConfig(Frozen):
    """Settings of acquiring audiograms with trained partial VAEs; without `rules` nothing is acquired."""

    rules: tuple[RuleName, ...] = Field((), description="what decides the next frequency, the stop by `variance`")
    samples: int = Field(100, ge=2, description="posterior samples of a prediction")
    weighted: bool = Field(True, description="importance-weighted; rules `unweighted…` are without")
    prior_samples: int = Field(0, ge=0, description="samples of the prior beside them, in weighted predictions")
    rows: int = Field(1024, ge=1, description="data of a domain that are acquired, evenly spread; all if fewer")
    threshold: float = Field(5.0, gt=0, description="RMSE in dB below which an estimate is good enough to stop")
    early_cost: float = Field(1.0, gt=0, description="cost of each measurement that was stopped too early by")
    late_cost: float = Field(1.0, gt=0, description="cost of each measurement too many")


@dataclass(frozen=True)
class Scale:
    """The training domain's `mean` and `std` `[dim]`, in dB and years."""

    mean: Tensor
    std: Tensor


def predictor(
    stack: Stack, latents: int, scale: Scale, *, samples: int, weighted: bool, prior_samples: int = 0
) -> LatentPredictor:
    """Predictions in dB and years by a stack of trained partial VAEs."""

    def posterior(x: Tensor, observed: Tensor) -> Posterior:
        parameters = stack.call(_posterior, x, observed)
        return Gaussian(*parameters) if len(parameters) == 2 else TriangularGaussian(*parameters)

    def observation(z: Tensor) -> Gaussian:
        return Gaussian(*stack.call(_observation, z))

    models = LatentModels(
        len(stack),
        latents,
        posterior,
        observation,
        partial(stack.call, _prior),
        _prior_samples(stack, latents, prior_samples, scale.mean) if weighted and prior_samples else None,
    )
    return LatentPredictor(models, scale.mean, scale.std, samples=samples, weighted=weighted)


def _prior_samples(stack: Stack, latents: int, count: int, like: Tensor) -> Tensor:
    """Samples of every cell's prior, `[cell, sample, latent]`, by random numbers that cells share."""
    points = normal_points(count, latents + 1, RANDOM + 1).to(like).expand(len(stack), -1, -1)
    return stack.call(_prior_sample, points[..., :-1], torch.special.ndtr(points[..., -1]))


def _prior_sample(model: PartialVae, noise: Tensor, uniform: Tensor) -> Tensor:
    return model.prior.sample(noise, uniform)


def _posterior(model: PartialVae, x: Tensor, observed: Tensor) -> tuple[Tensor, ...]:
    q = model.posterior(x, observed)
    return (q.mean, q.log_std, q.below) if isinstance(q, TriangularGaussian) else (q.mean, q.log_std)


def _observation(model: PartialVae, z: Tensor) -> tuple[Tensor, Tensor]:
    p = model.observation(z)
    return p.mean, p.log_std


def _prior(model: PartialVae, z: Tensor) -> Tensor:
    return model.prior.total(z)


@dataclass(frozen=True)
class Population:
    """Complete audiograms `x` `[row, dim]` of a domain, in dB and years, to be acquired; `clean` before noise."""

    name: str
    x: Tensor
    role: Role
    clean: Tensor | None = None

    def spread(self, rows: int) -> "Population":
        """The population reduced to at most `rows` of its data, evenly spread."""
        count = min(rows, len(self.x))
        places = torch.linspace(0, len(self.x) - 1, count).round().long()
        return Population(self.name, self.x[places], self.role, None if self.clean is None else self.clean[places])


def select_populations(populations: Sequence[Population], rows: int) -> list[Population]:
    """The data to acquire of each domain, the validation domain first: at most `rows` of each, evenly spread.

    Of the training domain, which is the largest and the least informative, no more than of the validation domain.
    """
    (valid,) = [population.spread(rows) for population in populations if population.role is Role.VALID]
    limits = {Role.TRAIN: len(valid.x)}
    others = [population for population in populations if population.role is not Role.VALID]
    return [valid, *(population.spread(limits.get(population.role, rows)) for population in others)]


class Acquirer:
    """Acquires `populations` with every cell of a pack; stopping criteria are fitted on the validation domain."""

    def __init__(
        self, config: AcquisitionConfig, latents: int, scale: Scale, populations: Sequence[Population]
    ) -> None:
        self._config, self._latents, self._scale = config, latents, scale
        self._populations = populations

    def use(self, stack: Stack, rows: int | None = None) -> Uses:
        """Metrics and kept tensors of every cell of `stack`; on at most `rows` data of a domain."""
        rows = min(rows or self._config.rows, self._config.rows)
        dims = len(self._scale.mean)
        cells_at_once = max(1, TRACED // (rows * dims * dims))
        groups = [stack.part(slice(start, start + cells_at_once)) for start in range(0, len(stack), cells_at_once)]
        uses = [self._use(group, rows) for group in groups]
        metrics, kept = (
            {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            for parts in ([use.metrics for use in uses], [use.kept for use in uses])
        )
        return Uses(metrics, kept)

    def _use(self, stack: Stack, rows: int) -> Uses:
        """Validation comes first: the greedy order and the stopping criteria are fitted there."""
        valid, *others = select_populations(self._populations, rows)
        plans = self._plans(stack, valid)
        traces = _traces(plans, valid, intervals=True)
        criteria_by_rule = {rule: Criteria.fit(traces[rule], self._config) for rule in ADAPTIVE if rule in traces}
        judges = self._judges(traces, criteria_by_rule)
        metrics: dict[str, Tensor] = {}
        kept = {
            stopping_name(rule, name): value
            for rule, rule_criteria in criteria_by_rule.items()
            for name, value in rule_criteria.to_tensors().items()
        }
        for rule, rule_criteria in criteria_by_rule.items():
            calibration = calibrate(valid.x, traces[rule], rule_criteria.uncertainty)
            kept |= {f"{CALIBRATION}/{rule}/{name}": value for name, value in calibration.to_tensors().items()}
        for population in [valid, *others]:
            if population is not valid:
                traces = _traces(plans, population)
            for rule, trace in traces.items():
                metrics |= {f"{population.name}/{name}.{rule}": value for name, value in _summary(trace).items()}
                kept |= {f"acquisition/{population.name}/{rule}/{name}": v for name, v in _curves(trace).items()}
            for judge in judges:
                stops = judge.judge(traces[judge.rule], self._config.threshold)
                metrics |= {f"{population.name}/{name}": value for name, value in stops.items()}
        return Uses(metrics, kept)

    def _judges(self, traces: Mapping[RuleName, Trace], criteria: "Mapping[RuleName, Criteria]") -> "list[_Judge]":
        """Criteria for sequences of largest variance, of the configured samples and of unweighted ones.

        Each is against what was measured and, where they are known, against the audiograms before noise.
        """
        judges = []
        for rule, prefix in ((STOPPING_RULE, ""), (UNWEIGHTED, f"{UNWEIGHTED}_")):
            if rule in traces:
                for ending, errors in by_ending(traces[rule]).items():
                    known = None if ending else criteria.get(rule)
                    judges.append(_Judge(rule, prefix, known or Criteria.fit(errors, self._config), ending))
        return judges

    def _plans(self, stack: Stack, valid: Population) -> "dict[RuleName, _Plan]":
        config = self._config
        configured, unweighted = (
            predictor(
                stack,
                self._latents,
                self._scale,
                samples=config.samples,
                weighted=weighted,
                prior_samples=config.prior_samples,
            )
            for weighted in (config.weighted, False)
        )
        predictors = {name: unweighted if name.startswith(UNWEIGHTED) else configured for name in config.rules}
        return {name: _Plan(model, rule_maker(name, model, valid)) for name, model in predictors.items()}


def rule_maker(name: RuleName, predictor: Predictor, valid: Population) -> RuleMaker:
    """A maker of the rule `name` for data `x` `[row, dim]`; the greedy order is searched on `valid`, here and once."""
    kind = name.removeprefix(f"{UNWEIGHTED}_")
    if kind == "single_best":
        rows = valid.spread(ORDER_ROWS)
        order = FixedOrder(single_best_order(predictor, rows.x, AGE, rows.clean))
        return lambda x: order
    if name in ADAPTIVE:
        return lambda x: ADAPTIVE[name]
    makers: dict[str, RuleMaker] = {
        "unweighted": lambda x: ADAPTIVE["variance"],
        "random": lambda x: RandomOrder.of(x, RANDOM),
        "information": lambda x: ExpectedInformation(RandomNumbers.of(x, FANTASIES, RANDOM)),
    }
    return makers[kind]


@dataclass(frozen=True)
class _Plan:
    """A rule's predictor, and the function that returns the rule for given data."""

    predictor: LatentPredictor
    rule: RuleMaker


def _traces(
    plans: "Mapping[RuleName, _Plan]", population: Population, *, intervals: bool = False
) -> dict[RuleName, Trace]:
    """Sequences by every rule; with `intervals` those that models are used by say which intervals have held."""
    x, clean = population.x, population.clean
    return {
        name: acquire(plan.predictor, x, AGE, plan.rule(x), clean, intervals=intervals and name in ADAPTIVE)
        for name, plan in plans.items()
    }


def _errors(trace: Trace) -> dict[str, Tensor]:
    """The errors of every state `[cell, row, M + 1]` by the name that metrics have of them."""
    errors = {name: getattr(trace, name) for name in CURVES}
    return errors if trace.clean_rmse is None else errors | {f"rmse{CLEAN}": trace.clean_rmse}


def _summary(trace: Trace) -> dict[str, Tensor]:
    """Means over data, `[cell]`."""
    means = {f"area_{name}": area(errors).mean(-1) for name, errors in _errors(trace).items()}
    return means | {"effective_samples": trace.effective_samples.mean((-2, -1))}


def _curves(trace: Trace) -> dict[str, Tensor]:
    """Information curves `[cell, M + 1]`, mean and standard deviation over data, and every datum's area and order."""
    curves = {"order": trace.order.to(torch.uint8)}
    for name, errors in _errors(trace).items():
        curves |= {name: errors.mean(1), f"{name}_std": errors.std(1), f"area_{name}": area(errors)}
    return curves


def stopping_name(rule: RuleName, name: str) -> str:
    """The name by which a tensor of the criterion that was fitted to sequences of `rule` is kept."""
    return f"stopping/{name}" if rule == STOPPING_RULE else f"stopping/{rule}/{name}"


def by_ending(trace: Trace) -> dict[str, Trace]:
    """The trace by the ending of names of its errors: as it is, and against the data before noise if they are known."""
    return {"": trace} if trace.clean_rmse is None else {"": trace, CLEAN: trace.against_clean}


@dataclass(frozen=True)
class _Judge:
    """Stopping criteria of sequences by a rule, whose names begin with `prefix`; `ending` as of `by_ending`."""

    rule: RuleName
    prefix: str
    criteria: "Criteria"
    ending: str

    def judge(self, trace: Trace, threshold: float) -> dict[str, Tensor]:
        """As `Criteria.judge`, by the names of these criteria and of this error.

        Shares of outcomes and the shifted threshold are of the criteria that models are used by only.
        """
        found = self.criteria.judge(by_ending(trace)[self.ending], threshold)
        if not self.prefix and not self.ending:
            return found
        metrics = {}
        for name, value in found.items():
            metric, _, by = name.partition(".")
            if metric != "stop_share" and by != SHIFTED:
                metrics[f"{metric}{self.ending}.{self.prefix}{by}"] = value
        return metrics


@dataclass(frozen=True)
class Criteria:
    """Stopping criteria fitted to validation data: thesis section 3.3, and its baselines."""

    uncertainty: StoppingModel
    measurements: StoppingModel
    constant: Tensor  # stopping index [cell]
    shifted: Tensor  # threshold on the estimated error [cell], dB, for the costs asked for

    @classmethod
    def fit(cls, valid: Trace, config: AcquisitionConfig) -> "Criteria":
        """Fit to the validation domain's trace."""
        model = StoppingModel.fit(valid)
        shifted = shifted_threshold(
            model.estimate(valid), valid.rmse, config.threshold, config.early_cost, config.late_cost
        )
        constant = constant_index(valid.rmse, config.threshold)
        return cls(model, StoppingModel.fit_measurements(valid), constant, shifted)

    def judge(self, trace: Trace, threshold: float) -> dict[str, Tensor]:
        """Offsets, indices, errors and outcomes of every criterion, means over data, `[cell]`."""
        estimate = self.uncertainty.estimate(trace)
        indices = {
            "uncertainty": first_below(estimate, threshold),
            "shifted": first_below(estimate, self.shifted),
            "measurements": first_below(self.measurements.estimate(trace), threshold),
            "constant": self.constant.unsqueeze(-1),
            "oracle": first_below(trace.rmse, threshold),
        }
        metrics: dict[str, Tensor] = {}
        for name, index in indices.items():
            stop = StopResult.of(trace.rmse, threshold, index)
            metrics |= {
                f"stop_offset.{name}": stop.mean_absolute_offset,
                f"stop_bias.{name}": stop.mean_offset,
                f"stop_index.{name}": stop.mean_estimated_index,
                f"stop_rmse.{name}": stop.mean_rmse,
                **{f"stop_share.{outcome.name.lower()}.{name}": stop.share(outcome) for outcome in StopOutcome},
            }
        return metrics

    def to_tensors(self) -> dict[str, Tensor]:
        """The tensors that `vaesweep acquire` needs, each `[cell, ...]`, kept by its `stopping_name`."""
        return self.uncertainty.to_tensors() | {SHIFTED: self.shifted}
