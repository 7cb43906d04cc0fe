"""A sweep's findings on the thesis' statements about continuity in depth (study C, lines 1777 to 1796).

What steps change is a difference within cells, along the same Brownian paths; the kinds are compared seed by seed. The
steps compared are the finest and the coarsest that were asked for, whatever they gave. Only of the statement that no
other step is better does the choice depend on what is seen: there each seed is judged at the step that the others
choose.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from vaesweep.analysis.findings import DomainFinding, Finding, Verdict, above, below, chosen_by_others
from vaesweep.analysis.groups import POINT, named
from vaesweep.families.hvae.analysis.cells import GROUP, Hierarchies
from vaesweep.families.hvae.analysis.continuity import by_seed

NATS = "nats"
GAINS, LOSES = "finer steps than in training are better", "finer steps than in training are worse"
COARSER = "coarser steps than in training are worse"
BY_DISTORTION = "steps change the distortion more than the rates"  # after which of them
BEST = "training's step is better than any other"
BETTER = "{group} is better than {other}, both as trained"
REFINED = "{group} with its finest steps is better than {other} as trained"


@dataclass(frozen=True)
class GroupBounds:
    """The bounds of one group on one domain, at training's `trained` steps and others; `[seed, steps]` each."""

    group: str
    domain: str
    trained: int
    elbo: pd.DataFrame
    changes: pd.DataFrame
    distortion: pd.DataFrame  # changes of it

    @classmethod
    def of(cls, cells: Hierarchies, rows: pd.DataFrame, group: str, domain: str) -> "GroupBounds":
        """The bounds from rows of `bound_parts`; of levels without steps `trained` is 0."""
        elbo, changes, distortion = (
            by_seed(rows, group, domain, part, column)
            for part, column in (("elbo", "value"), ("elbo", "change"), ("distortion", "change"))
        )
        return cls(group, domain, cells.steps(group) or 0, elbo, changes, distortion)

    @property
    def where(self) -> str:
        """The group and the domain, as findings name them."""
        return named(self.group, self.domain)

    @property
    def counts(self) -> list[int]:
        """The numbers of steps a level that the group was evaluated at."""
        return [int(str(steps)) for steps in self.elbo]

    @property
    def finest(self) -> int | None:
        """The most steps, where they are more than in training."""
        most = max(self.counts, default=0)
        return most if most > self.trained else None

    @property
    def coarsest(self) -> int | None:
        """The fewest steps, where they are fewer than in training."""
        fewest = min(self.counts, default=0)
        return fewest if fewest < self.trained else None

    def levels(self, steps: int) -> str:
        """Text with the mean ELBOs at `steps` and as trained."""
        return f"; ELBO {self.elbo[steps].mean():.5g} at 1/{steps}, {self.elbo[self.trained].mean():.5g} as trained"


def findings(cells: Hierarchies, rows: pd.DataFrame) -> list[DomainFinding]:
    """All statements that the sweep has data for, on test and unseen domains; `rows` are those of `bound_parts`."""
    results: list[DomainFinding] = []
    for (domain, role), _ in rows.groupby(["domain", "role"], sort=False):
        bounds = {group: GroupBounds.of(cells, rows, group, str(domain)) for group in cells.depths}
        by_group = [
            (group, finding) for group in bounds for finding in _of_steps(cells.depths[group].kind, bounds[group])
        ]
        by_group += [
            (group, finding) for group in cells.of_kind("continuous") for finding in _against(cells, bounds, group)
        ]
        results += [
            DomainFinding(finding, {GROUP: group}, group, str(domain), str(role)) for group, finding in by_group
        ]
    return results


def _of_steps(kind: str, bounds: GroupBounds) -> Iterator[Finding]:
    """Findings on other steps of one group; none where it has no other steps."""
    ends = {"finer": bounds.finest, "coarser": bounds.coarsest}
    if bounds.finest:
        change, levels = bounds.changes[bounds.finest].dropna(), bounds.levels(bounds.finest)
        if kind == "continuous":
            yield above(GAINS, bounds.where, change, NATS, levels)
        else:
            yield below(LOSES, bounds.where, change, NATS, levels)
    if bounds.coarsest:
        yield below(
            COARSER, bounds.where, bounds.changes[bounds.coarsest].dropna(), NATS, bounds.levels(bounds.coarsest)
        )
    if kind == "continuous":
        yield from (_by_distortion(bounds, name, steps) for name, steps in ends.items() if steps)
    elif bounds.finest or bounds.coarsest:
        yield _best(bounds)


def _by_distortion(bounds: GroupBounds, name: str, steps: int) -> Finding:
    """The finding whether the distortion's part of a bound's change is the larger; undecided where there is no change.

    With a change c = d + r of the bound, d and r the distortion's and the rates' part, d has more of it than r where
    d - r has the sign of c. A share d / c has no use near c = 0.
    """
    change = bounds.changes[steps].dropna()
    distortion_part = -bounds.distortion[steps].reindex(change.index)
    rates_part, statement = change - distortion_part, f"{name} {BY_DISTORTION}"
    numbers = (
        f"; distortion's part {distortion_part.mean():+.3g}, rates' {rates_part.mean():+.3g} of {change.mean():+.3g}"
    )
    if above("", "", change, NATS).verdict is Verdict.UNDECIDED:
        return Finding(Verdict.UNDECIDED, statement, bounds.where, f"no change to divide{numbers} {NATS}")
    side = 1 if change.mean() > 0 else -1
    return above(statement, bounds.where, side * (distortion_part - rates_part), NATS, numbers)


def _best(bounds: GroupBounds) -> Finding:
    """The finding on training's step against the best other one, which for each seed the others choose."""
    chosen = chosen_by_others(-bounds.elbo.drop(columns=bounds.trained))
    elbo_at = bounds.elbo.stack()
    chosen_elbos = pd.Series({seed: elbo_at.get((seed, steps)) for seed, steps in chosen.items()}, dtype=float)
    best = ", ".join(f"1/{steps}" for steps in bounds.elbo.dropna(how="all").idxmax(axis=1))
    more = f"; seeds' best steps {best}; 1/{bounds.trained} in training"
    return above(BEST, bounds.where, (bounds.elbo[bounds.trained] - chosen_elbos).dropna(), NATS, more)


def _against(cells: Hierarchies, bounds: dict[str, GroupBounds], group: str) -> Iterator[Finding]:
    """Findings on a continuous group against the other kinds at the same point of the rate axis, seed by seed."""
    points = cells.points.drop_duplicates(GROUP).set_index(GROUP)[POINT]
    own = bounds[group]
    for other, reference in bounds.items():
        if cells.depths[other].kind == "continuous" or points[other] != points[group]:
            continue
        if own.elbo.empty or reference.elbo.empty:
            continue
        level = reference.elbo[reference.trained]
        for statement, steps in ((BETTER, own.trained), (REFINED, own.finest)):
            if steps and len(gain := (own.elbo[steps] - level).dropna()):
                elbos = f"; ELBO {own.elbo[steps].mean():.5g} against {level.mean():.5g}"
                numbers = f"{elbos}; of these cells, whatever their numbers of parameters and times"
                yield above(statement.format(group=group, other=other), own.domain, gain, NATS, numbers)
