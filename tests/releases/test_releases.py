"""Stores, finished files and checkpoints that earlier releases have written are read, and cells go on from them."""

import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
import torch

from vaesweep.analysis import runs
from vaesweep.analysis.load import load_cell
from vaesweep.analysis.report import write
from vaesweep.family import family
from vaesweep.family.restore import restore
from vaesweep.sweep.cells import Cell
from vaesweep.sweep.jobs import Event, PackJob
from vaesweep.sweep.settings import build
from vaesweep.sweep.storage import Storage, finished_name
from vaesweep.sweep.tracking import Store
from vaesweep.sweep.worker import run_job
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell
from vaesweep.vocabulary import Outcome

RELEASES = sorted(path.name.removesuffix(".tar.xz") for path in Path(__file__).parent.glob("*.tar.xz"))
SWEEPS = ("rd_curve_pvae", "rd_curve_vitasnet", "rd_curve_cdvae")
INTERRUPTED = {
    "model.hidden": 8,
    "model.features": 8,
    "model.latents": 2,
    "data.draws": 1,
    "training.steps": 12,
    "training.evaluate_every": 3,
    "training.batch_size": 16,
    "rates.total.kind": "target",
    "rates.total.target": 2.0,
}


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a release in a folder of their own."""
    folder = tmp_path_factory.mktemp("release")
    with tarfile.open(Path(__file__).parent / f"{request.param}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    with closing(sqlite3.connect(folder / "store" / "mlflow.db")) as database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(f"update {table} set {column} = replace({column}, 'ROOM', ?)", (str(folder / "store"),))
        database.commit()
    return folder


def uri(release: Path) -> str:
    return f"sqlite:///{release / 'store' / 'mlflow.db'}"


def finished_files(release: Path, sweep: str) -> list[FinishedCell]:
    files = sorted((release / "store" / sweep / "cells" / "finished").glob("*.safetensors"))
    assert files
    return [finished.from_bytes(file.read_bytes(), file.name) for file in files]


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_tracked_sweep_is_read_and_drawn(release: Path, sweep: str, tmp_path: Path) -> None:
    found = runs.read(sweep, uri(release))
    assert set(found.cells["outcome"]) == {Outcome.FINISHED}
    assert set(found.finals["metric"]) >= {"distortion", "rate", "elbo"}
    report = write(found, tmp_path)
    assert report.summary[0] == f"cells: {len(found.cells)} finished, 0 diverged, 0 failed"


@pytest.mark.parametrize("sweep", SWEEPS)
def test_finished_files_and_tracked_models_become_models_again(release: Path, sweep: str) -> None:
    for cell in finished_files(release, sweep):
        tracked = load_cell(cell.cell, uri(release))
        assert tracked.metrics == cell.metrics
        owner = family(cell.family)
        _, model = restore(tracked, owner.config, torch.nn.Module)
        for name, value in model.named_parameters():
            assert torch.equal(value, cell.weights[name])


@pytest.mark.parametrize("sweep", SWEEPS)
def test_cells_keep_their_identity(release: Path, sweep: str) -> None:
    """The same configuration on the same data has the same identity, or every finished cell would be trained again."""
    known = Store(uri(release), sweep).cells()
    fingerprints = tags(release, "vaesweep.data")
    for cell in finished_files(release, sweep):
        config = family(cell.family).config.model_validate(cell.config)
        assert Cell(config, cell.family, fingerprints[cell.cell], {}).identity == cell.cell
        assert known[cell.cell].outcome is Outcome.FINISHED


def test_a_cell_goes_on_from_the_checkpoint(release: Path) -> None:
    owner = family("pvae")
    data = owner.example()
    cell = Cell(build(owner.config, INTERRUPTED), "pvae", data.fingerprint(), {})
    job = PackJob("pack", "pvae", {cell.identity: cell.config.model_dump_json()}, str(release / "interrupted"))
    events: list[Event] = []
    run_job(job, data, events.append, torch.device("cpu"))
    steps = [step for event in events for step, _, _ in event.points]
    assert steps == [9, 12], "six steps were in the checkpoint"
    name = finished_name(cell.identity)
    resumed, undisturbed = (
        finished.from_bytes(Storage(str(release / place)).read(name), place) for place in ("interrupted", "undisturbed")
    )
    assert resumed.evaluated == undisturbed.evaluated == (3, 6, 9, 12)
    # Another processor may round otherwise than the one that made the archive: 12 steps of 1e-3 differ by far less.
    for parameter, value in undisturbed.weights.items():
        torch.testing.assert_close(resumed.weights[parameter], value, rtol=1e-4, atol=1e-5)


def tags(release: Path, key: str) -> dict[str, str]:
    query = (
        "select cell.value, tag.value from tags cell join tags tag using (run_uuid) where cell.key = ? and tag.key = ?"
    )
    with closing(sqlite3.connect(release / "store" / "mlflow.db")) as database:
        return dict(database.execute(query, ("vaesweep.cell", key)).fetchall())
