"""Results of injected faults, and the rows of the table that they make."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

COLUMNS = (
    "fault",
    "times",
    "cells lost",
    "steps trained again, on average (at most)",
    "points twice",
    "what is said",
    "exit code",
    "seconds to recover, median (worst)",
)
CELLS = 4  # of every sweep
LONGEST = 150  # characters of a line that is shown
# What a command says without a fault too.
USUAL = re.compile(
    r"data: |\d+ (s|min): \d|cells: |written: |[\w.]+: (highest|lowest|distortion|best|no )|stopping: |$"
    r"|seeds differ|train/valid|generalisation|gap |target |  |the page of this sweep: |\d+ more lines are in "
)
SUMMARY = re.compile(r"\w+: \d+ cells, \d+ done, |\d+ cells were finished before")
FAILURE = re.compile(r"error: |cell \w+ failed: ")
SHORTER = (
    (re.compile(r"\x1b\[\d*m"), ""),
    (re.compile(r"\b([0-9a-f]{4})[0-9a-f]{12}(-[0-9a-f]{8})?\b"), r"\1…"),
    (re.compile(r"\b([0-9a-f]{4})[0-9a-f]{28,52}\b"), r"\1…"),
    (re.compile(r"\.[0-9a-f]{8}\.damaged"), ".….damaged"),
    (re.compile(r"since [\dT:+-]+"), "since …"),
    (re.compile(r"process \d+ on [\w.-]+"), "process … on …"),
)


@dataclass(frozen=True)
class Result:
    """What came of a fault that was injected once.

    `again` is the number of steps that were trained again, of `all_steps`, or a bound on it where `counted` is false.
    `duplicated` counts points that MLflow has twice, and runs of a cell beyond those that are meant. `trace` is all
    that the commands printed.
    """

    lost: int
    again: int
    all_steps: int
    duplicated: int
    said: str
    outcome: str
    seconds: float
    counted: bool = True
    trace: str = ""

    @property
    def sound(self) -> bool:
        """Whether nothing was lost and nothing is there twice."""
        return self.recovered and not self.lost and not self.duplicated and self.again >= 0

    @property
    def recovered(self) -> bool:
        """Whether the last command ended well."""
        return self.outcome.split(", then ")[-1] == "0"


def told(lines: Sequence[str], folder: Path) -> str:
    """The line that a command says because of a fault, or else what it says of the cells that are left."""
    lines = [line.replace(f"{folder}/", "").replace(str(folder), ".") for line in lines]
    unusual = [line for line in lines if not USUAL.match(line) and not SUMMARY.match(line)]
    failures = [line for line in unusual if FAILURE.match(line)]
    usual = [f"nothing but: {line}" for line in lines if SUMMARY.match(line)]
    line = next(iter([*failures, *unusual, *usual[-1:]]), "nothing")
    for pattern, shorter in SHORTER:
        line = pattern.sub(shorter, line)
    return re.sub(r"results/\w+/cells/", "…/", line)


def row(name: str, results: Sequence[Result]) -> tuple[str, ...]:
    """The cells of a fault's row."""
    lost, seconds = sum(result.lost for result in results), [r.seconds for r in results if r.recovered]
    outcomes = Counter(result.outcome for result in results)
    return (
        name,
        str(len(results)),
        f"{lost} of {CELLS * len(results)}" if lost else "0",
        _steps_again(results),
        str(sum(result.duplicated for result in results)),
        _commonest_said(results),
        "; ".join(outcome for outcome, _ in outcomes.most_common()),
        f"{median(seconds):.1f} ({max(seconds):.1f})" if seconds else "never",
    )


def _steps_again(results: Sequence[Result]) -> str:
    steps, all_steps = [max(0, result.again) for result in results], results[0].all_steps
    if not max(steps):
        return "0"
    if not results[0].counted:
        return f"not counted (at most {max(steps)} of {all_steps})"
    return f"{sum(steps) / len(steps):.3g} ({max(steps)}) of {all_steps}"


def _commonest_said(results: Sequence[Result]) -> str:
    """The line that is said most often, where all lines that differ in names only count as one."""
    kinds = Counter(_kind(result.said) for result in results)
    kind, _ = kinds.most_common(1)[0]
    line = next(result.said for result in results if _kind(result.said) == kind).replace("|", "\\|")
    shown = f"{line[: LONGEST - 1]}…" if len(line) > LONGEST else line
    others = f" ({len(kinds) - 1} other)" if len(kinds) > 1 else ""
    return f"{shown}{others}"


def _kind(line: str) -> str:
    return re.sub(r"[0-9a-f]{4}…|\d+", "#", line)


def table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The lines of a markdown table."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * len(COLUMNS)}"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"
