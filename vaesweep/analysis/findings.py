"""Findings: a statement and what seeds say of it, confirmed, refuted or undecided.

A difference is taken within cells or seeds and has a t-interval over seeds: a statement is confirmed where the interval
lies on its side of zero, refuted where it lies on the other. Optima on the rate axis are compared seed by seed, each
with its own curve: confirmed where every seed says so, refuted where every seed says the opposite. All else, and
whatever one seed says, is undecided.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from vaesweep.analysis.intervals import t_interval
from vaesweep.analysis.metric_curves import NATS
from vaesweep.data.domains import Role


class Verdict(StrEnum):
    """What the seeds say of a statement."""

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
    """A finding about a group of cells on one domain: `about` says which group by column, `label` to people."""

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
    """A row a finding; `about` are the columns that say which group it is about, which an empty table has too."""
    columns = ["statement", *about, "domain", "role", "verdict", "numbers"]
    return pd.DataFrame([finding.row for finding in findings], columns=columns)


def summarise(findings: Sequence[DomainFinding]) -> Iterator[str]:
    """Statement by statement: the test domain in full, then the verdicts on every other domain."""
    groups: dict[tuple[str, str], list[DomainFinding]] = {}
    for one in findings:
        groups.setdefault((one.finding.statement, one.label), []).append(one)
    for (statement, label), mine in groups.items():
        yield from (str(one.finding) for one in mine if one.role == Role.TEST)
        by_verdict = {
            verdict: [one.domain for one in mine if one.finding.verdict == verdict and one.role != Role.TEST]
            for verdict in Verdict
        }
        others = "; ".join(f"{verdict} on {', '.join(domains)}" for verdict, domains in by_verdict.items() if domains)
        if others:
            yield f"{statement} ({label}): {others}"


def below(statement: str, where: str, differences: pd.Series, unit: str, more: str = "") -> Finding:
    """A statement that a difference, one a seed, is below zero."""
    return _beyond_zero(-1, statement, where, differences, unit, more)


def above(statement: str, where: str, differences: pd.Series, unit: str, more: str = "") -> Finding:
    """A statement that a difference, one a seed, is above zero."""
    return _beyond_zero(1, statement, where, differences, unit, more)


def _beyond_zero(side: int, statement: str, where: str, differences: pd.Series, unit: str, more: str) -> Finding:
    found = t_interval(differences.to_numpy(float))
    verdict = Verdict.UNDECIDED
    if found.high < 0 or found.low > 0:
        verdict = Verdict.CONFIRMED if side * found.mean > 0 else Verdict.REFUTED
    ends = f"95 % {found.low:+.3g} to {found.high:+.3g}, {found.n} seeds" if found.n > 1 else "one seed"
    return Finding(verdict, statement, where, f"{found.mean:+.3g} {unit} ({ends}){more}")


def lower_rate(statement: str, where: str, one: pd.Series, other: pd.Series) -> Finding:
    """A statement that optima `one` lie at lower rates than `other`, both by seed."""
    seeds = one.index.intersection(other.index)
    difference = one[seeds] - other[seeds]
    verdict = Verdict.UNDECIDED
    if len(seeds) > 1 and (difference < 0).all():
        verdict = Verdict.CONFIRMED
    elif len(seeds) > 1 and (difference > 0).all():
        verdict = Verdict.REFUTED
    means = f"{one[seeds].mean():.3g} against {other[seeds].mean():.3g} {NATS}"
    span = f"differences of {len(seeds)} seeds {difference.min():+.3g} to {difference.max():+.3g}"
    return Finding(verdict, statement, where, f"{means}, {span if len(seeds) > 1 else 'one seed'}")


def chosen_by_others(losses: pd.DataFrame) -> pd.Series:
    """For every seed the column of `losses` `[seed, choice]` with the lowest mean over the other seeds.

    The best of noisy numbers looks better than it is; chosen by others, it is judged fairly by the seed left out.
    """
    others = {seed: losses.drop(index=seed) if len(losses) > 1 else losses for seed in losses.index}
    return pd.Series({seed: left.mean().idxmin() for seed, left in others.items() if left.notna().any(axis=None)})
