"""Where a sweep stands is read from its runs in a few calls, and nothing is changed by looking."""

import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from tracked_sweeps import BEGAN, TrackedSweep, grid

from vaesweep.analysis import runs, status
from vaesweep.analysis.runs import client_of
from vaesweep.errors import UserError
from vaesweep.vocabulary import Outcome, Tag


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store, since to make one takes seconds; tests copy it."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def client(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.chdir(tmp_path)
    return MlflowClient(f"sqlite:///{shutil.copy(empty, tmp_path)}")


@pytest.fixture
def sweep(client: MlflowClient, tmp_path: Path) -> TrackedSweep:
    """A sweep of two targets and two seeds that has just begun."""
    return TrackedSweep(client, "toy", grid([1.0, 2.0], 2)).open(tmp_path / "artifacts")


def look(sweep: TrackedSweep, second: float, *names: str) -> status.SweepStatus:
    (one,) = status.read(sweep.client, names, now=sweep.now(second))
    return one


def test_a_sweep_that_has_just_begun_has_all_cells_waiting(sweep: TrackedSweep) -> None:
    seen = look(sweep, 5)
    assert (seen.name, seen.preset, seen.command, seen.state) == ("toy", "small", sweep.command, "running")
    assert seen.cells == {"done": 0, "diverged": 0, "running": 0, "waiting": 4, "failed": 0}
    assert (seen.steps_done, seen.steps_all, seen.seconds_left) == (0, 4000, None)
    assert seen.began == seen.command_began == seen.last_sign == sweep.now(0)
    assert seen.ended is None


def test_every_cell_is_in_one_state(sweep: TrackedSweep) -> None:
    for cell in sweep.cells:
        sweep.train(cell, [(10, 100)])
    sweep.end("1-0", 20)
    sweep.end("1-1", 20, 300, Outcome.DIVERGED, cause="the objective is not finite at step 300")
    sweep.end("2-0", 20, 300, Outcome.FAILED, cause="its worker process died")
    seen = look(sweep, 30)
    assert seen.cells == {"done": 1, "diverged": 1, "running": 1, "waiting": 0, "failed": 1}
    assert seen.steps_done == 1000 + 1000 + 300 + 100, "a diverged cell takes no more steps"


def test_causes_that_differ_in_numbers_count_as_one_and_the_most_frequent_stands_first(sweep: TrackedSweep) -> None:
    for cell, cause in zip(sweep.cells, ["died at step 1", "out of memory", "died at step 22", ""], strict=True):
        sweep.train(cell, [(10, 100)])
        sweep.end(cell, 20, 100, Outcome.FAILED, cause=cause)
    causes = look(sweep, 30).failed
    assert [(one.cause, one.cells) for one in causes] == [
        ("died at step 1", 2),
        ("out of memory", 1),
        ("unknown cause", 1),
    ]


def test_rates_reached_are_those_of_the_training_domain_by_target(sweep: TrackedSweep) -> None:
    for cell, rate, more in (
        ("1-0", 0.99, {}),
        ("1-1", 1.2, {"settled": 0.0}),
        ("2-0", 1.4, {"saturated": "total"}),
    ):
        sweep.train(cell, [(10, 100)])
        sweep.end(cell, 20, rate=rate, **more)
    seen = look(sweep, 30)
    reached = [(one.target, one.cells, one.lowest, one.median, one.highest) for one in seen.targets]
    assert reached == [(1.0, 2, 0.99, pytest.approx(1.095), 1.2), (2.0, 1, 1.4, 1.4, 1.4)]
    assert (seen.off_target, seen.unsettled, seen.saturated) == (1, 1, 1), "what is out of reach is not off target too"
    assert seen.target_of == "total"


# Time left


def test_time_left_follows_the_pace_of_the_points_whatever_came_before_the_first(sweep: TrackedSweep) -> None:
    """Two cells at 10 steps a second each from the 60th second on, two that wait: 2 × 600 and 2 × 1000 steps at 20."""
    for cell in ("1-0", "1-1"):
        sweep.train(cell, [(60, 100), (70, 200), (80, 300), (90, 400)])
    seen = look(sweep, 90)
    assert seen.seconds_left == pytest.approx((2 * 600 + 2 * 1000) / 20)
    assert look(sweep, 100).seconds_left == pytest.approx(seen.seconds_left - 10), "it goes on between two points"


def test_several_points_that_came_at_once_count_once(sweep: TrackedSweep) -> None:
    for cell in sweep.cells:
        sweep.train(cell, [(60, 100), (60, 200), (80, 300), (80, 400)])
    assert look(sweep, 80).seconds_left == pytest.approx(600 / 10)


def test_the_slowest_pack_decides_where_none_waits(sweep: TrackedSweep) -> None:
    for cell in ("1-0", "1-1", "2-0"):
        sweep.train(cell, [(10, 100), (20, 900)], pack="fast")
    sweep.train("2-1", [(10, 100), (20, 200)], pack="slow")
    assert look(sweep, 20).seconds_left == pytest.approx(80)


def test_packs_beyond_those_that_are_read_are_as_fast_as_the_median(
    sweep: TrackedSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "PACKS", 1)
    for number, cell in enumerate(sweep.cells):
        sweep.train(cell, [(10, 100), (20 + number, 200)], pack=cell)
    assert look(sweep, 23).seconds_left == pytest.approx(4 * 800 / (4 * 100 / 13))


def test_a_resumed_cell_goes_by_the_points_of_the_last_command_only(sweep: TrackedSweep) -> None:
    for cell in sweep.cells:
        sweep.train(cell, [(-900, 100), (-800, 500), (10, 600), (20, 700)])
    assert look(sweep, 20).seconds_left == pytest.approx(300 / 10)


def test_a_cell_that_was_stopped_waits_until_this_command_logs_it(sweep: TrackedSweep) -> None:
    sweep.train("1-0", [(-900, 100), (-800, 500)])
    seen = look(sweep, 20)
    assert (seen.cells["running"], seen.cells["waiting"], seen.steps_done) == (0, 4, 500)


def test_between_packs_the_pace_is_that_of_the_command_so_far(sweep: TrackedSweep) -> None:
    for cell in ("1-0", "1-1"):
        sweep.train(cell, [(50, 500), (100, 1000)])
        sweep.end(cell, 100)
    assert look(sweep, 100).seconds_left == pytest.approx(2000 / (2000 / 100))


def test_a_single_point_gives_an_estimate_from_the_beginning(sweep: TrackedSweep) -> None:
    for cell in sweep.cells:
        sweep.train(cell, [(50, 100)])
    assert look(sweep, 50).seconds_left == pytest.approx(900 / (100 / 50))


# Silence, and the end


def test_a_sweep_without_points_for_long_is_silent_and_says_since_when(sweep: TrackedSweep) -> None:
    for cell in sweep.cells:
        sweep.train(cell, [(10, 100), (20, 200)])
    assert look(sweep, 20 + status.SILENT_SECONDS - 1).state == "running"
    seen = look(sweep, 20 + status.SILENT_SECONDS + 1)
    assert (seen.state, seen.last_sign, seen.seconds_left) == ("silent", sweep.now(20), None)
    assert seen.is_open


def test_slow_evaluations_do_not_make_a_sweep_silent(sweep: TrackedSweep) -> None:
    for cell in sweep.cells:
        sweep.train(cell, [(10, 100), (1010, 200)])  # evaluated every 1000 s
    assert look(sweep, 1010 + 2900).state == "running"
    assert look(sweep, 1010 + 3100).state == "silent"


@pytest.mark.parametrize(
    ("ended", "state"), [("FINISHED", "finished"), ("FAILED", "failed"), ("KILLED", "interrupted")]
)
def test_a_sweep_that_has_ended_says_how(sweep: TrackedSweep, ended: str, state: str) -> None:
    sweep.train("1-0", [(10, 100), (20, 200)])
    sweep.close(30, ended)
    seen = look(sweep, 10_000)
    assert (seen.state, seen.ended, seen.seconds_left, seen.is_open) == (state, sweep.now(30), None, False)
    assert seen.cells["running"] == 0


# Which sweeps


def test_all_that_run_are_shown_and_else_the_last_used(client: MlflowClient, tmp_path: Path) -> None:
    def made(name: str, identity: str, began: float) -> TrackedSweep:
        return TrackedSweep(client, name, grid([1.0], 1), sweep=identity, began=BEGAN + began).open(tmp_path / name)

    old, new, other = made("toy", "aaaa", 0), made("toy", "bbbb", 100), made("other", "cccc", 50)

    def shown(*names: str, also: tuple[str, ...] = ()) -> list[str]:
        return [one.sweep for one in status.read(client, names, also, now=new.now(10))]

    assert shown() == ["bbbb", "cccc", "aaaa"]
    new.close(10)
    assert shown() == ["cccc", "aaaa"]
    assert shown("toy") == ["aaaa"]
    assert shown("bbbb") == shown(new.run_id) == ["bbbb"]
    assert shown(also=(new.run_id,)) == ["bbbb", "cccc", "aaaa"]
    other.close(10)
    old.close(500)  # begun first, used last
    assert shown() == shown("toy") == ["aaaa"]
    with pytest.raises(UserError, match="did you mean 'toy'"):
        shown("toi")
    with pytest.raises(UserError, match="it has other, toy"):
        shown("nothing like it")


def test_a_cell_that_another_sweep_has_trained_counts(client: MlflowClient, tmp_path: Path) -> None:
    older = TrackedSweep(client, "toy", grid([1.0], 1), began=BEGAN - 100).open(tmp_path / "artifacts")
    older.train("1-0", [(10, 100)])
    older.end("1-0", 20)
    older.close(20)
    newer = TrackedSweep(client, "toy", grid([1.0, 2.0], 1), sweep="bbbb").open()
    assert look(newer, 10).cells == {"done": 1, "diverged": 0, "running": 0, "waiting": 1, "failed": 0}


def test_steps_of_older_records_are_those_of_the_cells_that_have_begun(client: MlflowClient, tmp_path: Path) -> None:
    sweep = TrackedSweep(client, "toy", grid([1.0], 2), steps=None).open(tmp_path / "artifacts")
    assert look(sweep, 1).steps_all is None
    sweep.train("1-0", [(10, 100)], **{"pretraining.training.steps": 500})
    assert look(sweep, 20).steps_all == 2 * 1500


def test_runs_of_release_0_1_which_do_not_say_when_a_command_began_are_read(sweep: TrackedSweep) -> None:
    sweep.client.set_tag(sweep.run_id, str(Tag.BEGAN), "")
    for cell in sweep.cells:
        sweep.train(cell, [(10, 100), (20, 200)])
    seen = look(sweep, 20)
    assert (seen.command_began, seen.cells["running"]) == (None, 4)
    assert seen.seconds_left == pytest.approx(80)


def test_a_sweep_whose_record_cannot_be_read_is_shown_by_its_runs(sweep: TrackedSweep, tmp_path: Path) -> None:
    sweep.train("1-0", [(10, 100)])
    shutil.rmtree(tmp_path / "artifacts")
    seen = look(sweep, 20)
    assert (seen.preset, seen.family, seen.cells["running"], seen.steps_all) == ("small", "pvae", 1, None)
    assert "only cells that have begun are known" in seen.note


def test_pages_are_followed_to_the_last(sweep: TrackedSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    for cell in sweep.cells:
        sweep.train(cell, [(10, 100)])
    whole = look(sweep, 20)
    monkeypatch.setattr(runs, "PAGE", 2)
    assert look(sweep, 20) == whole


# Looking


def test_the_number_of_calls_does_not_grow_with_the_cells(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = TrackedSweep(client, "toy", grid([1.0, 2.0], 10)).open(tmp_path / "artifacts")
    for cell in sweep.cells:
        sweep.train(cell, [(10, 100), (20, 200)], pack=f"pack {cell[0]}")
    calls: list[str] = []

    def count(name: str) -> None:
        call = getattr(MlflowClient, name)

        def counted(self: Any, *args: Any, **options: Any) -> Any:
            calls.append(name)
            return call(self, *args, **options)

        monkeypatch.setattr(MlflowClient, name, counted)

    for name in ("search_experiments", "search_runs", "get_run", "get_metric_history", "download_artifacts"):
        count(name)
    assert look(sweep, 20).cells["running"] == 20
    assert Counter(calls) == {
        "search_experiments": 1,  # runs are read from the file's own tables
        "get_metric_history": 2,  # one a pack
        "download_artifacts": 1,  # which asks for the sweep's run
        "get_run": 1,
    }


def test_looking_changes_nothing(sweep: TrackedSweep, tmp_path: Path) -> None:
    def content() -> list[str]:
        with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
            return list(connection.iterdump())

    sweep.train("1-0", [(10, 100)])
    before, files = content(), sorted(tmp_path.rglob("*"))
    status.read(client_of(f"sqlite:///{tmp_path / 'mlflow.db'}"))
    assert content() == before
    assert sorted(tmp_path.rglob("*")) == files


def test_an_empty_store_has_no_sweep(client: MlflowClient) -> None:
    assert status.read(client) == []
