"""Failures count since the last progress: a pack that comes further each time goes on, a hopeless one is named."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packs import CPU, job
from processes import CONTROLLER, PATIENCE, TRIAL, WORKER, processes, wait

from vaesweep.data.domains import DataSet
from vaesweep.sweep.backends import GIVEN_UP, PACK, train_alone, train_on_workers
from vaesweep.sweep.cells import Cell
from vaesweep.sweep.elastic import JobQueue, PlacementGroups, Splitter
from vaesweep.sweep.jobs import PackJob
from vaesweep.sweep.retries import RETRIES, Progress, Retries, saved_steps
from vaesweep.sweep.runner import NO_CAUSE, _EventCallback
from vaesweep.sweep.storage import CHECKPOINTS, Storage, finished_name
from vaesweep.sweep.worker import run_job

slow = pytest.mark.slow
PROGRESS = st.builds(Progress, st.integers(0, 3), st.integers(0, 3))


def test_a_pack_that_never_progresses_is_given_up_after_its_retries() -> None:
    retries = Retries()
    assert [retries.failed("p", Progress()) for _ in range(RETRIES + 1)] == [True] * RETRIES + [False]


def test_a_pack_that_progresses_between_failures_goes_on_for_ever() -> None:
    retries = Retries()
    for step in range(1, 100):
        assert all(retries.failed("p", Progress(step // 10, step)) for _ in range(RETRIES))
    assert not retries.failed("p", Progress(9, 99))


def test_a_cell_that_has_ended_is_progress_though_its_checkpoint_is_gone() -> None:
    retries = Retries(most=1)
    assert retries.failed("p", Progress(0, 900))
    assert retries.failed("p", Progress(1, 0))
    assert not retries.failed("p", Progress(1, 0))


def test_coming_as_far_as_before_is_no_progress() -> None:
    """A pack whose checkpoint is damaged again and again writes it again and again."""
    retries = Retries(most=3)
    assert [retries.failed("p", Progress(0, steps)) for steps in (50, 0, 50, 0)] == [True, True, True, False]


def test_packs_are_counted_each_for_itself() -> None:
    retries = Retries(most=1)
    assert retries.failed("p", Progress())
    assert retries.failed("q", Progress())
    assert not retries.failed("p", Progress())


@given(st.lists(PROGRESS), st.integers(0, 4))
def test_a_pack_is_given_up_as_soon_as_too_many_failures_followed_its_best(failures: list[Progress], most: int) -> None:
    retries, best, since = Retries(most), Progress(), 0
    for progress in failures:
        best, since = (progress, 1) if progress > best else (best, since + 1)
        assert retries.failed("p", progress) == (since <= most)


def test_saved_steps_are_those_of_the_furthest_checkpoint_of_each_cell(
    cells: list[Cell], audiograms: DataSet, storage: Storage, driver: Any, killed: Any
) -> None:
    identities = [cell.identity for cell in cells]
    assert saved_steps(storage, identities, []) == 0
    for members, patience in ((cells[:2], 3), (cells[2:], 2)):
        with pytest.raises(killed):
            run_job(job(members, storage), audiograms, driver(patience), CPU)
    furthest: dict[str, int] = {}
    for name in storage.names(CHECKPOINTS):
        group, _, step = name.partition(".")[0].rpartition("-")
        furthest[group] = max(int(step), furthest.get(group, 0))
    steps = sorted(furthest.values())
    assert len(steps) == 2
    assert 0 < steps[0] < steps[1]
    assert saved_steps(storage, identities, []) == 2 * sum(steps)
    assert saved_steps(storage, identities[:1], []) in steps
    assert saved_steps(storage, ["another"], []) == 0


def test_a_damaged_checkpoint_holds_no_steps_and_is_named(storage: Storage) -> None:
    storage.write(f"{CHECKPOINTS}/0123-300.safetensors", b"something else altogether")
    notes: list[str] = []
    assert saved_steps(storage, ["a"], notes) == 0
    assert "0123-300.safetensors" in notes[0]


class Display:
    """A display that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, pack: str, note: str) -> None:
        self.lines.append(f"{pack}: {note}")

    def event(self, event: Any) -> None:
        raise AssertionError

    def ended(self, cell: str, cause: str | None = None) -> None:
        pass


class Trial(SimpleNamespace):
    """A trial as Tune's callbacks see it, whose failures are written to `error_file`."""

    def __init__(self, job: PackJob, folder: Path, workers: int = 1) -> None:
        config = {PACK: {"pack": job.pack, "job": job.to_json(), "workers": workers, "local": True, "scratch": "/tmp"}}
        error_file = folder / "error.txt"
        super().__init__(trial_id="t0", config=config, num_failures=0, error_file=str(error_file), max_failures=-1)

    def set_config(self, config: dict[str, Any]) -> None:
        self.config = config

    def fail(self, error: str) -> "Trial":
        self.num_failures += 1
        with Path(self.error_file).open("a") as file:
            file.write(f"Failure # {self.num_failures} (occurred at noon)\n{error}\n")
        return self


@pytest.fixture
def display() -> Display:
    return Display()


@pytest.fixture
def pack(cells: list[Cell], storage: Storage) -> PackJob:
    return job(cells[:2], storage)


@pytest.fixture
def queue() -> JobQueue:
    return JobQueue([], lambda job: {PACK: job.pack})


@pytest.fixture
def callback(pack: PackJob, storage: Storage, display: Display, queue: JobQueue) -> _EventCallback:
    tracker = SimpleNamespace(ended=lambda cell, data: None)
    splitter = Splitter(queue, storage, PlacementGroups({"CPU": 1.0}), at_once=1)
    return _EventCallback([pack], storage, tracker, display, queue, splitter)  # type: ignore[arg-type]


def test_a_trial_that_fails_too_often_is_told_to_end(
    callback: _EventCallback, pack: PackJob, display: Display, tmp_path: Path
) -> None:
    trial = Trial(pack, tmp_path)
    for number in range(RETRIES + 1):
        assert GIVEN_UP not in trial.config[PACK]
        callback.on_trial_recover(1, [], trial.fail(f"Traceback:\n  raise\nRuntimeError: number {number} [x]"))
    assert trial.config[PACK][GIVEN_UP]
    assert trial.max_failures == 0
    assert callback.given_up == {pack.pack: f"RuntimeError: number {RETRIES} [x]"}
    expected = "stopped, and goes on from its last checkpoint: RuntimeError: number"
    assert display.lines == [f"{pack.pack}: {expected} {number} [x]" for number in range(RETRIES)]
    for train in (train_alone, train_on_workers):
        train(trial.config, None)  # type: ignore[arg-type]  # it returns at once


def test_a_trial_whose_cells_end_one_by_one_is_tried_again(
    callback: _EventCallback,
    pack: PackJob,
    cells: list[Cell],
    audiograms: DataSet,
    storage: Storage,
    tmp_path: Path,
) -> None:
    trial = Trial(pack, tmp_path)
    others = Storage(str(tmp_path / "others"))
    run_job(job(cells[:2], others), audiograms, lambda event: None, CPU)
    for cell in pack.configs:
        for _ in range(RETRIES):
            callback.on_trial_recover(1, [], trial.fail("died"))
        storage.write(finished_name(cell), others.read(finished_name(cell)))
    callback.on_trial_recover(1, [], trial.fail("died"))
    assert GIVEN_UP not in trial.config[PACK]
    assert callback.collected == set(pack.configs), "what has ended is taken at once"


def test_a_machine_that_was_taken_back_is_no_failure(callback: _EventCallback, pack: PackJob, tmp_path: Path) -> None:
    trial = Trial(pack, tmp_path).fail("died")
    for _ in range(10 * RETRIES):
        callback.on_trial_recover(1, [], trial)  # Ray counts no failure where it has announced the end of a machine
    assert GIVEN_UP not in trial.config[PACK]


def test_a_storage_that_is_away_is_no_progress_and_stops_nothing(
    callback: _EventCallback, pack: PackJob, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise OSError("it is away")

    monkeypatch.setattr(storage, "exists", away)
    monkeypatch.setattr(storage, "names", away)
    trial = Trial(pack, tmp_path)
    for _ in range(RETRIES + 1):
        callback.on_trial_recover(1, [], trial.fail("died"))
    assert trial.config[PACK][GIVEN_UP]


def test_a_process_that_fails_as_it_starts_is_tried_again_as_often(
    callback: _EventCallback, pack: PackJob, queue: JobQueue, tmp_path: Path
) -> None:
    trials = [Trial(pack, tmp_path) for _ in range(RETRIES + 1)]
    for number, trial in enumerate(trials):
        trial.trial_id = f"t{number}"
        callback.on_trial_error(1, [], trial.fail("the actor never ran"))
        suggested = queue.suggest(trial.trial_id)
        assert suggested == ({PACK: pack.pack} if number < RETRIES else JobQueue.FINISHED)
        queue.on_trial_complete(trial.trial_id, error=True)
    assert callback.given_up == {pack.pack: "the actor never ran"}


def test_a_trial_without_an_error_file_has_no_cause(callback: _EventCallback, pack: PackJob, tmp_path: Path) -> None:
    for file in (None, str(tmp_path / "nowhere")):
        trial = Trial(pack, tmp_path)
        trial.trial_id, trial.error_file = f"of {file}", file
        for number in range(RETRIES + 1):
            trial.num_failures = number + 1
            callback.on_trial_recover(1, [], trial)
    assert callback.given_up == {pack.pack: NO_CAUSE}


LONG = ("training.steps=4000", "training.evaluate_every=50", "rates.total.target=1.0", "seed=0")


@slow
@pytest.mark.parametrize(
    ("workers", "victims"),
    [(1, [TRIAL] * (RETRIES + 2)), (2, [WORKER, TRIAL, WORKER, CONTROLLER, WORKER])],
    ids=["alone", "on workers"],
)
def test_a_pack_that_is_killed_again_and_again_each_time_further_on_arrives(
    command: Any, workers: int, victims: Sequence[str]
) -> None:
    process = command.start("--workers", str(workers), "--checkpoint-every", "0", settings=LONG)
    old: set[psutil.Process] = set()  # of groups that were hit: what is left of them may save a little longer
    for victim in victims:
        (*_, one) = wait(process, lambda name=victim, gone=frozenset(old): set(processes(process, name)) - gone)
        before = frozenset(command.checkpoints())
        wait(process, lambda known=before: set(command.checkpoints()) - known)
        old |= {part for name in (TRIAL, WORKER, CONTROLLER) for part in processes(process, name)}
        one.kill()
    out, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert out.count("stopped, and goes on from its last checkpoint") == len(victims)
    assert "cells: 1 finished, 0 diverged, 0 failed" in out
    points = command.points()
    assert len(set(points)) == len(points)
    assert len([key for _, key, _ in points if key == "valid/elbo"]) == 80
    assert command.checkpoints() == []


FAMILY = '''
"""Partial VAEs, of which those of seed 1 come to an end at step {step}."""

import os
from pathlib import Path

from vaesweep.families.pvae.family import FAMILY as PVAE
from vaesweep.training.batch_order import NOISE, generator


class Failing(type(PVAE)):
    name = "failing"

    def problem(self, config, data, device):
        problem = super().problem(config, data, device)
        if config.seed != 1 or "ray::" not in Path("/proc/self/cmdline").read_text():
            return problem
        with open("{starts}", "a") as file:
            file.write("started\\n")
        train_batch, fatal = problem.train_batch, generator(1, NOISE, {step}, device).initial_seed()

        def failing(rows, noise):
            if noise.initial_seed() == fatal:
                {end}
            return train_batch(rows, noise)

        problem.train_batch = failing
        return problem


FAMILY = Failing()
'''
SCRIPT = '''
"""A sweep of which a cell cannot be trained."""

from vaesweep.cli.script import main
from vaesweep.sweep.cells import Preset, Sweep

BASE = {"rates.total.kind": "target", "rates.total.target": 1.0, "training.steps": 300, "training.evaluate_every": 50,
    "training.batch_size": 16, "model.hidden": 8, "model.features": 8, "model.latents": 2, "data.draws": 1}
SWEEP = Sweep("failing", "failing", lambda data: {"smoke": Preset(base=BASE, axes={"seed": [0, 1]})})

if __name__ == "__main__":
    raise SystemExit(main(SWEEP, __doc__))
'''


@slow
@pytest.mark.parametrize(
    ("end", "step", "workers", "cause"),
    [
        ('raise RuntimeError("the [data] ran out")', 120, 1, "RuntimeError: the [data] ran out"),
        ("os._exit(1)", 120, 1, "died"),
        ('raise RuntimeError("the [data] ran out")', 120, 2, "RuntimeError: the [data] ran out"),
    ],
    ids=["raises", "dies", "raises on workers"],
)
def test_a_pack_that_dies_at_one_place_for_ever_is_named_with_its_cause_and_the_others_finish(
    command: Any, monkeypatch: pytest.MonkeyPatch, end: str, step: int, workers: int, cause: str
) -> None:
    package, starts = command.folder / "package", command.folder / "starts"
    about = package / "failing-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: failing\nVersion: 0\n")
    (about / "entry_points.txt").write_text("[vaesweep.families]\nfailing = failing_family:FAMILY\n")
    (package / "failing_family.py").write_text(FAMILY.format(starts=starts, step=step, end=end))
    (package / "sweep.py").write_text(SCRIPT)
    monkeypatch.setenv("PYTHONPATH", str(package))
    options = ("--workers", str(workers), "--checkpoint-every", "0", "--pack-size", "1")
    process = command.start(*options, script=str(package / "sweep.py"))
    out, errors = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 1
    assert "cells: 1 finished, 0 diverged, 1 failed" in out
    (line,) = [line for line in errors.splitlines() if line.startswith("cell ") and " failed: " in line]
    assert cause in line
    assert out.count("stopped, and goes on from its last checkpoint") == RETRIES
    assert starts.read_text().count("started") == (RETRIES + 1) * workers
