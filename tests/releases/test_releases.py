"""Stores, finished files and checkpoints that earlier releases have written are read, and cells go on from them."""

import sqlite3
import tarfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vaesweep
from vaesweep.analysis import runs
from vaesweep.analysis.load import load_cell
from vaesweep.analysis.report import write
from vaesweep.family import family
from vaesweep.family.restore import restore
from vaesweep.sweep.cells import Cell
from vaesweep.sweep.jobs import Event, PackJob
from vaesweep.sweep.settings import build
from vaesweep.sweep.storage import Storage, finished_name
from vaesweep.sweep.survey import find_aliases, survey
from vaesweep.sweep.tracking import Store
from vaesweep.sweep.worker import run_job
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell
from vaesweep.vocabulary import Outcome

RELEASES = sorted(path.name.removesuffix(".tar.xz") for path in Path(__file__).parent.glob("*.tar.xz"))
SPECS = {"rd_curve_pvae": "synthetic", "rd_curve_vitasnet": "pulses:conditions=noise_0", "rd_curve_cdvae": "poisson"}
SWEEPS = tuple(SPECS)
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
def test_a_model_of_an_earlier_release_is_used_and_evaluated_on_the_data_of_its_sweep(
    release: Path, sweep: str
) -> None:
    cell = finished_files(release, sweep)[0]
    model = vaesweep.load(cell.cell, tracking_uri=uri(release))
    assert model.reconstruct(model.example()).isfinite().all()
    for domain, metrics in model.evaluate().items():
        assert metrics["elbo"] == pytest.approx(cell.metrics[f"{domain}/elbo"], rel=1e-4)  # float32, other versions


@pytest.mark.parametrize(("sweep", "spec"), SPECS.items())
def test_cells_are_found_under_the_identities_that_they_had(release: Path, sweep: str, spec: str) -> None:
    """Or every finished cell would be trained again."""
    tracked = Store(uri(release), sweep).cells()
    empty = Storage(str(release / "empty"))
    for finished_cell in finished_files(release, sweep):
        owner = family(finished_cell.family)
        config = owner.config.model_validate(finished_cell.config)
        data = owner.load(spec, config)
        cell = Cell(config, owner.name, data.fingerprint(), {})
        found = find_aliases(owner, [cell], tracked, empty, lambda _, data=data: data)
        assert found == {cell.identity: finished_cell.cell}
        known, domains = replace(cell, alias=finished_cell.cell), data.fingerprints()
        done = survey([known], tracked, empty, lambda _, domains=domains: domains, lambda run: None).done
        assert done == {finished_cell.cell}


def test_a_population_more_trains_no_cell_of_an_earlier_release(release: Path, tmp_path: Path) -> None:
    tracked = Store(uri(release), "rd_curve_pvae").cells()
    storage = Storage(str(release / "store" / "rd_curve_pvae" / "cells"))
    finished_cell = finished_files(release, "rd_curve_pvae")[0]
    owner = family("pvae")
    config = owner.config.model_validate(finished_cell.config)
    data = owner.load("synthetic", config)
    more = replace(data.domains[-1], name="more", arrays={"x": data.domains[-1].arrays["x"][:50] + 5})
    wider = replace(data, domains=(*data.domains, more))
    cell = Cell(config, owner.name, wider.fingerprint(), {})
    aliases = find_aliases(owner, [cell], tracked, storage, lambda _: wider)
    assert aliases == {cell.identity: finished_cell.cell}
    known = replace(cell, alias=finished_cell.cell)
    found = survey([known], tracked, storage, lambda _: wider.fingerprints(), lambda run: None)
    assert found.sources == {finished_cell.cell: finished_name(finished_cell.cell)}
    job = PackJob(
        "pack",
        "pvae",
        {finished_cell.cell: config.model_dump_json()},
        storage.uri,
        domains=wider.fingerprints(),
        sources=found.sources,
    )
    run_job(job, wider, lambda event: None, torch.device("cpu"))
    evaluated = finished.from_bytes(storage.read(finished_name(finished_cell.cell)), "here", finished_cell.cell)
    assert evaluated.metrics.items() > finished_cell.metrics.items()
    assert {name.rpartition("/")[0] for name in evaluated.metrics.keys() - finished_cell.metrics.keys()} == {"more"}
    assert survey([known], {}, storage, lambda _: wider.fingerprints(), lambda run: None).recovered == [
        finished_cell.cell
    ]


def test_a_cell_goes_on_from_the_checkpoint(release: Path) -> None:
    owner = family("pvae")
    data = owner.example()
    cell = Cell(build(owner.config, INTERRUPTED), "pvae", data.fingerprint(), {})
    storage = Storage(str(release / "interrupted"))
    (alias,) = find_aliases(owner, [cell], {}, storage, lambda _: data).values()
    cell = replace(cell, alias=alias)
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
