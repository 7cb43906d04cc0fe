"""What several rooms' tests share: one example of every kind of rate control, and a listener that keeps everything.

`command` is the first sweep script as a user calls it, in a folder of its own.

Threads are left at one: the tests' tensors are too small to gain from more, and other counts order sums differently.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which reads it once

import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import typing
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from torch import Tensor

from vaesweep.rates import Control, RateControl
from vaesweep.training.loop import CellResult
from vaesweep.training.state import PackState

pytest_plugins = ("toy_sweeps",)

KINDS: tuple[type[RateControl], ...] = typing.get_args(
    typing.get_args(Control)[0]
)  # a new kind is among them by itself


def example(kind: type[RateControl]) -> RateControl:
    """A control of `kind`: its defaults, and 2 for a number that has none."""
    return kind(**{name: 2.0 for name, entry in kind.model_fields.items() if entry.is_required()})


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def control(request: pytest.FixtureRequest) -> RateControl:
    """One example of each kind of control in the `Control` union."""
    return example(request.param)


@dataclass
class Recorder:
    """A listener that keeps all it hears: checkpoints as file content by step, results by cell."""

    heard: list[tuple[int, tuple[str, ...], dict[str, Tensor]]] = field(default_factory=list)
    checkpoints: dict[int, bytes] = field(default_factory=dict)
    results: dict[str, CellResult] = field(default_factory=dict)
    between: tuple[int, ...] = ()  # steps after which checkpoints are kept beside those of evaluations

    def progress(self, state: PackState, latest: dict[str, Tensor]) -> None:
        self.heard.append((state.step, state.cells, latest))

    def checkpoint(self, state: PackState) -> None:
        if state.step in self.between or state.is_evaluated:
            self.checkpoints[state.step] = state.to_bytes()

    def finished(self, result: CellResult) -> None:
        assert result.cell not in self.results, "a cell finished twice"
        self.results[result.cell] = result


@pytest.fixture(scope="session")
def recorder() -> type[Recorder]:
    """The class, since a test listens to more than one run."""
    return Recorder


ROOT = Path(__file__).parents[1]
TINY = (
    "model.hidden=8",
    "model.features=8",
    "model.latents=2",
    "training.steps=40",
    "training.evaluate_every=20",
    "training.batch_size=16",
    "data.draws=1",
    "seed=[0,1]",
    "rates.total.target=[0.5,2.0]",
)


@dataclass
class Command:
    """`sweeps/rd_curve_pvae.py` in a folder of its own, with four small cells unless `settings` say otherwise.

    `ray` is where Ray would put its files: it stays empty as long as nothing of Ray was started.
    """

    folder: Path
    ray: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(
        self, *options: str, settings: tuple[str, ...] = (), script: str = "sweeps/rd_curve_pvae.py"
    ) -> subprocess.Popen[str]:
        """The command, begun."""
        words = list(options)
        if script.startswith("sweeps"):
            words += ["--set", *TINY, *settings]
        environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS")}
        process = subprocess.Popen(
            [sys.executable, str(ROOT / script), *words],
            cwd=self.folder,
            env=environment | {"RAY_TMPDIR": str(self.ray), "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def run(self, *options: str, **more: typing.Any) -> subprocess.CompletedProcess[str]:
        """The command, ended."""
        return finish(self.start(*options, **more))

    def rows(self, query: str, *values: typing.Any) -> list[tuple]:
        """What a query of the folder's MLflow store gives."""
        with closing(sqlite3.connect(f"file:{self.folder}/results/mlflow.db?mode=ro", uri=True)) as connection:
            return connection.execute(query, values).fetchall()

    def points(self) -> list[tuple[str, str, int]]:
        """(run, metric, step) of every point that MLflow has, as often as it has it."""
        return self.rows("select run_uuid, key, step from metrics order by 1, 2, 3")

    def runs(self, kind: str = "cell") -> list[tuple[str, str]]:
        """(run, status) of all runs of a kind."""
        query = "select run_uuid, status from runs join tags using (run_uuid) where key = 'vaesweep.kind' and value = ?"
        return self.rows(query, kind)

    def finished(self, storage: str = "results/rd_curve_pvae/cells") -> list[Path]:
        """The finished files."""
        return sorted((self.folder / storage / "finished").glob("*.safetensors"))

    def checkpoints(self, storage: str = "results/rd_curve_pvae/cells") -> list[Path]:
        """The checkpoints."""
        return sorted((self.folder / storage / "checkpoints").glob("*.safetensors"))


def finish(process: subprocess.Popen[str], seconds: float = 180) -> subprocess.CompletedProcess[str]:
    """What a process that was started has said and how it ended."""
    out, errors = process.communicate(timeout=seconds)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


@pytest.fixture(scope="module")
def command_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Command]]:
    """Makes commands, each in a new folder; whatever of them still runs in the end is killed."""
    made: list[Command] = []

    def make() -> Command:
        # Ray puts sockets there, whose paths may not be long: not below pytest's folder.
        made.append(Command(tmp_path_factory.mktemp("command"), Path(tempfile.mkdtemp(prefix="vs"))))
        return made[-1]

    yield make
    for command in made:
        for process in command.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        shutil.rmtree(command.ray, ignore_errors=True)


@pytest.fixture
def command(command_in: Callable[[], Command]) -> Command:
    """A command in a new folder."""
    return command_in()


SECONDS: dict[str, float] = {}  # of every test file of this run, for `tests/touched.py`


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up the seconds of each test file."""
    name = report.nodeid.partition("::")[0]
    SECONDS[name] = SECONDS.get(name, 0.0) + report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remember them, where this process is not one of xdist's workers."""
    cache = getattr(session.config, "cache", None)
    if cache is not None and not hasattr(session.config, "workerinput"):
        cache.set("vaesweep/seconds", cache.get("vaesweep/seconds", {}) | SECONDS)
