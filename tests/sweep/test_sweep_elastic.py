"""Elastic packs: what a pack releases is trained once, elsewhere, whoever dies on the way; and only where it pays."""

import io
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packs import CPU, assert_close, fill_disk, job, read
from processes import PATIENCE
from rich.console import Console

from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.sweep import elastic, progress, runner, worker
from vaesweep.sweep.backends import EVENT, GIVEN_UP, PACK
from vaesweep.sweep.cells import Cell, Pack
from vaesweep.sweep.cluster import Resources
from vaesweep.sweep.elastic import JobQueue, Splitter, Trials
from vaesweep.sweep.jobs import Event, PackJob
from vaesweep.sweep.options import Options, check_counts
from vaesweep.sweep.progress import ProgressDisplay
from vaesweep.sweep.retries import RETRIES, Progress, Retries
from vaesweep.sweep.runner import Outcomes, run_packs
from vaesweep.sweep.splits import SPLITS, STALE_SECONDS, drop_stale_requests, latter_half, request_name, split
from vaesweep.sweep.storage import CHECKPOINTS, FINISHED, Storage
from vaesweep.sweep.worker import run_job
from vaesweep.training.finished import FinishedCell

slow = pytest.mark.slow


class Killed(Exception):
    """Stands for the end of a process."""


@pytest.fixture(autouse=True)
def _prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers look for requests after every step, the driver for devices after every event, and all is worth it."""
    monkeypatch.setattr(worker, "REQUEST_SECONDS", 0.0)
    monkeypatch.setattr(elastic, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(elastic, "WORTH_SECONDS", 0.0)


@pytest.fixture
def finished_writes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each finished file was written."""
    write, counts = Storage.write, Counter[str]()

    def counted(self: Storage, name: str, data: bytes) -> None:
        if name.startswith(FINISHED):
            counts[name] += 1
        write(self, name, data)

    monkeypatch.setattr(Storage, "write", counted)
    return counts


# The worker


def splittable(cells: list[Cell], storage: Storage, token: str = "word", **options: Any) -> PackJob:
    return replace(job(cells, storage, **options), token=token)


@dataclass
class Asking:
    """A driver that asks a pack to split once it has heard of `step`, and takes the request back when it is answered.

    It kills the worker before (`dies="before"`) or after (`dies="after"`) it has handled the answer.
    """

    job: PackJob
    step: int = 3
    dies: str = ""
    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        storage = Storage(self.job.storage)
        if event.released and self.dies == "before":
            raise Killed
        self.events.append(Event.from_json(event.to_json()))
        if event.released:
            storage.delete(request_name(self.job))
            if self.dies == "after":
                raise Killed
        elif event.step >= self.step and not self.released:
            storage.write(request_name(self.job), b"split")

    @property
    def released(self) -> dict[str, int]:
        return {cell: step for event in self.events for cell, step in event.released.items()}

    def points(self) -> list[tuple[str, int]]:
        return [(cell, step) for event in self.events for step, cells, _ in event.points for cell in cells]


@pytest.mark.parametrize(
    ("size", "asked", "step"),
    [(None, 3, 3), (None, 0, 1), (2, 1, 0)],
    ids=["at an evaluation", "between two", "half of them wait"],
)
def test_a_pack_that_is_asked_releases_the_latter_half_and_both_end_as_if_it_had_stayed_whole(
    cells: list[Cell],
    audiograms: DataSet,
    storage: Storage,
    undisturbed: dict[str, FinishedCell],
    finished_writes: Counter[str],
    size: int | None,
    asked: int,
    step: int,
) -> None:
    whole = splittable(cells, storage, size=size)
    heard = Asking(whole, step=asked)
    if not asked:
        storage.write(request_name(whole), b"split")
    run_job(whole, audiograms, heard, CPU)
    names = [cell.identity for cell in cells]
    assert heard.released == dict.fromkeys(names[2:], step)
    assert read(storage, cells[:2]).keys() == set(names[:2])
    assert len(storage.names(FINISHED)) == 2, "what is released is not trained on"
    kept, released = split(whole, list(heard.released))
    assert (list(kept.configs), kept.pack) == (names[:2], whole.pack)
    assert released.pack == Pack(tuple(cells[2:])).identity
    elsewhere = Asking(released, step=99)
    run_job(released, audiograms, elsewhere, CPU)
    points = heard.points() + elsewhere.points()
    assert len(points) == len(set(points)) == len(cells) * 4
    assert min(s for _, s in elsewhere.points()) > step, "it goes on from the checkpoint"
    assert Counter(finished_writes.values()) == {1: 4}
    assert_close(read(storage, cells), undisturbed)


def test_progress_of_a_pack_that_was_split_is_that_of_the_cells_it_kept(
    cells: list[Cell], audiograms: DataSet, storage: Storage
) -> None:
    heard = Asking(splittable(cells, storage, size=2), step=1)
    run_job(heard.job, audiograms, heard, CPU)
    (at,) = [number for number, event in enumerate(heard.events) if event.released]
    assert heard.events[at - 1].step * 2 <= heard.events[at].step, "those that waited had no steps"
    assert heard.events[-1].step == 12
    assert heard.events[at].notes == ["split, 2 of 4 cells go to a free device"]


@pytest.mark.parametrize("dies", ["before", "after"])
def test_a_worker_that_dies_as_it_releases_loses_nothing(
    cells: list[Cell],
    audiograms: DataSet,
    storage: Storage,
    undisturbed: dict[str, FinishedCell],
    finished_writes: Counter[str],
    dies: str,
) -> None:
    """Where the driver has not heard of it the pack is tried again as it was, else without what was released."""
    whole = splittable(cells, storage)
    heard = Asking(whole, dies=dies)
    with pytest.raises(Killed):
        run_job(whole, audiograms, heard, CPU)
    assert storage.exists(request_name(whole)) == (dies == "before")
    storage.delete(request_name(whole))
    again = [whole] if dies == "before" else split(whole, list(heard.released))
    steps = [step for one in again for _, step in run_again(one, audiograms).points()]
    assert min(steps) == 6, "from the checkpoint after step 3"
    assert Counter(finished_writes.values()) == {1: 4}
    assert_close(read(storage, cells), undisturbed)


def run_again(one: PackJob, data: DataSet) -> Asking:
    heard = Asking(one, step=99)
    run_job(one, data, heard, CPU)
    return heard


def test_a_request_of_a_driver_that_died_is_not_obeyed(
    cells: list[Cell], audiograms: DataSet, storage: Storage, undisturbed: dict[str, FinishedCell]
) -> None:
    dead = splittable(cells, storage, token="dead")
    with pytest.raises(Killed):
        run_job(dead, audiograms, Asking(dead, dies="before"), CPU)
    assert storage.exists(request_name(dead))
    assert run_again(splittable(cells, storage, token="next"), audiograms).released == {}
    assert_close(read(storage, cells), undisturbed)


@pytest.mark.parametrize("kind", ["one cell", "no token", "evaluated only"])
def test_what_cannot_be_split_is_not(cells: list[Cell], audiograms: DataSet, storage: Storage, kind: str) -> None:
    whole = splittable(cells[:1] if kind == "one cell" else cells, storage)
    if kind == "no token":
        whole = replace(whole, token=None)
    if kind == "evaluated only":
        assert not replace(whole, sources={}).is_splittable
        return
    heard = Asking(whole)
    run_job(whole, audiograms, heard, CPU)
    assert heard.released == {}
    assert len(storage.names(FINISHED)) == len(whole.configs)


def test_a_pack_whose_checkpoint_cannot_be_written_stays_whole(
    cells: list[Cell],
    audiograms: DataSet,
    storage: Storage,
    undisturbed: dict[str, FinishedCell],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill_disk(monkeypatch, lambda _, name: name.startswith(CHECKPOINTS))
    heard = Asking(splittable(cells, storage))
    run_job(heard.job, audiograms, heard, CPU)
    assert heard.released == {}
    assert_close(read(storage, cells), undisturbed)


def test_the_latter_half_is_the_smaller_one() -> None:
    assert [latter_half("abcde"[:n]) for n in range(6)] == [[], [], ["b"], ["c"], ["c", "d"], ["d", "e"]]


# The driver, with devices and processes made up


@dataclass
class Devices:
    """Placeholders on a cluster with so many idle devices."""

    idle: int
    wanted: int = 0

    def placed(self) -> int:
        return min(self.idle, self.wanted)

    def drop(self, number: int) -> None:
        self.wanted -= number

    def keep(self, number: int) -> None:
        self.wanted = number


@dataclass
class Tracker:
    """Keeps what it is told."""

    told: list[tuple[str, int]] = field(default_factory=list)
    over: list[str] = field(default_factory=list)
    causes: dict[str, str] = field(default_factory=dict)

    def points(self, step: int, cells: list[str], metrics: Any) -> None:
        self.told += [(cell, step) for cell in cells]

    def ended(self, cell: FinishedCell, data: bytes) -> None:
        self.over.append(cell.cell)

    def failed(self, cell: str, cause: str) -> None:
        self.causes[cell] = cause


class Trial(SimpleNamespace):
    """A trial as Tune's callbacks see it."""

    def is_finished(self) -> bool:
        return self.status not in ("PENDING", "RUNNING")

    def set_config(self, config: dict[str, Any]) -> None:
        self.config = config


@dataclass
class Tune:
    """Trials one after the other in this process; `on_event` may end a worker once its event was handled."""

    data: DataSet
    error_file: Path
    on_event: Callable[[PackJob, Event], None] = lambda job, event: None
    jobs: list[PackJob] = field(default_factory=list)

    def Tuner(self, trainable: Any, tune_config: Any, run_config: Any) -> Any:
        (callback,), queue = run_config.callbacks, tune_config.search_alg.searcher.searcher
        assert tune_config.num_samples == -1

        def fit() -> list[Any]:
            trials: list[Trial] = []
            while (config := queue.suggest(f"t{len(trials)}")) != queue.FINISHED:
                trials.append(Trial(trial_id=f"t{len(trials)}", config=config, num_failures=0, status="RUNNING"))
                self._train(trials[-1], callback)
                queue.on_trial_complete(trials[-1].trial_id)
            return trials

        return SimpleNamespace(fit=fit)

    def _train(self, trial: Trial, callback: Any) -> None:
        trial.error, trial.error_file = None, str(self.error_file)
        while not trial.config[PACK].get(GIVEN_UP):
            one = PackJob.from_json(trial.config[PACK]["job"])
            self.jobs.append(one)

            def report(event: Event, one: PackJob = one) -> None:
                callback.on_trial_result(0, [trial], trial, {EVENT: event.to_json()})
                callback.on_step_end(0, [trial])
                self.on_event(one, event)

            try:
                run_job(one, self.data, report, CPU)
                break
            except (Killed, RuntimeError) as error:
                trial.num_failures += 1
                self.error_file.write_text(f"{type(error).__name__}: {error}\n")
                callback.on_trial_recover(0, [trial], trial)
        trial.status = "TERMINATED"


@dataclass
class Run:
    """A run of one pack of `cells` on a cluster with one idle device."""

    cells: list[Cell]
    storage: Storage
    tune: Tune
    devices: Devices = field(default_factory=lambda: Devices(1))
    tracker: Tracker = field(default_factory=Tracker)
    text: io.StringIO = field(default_factory=io.StringIO)

    def start(self, monkeypatch: pytest.MonkeyPatch) -> Outcomes:
        monkeypatch.setattr(runner.tune, "Tuner", self.tune.Tuner)
        monkeypatch.setattr(runner, "PlacementGroups", lambda resources: self.devices)
        packs = [Pack(tuple(self.cells))]
        console = Console(file=self.text, width=300)
        with ProgressDisplay(console, packs, 0, len(self.cells)) as display:
            return run_packs(
                [splittable(self.cells, self.storage)],
                [self.tune.data],
                self.storage,
                Resources(),
                2,
                self.tracker,  # type: ignore[arg-type]
                display,
            )


@pytest.fixture
def run(cells: list[Cell], audiograms: DataSet, storage: Storage, tmp_path: Path) -> Run:
    return Run(cells, storage, Tune(audiograms, tmp_path / "error.txt"))


def test_a_pack_is_split_while_a_device_is_idle_and_every_cell_is_trained_and_tracked_once(
    run: Run, undisturbed: dict[str, FinishedCell], finished_writes: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = run.start(monkeypatch)
    names = sorted(cell.identity for cell in run.cells)
    assert (outcomes.finished, outcomes.failed, outcomes.interrupted) == (4, {}, None)
    assert len(run.tune.jobs) > 1
    assert sorted(run.tracker.over) == names
    assert sorted(run.tracker.told) == sorted((name, step) for name in names for step in (3, 6, 9, 12))
    assert Counter(finished_writes.values()) == {1: 4}
    assert "pack 1: split, 2 of 4 cells go to a free device" in run.text.getvalue()
    assert run.storage.names(SPLITS, "") == []
    assert run.devices.wanted == 0
    assert_close(read(run.storage, run.cells), undisturbed)


def test_without_an_idle_device_a_pack_stays_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.devices.idle = 0
    assert run.start(monkeypatch).finished == 4
    assert len(run.tune.jobs) == 1


def test_a_worker_that_dies_right_after_it_has_released_is_tried_again_without_those_cells(
    run: Run, undisturbed: dict[str, FinishedCell], finished_writes: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    released: set[str] = set()

    def die(one: PackJob, event: Event) -> None:
        if event.released and not released:
            released.update(event.released)
            raise Killed("taken back")

    run.tune.on_event = die
    assert run.start(monkeypatch).finished == 4
    first, again, *others = run.tune.jobs
    assert first.configs.keys() - again.configs.keys() == released
    assert any(one.configs.keys() == released for one in others)
    assert len(set(run.tracker.told)) == len(run.tracker.told)
    assert Counter(finished_writes.values()) == {1: 4}
    assert_close(read(run.storage, run.cells), undisturbed)


def test_a_pack_that_was_split_off_and_fails_gives_its_cause_to_its_own_cells(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: set[str] = set()

    def fail(one: PackJob, event: Event) -> None:
        run.devices.idle = 0 if released else 1
        released.update(event.released)
        if released and one.configs.keys() <= released:
            raise RuntimeError("the device is broken")

    run.tune.on_event = fail
    outcomes = run.start(monkeypatch)
    assert len(released) == 2
    assert outcomes.finished == 2
    assert (
        outcomes.failed == dict.fromkeys(sorted(released), "RuntimeError: the device is broken") == run.tracker.causes
    )
    assert sum(one.configs.keys() == released for one in run.tune.jobs) == RETRIES + 1


# What is worth it


class Clock:
    """Seconds that pass when the test says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(elastic, "time", clock)
    monkeypatch.setattr(elastic, "WORTH_SECONDS", 60.0)
    return clock


@dataclass
class Driver:
    """A splitter of running packs, named by letters, which steps at a second each."""

    storage: Storage
    clock: Clock
    cells: dict[str, int]
    devices: Devices
    at_once: int = 8
    pending: set[str] = field(default_factory=set)
    queue: JobQueue = field(default_factory=lambda: JobQueue([], lambda job: {PACK: job.pack}))

    def __post_init__(self) -> None:
        self.splitter = Splitter(self.queue, self.storage, self.devices, self.at_once)
        self.jobs = {
            pack: PackJob(pack, "pvae", {f"{pack}{i}": "" for i in range(n)}, self.storage.uri, token="word")
            for pack, n in self.cells.items()
        }

    def event(self, pack: str, step: int, steps: int) -> None:
        self.splitter.event(Event(pack, step, steps, [(step, [], {})]))

    def come_to(self, step: int, **steps: int) -> None:
        """All packs are where they were at first, and so many steps later, of their `steps`."""
        for pack, all_steps in steps.items():
            self.event(pack, 0, all_steps)
        self.clock.now += step
        for pack, all_steps in steps.items():
            self.event(pack, step, all_steps)

    def look(self) -> list[str]:
        """Look twice, for what is asked for in between, and give the packs that are asked to split."""
        for _ in range(2):
            running = {pack: job for pack, job in self.jobs.items() if pack not in self.pending}
            self.splitter.look(running, self.pending, self.cells)
        return [name.rpartition("-")[2] for name in self.storage.names(SPLITS, "")]


def test_the_pack_with_the_most_time_to_go_is_split_first_and_only_once_at_a_time(
    storage: Storage, clock: Clock
) -> None:
    driver = Driver(storage, clock, {"a": 4, "b": 4, "c": 4}, Devices(1))
    driver.come_to(10, a=200, b=400, c=300)
    assert driver.look() == ["b"]
    driver.devices.idle = 9
    assert driver.look() == ["a", "b", "c"]
    assert driver.look() == ["a", "b", "c"]
    assert driver.devices.wanted == 0, "all have been asked"


@pytest.mark.parametrize(
    ("cells", "steps", "expected"),
    [(1, 1000, []), (4, 69, []), (4, 71, ["a"]), (2, 71, ["a"])],
    ids=["one cell", "59 s left", "61 s left", "two cells"],
)
def test_a_pack_is_split_where_it_has_cells_and_time_left(
    storage: Storage, clock: Clock, cells: int, steps: int, expected: list[str]
) -> None:
    driver = Driver(storage, clock, {"a": cells}, Devices(1))
    driver.come_to(10, a=steps)
    assert driver.look() == expected


def test_a_pack_whose_pace_is_not_known_is_not_split_and_the_device_is_held_till_it_is(
    storage: Storage, clock: Clock
) -> None:
    driver = Driver(storage, clock, {"a": 4}, Devices(1), at_once=2)
    assert driver.look() == []
    assert driver.devices.wanted == 1
    driver.come_to(10, a=1000)
    assert driver.look() == ["a"]
    driver.splitter.answered(driver.jobs["a"], Event("a", 10, 1000, released={"a2": 10, "a3": 10}))
    driver.cells["a"] = 2
    driver.splitter.restarted("a")  # its process has died
    driver.queue.suggest("t1")
    assert driver.look() == []


def test_a_device_that_a_trial_waits_for_is_left_to_it(storage: Storage, clock: Clock) -> None:
    """A new placeholder in the place of one that was dropped might be placed before the trial, again and again."""
    driver = Driver(storage, clock, {"a": 4, "b": 4}, Devices(0), at_once=5, pending={"b"})
    driver.come_to(10, a=1000)
    assert driver.look() == []
    assert driver.devices.wanted == 3
    driver.devices.idle = 1
    for _ in range(3):
        assert driver.look() == []
    assert driver.devices.wanted == 0
    driver.pending.clear()
    assert driver.look() == ["a"]


def test_no_more_devices_are_asked_for_than_packs_may_run_or_cells_could_be_split_off(
    storage: Storage, clock: Clock
) -> None:
    for at_once, cells, wanted in ((8, 4, 3), (3, 4, 2), (1, 4, 0), (8, 1, 0)):
        driver = Driver(storage, clock, {"a": cells}, Devices(0), at_once=at_once)
        driver.come_to(10, a=1000)
        driver.look()
        assert driver.devices.wanted == wanted
        driver.queue.add(driver.jobs["a"])
        driver.look()
        assert driver.devices.wanted == 0, "what waits is started first"


def test_requests_end_with_their_pack_and_with_the_driver(storage: Storage, clock: Clock) -> None:
    driver = Driver(storage, clock, {"a": 4, "b": 4}, Devices(2))
    driver.come_to(10, a=1000, b=1000)
    assert driver.look() == ["a", "b"]
    del driver.jobs["a"], driver.cells["a"]
    assert driver.look() == ["b"]
    driver.splitter.close()
    assert storage.names(SPLITS, "") == []


def test_a_storage_that_is_away_is_asked_again(storage: Storage, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise OSError("it is away")

    driver = Driver(storage, clock, {"a": 4}, Devices(1))
    driver.come_to(10, a=1000)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "write", away)
        assert driver.look() == []
    assert driver.look() == ["a"]


def test_the_queue_ends_when_nothing_waits_and_nothing_runs_that_could_be_split(storage: Storage) -> None:
    one, two = (PackJob(name, "pvae", {}, storage.uri) for name in "ab")
    queue = JobQueue([one], lambda job: {PACK: job.pack})
    assert queue.suggest("t1") == {PACK: "a"}
    assert queue.suggest("t2") is None
    queue.add(two)
    queue.on_trial_complete("t1")
    assert queue.suggest("t2") == {PACK: "b"}
    assert queue.suggest("t3") is None
    queue.on_trial_complete("t2", error=True)
    assert queue.suggest("t3") == JobQueue.FINISHED


def test_requests_that_dead_drivers_left_are_deleted_by_later_commands(storage: Storage) -> None:
    for name, age in (("dead-pack", STALE_SECONDS + 60), ("living-pack", STALE_SECONDS - 60)):
        storage.write(f"{SPLITS}/{name}", b"split")
        path = Path(storage.uri, SPLITS, name)
        then = path.stat().st_mtime - age
        os.utime(path, (then, then))
    drop_stale_requests(storage)
    assert storage.names(SPLITS, "") == [f"{SPLITS}/living-pack"]


def test_half_of_a_pack_that_goes_on_has_progressed(storage: Storage) -> None:
    """Sixteen cells have fewer steps than thirty-two had."""
    retries = Retries(most=1)
    assert retries.failed("p", Progress(0, 32 * 500))
    retries.restart("p")
    assert retries.failed("p", Progress(0, 16 * 600))
    assert not retries.failed("p", Progress(0, 16 * 600))


# What a user says and sees


def test_a_sweep_may_not_be_scaled_to_nothing() -> None:
    with pytest.raises(UserError, match="--scale-to 0: must be at least 1"):
        check_counts(Options("smoke", "synthetic", scale_to=0))


@pytest.mark.parametrize(("scale_to", "slots"), [(None, 4), (2, 2), (9, 4)])
def test_packs_are_cut_for_the_devices_there_are_within_the_cap(scale_to: int | None, slots: int) -> None:
    assert Resources(scale_to=scale_to).slots({"CPU": 4.0}) == slots


def test_a_split_changes_no_share_of_the_steps(cells: list[Cell], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    monkeypatch.setattr(progress, "LOG_SHARE", 0.0)
    whole, text = Pack(tuple(cells)), io.StringIO()
    with ProgressDisplay(Console(file=text, width=200), [whole], 0, 4) as display:
        display.event(Event(whole.identity, 6, 12))  # two cells at the end, and two that wait
        display.split(whole.identity, "other", {"c": 0, "d": 0})
        display.event(Event(whole.identity, 12, 12))
        display.event(Event("other", 6, 12, notes=["compiled"]))
    shares = [line.split(", ")[1].split("%")[0] for line in text.getvalue().splitlines() if "cells" in line]
    assert shares == ["50", "50", "75"]
    assert "pack 2: compiled" in text.getvalue()


SCRIPT = """
import runpy
import sys

from vaesweep.sweep import elastic

elastic.WORTH_SECONDS = 0.5
sys.argv[0] = {script!r}
runpy.run_path({script!r}, run_name="__main__")
"""
LONG = (
    "model.hidden=8",
    "model.features=8",
    "model.latents=2",
    "training.steps=5000",
    "training.evaluate_every=100",
    "training.batch_size=16",
    "data.draws=1",
    "seed=[0,1]",
    "rates.total.target=[0.5,2.0]",
)


@slow
def test_on_ray_a_pack_beside_an_idle_cpu_is_split_and_both_halves_finish(command: Any) -> None:
    script = command.folder / "elastic.py"
    script.write_text(SCRIPT.format(script=str(Path(__file__).parents[2] / "sweeps" / "rd_curve_pvae.py")))
    options = ("--pack-size", "4", "--checkpoint-every", "1", "--scale-to", "2", "--set", *LONG)
    process = command.start(*options, script=str(script))
    out, errors = process.communicate(timeout=4 * PATIENCE)
    assert process.returncode == 0, errors
    assert "pack 1: split, 2 of 4 cells go to a free device" in out
    assert "cells: 4 finished, 0 diverged, 0 failed" in out
    assert [status for _, status in command.runs("cell")] == ["FINISHED"] * 4
    points = command.points()
    assert len(set(points)) == len(points)
    assert len([key for _, key, _ in points if key == "valid/elbo"]) == 4 * 50
    assert command.checkpoints() == []
    storage = command.folder / "results" / "rd_curve_pvae" / "cells"
    assert list((storage / SPLITS).iterdir()) == []


def test_trials_are_finished_while_no_job_waits_so_that_no_idle_process_holds_a_device(storage: Storage) -> None:
    one, other = (PackJob(name, "pvae", {"a": "{}"}, storage.uri) for name in ("one", "other"))
    queue = JobQueue([one], lambda job: {PACK: job.pack})
    trials = Trials(queue, 2)
    trials._total_samples = 2**31  # as Tune sets it where there is no end
    assert not trials.is_finished()
    assert queue.suggest("t0") == {PACK: "one"}
    assert trials.is_finished()
    queue.add(other)  # released by the first, which runs still
    assert not trials.is_finished()
