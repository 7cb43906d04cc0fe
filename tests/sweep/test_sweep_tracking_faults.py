"""Stores that fail: nothing stops, every point is written once, and what is missing in the end is named."""

import contextlib
import itertools
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from mlflow_server import Server, serving, silence

from vaesweep.errors import UserError
from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.sweep import store as store_module
from vaesweep.sweep import tracking
from vaesweep.sweep.backlog import Backlog, FileShelf, Point
from vaesweep.sweep.cells import Cell
from vaesweep.sweep.store import RunState, Store
from vaesweep.sweep.tracking import Tracker, TrackingError
from vaesweep.training.finished import FinishedCell
from vaesweep.vocabulary import MODEL_FILE, Outcome, RunKind, Tag

CELLS = [Cell(PartialVaeCell(seed=seed), "pvae", "data", {"seed": seed}) for seed in range(3)]
NAMES = [cell.identity for cell in CELLS]
CONFIG = PartialVaeCell().model_dump(mode="json")
RECORD = {"sweep": "sweep", "name": "a sweep", "family": "pvae", "preset": "small"}
TAGS: dict[str, dict[str, str]] = {name: {} for name in NAMES}
METRICS = ("train/rate", "valid/rate")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is tried again within milliseconds, and the last attempt ends after a second."""
    monkeypatch.setattr(tracking, "FLUSH_SECONDS", 0.001)
    monkeypatch.setattr(tracking, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(tracking, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(tracking, "LAST_PAUSES", (0.001, 0.01))
    monkeypatch.setattr(tracking, "LAST_SECONDS", 1.0)


def finished(cell: str, steps: Sequence[int]) -> FinishedCell:
    history = {name: torch.tensor([step / 10 for step in steps], dtype=torch.float64) for name in METRICS}
    return FinishedCell(cell, "pvae", CONFIG, steps[-1], {"a.test/elbo": -3.0}, None, (), tuple(steps), history, {}, {})


def points_of(cell: FinishedCell) -> set[tuple[str, int]]:
    """The points of a finished cell."""
    return {(name, step) for name in METRICS for step in cell.evaluated} | {("test/a.test/elbo", cell.step)}


def tell(tracker: Tracker, step: int, cells: Sequence[str] = NAMES) -> None:
    tracker.points(step, cells, {name: [step / 10] * len(cells) for name in METRICS})


# A store that fails as it is told to


@dataclass
class _Run:
    cell: str
    start: int
    status: str = "RUNNING"
    state: str = "active"
    tags: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


class ScriptedStore:
    """A store in memory. Each call takes the next word of `script`; without one it succeeds, or fails where it is dead.

    `before`: it fails and has done nothing. `after`: it has done everything and fails. `within`: of points it has
    written the first. `trash`: somebody has put the run into the trash. `lost`: somebody has deleted it for good.
    """

    uri = "sqlite:///of_a_script.db"

    def __init__(self, script: Sequence[str], dead: bool = False) -> None:
        self.script, self.dead = list(script), dead
        self.runs: list[_Run] = []
        self.lost: set[str] = set()  # cells with a run that was deleted for good
        self.writers: set[str] = set()

    @contextlib.contextmanager
    def _call(self, run: str | None = None) -> Iterator[str]:
        self.writers.add(threading.current_thread().name)
        word = self.script.pop(0) if self.script else "before" if self.dead else "works"
        if word in ("trash", "lost") and run is not None and self.runs[int(run)].status == "RUNNING":
            self.runs[int(run)].state = word
            if word == "lost":
                self.lost.add(self.runs[int(run)].cell)
        if word == "before":
            raise ConnectionError("the server has gone")
        if run is not None and self.runs[int(run)].state != "active":
            raise ValueError("the run is not active")
        yield word
        if word in ("after", "within"):
            raise ConnectionError("the answer was lost")

    def check(self) -> None:
        if self.dead and not self.script:
            raise UserError("no server answers")

    def open_cell(self, cell: Cell, parent: str, tags: Mapping[str, str], start: int) -> str:
        with self._call():
            self.runs.append(_Run(cell.identity, start))
        return str(len(self.runs) - 1)

    def find_cell(self, cell: str, start: int) -> str | None:
        with self._call():
            return next((str(i) for i, r in enumerate(self.runs) if (r.cell, r.start) == (cell, start)), None)

    def configure(self, run: str, cell: Cell) -> None:
        with self._call(run):
            pass

    def reopen(self, run: str, cell: Cell) -> set[tuple[str, int]]:
        with self._call(run):
            self.runs[int(run)].status = "RUNNING"
        return {point[:2] for point in self.runs[int(run)].points}

    def points(self, run: str, names: Sequence[str]) -> set[tuple[str, int]]:
        with self._call(run):
            return {point[:2] for point in self.runs[int(run)].points if point.name in names}

    def restore(self, run: str) -> RunState:
        if run == "parent":
            return RunState.INTACT
        with self._call():
            state = self.runs[int(run)].state
            if state == "trash":
                self.runs[int(run)].state = "active"
        return {"active": RunState.INTACT, "trash": RunState.RESTORED, "lost": RunState.LOST}[state]

    def log(self, run: str, points: Sequence[Point]) -> None:
        with self._call(run) as word:
            self.runs[int(run)].points += points[: len(points) // 2 + 1] if word == "within" else points

    def log_file(self, run: str, path: Path) -> None:
        with self._call(run):
            self.runs[int(run)].files[path.name] = path.read_bytes()

    def log_json(self, run: str, value: dict[str, Any], name: str) -> None:
        with self._call(run):
            self.runs[int(run)].files[name] = b"json"

    def tag(self, run: str, tags: Mapping[str, str]) -> None:
        with self._call(run):
            self.runs[int(run)].tags.update(tags)

    def end(self, run: str, status: str) -> None:
        with self._call(run):
            self.runs[int(run)].status = status

    def active(self, cell: str) -> list[_Run]:
        """The runs of a cell that are there."""
        return [run for run in self.runs if run.cell == cell and run.state != "lost"]


WORDS = st.sampled_from(("works", "works", "works", "before", "after", "within", "trash", "lost"))
EVENT = st.one_of(
    st.tuples(st.just("points"), st.integers(1, 6), st.sets(st.sampled_from(NAMES), min_size=1)),
    st.tuples(st.just("ended"), st.lists(st.integers(1, 6), min_size=1, unique=True), st.sampled_from(NAMES)),
    st.tuples(st.just("failed"), st.sampled_from(NAMES)),
    st.just(("interrupted",)),
    st.just(("wait",)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, max_size=80), st.booleans(), st.lists(EVENT, max_size=14), st.integers(0, 8))
def test_however_a_store_fails_every_point_stands_once_or_its_cell_is_named(
    script: list[str], dead: bool, events: list[tuple[Any, ...]], bound: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "Backlog", lambda: Backlog(bound))
        patch.setattr(tracking, "FileShelf", lambda: FileShelf(bound))
        patch.setattr(tracking, "LAST_SECONDS", 0.05 if dead else 5.0)
        store = ScriptedStore(script, dead)
        expected: dict[str, set[tuple[str, int]]] = defaultdict(set)
        files: dict[str, set[tuple[str, int]]] = {}
        ends: dict[str, str] = {}
        named = ""
        try:
            with Tracker(store, "parent", CELLS, {}, TAGS) as tracker:  # type: ignore[arg-type]
                for kind, *values in events:
                    if kind == "points":
                        tell(tracker, values[0], sorted(values[1]))
                        for cell in values[1]:
                            if ends.get(cell) != "FINISHED":  # its finished file has all that there is
                                expected[cell] |= {(name, values[0]) for name in METRICS}
                    elif kind == "ended":
                        cell = finished(values[1], sorted(values[0]))
                        tracker.ended(cell, values[1].encode())
                        files[values[1]] = points_of(cell)
                        expected[values[1]] |= files[values[1]]
                        ends[values[1]] = "FINISHED"
                    elif kind == "failed" and ends.get(values[0]) != "FINISHED":  # a runner tells it of no other cell
                        tracker.failed(values[0], "cause")
                        ends[values[0]] = "FAILED"
                    elif kind == "interrupted":
                        tracker.interrupted()
                    else:
                        time.sleep(0.003)
        except TrackingError as error:
            named = str(error)
        for cell in NAMES:
            runs = store.active(cell)
            points = [point[:2] for run in runs for point in run.points]
            assert set(Counter(points).values()) <= {1}, "a point was written twice"
            assert set(points) <= expected[cell]
            if cell in named:
                continue
            assert len(runs) == bool(expected[cell] or cell in ends)
            if cell in store.lost:  # all that is known of it is in its finished file
                assert set(points) >= files.get(cell, set())
            else:
                assert set(points) == expected[cell]
            if ends.get(cell) == "FINISHED":
                assert runs[0].status == "FINISHED"
                assert runs[0].tags[Tag.OUTCOME] == Outcome.FINISHED
                assert runs[0].files[MODEL_FILE] == cell.encode()
            elif ends.get(cell) == "FAILED":
                assert runs[0].tags[Tag.OUTCOME] == Outcome.FAILED
        assert store.writers <= {"tracker"}
        if not dead:
            assert named == ""


def test_a_cell_whose_calls_all_fail_keeps_no_other_from_being_written() -> None:
    class Refusing(ScriptedStore):
        def log(self, run: str, points: Sequence[Point]) -> None:
            if self.runs[int(run)].cell == NAMES[1]:
                raise ValueError("a metric of this cell cannot be written")
            super().log(run, points)

    store = Refusing([])
    tracker = Tracker(store, "parent", CELLS, {}, TAGS)  # type: ignore[arg-type]

    def sweep() -> None:
        with tracker:
            for step in range(1, 30):
                tell(tracker, step)
                time.sleep(0.001)
            for name in NAMES:
                tracker.ended(finished(name, range(1, 30)), b"")

    with pytest.raises(TrackingError) as error:
        sweep()
    assert str(error.value).startswith(f"1 of 3 cells are not complete in MLflow ({NAMES[1]}): a metric of this cell")
    assert "the same command completes the runs" in str(error.value)
    assert [[run.status for run in store.active(name)] for name in NAMES] == [["FINISHED"], ["RUNNING"], ["FINISHED"]]


def test_many_missing_cells_are_counted_and_the_first_are_named() -> None:
    cells = [Cell(PartialVaeCell(seed=seed), "pvae", "data", {}) for seed in range(7)]
    names = [cell.identity for cell in cells]

    def sweep() -> None:
        with Tracker(ScriptedStore([], dead=True), "p", cells, {}, {name: {} for name in names}) as tracker:  # type: ignore[arg-type]
            tell(tracker, 1, names[1:])

    with pytest.raises(TrackingError) as error:
        sweep()
    line = str(error.value)
    assert line.startswith(f"6 of 7 cells are not complete in MLflow ({', '.join(names[1:4])}, …): ")
    assert "\n" not in line
    assert names[4] not in line


def test_pauses_grow_while_a_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(tracking, "LONGEST_PAUSE", 100.0)
    monkeypatch.setattr(tracking, "LAST_SECONDS", 0.0)
    times: list[float] = []

    class Away(ScriptedStore):
        def open_cell(self, *_: Any) -> str:
            times.append(time.monotonic())
            raise ConnectionError("the server has gone")

        def find_cell(self, *_: Any) -> None:
            return None

    def sweep() -> None:
        with Tracker(Away([], dead=True), "p", CELLS[:1], {}, {NAMES[0]: {}}) as tracker:  # type: ignore[arg-type]
            tell(tracker, 1, NAMES[:1])
            time.sleep(1.0)

    with pytest.raises(TrackingError):
        sweep()
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert 3 <= len(pauses) <= 5  # 0.05, 0.1, 0.2, 0.4
    assert all(later > 1.3 * earlier for earlier, later in itertools.pairwise(pauses[:-1]))


def test_the_driver_never_waits_for_a_store_that_hangs() -> None:
    hanging = threading.Event()

    class Hanging(ScriptedStore):
        def open_cell(self, *arguments: Any) -> str:
            hanging.wait(20)
            return super().open_cell(*arguments)

    store = Hanging([])
    with Tracker(store, "parent", CELLS, {}, TAGS) as tracker:  # type: ignore[arg-type]
        begun = time.monotonic()
        for step in range(1, 1001):
            tell(tracker, step)
        tracker.ended(finished(NAMES[0], range(1, 1001)), b"")
        assert time.monotonic() - begun < 2.0
        hanging.set()
    assert [len(store.active(name)[0].points) for name in NAMES] == [2001, 2000, 2000]


@pytest.mark.parametrize("hangs", [True, False], ids=["in a call", "between two"])
def test_an_interrupt_ends_the_last_attempt(hangs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "LAST_SECONDS", 60.0)
    monkeypatch.setattr(tracking, "LAST_PAUSES", (30.0, 30.0))
    over = threading.Event()

    class Away(ScriptedStore):
        def open_cell(self, *_: Any) -> str:
            if hangs:
                over.wait(30)
            raise ConnectionError("the server has gone")

    def sweep() -> None:
        with Tracker(Away([]), "parent", CELLS, {}, TAGS) as tracker:  # type: ignore[arg-type]
            tell(tracker, 1)
            threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        sweep()
    assert time.monotonic() - begun < 5
    over.set()


# Real stores


@pytest.fixture
def uri(store_file: Path) -> str:
    return f"sqlite:///{store_file}"


def points_in(file: Path, experiment: str) -> dict[str, list[tuple[str, int]]]:
    """(metric, step) of every row of each cell's active runs, read from SQLite itself."""
    query = (
        "select t.value, m.key, m.step from metrics m join runs r using (run_uuid) join tags t using (run_uuid) "
        "join experiments e using (experiment_id) where e.name = ? and t.key = ? and r.lifecycle_stage = 'active'"
    )
    rows = defaultdict(list)
    with closing(sqlite3.connect(file)) as connection:
        for cell, name, step in connection.execute(query, (experiment, str(Tag.CELL))):
            rows[cell].append((name, step))
    return rows


def open_tracker(store: Store) -> Tracker:
    return Tracker(store, store.open_sweep(RECORD, {}), CELLS, store.cells(), TAGS)


def runs_of(client: MlflowClient, experiment: str, cell: str) -> list[Any]:
    identity = client.get_experiment_by_name(experiment).experiment_id
    return list(client.search_runs([identity], f"tags.`{Tag.CELL}` = '{cell}'"))


def wait_for(happened: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def hard_delete(uri: str, run: str) -> None:
    """Delete a run as `mlflow gc` does."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(uri, "./mlruns")._hard_delete_run(run)


@pytest.mark.parametrize("for_good", [False, True], ids=["into the trash", "for good"])
@pytest.mark.parametrize("when", ["while it trains", "before it ends"])
def test_a_run_that_somebody_deletes_is_there_in_the_end(
    for_good: bool, when: str, uri: str, store_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    experiment, client = f"deleted {for_good} {when}", MlflowClient(uri)
    store = Store(uri, experiment)
    cell, steps = finished(NAMES[0], range(1, 11)), range(1, 11)
    with open_tracker(store) as tracker:
        tell(tracker, 1)
        wait_for(lambda: len(points_in(store_file, experiment)[NAMES[0]]) == 2)
        (run,) = runs_of(client, experiment, NAMES[0])
        client.delete_run(run.info.run_id)
        if for_good:
            hard_delete(uri, run.info.run_id)
        for step in steps if when == "while it trains" else ():
            tell(tracker, step)
            time.sleep(0.02)
        tracker.ended(cell, b"weights")
        for name in NAMES[1:]:
            tracker.ended(finished(name, range(1, 11)), b"weights")
    for name in NAMES:
        assert Counter(points_in(store_file, experiment)[name]) == Counter(points_of(finished(name, range(1, 11))))
        (there,) = runs_of(client, experiment, name)
        assert there.data.tags[Tag.OUTCOME] == Outcome.FINISHED
    assert f"of cell {NAMES[0]} had been deleted" in caplog.text
    assert ("for good" in caplog.text) is for_good


def test_a_sweeps_run_that_somebody_deletes_is_there_in_the_end(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    store, client = Store(uri, "a deleted parent"), MlflowClient(uri)
    parent = store.open_sweep(RECORD, {})
    with Tracker(store, parent, CELLS, {}, TAGS) as tracker:
        tell(tracker, 1)
        client.delete_run(parent)
    assert f"the sweep's run {parent} had been deleted; it is restored" in caplog.text
    client.delete_run(parent)
    store.end_sweep(parent, "FINISHED")
    run = client.get_run(parent)
    assert (run.info.status, run.info.lifecycle_stage) == ("FINISHED", "active")
    assert run.data.tags[Tag.KIND] == RunKind.SWEEP


def test_a_sweeps_run_that_is_gone_for_good_is_said_in_one_line(uri: str) -> None:
    store, client = Store(uri, "a lost parent"), MlflowClient(uri)
    parent = store.open_sweep(RECORD, {})
    client.delete_run(parent)
    hard_delete(uri, parent)
    with pytest.raises(TrackingError, match=f"run {parent} was deleted for good"):
        store.end_sweep(parent, "FINISHED")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["while cells train", "at the end"])
def test_a_lock_of_25_seconds_stops_nothing(
    when: str, uri: str, store_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow itself gives up after twenty."""
    monkeypatch.setattr(tracking, "LAST_SECONDS", 60.0)
    experiment = f"locked {when}"
    store = Store(uri, experiment)
    locked = threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(store_file, isolation_level=None)) as connection:
            connection.execute("begin immediate")
            locked.set()
            time.sleep(25)
            connection.execute("rollback")

    holder = threading.Thread(target=hold)
    with open_tracker(store) as tracker:
        tell(tracker, 1)
        wait_for(lambda: len(points_in(store_file, experiment)) == 3)
        holder.start()
        locked.wait()
        for step in range(1, 11):
            tell(tracker, step)
        if when == "while cells train":
            time.sleep(27)
        for name in NAMES:
            tracker.ended(finished(name, range(1, 11)), b"weights")
    holder.join()
    for name in NAMES:
        assert Counter(points_in(store_file, experiment)[name]) == Counter(points_of(finished(name, range(1, 11))))


class Losing(Server):
    """A server that does what it is asked and loses every third answer of a change."""

    count = 0

    def answer(self, call: str, values: dict[str, Any]) -> Any:
        answer = super().answer(call, values)
        if call in ("runs/create", "runs/update", "runs/log-batch"):
            self.count += 1
            if self.count % 3 == 0:
                raise ConnectionError
        return answer


@pytest.fixture
def _no_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's client repeats nothing by itself, which would take minutes."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(store_module, "LONGEST_PAUSE", 0.05)


@pytest.mark.usefixtures("_no_repetition")
def test_a_server_that_loses_answers_gets_every_point_once() -> None:
    with serving(Losing()) as server:
        store = Store(f"http://127.0.0.1:{server.port}", "a sweep")
        with open_tracker(store) as tracker:
            for step in range(1, 31):
                tell(tracker, step)
                time.sleep(0.01)
            for name in NAMES:
                tracker.ended(finished(name, range(1, 31)), b"weights")
        assert_once_each(server, range(1, 31))


@pytest.mark.usefixtures("_no_repetition")
def test_a_server_that_is_away_for_a_while_gets_what_happened_meanwhile() -> None:
    server = Server()
    with serving(server):
        store = Store(f"http://127.0.0.1:{server.port}", "a sweep")
        tracker = open_tracker(store)
        tracker.__enter__()
        tell(tracker, 1)
        wait_for(lambda: len(server.runs) == 4)
    for step in range(1, 31):
        tell(tracker, step)
        time.sleep(0.01)
    tracker.ended(finished(NAMES[0], range(1, 31)), b"weights")
    time.sleep(0.5)
    with serving(server):
        for step in range(31, 41):
            tell(tracker, step)
        for name in NAMES[1:]:
            tracker.ended(finished(name, range(1, 41)), b"weights")
        tracker.__exit__()
    assert_once_each(server, range(1, 41), {NAMES[0]: range(1, 31)})


@pytest.mark.slow
def test_mlflows_own_server_that_is_killed_and_started_again_gets_every_point_once(
    store_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client repeats its calls as users have it, which bridges minutes."""
    monkeypatch.setattr(tracking, "LAST_SECONDS", 60.0)
    file = Path(shutil.copy(store_file, tmp_path))
    with silence() as port:
        uri = f"http://127.0.0.1:{port}"
    with mlflow_server(file, port):
        store = Store(uri, "a killed server")
        tracker = open_tracker(store)
        tracker.__enter__()
        tell(tracker, 1)
        wait_for(lambda: len(points_in(file, "a killed server")) == 3)
        tell(tracker, 2)
    for step in range(2, 21):
        tell(tracker, step)
    tracker.ended(finished(NAMES[0], range(1, 21)), b"weights")
    time.sleep(3)
    with mlflow_server(file, port):
        for name in NAMES[1:]:
            tracker.ended(finished(name, range(1, 21)), b"weights")
        tracker.__exit__()
        for name in NAMES:
            assert Counter(points_in(file, "a killed server")[name]) == Counter(points_of(finished(name, range(1, 21))))
            (run,) = runs_of(MlflowClient(uri), "a killed server", name)
            assert run.data.tags[Tag.OUTCOME] == Outcome.FINISHED
            assert {entry.path for entry in MlflowClient(uri).list_artifacts(run.info.run_id)} >= {MODEL_FILE}


@contextlib.contextmanager
def mlflow_server(file: Path, port: int) -> Iterator[None]:
    """Context in which MLflow's own server answers, which is killed in the end."""
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    own = {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{file}", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    own["MLFLOW_ARTIFACTS_DESTINATION"] = str(file.with_name("artifacts"))
    process = subprocess.Popen(
        command, env=os.environ | own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(lambda: process.poll() is not None or answers(port), 90)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(port: int) -> bool:
    """Whether something accepts connections on a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def assert_once_each(server: Server, steps: range, own: Mapping[str, range] | None = None) -> None:
    runs = [run for run in server.runs.values() if run["tags"].get(Tag.KIND) == RunKind.CELL]
    assert Counter(run["tags"][Tag.CELL] for run in runs) == Counter(NAMES)
    for run in runs:
        cell = run["tags"][Tag.CELL]
        expected = points_of(finished(cell, (own or {}).get(cell, steps)))
        assert Counter(server.points(run["info"]["run_id"])) == Counter(expected)
        assert run["tags"][Tag.OUTCOME] == Outcome.FINISHED


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_folder_is_a_store_too_where_mlflow_is_allowed_to_use_it(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = f"{scheme}{tmp_path / 'mlruns'}"
    for _ in range(2):
        store = Store(uri, "a sweep")
        with open_tracker(store) as tracker:
            tell(tracker, 1)
            tracker.ended(finished(NAMES[0], range(1, 4)), b"weights")
    client = MlflowClient(uri)
    (run,) = runs_of(client, "a sweep", NAMES[0])
    history = client.get_metric_history(run.info.run_id, METRICS[0])
    assert [metric.step for metric in history] == [1, 2, 3]


def test_secrets_in_causes_are_masked_before_they_are_recorded(uri: str) -> None:
    store = Store(uri, "a cause")
    with open_tracker(store) as tracker:
        tracker.failed(NAMES[0], "OSError: s3://key:s3cret@bucket/cells?secret_key=wx9 cannot be written")
    (run,) = runs_of(MlflowClient(uri), "a cause", NAMES[0])
    cause = run.data.tags[Tag.CAUSE]
    assert cause == "OSError: s3://key:***@bucket/cells?secret_key=*** cannot be written"
