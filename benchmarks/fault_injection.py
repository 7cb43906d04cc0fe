"""The subject of faults: a real sweep command in this process, with Ray replaced by a loop over its trials.

prepared state ──► copy ──► damage ──► the command, once or twice ──► what MLflow has, beside an undisturbed sweep

The command is `vaesweep.cli.script.main` itself, from its words to its exit code, less its tables and its figure; four
cells in packs of two take twelve steps each. Steps are counted where they are trained.
"""

import contextlib
import io
import math
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from fault_table import CELLS
from ray import tune

from vaesweep.cli import ending, script, signals
from vaesweep.families.pvae.data.audiograms import COLUMNS
from vaesweep.sweep import runner, worker
from vaesweep.sweep.backends import EVENT, PACK
from vaesweep.sweep.cells import Preset, Sweep
from vaesweep.sweep.jobs import Event, PackJob
from vaesweep.sweep.resume import checkpoint_header
from vaesweep.sweep.retries import RETRIES
from vaesweep.sweep.storage import CHECKPOINTS, FINISHED, SUFFIX, Storage
from vaesweep.sweep.store import Store

STEPS = 12
SETTINGS = {
    "training.steps": STEPS,
    "training.evaluate_every": 3,
    "training.batch_size": 16,
    "model.hidden": 4,
    "model.features": 4,
    "data.draws": 1,
}
SWEEP = Sweep("faults", "pvae", lambda data: {"tiny": Preset(SETTINGS, {"seed": list(range(CELLS))})}, "tiny")
DATA = "csv:people.csv"
WORDS = ("--pack-size", "2", "--compile", "never", "--checkpoint-every", "0")
RELATIVE, ABSOLUTE = 1e-4, 1e-5  # float32 rounding after a few steps of Adam, far below one step more or less
CPU = torch.device("cpu")

Points = dict[tuple[str, int], float]  # by metric and step
OnEvent = Callable[[int], None]  # given the number of the event that a worker is about to report


class Killed(Exception):
    """The end of a worker's process."""


@dataclass
class Ended:
    """A command that has ended: its exit code, what it has printed, and the steps that it trained."""

    code: int
    lines: list[str]
    steps: int


class InProcessTune:
    """Stands in for `ray.tune`: trials run one after the other in this process, and again where they fail."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event, self._events = on_event, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(tune, name)

    def with_parameters(self, trainable: Any, data: Any) -> Any:
        """The data: the trainable is `run_job` here."""
        return data

    def with_resources(self, data: Any, resources: Any) -> Any:
        """The data: there is one process."""
        return data

    def Tuner(self, data: Any, tune_config: Any, run_config: Any) -> Any:
        """What `tune.Tuner` is used for."""

        def fit() -> list[Any]:
            queue, trials = tune_config.search_alg.queue, list[Any]()
            while (config := queue.suggest("trial")) != queue.FINISHED:
                trials.append(self._trial(config[PACK], data, run_config))
                queue.on_trial_complete("trial")
            return trials

        return SimpleNamespace(fit=fit)

    def _trial(self, config: Any, data: Any, run_config: Any) -> Any:
        def report(event: Event) -> None:
            self._events += 1
            self._on_event(self._events)
            for callback in run_config.callbacks:
                callback.on_trial_result(0, [], None, {EVENT: event.to_json()})

        error: Exception | None = None
        for _ in range(1 + RETRIES):
            try:
                job = PackJob.from_json(config["job"])
                worker.run_job(job, data[job.data], report, CPU)
                return SimpleNamespace(config={PACK: config}, error=None)
            except Exception as failure:
                error = failure
        return SimpleNamespace(config={PACK: config}, error=error)


class StepCounter:
    """A listener of training that passes all on and adds up the steps that cells took."""

    def __init__(self, listener: Any, step: int, count: list[int]) -> None:
        self._listener, self._step, self._count = listener, step, count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def progress(self, state: Any, latest: Any) -> None:
        """Count what was trained since the last evaluation."""
        self._count.append((state.all_steps - self._step) * len(state.cells))
        self._step = state.all_steps
        self._listener.progress(state, latest)


@contextlib.contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Context in which attributes of a module or class have other values."""
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


class OneCpu(runner.Connection):
    """A connection to no Ray."""

    def leave(self) -> None:
        """Leave nothing."""


@contextlib.contextmanager
def _one_cpu(resources: Any, data: int, modules: Sequence[str]) -> Iterator[OneCpu]:
    yield OneCpu({"CPU": 1.0})


@contextlib.contextmanager
def _without_ray(on_event: OnEvent, steps: list[int]) -> Iterator[None]:
    train_pack = worker.train_pack

    def counted(problem: Any, configs: Any, state: Any, listener: Any, *rest: Any, **options: Any) -> Any:
        return train_pack(problem, configs, state, StepCounter(listener, state.all_steps, steps), *rest, **options)

    with (
        replaced(runner, tune=InProcessTune(on_event), connected=_one_cpu, sent=lambda data, by: tuple(data)),
        replaced(worker, train_pack=counted, REPORT_SECONDS=0.0),
        replaced(ending, finish=lambda *_: None),  # a second a command, which says nothing of faults
    ):
        yield


@dataclass
class Trial:
    """A sweep's folder into which one fault is injected; `random` chooses its place."""

    folder: Path
    random: random.Random
    fault_at: float = 0.0  # when the fault happened, in seconds of the monotonic clock
    on_event: OnEvent = field(default=lambda number: None)

    @property
    def cells_folder(self) -> Path:
        """The sweep's storage."""
        return self.folder / "results" / SWEEP.name / "cells"

    def files(self, folder: str) -> list[Path]:
        """Complete files of a folder of the storage."""
        return sorted((self.cells_folder / folder).glob(f"*{SUFFIX}"))

    def happens(self) -> None:
        """Note the time at which the fault happens first."""
        self.fault_at = self.fault_at or time.monotonic()

    def command(self, data: str = DATA) -> Ended:
        """The sweep's command, as a user gives it in the folder."""
        output, steps, before = io.StringIO(), list[int](), Path.cwd()
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{self.folder}/results/mlflow.db"
        os.environ["COLUMNS"] = "300"
        os.chdir(self.folder)
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                with _without_ray(self.on_event, steps):
                    code = script.main(SWEEP, None, ["--data", data, *WORDS])
        finally:
            os.chdir(before)
        return Ended(code, output.getvalue().splitlines(), sum(steps))

    def kept_steps(self) -> int:
        """Steps that finished files and checkpoints hold, of all cells together."""
        storage = Storage(str(self.cells_folder))
        steps = {file.stem: STEPS for file in self.files(FINISHED)}
        for name in storage.names(CHECKPOINTS):
            about = checkpoint_header(storage, name, [])
            for cell in about.get("cells", ()):
                steps[cell] = max(steps.get(cell, 0), about["step"])
        return sum(steps.values())


class States:
    """Folders of sweeps in the states that faults meet them in, each made once and copied for every fault."""

    def __init__(self, root: Path) -> None:
        self._root, self._made, self._copies = root, dict[str, Path](), 0

    def trial(self, name: str, seed: str) -> Trial:
        """A new copy of the state called `name`."""
        chosen = random.Random(seed)
        if name == "interrupted":  # another moment each time, at which there is a checkpoint
            name = f"interrupted {chosen.choice((2, 3, 4, 7, 8, 9))}"
        self._copies += 1
        return Trial(self._copy(self._state(name), f"trial{self._copies}"), chosen)

    def empty(self, name: str) -> Path:
        """A new folder with an empty store and data."""
        return self._copy(self._state("empty"), name)

    def points(self, name: str) -> "dict[str, Points]":
        """What MLflow has of every cell in a state."""
        return Tracked.of(self._state(name) / "results" / "mlflow.db").points

    def _state(self, name: str) -> Path:
        if name not in self._made:
            kind, _, number = name.partition(" ")
            self._made[name] = getattr(self, f"_make_{kind.replace('-', '_')}")(name.replace(" ", "-"), number)
        return self._made[name]

    def _make_empty(self, name: str, _: str) -> Path:
        folder = self._root / name
        (folder / "results").mkdir(parents=True)
        Store(f"sqlite:///{folder}/results/mlflow.db", SWEEP.name)
        write_population(folder / "people.csv", rows=320)
        write_population(folder / "more.csv", rows=40)
        return folder

    def _make_finished(self, name: str, _: str, data: str = DATA) -> Path:
        trial = Trial(self._copy(self._state("empty"), name), random.Random(0))
        ended = trial.command(data)
        if ended.code != 0:
            raise SystemExit("an undisturbed sweep failed:\n" + "\n".join(ended.lines))
        return trial.folder

    def _make_population(self, name: str, _: str) -> Path:
        return self._make_finished(name, "", f"{DATA},unseen=more.csv")

    def _make_untracked(self, name: str, _: str) -> Path:
        folder = self._copy(self._state("finished"), name)
        shutil.rmtree(folder / "results" / "mlflow-artifacts", ignore_errors=True)
        (folder / "results" / "mlflow.db").unlink()
        return self._with_store(folder)

    def _make_interrupted(self, name: str, number: str) -> Path:
        def interrupt(event: int) -> None:
            if event == int(number):
                raise KeyboardInterrupt

        trial = Trial(self._copy(self._state("empty"), name), random.Random(0), on_event=interrupt)
        ended = trial.command()
        if ended.code != signals.INTERRUPTED or not trial.files(CHECKPOINTS):
            raise SystemExit(f"no sweep was interrupted at event {number}:\n" + "\n".join(ended.lines))
        return trial.folder

    def _with_store(self, folder: Path) -> Path:
        database = self._copy(self._state("empty"), f"{folder.name}-store") / "results" / "mlflow.db"
        database.replace(folder / "results" / "mlflow.db")
        _move_store(folder / "results" / "mlflow.db", database.parents[1], folder)
        return folder

    def _copy(self, state: Path, name: str) -> Path:
        folder = self._root / name
        shutil.copytree(state, folder)
        _move_store(folder / "results" / "mlflow.db", state, folder)
        return folder


def _move_store(database: Path, before: Path, after: Path) -> None:
    """Have a copied store keep its artifacts in its own folder."""
    if not database.exists():
        return
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            connection.execute(f"update {table} set {column} = replace({column}, ?, ?)", (f"{before}/", f"{after}/"))


def write_population(path: Path, rows: int, shift: float = 0.0) -> None:
    """Write a CSV of `rows` audiograms, as `--data` names it; thresholds are moved by `shift` dB."""
    chosen = random.Random(1)
    audiograms = [[round(chosen.uniform(10, 40)) + shift for _ in COLUMNS] for _ in range(rows)]
    path.write_text("\n".join([",".join(COLUMNS), *(",".join(map(str, row)) for row in audiograms)]))


@dataclass(frozen=True)
class Tracked:
    """What MLflow has: the points of every cell's newest finished run, runs by cell, and points written twice."""

    points: dict[str, Points]
    runs: dict[str, int]
    duplicated: int

    @classmethod
    def of(cls, database: Path) -> "Tracked":
        """What an SQLite store has."""
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            tags: dict[str, dict[str, str]] = {}
            for run, key, value in connection.execute(
                "select run_uuid, key, value from tags join runs using (run_uuid) order by start_time"
            ):
                tags.setdefault(run, {})[key] = value
            rows = connection.execute("select run_uuid, key, step, value from metrics").fetchall()
        return cls.of_rows(tags, rows)

    @classmethod
    def of_rows(cls, tags: dict[str, dict[str, str]], rows: Sequence[tuple[Any, ...]]) -> "Tracked":
        """What a store has whose runs have `tags`, oldest first, and metrics `rows` (run, key, step, value)."""
        cells = {run: tag["vaesweep.cell"] for run, tag in tags.items() if tag.get("vaesweep.kind") == "cell"}
        newest = {cell: run for run, cell in cells.items() if tags[run].get("vaesweep.outcome") == "finished"}
        points: dict[str, Points] = {cell: {} for cell in newest}
        for run, key, step, value in rows:
            if newest.get(cells.get(run, "")) == run:
                points[cells[run]][key, step] = value
        counts = {cell: list(cells.values()).count(cell) for cell in cells.values()}
        return cls(points, counts, len(rows) - len({row[:3] for row in rows}))

    def lost(self, undisturbed: "dict[str, Points]", changed: Sequence[str] = ()) -> list[str]:
        """Cells that MLflow lacks, or has with other numbers; those of the `changed` domains are not compared."""
        return [
            cell for cell, expected in undisturbed.items() if not _same(self.points.get(cell), expected, tuple(changed))
        ]


def _same(points: Points | None, expected: Points, changed: tuple[str, ...]) -> bool:
    return points is not None and all(
        place in points and math.isclose(points[place], value, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        for place, value in expected.items()
        if not any(f"/{domain}/" in place[0] for domain in changed)
    )
