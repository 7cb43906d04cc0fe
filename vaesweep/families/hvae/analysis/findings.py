"""What a sweep says of the thesis' statements about continuity in depth (study C, lines 1777 to 1796).

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
BETTER = "{one} is better than {other}, both as trained"
REFINED = "{one} with its finest steps is better than {other} as trained"


@dataclass(frozen=True)
class Seen:
    """What was measured of one group on one domain, at training's `trained` steps and others; `[seed, steps]` each."""

    group: str
    domain: str
    trained: int
    elbo: pd.DataFrame
    changes: pd.DataFrame
    distortion: pd.DataFrame  # changes of it

    @classmethod
    def of(cls, cells: Hierarchies, rows: pd.DataFrame, group: str, domain: str) -> "Seen":
        """From rows of `measured`; of levels without steps `trained` is 0."""
        elbo, changes, distortion = (
            by_seed(rows, group, domain, part, column)
            for part, column in (("elbo", "value"), ("elbo", "change"), ("distortion", "change"))
        )
        return cls(group, domain, cells.steps(group) or 0, elbo, changes, distortion)

    @property
    def where(self) -> str:
        """For people."""
        return named(self.group, self.domain)

    @property
    def counts(self) -> list[int]:
        """Steps a level that it was evaluated at."""
        return [int(str(steps)) for steps in self.elbo]

    @property
    def finest(self) -> int | None:
        """The most steps, where they are more than in training."""
        most = max(self.counts, default=0)
        return most if most > self.trained else None

    @property
    def coarsest(self) -> int | None:
        """The fewest, where they are fewer."""
        fewest = min(self.counts, default=0)
        return fewest if fewest < self.trained else None

    def levels(self, steps: int) -> str:
        """ELBOs there and as trained, for people."""
        return f"; ELBO {self.elbo[steps].mean():.5g} at 1/{steps}, {self.elbo[self.trained].mean():.5g} as trained"


def findings(cells: Hierarchies, rows: pd.DataFrame) -> list[DomainFinding]:
    """All statements that the sweep has data for, on test and unseen domains; `rows` are those of `measured`."""
    found: list[DomainFinding] = []
    for (domain, role), _ in rows.groupby(["domain", "role"], sort=False):
        seen = {group: Seen.of(cells, rows, group, str(domain)) for group in cells.depths}
        stated = [(group, finding) for group in seen for finding in _of_steps(cells.depths[group].kind, seen[group])]
        stated += [(one, finding) for one in cells.of_kind("continuous") for finding in _against(cells, seen, one)]
        found += [DomainFinding(finding, {GROUP: group}, group, str(domain), str(role)) for group, finding in stated]
    return found


def _of_steps(kind: str, seen: Seen) -> Iterator[Finding]:
    """What other steps do to one group; nothing where it has none."""
    ends = {"finer": seen.finest, "coarser": seen.coarsest}
    if seen.finest:
        change, levels = seen.changes[seen.finest].dropna(), seen.levels(seen.finest)
        if kind == "continuous":
            yield above(GAINS, seen.where, change, NATS, levels)
        else:
            yield below(LOSES, seen.where, change, NATS, levels)
    if seen.coarsest:
        yield below(COARSER, seen.where, seen.changes[seen.coarsest].dropna(), NATS, seen.levels(seen.coarsest))
    if kind == "continuous":
        yield from (_by_distortion(seen, name, steps) for name, steps in ends.items() if steps)
    elif seen.finest or seen.coarsest:
        yield _best(seen)


def _by_distortion(seen: Seen, name: str, steps: int) -> Finding:
    """Whether the distortion's part of a change of the bound is the larger; undecided where there is no change.

    With a change c = d + r of the bound, d and r the distortion's and the rates' part, d has more of it than r where
    d - r has the sign of c. A share d / c has no use near c = 0.
    """
    change = seen.changes[steps].dropna()
    own = -seen.distortion[steps].reindex(change.index)
    rest, statement = change - own, f"{name} {BY_DISTORTION}"
    numbers = f"; distortion's part {own.mean():+.3g}, rates' {rest.mean():+.3g} of {change.mean():+.3g}"
    if above("", "", change, NATS).verdict is Verdict.UNDECIDED:
        return Finding(Verdict.UNDECIDED, statement, seen.where, f"no change to divide{numbers} {NATS}")
    side = 1 if change.mean() > 0 else -1
    return above(statement, seen.where, side * (own - rest), NATS, numbers)


def _best(seen: Seen) -> Finding:
    """Training's step against the best other one, which for each seed the others choose."""
    others = chosen_by_others(-seen.elbo.drop(columns=seen.trained))
    at = seen.elbo.stack()
    there = pd.Series({seed: at.get((seed, steps)) for seed, steps in others.items()}, dtype=float)
    best = ", ".join(f"1/{steps}" for steps in seen.elbo.dropna(how="all").idxmax(axis=1))
    more = f"; seeds' best steps {best}; 1/{seen.trained} in training"
    return above(BEST, seen.where, (seen.elbo[seen.trained] - there).dropna(), NATS, more)


def _against(cells: Hierarchies, seen: dict[str, Seen], one: str) -> Iterator[Finding]:
    """A continuous group against those of the other kinds at the same point of the rate axis, seed by seed."""
    points = cells.points.drop_duplicates(GROUP).set_index(GROUP)[POINT]
    mine = seen[one]
    for other, theirs in seen.items():
        if cells.depths[other].kind == "continuous" or points[other] != points[one]:
            continue
        if mine.elbo.empty or theirs.elbo.empty:
            continue
        level = theirs.elbo[theirs.trained]
        for statement, steps in ((BETTER, mine.trained), (REFINED, mine.finest)):
            if steps and len(gain := (mine.elbo[steps] - level).dropna()):
                numbers = f"; ELBO {mine.elbo[steps].mean():.5g} against {level.mean():.5g}"
                yield above(statement.format(one=one, other=other), mine.domain, gain, NATS, numbers)
