"""What training was estimated to take, kept from `--plan` to the command itself, beside what it took.

An estimate is kept in the user's cache folder under the cells that were left to train, so that it is found by no other
plan. It is nice to have and no more: where nothing can be kept, nothing is said of it.
"""

import contextlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from vaesweep.data.cache import cache_folder
from vaesweep.sweep.identity import digest
from vaesweep.sweep.plan import Estimate, Plan
from vaesweep.sweep.timeline import COMMAND, EVALUATION, FIRST_STEP, SIZE, START, TRAINING, Timeline

FOLDER, MOST_KEPT = "plans", 200
ESTIMATED = (FIRST_STEP, TRAINING, EVALUATION)  # of a pack's spans: what an estimate counts


@dataclass(frozen=True)
class Planned:
    """What `--plan` said of a plan, for so many packs at once."""

    estimate: Estimate
    at_once: int


def remember(plan: Plan, estimate: Estimate, at_once: int) -> None:
    """Keep what `--plan` says of a plan."""
    with contextlib.suppress(OSError):
        file = _file(plan)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**asdict(estimate), "at_once": at_once}))
        older = sorted(file.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in older[:-MOST_KEPT]:
            path.unlink()


def remembered(plan: Plan) -> Planned | None:
    """What `--plan` said last of a plan with the same cells left to train; None where that is not known."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(_file(plan).read_text())
        return Planned(Estimate(float(kept["wall"]), float(kept["packs"])), int(kept["at_once"]))
    return None


@dataclass(frozen=True)
class Taken:
    """What packs have taken, of what an estimate counts; `whole` where no pack had to begin again."""

    seconds: Estimate
    whole: bool


def taken(timeline: Timeline) -> Taken | None:
    """What packs have taken; None where none has taken a step."""
    spans = [span for span in timeline.spans if span.where != COMMAND and span.what in ESTIMATED]
    if not spans:
        return None
    wall = max(span.ended for span in spans) - min(span.began for span in spans)
    begun = Counter((span.where, span.what) for span in timeline.spans if span.what in (START, SIZE))
    seconds = Estimate(wall, sum(span.ended - span.began for span in spans))
    return Taken(seconds, whole=max(begun.values(), default=0) <= 1)


def _file(plan: Plan) -> Path:
    return cache_folder() / FOLDER / f"{digest(plan.cells_left())}.json"
