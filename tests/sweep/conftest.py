"""What tests of a sweep share: small data, small cells, what an undisturbed run makes of them, a worker record."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from packs import CPU, job, read

from vaesweep.data.domains import DataSet
from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.family import family
from vaesweep.sweep import worker
from vaesweep.sweep.cells import Cell
from vaesweep.sweep.jobs import Event
from vaesweep.sweep.settings import build
from vaesweep.sweep.storage import Storage
from vaesweep.sweep.tracking import Store
from vaesweep.sweep.worker import run_job
from vaesweep.training.finished import FinishedCell

SMALL = {"model.hidden": 8, "model.features": 8, "model.latents": 2, "data.draws": 1}
STEPS = {"training.steps": 12, "training.evaluate_every": 3, "training.batch_size": 16}


@pytest.fixture(autouse=True)
def _prompt_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker in this process reports at every evaluation."""
    monkeypatch.setattr(worker, "REPORT_SECONDS", 0.0)


@pytest.fixture(scope="session")
def audiograms() -> DataSet:
    """A few hundred synthetic audiograms."""
    return family("pvae").example()


@pytest.fixture(scope="session")
def small_cell(audiograms: DataSet) -> Any:
    """Makes a cell of a tiny model that trains for twelve steps, four of them evaluated."""

    def make(settings: Mapping[str, Any] | None = None) -> Cell:
        config = build(PartialVaeCell, SMALL | STEPS | dict(settings or {}))
        return Cell(config, "pvae", audiograms.fingerprint(), settings or {})

    return make


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty folder for checkpoints and finished files."""
    return Storage(str(tmp_path))


@pytest.fixture(scope="module")
def cells(small_cell: Callable[..., Cell]) -> list[Cell]:
    """Two seeds at two target rates."""
    target = {"rates.total.kind": "target"}
    return [small_cell(target | {"rates.total.target": rate, "seed": seed}) for rate in (0.5, 2.0) for seed in (0, 1)]


@pytest.fixture(scope="module")
def undisturbed(
    cells: list[Cell], audiograms: DataSet, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, FinishedCell]:
    """The finished `cells` of one run in one go."""
    place = Storage(str(tmp_path_factory.mktemp("undisturbed")))
    run_job(job(cells, place), audiograms, lambda event: None, CPU)
    return read(place, cells)


@pytest.fixture(scope="session")
def pristine_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store with one experiment, since to make one takes seconds; tests may copy it."""
    file = tmp_path_factory.mktemp("pristine") / "mlflow.db"
    Store(f"sqlite:///{file}", "first")
    return file


@pytest.fixture(scope="session")
def store_file(pristine_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it that tests add experiments and runs to."""
    return Path(shutil.copy(pristine_store, tmp_path_factory.mktemp("tracking")))


class Killed(Exception):
    """Stands for the end of a process."""


@dataclass
class Driver:
    """Hears a worker's events, as JSON takes them, and kills the worker after `patience` of them."""

    patience: int = 1_000_000
    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(Event.from_json(event.to_json()))
        if len(self.events) >= self.patience:
            raise Killed

    def points(self) -> list[tuple[str, int]]:
        """(cell, step) of all points told."""
        return [(cell, step) for event in self.events for step, cells, _ in event.points for cell in cells]

    def finished(self) -> Sequence[str]:
        """Cells said to have ended, as often as it was said."""
        return [cell for event in self.events for cell in event.finished]


@pytest.fixture
def driver() -> type[Driver]:
    """The class, since a test has several."""
    return Driver


@pytest.fixture
def killed() -> type[Killed]:
    """What a `Driver` raises when its patience is spent."""
    return Killed
