"""Findings: statements with the seeds' verdict, confirmed, refuted or undecided.

A difference is taken within cells or seeds and has a t-interval over seeds, or an interval over seeds and splits of the
data: a statement is confirmed where the interval lies on its side of zero, refuted where it lies on the other. Optima
on the rate axis are compared seed by seed, each with its own curve: confirmed where it holds for every seed, refuted
where the opposite does. All else is undecided, as is any statement on one seed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from vaesweep.analysis.intervals import Interval, crossed_interval, t_interval
from vaesweep.analysis.metric_curves import NATS
from vaesweep.data.domains import Role


class Verdict(StrEnum):
    """The seeds' verdict on a statement."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Finding:
    """A statement, where it was looked at, the numbers that bear on it, and the verdict."""

    verdict: Verdict
    statement: str
    where: str
    numbers: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.statement} ({self.where}): {self.numbers}"


@dataclass(frozen=True)
class DomainFinding:
    """A finding about a group of cells on one domain: `about` names the group by column, `label` for users."""

    finding: Finding
    about: Mapping[str, str]
    label: str
    domain: str
    role: str

    @property
    def row(self) -> dict[str, str]:
        """Its row of a table: statement, what it is about, domain, role, verdict and numbers."""
        where = {**self.about, "domain": self.domain, "role": self.role}
        return {"statement": self.finding.statement, **where, "verdict": str(self.finding.verdict)} | {
            "numbers": self.finding.numbers
        }


def findings_table(findings: Sequence[DomainFinding], about: Sequence[str]) -> pd.DataFrame:
    """A row a finding; `about` are the columns that name the group, which an empty table has too."""
    columns = ["statement", *about, "domain", "role", "verdict", "numbers"]
    return pd.DataFrame([finding.row for finding in findings], columns=columns)


def summarise(findings: Sequence[DomainFinding]) -> Iterator[str]:
    """Lines by statement: the test domain in full, then the verdicts on every other domain."""
    groups: dict[tuple[str, str], list[DomainFinding]] = {}
    for entry in findings:
        groups.setdefault((entry.finding.statement, entry.label), []).append(entry)
    for (statement, label), group in groups.items():
        yield from (str(entry.finding) for entry in group if entry.role == Role.TEST)
        by_verdict = {
            verdict: [entry.domain for entry in group if entry.finding.verdict == verdict and entry.role != Role.TEST]
            for verdict in Verdict
        }
        others = "; ".join(f"{verdict} on {', '.join(domains)}" for verdict, domains in by_verdict.items() if domains)
        if others:
            yield f"{statement} ({label}): {others}"


Differences = pd.Series | pd.DataFrame  # one a seed, or a row a seed and a column a split


def below(statement: str, where: str, differences: Differences, unit: str, more: str = "") -> Finding:
    """A statement that a difference is below zero."""
    return _beyond_zero(-1, statement, where, differences, unit, more)


def above(statement: str, where: str, differences: Differences, unit: str, more: str = "") -> Finding:
    """A statement that a difference is above zero."""
    return _beyond_zero(1, statement, where, differences, unit, more)


def _beyond_zero(side: int, statement: str, where: str, differences: Differences, unit: str, more: str) -> Finding:
    interval, drawn = _interval(differences)
    verdict = Verdict.UNDECIDED
    if interval.high < 0 or interval.low > 0:
        verdict = Verdict.CONFIRMED if side * interval.mean > 0 else Verdict.REFUTED
    ends = "one seed" if np.isnan(interval.low) else f"95 % {interval.low:+.3g} to {interval.high:+.3g}, {drawn}"
    return Finding(verdict, statement, where, f"{interval.mean:+.3g} {unit} ({ends}){more}")


def _interval(differences: Differences) -> tuple[Interval, str]:
    """The interval over seeds, or over the seeds and splits at once that have no gaps, and their number in words."""
    if isinstance(differences, pd.Series):
        interval = t_interval(differences.to_numpy(float))
        return interval, f"{interval.n} seeds"
    whole = differences.dropna(axis=0, how="all").dropna(axis=1)
    if whole.empty:
        return t_interval(np.array([])), ""
    return crossed_interval(whole.to_numpy(float)), f"{whole.shape[0]} seeds on {whole.shape[1]} splits"


def lower_rate(statement: str, where: str, lower: pd.Series, higher: pd.Series) -> Finding:
    """A statement that optima `lower` lie at lower rates than `higher`, both by seed."""
    seeds = lower.index.intersection(higher.index)
    difference = lower[seeds] - higher[seeds]
    verdict = Verdict.UNDECIDED
    if len(seeds) > 1 and (difference < 0).all():
        verdict = Verdict.CONFIRMED
    elif len(seeds) > 1 and (difference > 0).all():
        verdict = Verdict.REFUTED
    means = f"{lower[seeds].mean():.3g} against {higher[seeds].mean():.3g} {NATS}"
    span = f"differences of {len(seeds)} seeds {difference.min():+.3g} to {difference.max():+.3g}"
    return Finding(verdict, statement, where, f"{means}, {span if len(seeds) > 1 else 'one seed'}")


def chosen_by_others(losses: pd.DataFrame) -> pd.Series:
    """The column of `losses` `[seed, choice]` with the lowest mean over the other seeds, for every seed.

    The best of noisy numbers looks better than it is; chosen by others, it is judged fairly by the seed left out.
    """
    others = {seed: losses.drop(index=seed) if len(losses) > 1 else losses for seed in losses.index}
    return pd.Series({seed: rest.mean().idxmin() for seed, rest in others.items() if rest.notna().any(axis=None)})
