"""Where sweeps stand, from their runs in MLflow while they train: cells by state, rates reached, time left.

All is read in a few calls, whatever the number of cells: the parent runs, the records of those that are shown, their
cells' runs with the latest points, and one history of points for each pack that trains. Nothing is written.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from statistics import median
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from vaesweep.analysis.runs import (
    MOST_PASSED,
    Runs,
    SweepRecord,
    assemble,
    command_began,
    experiment_names,
    last_used,
    record_of,
    search_runs,
    suggestion,
)
from vaesweep.analysis.table import (
    cells_table,
    finished,
    is_unsettled,
    misses,
    rates_of_targets,
    target_axis,
    target_name,
)
from vaesweep.errors import UserError
from vaesweep.store_access import ReadRun, refusal, within
from vaesweep.uris import is_server
from vaesweep.vocabulary import Outcome, RunKind, Tag, outcome_of, runs_by_cell

READ_SECONDS = 60.0  # within which a server must have said all
PACE_METRIC = "train/elbo"  # which every evaluation while training has
PACKS = 8  # whose points are read for their pace; the others are taken to be as fast as the median
SILENT_SECONDS = 600.0  # without a point, after which a sweep counts as silent
SILENT_INTERVALS = 3.0  # the same, in times that it took from one evaluation to the next
FIRST_SILENCE = 1800.0  # seconds, where no interval is known yet
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")


class SweepState(StrEnum):
    """What a sweep does. A silent one should be training, and has not been heard of for too long."""

    RUNNING = "running"
    SILENT = "silent"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class CellState(StrEnum):
    """What a cell does; a waiting one has not begun, or was stopped and goes on with the same command."""

    DONE = "done"
    DIVERGED = "diverged"
    RUNNING = "running"
    WAITING = "waiting"
    FAILED = "failed"


ENDED = {"FINISHED": SweepState.FINISHED, "FAILED": SweepState.FAILED, "KILLED": SweepState.INTERRUPTED}
OF_OUTCOME = {Outcome.FINISHED: CellState.DONE, Outcome.DIVERGED: CellState.DIVERGED, Outcome.FAILED: CellState.FAILED}


@dataclass(frozen=True)
class Cause:
    """Why cells failed or diverged; causes that differ in numbers only count as one."""

    cause: str
    cells: int


@dataclass(frozen=True)
class TargetReached:
    """The rates on the training domain of the `cells` that are done of one target, all in nats per datum."""

    target: float
    cells: int
    lowest: float
    median: float
    highest: float


@dataclass(frozen=True)
class SweepStatus:
    """Where one sweep stands.

    `began` is when its first command began, `command_began` when the last one did, which runs store since release 0.2.
    `last_sign` is the newest time of a point, or of a command's beginning. `steps_all` is None where it is not known,
    `seconds_left` where the pace is not. `off_target`, `unsettled` and `saturated` count cells that are done.
    """

    name: str
    sweep: str
    run_id: str
    preset: str
    family: str
    command: str
    state: SweepState
    began: datetime
    command_began: datetime | None
    ended: datetime | None
    last_sign: datetime
    cells: Mapping[str, int]
    failed: tuple[Cause, ...] = ()
    diverged: tuple[Cause, ...] = ()
    off_target: int = 0
    unsettled: int = 0
    saturated: int = 0
    target_of: str = ""
    targets: tuple[TargetReached, ...] = ()
    steps_done: int = 0
    steps_all: int | None = None
    seconds_left: float | None = None
    note: str = ""

    @property
    def is_open(self) -> bool:
        """Whether its command has not said that it has ended."""
        return self.state in (SweepState.RUNNING, SweepState.SILENT)


@dataclass
class _CellStatus:
    """A cell of a sweep: its run, where it has one, its last step, and when that was logged, in ms."""

    state: CellState
    run: ReadRun | None
    step: int
    all_steps: int | None
    sign: int

    @property
    def pack(self) -> str:
        return str(self.run.data.tags.get(Tag.PACK, self.run.info.run_id)) if self.run else ""

    @property
    def done(self) -> int:
        """Steps that need not be taken any more or have been taken: all of a cell that has ended."""
        ended = self.state in (CellState.DONE, CellState.DIVERGED)
        return self.all_steps if ended and self.all_steps is not None else self.step

    @property
    def left(self) -> int:
        """Steps that this command still takes."""
        is_open = self.state in (CellState.RUNNING, CellState.WAITING)
        return max(0, (self.all_steps or 0) - self.step) if is_open else 0


@dataclass(frozen=True)
class _Pace:
    """Steps a second of each cell of the packs that train, and the longest time between two evaluations, if known."""

    speeds: Mapping[str, float] = field(default_factory=dict)
    interval: float | None = None


def read(
    client: MlflowClient, names: Sequence[str] = (), also: Collection[str] = (), now: datetime | None = None
) -> list[SweepStatus]:
    """Where the sweeps stand that run or, where none does, the newest; the last used first.

    `names` are of experiments, or identities of sweeps or of their parent runs, and leave out all others; the parent
    runs in `also` are read in any case. Raises `UserError` where a name is unknown, or the store fails.
    """
    uri, moment = client.tracking_uri, now or datetime.now(UTC)

    def call() -> list[SweepStatus]:
        return _read(client, names, also, moment)

    try:
        return within(READ_SECONDS, call) if is_server(uri) else call()
    except (MlflowException, OSError) as error:
        raise refusal(uri, error) from None


def _read(client: MlflowClient, names: Sequence[str], also: Collection[str], now: datetime) -> list[SweepStatus]:
    experiments = experiment_names(client)
    parents = search_runs(client, experiments, RunKind.SWEEP) if experiments else []
    chosen = _chosen(client, parents, experiments, names, also)
    cell_runs: dict[str, list[ReadRun]] = {}
    if chosen:
        for run in search_runs(client, {parent.info.experiment_id for parent in chosen}, RunKind.CELL):
            cell_runs.setdefault(run.info.experiment_id, []).append(run)
    return [
        _status(
            client, parent, experiments[parent.info.experiment_id], cell_runs.get(parent.info.experiment_id, []), now
        )
        for parent in chosen
    ]


def _chosen(
    client: MlflowClient,
    parents: Sequence[ReadRun],
    experiments: Mapping[str, str],
    names: Sequence[str],
    also: Collection[str],
) -> list[ReadRun]:
    """The parent runs to be shown, the last used first."""
    parents = sorted(parents, key=last_used, reverse=True)
    wanted = {run.info.run_id for run in parents if run.info.run_id in also}
    for name in names:
        own = [run for run in parents if name in (run.info.run_id, run.data.tags.get(Tag.SWEEP))]
        own = own or _open_or_newest(client, [run for run in parents if experiments[run.info.experiment_id] == name])
        if not own:
            known = list(dict.fromkeys(experiments[run.info.experiment_id] for run in parents))
            raise UserError(f"there is no sweep {name!r} in this tracking store; {suggestion(name, known)}")
        wanted |= {run.info.run_id for run in own}
    if not names:
        wanted |= {run.info.run_id for run in _open_or_newest(client, parents)}
    return [run for run in parents if run.info.run_id in wanted]


def _open_or_newest(client: MlflowClient, parents: Sequence[ReadRun]) -> list[ReadRun]:
    """Those that run or, where none does, the first that has a record, or the first."""
    running = [run for run in parents if run.info.status == "RUNNING"]
    if running or len(parents) < 2:
        return running or list(parents)
    for parent in parents[:MOST_PASSED]:
        with suppress(UserError):
            record_of(client, parent)
            return [parent]
    return list(parents[:1])


def _status(client: MlflowClient, parent: ReadRun, name: str, runs: Iterable[ReadRun], now: datetime) -> SweepStatus:
    tags, info, note = parent.data.tags, parent.info, ""
    sweep = tags.get(Tag.SWEEP, "")
    try:
        record: SweepRecord | None = record_of(client, parent)
    except UserError as error:
        record, note = None, f"only cells that have begun are known: {error}"
    by_cell = runs_by_cell(run for run in runs if record is not None or run.data.tags.get(Tag.SWEEP) == sweep)
    if record is None:
        preset, family = parent.data.params.get("preset", ""), tags.get(Tag.FAMILY, "")
        record = SweepRecord(sweep, name, family, preset, "", {}, {cell: {} for cell in by_cell}, ())
    own = {cell: run for cell, run in by_cell.items() if cell in record.cells}

    began, is_open = command_began(parent), info.status == "RUNNING"
    cells = [_cell_status(own.get(cell), record.steps.get(cell), is_open, began) for cell in record.cells]
    _fill_steps(cells)
    last_sign = max([cell.sign for cell in cells] + [info.start_time, _milliseconds(began)])
    pace = _pace(client, cells, began) if is_open else _Pace()
    state = _sweep_state(info.status, now - _moment(last_sign), pace)
    table = assemble(record, info.run_id, own)
    return SweepStatus(
        name=name,
        sweep=sweep,
        run_id=info.run_id,
        preset=record.preset,
        family=record.family,
        command=record.command,
        state=state,
        began=_moment(info.start_time),
        command_began=began,
        ended=None if is_open or not info.end_time else _moment(info.end_time),
        last_sign=_moment(last_sign),
        cells={str(one): sum(cell.state is one for cell in cells) for one in CellState},
        failed=_causes(cells, CellState.FAILED),
        diverged=_causes(cells, CellState.DIVERGED),
        **_rates(table),
        steps_done=sum(cell.done for cell in cells),
        steps_all=_sum_known(cell.all_steps for cell in cells) if not note else None,
        seconds_left=_seconds_left(cells, pace, began, now) if state is SweepState.RUNNING and not note else None,
        note=note,
    )


def _cell_status(run: ReadRun | None, steps: int | None, is_open: bool, began: datetime | None) -> _CellStatus:
    """Where a cell stands of a sweep that `is_open`; one that this command has not logged yet is still waiting."""
    if run is None:
        return _CellStatus(CellState.WAITING, None, 0, steps, 0)
    sign = run.data.last_time
    outcome = outcome_of(run)
    trains = run.info.status == "RUNNING" and is_open and max(sign, run.info.start_time) >= _milliseconds(began)
    if outcome in (Outcome.FINISHED, Outcome.DIVERGED) or (outcome is not None and not trains):
        state = OF_OUTCOME[outcome]
    else:
        state = CellState.RUNNING if trains else CellState.WAITING
    return _CellStatus(state, run, run.data.last_step, steps if steps is not None else _steps_of(run), sign)


def _steps_of(run: ReadRun) -> int | None:
    """All steps of a cell by its parameters, among which those of pretraining are that are not its own."""
    params = run.data.params
    try:
        steps = int(params["training.steps"])
        if any(key.startswith("pretraining.") for key in params):
            steps += int(params.get("pretraining.training.steps", steps))
    except (KeyError, ValueError):
        return None
    return steps


def _fill_steps(cells: Sequence[_CellStatus]) -> None:
    """Give cells whose steps are not known those of the others, where these are alike."""
    known = {cell.all_steps for cell in cells if cell.all_steps is not None}
    if len(known) == 1:
        (steps,) = known
        for cell in cells:
            cell.all_steps = steps


def _sum_known(values: Iterable[int | None]) -> int | None:
    total = 0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _pace(client: MlflowClient, cells: Sequence[_CellStatus], began: datetime | None) -> _Pace:
    """The pace of the packs that train, from the points that one cell of each has logged since the command began."""
    running = sorted((cell for cell in cells if cell.state is CellState.RUNNING), key=lambda cell: cell.sign)
    packs = {cell.pack: cell for cell in running}  # of each the cell that was logged last
    speeds: dict[str, float] = {}
    intervals = []
    for pack, cell in list(packs.items())[-PACKS:]:
        assert cell.run is not None
        speed = _speed(client.get_metric_history(cell.run.info.run_id, PACE_METRIC), _milliseconds(began))
        if speed:
            speeds[pack] = speed
            if every := cell.run.data.params.get("training.evaluate_every", ""):
                intervals.append(float(every) / speed)
    if speeds:
        typical = median(speeds.values())
        speeds |= {pack: typical for pack in packs if pack not in speeds}
    return _Pace(speeds, max(intervals, default=None))


def _speed(points: Sequence[Metric], began: int) -> float | None:
    """Steps a second of a cell, between the first and the last time at which it logged points since `began`, in ms.

    Where all came at once, of a cell that had none before, since the command began: an estimate that is too low.
    """
    steps: dict[int, int] = {}  # the last one by the time at which it was logged
    for point in points:
        if point.timestamp >= began:
            steps[point.timestamp] = max(point.step, steps.get(point.timestamp, 0))
    if not steps:
        return None
    first, last = min(steps), max(steps)
    if first == last:
        fresh = began > 0 and all(point.timestamp >= began for point in points)
        first, steps = (began, {**steps, began: 0}) if fresh and last > began else (first, steps)
    return (steps[last] - steps[first]) / (last - first) * 1000 if last > first else None


def _sweep_state(status: str, silence: timedelta, pace: _Pace) -> SweepState:
    if status != "RUNNING":
        return ENDED.get(status, SweepState.FAILED)
    limit = FIRST_SILENCE if pace.interval is None else max(SILENT_SECONDS, SILENT_INTERVALS * pace.interval)
    return SweepState.SILENT if silence.total_seconds() > limit else SweepState.RUNNING


def _seconds_left(cells: Sequence[_CellStatus], pace: _Pace, began: datetime | None, now: datetime) -> float | None:
    """Seconds until the slowest pack that trains is done, or all steps are taken at the pace of those that train.

    Where none trains just now it is the pace of the command so far, by the cells that it has begun. An upper bound
    where cells may stop early; evaluations at the end of cells and the start of further packs are left out.
    """
    if any(cell.all_steps is None for cell in cells):
        return None
    running = [cell for cell in cells if cell.state is CellState.RUNNING]
    slowest, sign = 0.0, max((cell.sign for cell in cells), default=0)
    if pace.speeds:
        speed = sum(pace.speeds[cell.pack] for cell in running)
        slowest = max(cell.left / pace.speeds[cell.pack] for cell in running)
    else:
        start = _milliseconds(began)
        own = [cell.step for cell in cells if cell.run is not None and cell.run.info.start_time >= start > 0]
        speed = sum(own) / (sign - start) * 1000 if own and sign > start else 0.0
    if not speed:
        return None
    since = max(0.0, now.timestamp() - sign / 1000)
    return max(0.0, max(slowest, sum(cell.left for cell in cells) / speed) - since)


def _causes(cells: Iterable[_CellStatus], state: CellState) -> tuple[Cause, ...]:
    """Causes of the cells in a state, the most frequent first."""
    counts, first = Counter[str](), dict[str, str]()
    for cell in cells:
        if cell.state is state and cell.run is not None:
            cause = " ".join(cell.run.data.tags.get(Tag.CAUSE, "").split()) or "unknown cause"
            alike = NUMBER.sub("#", cause)
            counts[alike] += 1
            first.setdefault(alike, cause)
    return tuple(Cause(first[alike], count) for alike, count in counts.most_common())


def _rates(runs: Runs) -> dict[str, Any]:
    """The fields on rates of a `SweepStatus`, by the same rules as the report."""
    if runs.finals.empty or not runs.record.domains:
        return {}
    table, axis = cells_table(runs), target_axis(runs)
    done = finished(table).drop_duplicates("cell")
    counts: dict[str, Any] = {
        "saturated": int((done["saturated"] != "").sum()),
        "unsettled": int(is_unsettled(done).sum()),
    }
    if axis is None:
        return counts
    name = target_name(axis)
    rates = rates_of_targets(table, name).dropna()
    targets = tuple(
        TargetReached(float(target), len(group), float(group.min()), float(group.median()), float(group.max()))
        for target, group in rates.groupby(table["target_rate"])
    )
    return counts | {"off_target": len(misses(table, name)), "target_of": name, "targets": targets}


def _milliseconds(moment: datetime | None) -> int:
    return int(moment.timestamp() * 1000) if moment else 0


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
