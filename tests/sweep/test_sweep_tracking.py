"""Tracking against a real SQLite store: one run a cell, every point once, outcomes that a later command can rely on."""

import itertools
import math
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path

from vaesweep.analysis import runs
from vaesweep.errors import UserError
from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.family import family, family_names
from vaesweep.packing import leaves
from vaesweep.sweep import tracking
from vaesweep.sweep.cells import Cell
from vaesweep.sweep.plan import make_plan
from vaesweep.sweep.storage import Storage
from vaesweep.sweep.survey import survey
from vaesweep.sweep.tracking import Store, Tracker, TrackingError
from vaesweep.training.finished import FinishedCell
from vaesweep.training.skipping import NOT_FINITE
from vaesweep.vocabulary import (
    CONFIG_FILE,
    MODEL_FILE,
    SWEEP_FILE,
    TABLE_FILE,
    Outcome,
    RunKind,
    Tag,
    has_table,
    runs_by_cell,
)

CELLS = [Cell(PartialVaeCell(seed=seed), "pvae", "data", {"seed": seed}) for seed in range(3)]
NAMES = [cell.identity for cell in CELLS]
FILE = b"the bytes of a finished file"
TAGS = {name: {str(Tag.SWEEP): "sweep", str(Tag.PACK): "pack"} for name in NAMES}
RECORD = {
    "sweep": "sweep",
    "name": "a sweep",
    "family": "pvae",
    "preset": "small",
    "command": "sweeps/a.py --preset small",
    "axes": {"seed": [0, 1, 2]},
    "cells": [],
}

numbers = itertools.count()


class Experiment:
    """One experiment of the store, its rows read from SQLite itself."""

    def __init__(self, file: Path) -> None:
        self.file, self.uri, self.name = file, f"sqlite:///{file}", f"experiment {next(numbers)}"
        self.client = MlflowClient(tracking_uri=self.uri)

    def store(self) -> Store:
        """The store as a new process opens it."""
        return Store(self.uri, self.name)

    def tracker(self, store: Store | None = None, cells: Sequence[Cell] = CELLS) -> Tracker:
        """A tracker as a new process makes it."""
        store = store or self.store()
        return Tracker(store, store.open_sweep(RECORD, {}), cells, store.cells(), TAGS)

    def rows(self, query: str, *values: Any) -> list[tuple]:
        with closing(sqlite3.connect(self.file)) as connection:
            return connection.execute(query, values).fetchall()

    def points(self, cell: str) -> list[tuple[str, int, float, bool]]:
        """All metric rows of a cell's runs: metric, step, value, whether it is NaN."""
        return self.rows(
            "select m.key, m.step, m.value, m.is_nan from metrics m join runs r using (run_uuid) "
            "join tags t using (run_uuid) join experiments e using (experiment_id) "
            "where e.name = ? and t.key = ? and t.value = ? order by m.key, m.step",
            *(self.name, str(Tag.CELL), cell),
        )

    def runs(self, kind: RunKind = RunKind.CELL) -> list[Any]:
        found = self.client.get_experiment_by_name(self.name)
        return self.client.search_runs([found.experiment_id], f"tags.`{Tag.KIND}` = '{kind}'") if found else []

    def run(self, cell: str) -> Any:
        (found,) = [run for run in self.runs() if run.data.tags[Tag.CELL] == cell]
        return found


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last attempt of a tracker ends at once where the store fails for good."""
    monkeypatch.setattr(tracking, "LAST_SECONDS", 0.0)


@pytest.fixture
def experiment(store_file: Path) -> Experiment:
    return Experiment(store_file)


def ended(
    cell: str, evaluated: Sequence[int] = (10, 20), diverged: int | None = None, saturated: tuple[str, ...] = ()
) -> FinishedCell:
    """A finished cell whose metric at each step is the step's tenth."""
    history = {"valid/rate": torch.tensor([step / 10 for step in evaluated], dtype=torch.float64)}
    metrics = {} if diverged is not None else {"a.test/rate": 2.0, "a.test/elbo": -30.0}
    config = PartialVaeCell().model_dump(mode="json")
    cause = None if diverged is None else f"step {diverged}: {NOT_FINITE}"
    return FinishedCell(
        cell, "pvae", config, evaluated[-1], metrics, diverged, saturated, tuple(evaluated), history, {}, {}, cause
    )


def tell(tracker: Tracker, step: int, cells: Sequence[str] = NAMES) -> None:
    tracker.points(step, cells, {"valid/rate": [step / 10] * len(cells)})


def once_each(points: Sequence[tuple]) -> bool:
    return set(Counter(point[:2] for point in points).values()) <= {1}


# One run a cell


def test_a_cell_has_one_run_with_its_whole_configuration(experiment: Experiment) -> None:
    with experiment.tracker() as tracker:
        tell(tracker, 10)
        for name in NAMES:
            tracker.ended(ended(name), FILE)
    assert sorted(run.data.tags[Tag.CELL] for run in experiment.runs()) == sorted(NAMES)
    for cell in CELLS:
        run = experiment.run(cell.identity)
        values = cell.config.model_dump(mode="json")
        assert values.pop("pretraining") is None  # what a cell has not is no parameter of it
        assert run.data.params == {key: str(value) for key, value in leaves(values)}
        assert run.data.params["seed"] == str(cell.config.seed)
        assert run.info.run_name == f"seed={cell.config.seed}"


def test_a_cells_run_hangs_under_the_sweeps_run(experiment: Experiment) -> None:
    with experiment.tracker() as tracker:
        tell(tracker, 10)
    (parent,) = experiment.runs(RunKind.SWEEP)
    for run in experiment.runs():
        assert run.data.tags[Tag.PARENT] == parent.info.run_id
        assert run.data.tags[Tag.SWEEP] == "sweep"
        assert run.data.tags[Tag.PACK] == "pack"
        assert run.data.tags[Tag.FAMILY] == "pvae"


def test_a_finished_cell_keeps_its_file_and_its_configuration(experiment: Experiment, tmp_path: Path) -> None:
    with experiment.tracker() as tracker:
        tracker.ended(ended(NAMES[0]), FILE)
    run = experiment.run(NAMES[0])
    assert {file.path for file in experiment.client.list_artifacts(run.info.run_id)} == {MODEL_FILE, CONFIG_FILE}
    there = experiment.client.download_artifacts(run.info.run_id, MODEL_FILE, str(tmp_path))
    assert Path(there).read_bytes() == FILE
    assert Path(there).is_relative_to(tmp_path)


def test_a_cell_that_has_not_been_heard_of_has_no_run(experiment: Experiment) -> None:
    with experiment.tracker() as tracker:
        tell(tracker, 10, NAMES[:1])
    assert len(experiment.runs()) == 1


# Many numbers of a kind go into a table


MANY = {"a.test/area_rmse.variance": 41.5, "a.test/stop_bias.oracle": math.nan, "b.test/area_rmse.random": math.inf}


def with_many(cell: str) -> FinishedCell:
    own = ended(cell)
    return replace(own, metrics={**own.metrics, **MANY})


def tables(experiment: Experiment) -> dict[str, runs.Finals]:
    """What the analysis reads of the tables of an experiment."""
    client = runs.client_of(experiment.uri)
    (number,) = [key for key, name in runs.experiment_names(client).items() if name == experiment.name]
    return dict(runs.tables_of(client, runs_by_cell(runs.search_runs(client, [number], RunKind.CELL))))


def test_numbers_by_rule_are_a_table_of_the_run_and_no_columns(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with experiment.tracker() as tracker:
        tracker.ended(with_many(NAMES[0]), FILE)
        tracker.ended(ended(NAMES[1]), FILE)
    assert {point[0] for point in experiment.points(NAMES[0])} == {"test/a.test/elbo", "test/a.test/rate", "valid/rate"}
    run, plain = experiment.run(NAMES[0]), experiment.run(NAMES[1])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", experiment.uri)
    found = experiment.client.load_table(run.info.experiment_id, TABLE_FILE)  # as MLflow finds it, by its tag
    rows = {f"{row.domain}/{row.metric}": float(row.value) for row in found.itertuples()}
    assert rows == pytest.approx(MANY, nan_ok=True)
    assert not has_table(plain.data.tags)
    assert TABLE_FILE not in {file.path for file in experiment.client.list_artifacts(plain.info.run_id)}
    (read,) = tables(experiment).values()
    assert {"/".join(place): value for place, value in read.items()} == pytest.approx(MANY, nan_ok=True)


def test_a_table_that_cannot_be_read_is_named_and_the_others_are_read(
    experiment: Experiment, caplog: pytest.LogCaptureFixture
) -> None:
    with experiment.tracker() as tracker:
        for name in NAMES:
            tracker.ended(with_many(name), FILE)
    gone, other = (experiment.run(name).info for name in NAMES[:2])
    Path(local_file_uri_to_path(gone.artifact_uri), TABLE_FILE).unlink()
    Path(local_file_uri_to_path(other.artifact_uri), TABLE_FILE).write_text('{"columns": ["a"], "data": []}')
    assert set(tables(experiment)) == {NAMES[2]}
    assert f"{TABLE_FILE} of 2 cells cannot be read" in caplog.text


def test_every_family_names_metrics_of_its_own_that_go_into_the_table() -> None:
    """And never a rate, a distortion or an ELBO of the whole, by which sweeps are read."""
    for name in family_names():
        owner = family(name)
        assert owner.table_metrics
        assert not [metric for metric in ("rate", "distortion", "elbo") if owner.in_table(metric)]


# Every point once


def test_points_told_twice_are_written_once(experiment: Experiment) -> None:
    with experiment.tracker() as tracker:
        for step in (10, 10, 20, 10):
            tell(tracker, step)
        tracker.ended(ended(NAMES[0], (10, 20, 30)), FILE)
    points = experiment.points(NAMES[0])
    assert once_each(points)
    assert [p[1] for p in points if p[0] == "valid/rate"] == [10, 20, 30]
    assert [p[1] for p in experiment.points(NAMES[1])] == [10, 20]


def test_a_finished_file_fills_in_what_was_never_told(experiment: Experiment) -> None:
    with experiment.tracker() as tracker:
        tracker.ended(ended(NAMES[0], (10, 20, 30)), FILE)
    assert [point[:3] for point in experiment.points(NAMES[0])] == [
        ("test/a.test/elbo", 30, -30.0),
        ("test/a.test/rate", 30, 2.0),
        ("valid/rate", 10, 1.0),
        ("valid/rate", 20, 2.0),
        ("valid/rate", 30, 3.0),
    ]


def test_a_run_of_an_earlier_process_is_taken_up_without_repeating_a_point(experiment: Experiment) -> None:
    with experiment.tracker() as earlier:
        for step in (10, 20):
            tell(earlier, step)
    before = experiment.run(NAMES[0]).info.run_id
    with experiment.tracker() as later:
        for step in (20, 30):  # the later process resumes from a checkpoint before the last point
            tell(later, step)
        later.ended(ended(NAMES[0], (10, 20, 30, 40)), FILE)
    points = experiment.points(NAMES[0])
    assert once_each(points)
    assert [p[1] for p in points if p[0] == "valid/rate"] == [10, 20, 30, 40]
    assert experiment.run(NAMES[0]).info.run_id == before


def test_a_cell_handed_over_twice_is_written_once(experiment: Experiment) -> None:
    for _ in range(2):
        with experiment.tracker() as tracker:
            tracker.ended(ended(NAMES[0]), FILE)
    assert len(experiment.runs()) == 1
    assert once_each(experiment.points(NAMES[0]))


def test_more_points_than_a_batch_holds_are_all_written(experiment: Experiment) -> None:
    steps = range(1, 2501)
    with experiment.tracker() as tracker:
        tracker.ended(ended(NAMES[0], steps), FILE)
    points = experiment.points(NAMES[0])
    assert [p[1] for p in points if p[0] == "valid/rate"] == list(steps)


def test_points_go_in_batches_never_one_by_one(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    log_batch = MlflowClient.log_batch

    def counted(self: MlflowClient, run_id: str, metrics: Sequence[Any] = (), **rest: Any) -> Any:
        sizes.append(len(metrics))
        return log_batch(self, run_id, metrics=metrics, **rest)

    with experiment.tracker() as tracker:
        monkeypatch.setattr(MlflowClient, "log_batch", counted)
        for step in range(1, 101):
            tell(tracker, step, NAMES[:1])
        tracker.ended(ended(NAMES[0], range(1, 2001)), FILE)
    assert sum(sizes) == 2002
    assert max(sizes) <= tracking.BATCH
    assert len([size for size in sizes if size]) <= 4


def test_points_reach_the_store_while_cells_still_train(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "FLUSH_SECONDS", 0.1)
    with experiment.tracker() as tracker:
        tell(tracker, 10, NAMES[:1])
        deadline = time.monotonic() + 20
        while not experiment.points(NAMES[0]) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [p[1] for p in experiment.points(NAMES[0])] == [10]


def test_what_is_not_finite_survives(experiment: Experiment) -> None:
    values = {1: math.nan, 2: math.inf, 3: -math.inf, 4: 1.0}
    for _ in range(2):  # told again by a later process, which reads what the first wrote
        with experiment.tracker() as tracker:
            for step, value in values.items():
                tracker.points(step, NAMES[:1], {"train/gradient_norm": [value]})
    points = experiment.points(NAMES[0])
    assert [p[1] for p in points] == [1, 2, 3, 4]
    assert [bool(p[3]) for p in points] == [True, False, False, False]
    assert points[1][2] > 1e308
    assert points[2][2] < -1e308


# Outcomes


def test_a_finished_cell_says_so(experiment: Experiment) -> None:
    with experiment.tracker() as tracker:
        tracker.ended(ended(NAMES[0], saturated=("total",)), FILE)
    run = experiment.run(NAMES[0])
    assert run.info.status == "FINISHED"
    assert run.data.tags[Tag.OUTCOME] == Outcome.FINISHED
    assert run.data.tags[Tag.SATURATED] == "total"
    assert Tag.CAUSE not in run.data.tags


def test_a_diverged_cell_says_when_and_why(experiment: Experiment) -> None:
    with experiment.tracker() as tracker:
        tracker.ended(ended(NAMES[0], diverged=17), FILE)
    run = experiment.run(NAMES[0])
    assert run.info.status == "FAILED"
    assert run.data.tags[Tag.OUTCOME] == Outcome.DIVERGED
    assert run.data.tags[Tag.CAUSE] == "step 17: the objective or its gradient was not finite"
    assert not [name for name in run.data.metrics if name.startswith("test/")]


def test_a_failed_cell_says_why_and_keeps_its_points(experiment: Experiment) -> None:
    with experiment.tracker() as tracker:
        tell(tracker, 10)
        tracker.failed(NAMES[0], "its process was killed")
    run = experiment.run(NAMES[0])
    assert run.info.status == "FAILED"
    assert run.data.tags[Tag.OUTCOME] == Outcome.FAILED
    assert run.data.tags[Tag.CAUSE] == "its process was killed"
    assert len(experiment.points(NAMES[0])) == 1


def test_the_next_plan_tries_failed_cells_again_and_leaves_finished_and_diverged_ones(
    experiment: Experiment, tmp_path: Path
) -> None:
    with experiment.tracker() as tracker:
        tracker.ended(ended(NAMES[0]), FILE)
        tracker.ended(ended(NAMES[1], diverged=5), FILE)
        tracker.failed(NAMES[2], "its process was killed")
    storage = Storage(str(tmp_path))
    known = survey(CELLS, experiment.store().cells(), storage, lambda _: {}, lambda run: None)
    plan = make_plan(CELLS, known.done, known.sources, known.blocked, None, 2)
    assert plan.done == {NAMES[0], NAMES[1]}
    assert [cell.identity for pack in plan.packs for cell in pack.cells] == [NAMES[2]]


def test_a_failed_cell_that_finishes_later_is_finished_without_a_trace_of_failure(experiment: Experiment) -> None:
    with experiment.tracker() as tracker:
        tracker.failed(NAMES[0], "its process was killed")
    with experiment.tracker() as tracker:
        tracker.ended(ended(NAMES[0]), FILE)
    run = experiment.run(NAMES[0])
    assert run.info.status == "FINISHED"
    assert run.data.tags[Tag.OUTCOME] == Outcome.FINISHED
    assert not run.data.tags.get(Tag.CAUSE)


def test_an_interruption_ends_only_the_runs_that_are_open(experiment: Experiment) -> None:
    with experiment.tracker() as tracker:
        tell(tracker, 10)
        tracker.ended(ended(NAMES[0]), FILE)
        tracker.ended(ended(NAMES[1], diverged=5), FILE)
        tracker.interrupted()
    assert [experiment.run(name).info.status for name in NAMES] == ["FINISHED", "FAILED", "KILLED"]
    assert Tag.OUTCOME not in experiment.run(NAMES[2]).data.tags
    assert len(experiment.points(NAMES[2])) == 1


def test_an_interrupted_cell_is_taken_up_by_the_next_plan(experiment: Experiment, tmp_path: Path) -> None:
    with experiment.tracker() as tracker:
        tell(tracker, 10)
        tracker.interrupted()
    outcomes = {cell: known.outcome for cell, known in experiment.store().cells().items()}
    assert outcomes == dict.fromkeys(NAMES)
    known = survey(CELLS, experiment.store().cells(), Storage(str(tmp_path)), lambda _: {}, lambda run: None)
    assert make_plan(CELLS, known.done, known.sources, known.blocked, None, 1).left() == 3


# The sweep's own run


def test_the_same_sweep_again_reopens_its_run(experiment: Experiment) -> None:
    store = experiment.store()
    first = store.open_sweep(RECORD, {})
    store.end(first, "KILLED")
    assert experiment.store().open_sweep(RECORD, {}) == first
    (run,) = experiment.runs(RunKind.SWEEP)
    assert run.info.status == "RUNNING"
    assert run.data.params["preset"] == "small"
    assert {file.path for file in experiment.client.list_artifacts(first)} == {SWEEP_FILE}


def test_another_sweep_of_the_experiment_has_its_own_run_and_shares_cells(experiment: Experiment) -> None:
    with experiment.tracker() as tracker:
        tracker.ended(ended(NAMES[0]), FILE)
    store = experiment.store()
    assert store.open_sweep(RECORD | {"sweep": "other"}, {}) != store.open_sweep(RECORD, {})
    assert set(store.cells()) == {NAMES[0]}


def test_an_experiment_in_the_trash_is_refused_until_it_is_brought_back(experiment: Experiment) -> None:
    store = experiment.store()
    experiment.client.delete_experiment(store.id)
    with pytest.raises(UserError, match=f"mlflow experiments restore --experiment-id {store.id}"):
        experiment.store()
    experiment.client.restore_experiment(store.id)
    assert experiment.store().id == store.id


def test_a_run_whose_process_died_before_it_had_parameters_gets_them(experiment: Experiment) -> None:
    store = experiment.store()
    cell = CELLS[0]
    run = experiment.client.create_run(store.id).info.run_id
    store.reopen(run, cell)
    assert experiment.client.get_run(run).data.params["seed"] == str(cell.config.seed)


def test_a_cell_that_ends_without_a_point_has_its_parameters(experiment: Experiment) -> None:
    with experiment.tracker() as tracker:
        tracker.failed(NAMES[0], "no memory")
    assert experiment.run(NAMES[0]).data.params["seed"] == "0"


def test_a_call_that_fails_is_repeated_with_the_parameters(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = experiment.store()
    monkeypatch.setattr(tracking, "LAST_SECONDS", 20.0)
    log_batch, calls = MlflowClient.log_batch, itertools.count()

    def twice_lost(self: MlflowClient, run_id: str, **rest: Any) -> None:
        if rest.get("metrics") and next(calls) < 2:
            raise ConnectionError("the server has gone")
        log_batch(self, run_id, **rest)

    with experiment.tracker(store) as tracker:
        monkeypatch.setattr(MlflowClient, "log_batch", twice_lost)
        tell(tracker, 10, NAMES[:1])
        tracker.ended(ended(NAMES[0]), FILE)
    assert experiment.run(NAMES[0]).data.params["seed"] == "0"
    assert once_each(experiment.points(NAMES[0]))
    assert len(experiment.points(NAMES[0])) == 4


def test_writing_of_cells_that_train_pauses_twenty_times_as_long_as_it_took(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many cells there are, it ends, and takes a twentieth of a core."""
    monkeypatch.setattr(tracking, "FLUSH_SECONDS", 0.01)
    store = experiment.store()
    log, starts = store.log, []

    def slow(run_id: str, points: Sequence[Any]) -> None:
        starts.append(time.monotonic())
        time.sleep(0.1)
        log(run_id, points)

    monkeypatch.setattr(store, "log", slow)
    with experiment.tracker(store) as tracker:
        for step in range(1, 200):
            tell(tracker, step, NAMES[:1])
            time.sleep(0.01)
    assert starts[1] - starts[0] > 20 * 0.1 or len(starts) == 2  # the second one when the tracker is left


# Errors of the store


class Broken:
    """A store that answers until `after` calls of one method were made, then raises."""

    def __init__(self, store: Store, method: str) -> None:
        self._store, self._method = store, method

    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any, **__: Any) -> None:
            raise ConnectionError(f"{name}: the server has gone")

        return fail if name == self._method else getattr(self._store, name)


@pytest.fixture
def broken(experiment: Experiment) -> Callable[[str], Tracker]:
    return lambda method: experiment.tracker(Broken(experiment.store(), method))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["open_cell", "log", "log_file", "tag", "end"])
def test_an_error_of_the_store_is_raised_where_the_tracker_is_left(
    broken: Callable[[str], Tracker], method: str
) -> None:
    def one_cell() -> None:
        with broken(method) as tracker:
            tell(tracker, 10)
            tracker.ended(ended(NAMES[0]), FILE)

    with pytest.raises(TrackingError, match=f"{method}: the server has gone"):
        one_cell()


def test_a_store_that_fails_does_not_stop_the_training(broken: Callable[[str], Tracker]) -> None:
    told = 0

    def train_for_a_while() -> None:
        nonlocal told
        with broken("open_cell") as tracker:
            for _ in range(20):
                tell(tracker, 10)
                told += 1
                time.sleep(0.01)

    with pytest.raises(TrackingError, match="the same command completes the runs"):
        train_for_a_while()
    assert told == 20
