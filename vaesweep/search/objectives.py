"""Objectives of a search: a metric of a finished cell on one domain, or the difference of two domains."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vaesweep.data.description import Description, DomainDescription
from vaesweep.data.domains import DataSet, Domain, Role
from vaesweep.data.spelling import did_you_mean
from vaesweep.errors import UserError

if TYPE_CHECKING:
    from vaesweep.family import CellConfig, Family

MINIMISE, MAXIMISE = "minimise", "maximise"


@dataclass(frozen=True)
class Objective:
    """What a search makes small or large: `domain/metric`, such as `valid/elbo` or `nhanes.test/distortion`.

    The domain is the role of one, or a name; `less` is a domain whose metric is taken off, for a gap.
    """

    metric: str
    direction: str = MINIMISE
    less: str = ""

    def __str__(self) -> str:
        domain, _, metric = self.metric.partition("/")
        return f"{domain}-{self.less}/{metric}" if self.less else self.metric


def minimise(metric: str, less: str = "") -> Objective:
    """An objective to be small, as `minimise("valid/distortion")`; `less` as of `Objective`."""
    return Objective(metric, MINIMISE, less)


def maximise(metric: str, less: str = "") -> Objective:
    """An objective to be large, as `maximise("valid/elbo")`; `less` as of `Objective`."""
    return Objective(metric, MAXIMISE, less)


@dataclass(frozen=True)
class ResolvedObjective:
    """An objective on the domains that there are: the final numbers of a cell whose value, or difference, it is."""

    objective: Objective
    number: str  # <domain>/<metric>, as in finished files
    less: str | None  # the number that is taken off
    held_out: tuple[str, ...]  # its domains that no choice should look at: tests and unseen populations
    role: Role  # of its domain

    @property
    def label(self) -> str:
        """Its name in tables and figures."""
        return str(self.objective)

    @property
    def axis(self) -> str:
        """Its name on a figure's axis, with the unit of what every model has."""
        metric = self.number.rpartition("/")[2]
        nats = metric in ("distortion", "elbo") or metric.partition(".")[0] == "rate"
        return f"{self.label} [nats per datum]" if nats else self.label

    @property
    def sign(self) -> int:
        """1 where less is better, -1 where more is."""
        return 1 if self.objective.direction == MINIMISE else -1

    def value(self, metrics: Mapping[str, float]) -> float:
        """The value from a cell's final numbers; NaN where it has none."""
        value = metrics.get(self.number, math.nan)
        return value if self.less is None else value - metrics.get(self.less, math.nan)


def resolve(
    objectives: Sequence[Objective], owner: "Family", config: "CellConfig", data: DataSet | Description
) -> tuple[ResolvedObjective, ...]:
    """The objectives on the domains of `data`. Raises `UserError` where a domain or metric does not exist."""
    if not objectives:
        raise UserError("the search has no objective; give it one, such as minimise=valid/distortion")
    resolved = tuple(_resolve(objective, owner, config, data) for objective in objectives)
    labels = [one.label for one in resolved]
    if len(set(labels)) < len(labels):
        raise UserError(f"objective {next(x for x in labels if labels.count(x) > 1)}: it is named twice")
    return resolved


def _resolve(
    objective: Objective, owner: "Family", config: "CellConfig", data: DataSet | Description
) -> ResolvedObjective:
    name, slash, metric = objective.metric.partition("/")
    if objective.direction not in (MINIMISE, MAXIMISE) or not slash:
        raise UserError(
            f"objective {objective.direction}={objective.metric}: write minimise=DOMAIN/METRIC or maximise=…"
        )
    rates = [f"rate.{rate}" for rate in owner.rate_names(config)]
    known = ["distortion", "elbo", "rate", *rates, *owner.metrics_of(config)]
    if metric not in known:
        hint = did_you_mean(metric, known) or f"; there are {', '.join(known)}"
        raise UserError(f"objective {objective}: there is no metric {metric!r}{hint}")
    domains = [_domain(word, objective, data) for word in (name, objective.less) if word]
    numbers = [f"{domain.name}/{metric}" for domain in domains]
    held_out = tuple(domain.name for domain in domains if domain.role in (Role.TEST, Role.UNSEEN))
    return ResolvedObjective(objective, numbers[0], numbers[1] if len(numbers) > 1 else None, held_out, domains[0].role)


def _domain(word: str, objective: Objective, data: DataSet | Description) -> Domain | DomainDescription:
    by_name: dict[str, Domain | DomainDescription] = {domain.name: domain for domain in data.domains}
    by_role: dict[str, Domain | DomainDescription]
    by_role = {str(domain.role): domain for domain in data.domains if domain.role is not Role.UNSEEN}
    known = by_role | by_name
    if word not in known:
        hint = did_you_mean(word, known) or f"; there are {', '.join(known)}"
        raise UserError(f"objective {objective}: there is no domain {word!r}{hint}")
    return known[word]


def parse(words: Sequence[str]) -> tuple[Objective, ...]:
    """Objectives from words such as `minimise=valid/distortion` and `maximise=valid-train/elbo`, the latter a gap."""
    objectives = []
    for word in words:
        direction, equals, text = word.partition("=")
        if not equals or direction not in (MINIMISE, MAXIMISE) or "/" not in text:
            raise UserError(f"--objective {word}: write minimise=DOMAIN/METRIC or maximise=…, as minimise=valid/elbo")
        domain, _, metric = text.partition("/")
        first, _, less = domain.partition("-")
        objectives.append(Objective(f"{first}/{metric}", direction, less))
    return tuple(objectives)
