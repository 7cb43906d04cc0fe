"""Who reads data, the driver or the workers: the same cells and numbers, other data refused, the driver's memory."""

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packs import CPU, assert_identical, read

from vaesweep.data.description import Description
from vaesweep.data.remote import write_manifest
from vaesweep.errors import UserError
from vaesweep.families.pvae.data.archetypes import synthetic
from vaesweep.families.pvae.data.audiograms import COLUMNS
from vaesweep.family import family
from vaesweep.sweep import data_reading, data_sets, data_transfer
from vaesweep.sweep.cells import Preset, Sweep, expand, make_packs
from vaesweep.sweep.data_reading import DataReading, describe
from vaesweep.sweep.data_sets import DataSets
from vaesweep.sweep.data_transfer import LEAST_STORE, SHARE, local_store_bytes, received, sent
from vaesweep.sweep.jobs import PackJob
from vaesweep.sweep.options import DataBy, Options
from vaesweep.sweep.runner import job_of
from vaesweep.sweep.session import Session
from vaesweep.sweep.storage import Storage
from vaesweep.sweep.worker import run_job

ROOT = Path(__file__).parents[2]
PVAE = family("pvae")
TINY = {
    "model.hidden": 8,
    "model.features": 8,
    "model.latents": 2,
    "data.draws": 1,
    "training.steps": 4,
    "training.evaluate_every": 2,
    "training.batch_size": 16,
}


def write_population(path: Path, seed: int = 0, rows: int = 60) -> Path:
    x = np.clip(np.round(synthetic(seed, rows=rows).domains[0].arrays["x"]), 0, 100)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *x.astype(int).tolist()])
    return path


@pytest.fixture
def population(tmp_path: Path) -> Path:
    return write_population(tmp_path / "clinic.csv")


def configs(settings: dict[str, Any] | None = None) -> list[Any]:
    return [config for config, _ in expand(PVAE, Preset(TINY), settings or {})]


def sets(spec: str, by: DataBy) -> DataSets:
    return DataSets(PVAE, spec, configs(), by)


def test_a_description_is_all_but_the_arrays(audiograms: Any) -> None:
    about = Description.of(audiograms)
    assert Description.from_json(about.to_json()) == about
    assert [(d.name, d.role, len(d)) for d in about.domains] == [(d.name, d.role, len(d)) for d in audiograms.domains]
    assert (about.fingerprint, about.fingerprints) == (audiograms.fingerprint(), audiograms.fingerprints())
    assert list(about.fingerprints_of_0_1()) == list(audiograms.fingerprints_of_0_1())
    assert about.nbytes == sum(d.arrays["x"].nbytes for d in audiograms.domains)


def test_another_process_describes_what_this_one_would_have_read(population: Path) -> None:
    here, there = sets(f"csv:{population}", "driver"), sets(f"csv:{population}", "workers")
    assert there.descriptions == here.descriptions
    assert there.summary == here.summary
    for one in (here, there):
        assert one.of(configs()[0]).fingerprints() == here.domains(configs()[0])


def test_bad_data_are_refused_in_the_same_words_whoever_reads_them(tmp_path: Path) -> None:
    spec = f"csv:{tmp_path / 'absent.csv'}"
    with pytest.raises(UserError) as here:
        sets(spec, "driver")
    with pytest.raises(UserError) as there:
        sets(spec, "workers")
    assert str(here.value) == str(there.value)


def test_a_reader_that_is_killed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = subprocess.CompletedProcess([], -9, "")
    monkeypatch.setattr(data_reading.subprocess, "run", lambda *_, **__: killed)
    with pytest.raises(UserError, match="ended with code -9, for want of memory"):
        describe("pvae", "synthetic", configs())


def test_by_workers_the_driver_reads_nothing_until_it_is_asked_to(
    population: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_here: list[str] = []
    described = [sets(f"csv:{population}", "driver").descriptions[0]]
    load = type(PVAE).load
    monkeypatch.setattr(type(PVAE), "load", lambda self, spec, c: read_here.append(spec) or load(self, spec, c))
    monkeypatch.setattr(data_sets, "describe", lambda *_: described)
    found = sets(f"csv:{population}", "workers")
    assert (found.descriptions, read_here) == (described, [])
    assert found[0].fingerprint() == found.descriptions[0].fingerprint
    assert read_here == [f"csv:{population}"]


def test_a_worker_refuses_other_data_than_the_driver_described(population: Path) -> None:
    reading = sets(f"csv:{population}", "driver").reading(0)
    write_population(population, seed=1)
    with pytest.raises(UserError, match=r"the data of clinic\.train, clinic\.valid, clinic\.test are not those"):
        reading.read()
    population.unlink()
    with pytest.raises(UserError, match=r"no such file or folder.*--data-by driver"):
        reading.read()


def test_the_driver_refuses_other_data_where_it_reads_again(population: Path) -> None:
    found = sets(f"csv:{population}", "driver")
    found.let_go()
    write_population(population, seed=1)
    with pytest.raises(UserError, match="are not those that the sweep began with"):
        found.of(configs()[0])


def test_a_process_reads_a_data_set_once(population: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = sets(f"csv:{population}", "driver").reading(0)
    again = DataReading(reading.family, reading.spec, reading.config, reading.domains)
    assert again.read() is reading.read()


def trained(folder: Path, session: Session, given: tuple[Any, ...]) -> Any:
    """The finished cells of a session's plan, trained here on what workers are `given`."""
    storage = Storage(str(folder))
    cells = [cell for pack in make_packs(session.cells, 2) for cell in pack.cells]
    for pack in make_packs(session.cells, 2):
        job = PackJob.from_json(job_of(pack, session.data, storage, session.options).to_json())
        is_sent = isinstance(given[job.data], DataReading)
        run_job(job, received(job, given) if is_sent else given[job.data], lambda event: None, CPU)
    return read(storage, cells)


@pytest.fixture
def sessions(tmp_path: Path, store_file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes sessions of two cells."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store_file}")
    monkeypatch.setenv("VAESWEEP_CACHE", str(tmp_path / "cache"))
    sweep = Sweep("by", "pvae", lambda data: {"smoke": Preset(TINY, {"seed": [0, 1]})})

    def make(spec: str, by: DataBy) -> Session:
        return Session(sweep, Options("smoke", spec, out=tmp_path, storage=str(tmp_path / "cells"), data_by=by))

    return make


def test_numbers_are_the_same_whichever_way_data_travel(sessions: Any, population: Path, tmp_path: Path) -> None:
    by_driver = sessions(f"csv:{population}", "driver")
    by_workers = sessions(f"csv:{population}", "auto")
    remote = tmp_path / "bucket" / "clinic.csv"
    remote.parent.mkdir()
    population.rename(remote)
    write_manifest(remote.parent)
    by_manifest = sessions(f"csv:file://{remote}", "auto")
    assert [cell.identity for cell in by_manifest.cells] == [cell.identity for cell in by_driver.cells]
    expected = trained(tmp_path / "driver", by_driver, tuple(by_driver.data))
    remote.with_name(population.name).rename(population)
    for name, session in (("workers", by_workers), ("manifest", by_manifest)):
        data_reading._latest.clear()
        assert_identical(trained(tmp_path / name, session, (session.data.reading(0),)), expected)


def test_a_record_holds_no_arrays_and_no_password(sessions: Any, population: Path) -> None:
    session = sessions(f"csv:{population}", "driver")
    session.data.let_go()
    record = session.record(session.plan(1))
    assert [domain["rows"] for domain in record["domains"]] == [len(d) for d in session.data[0].domains]
    with pytest.raises(UserError, match="holds no credentials"):
        sessions("csv:s3://name:word@bucket/clinic.csv", "driver")


@pytest.mark.parametrize(("nbytes", "most", "expected"), [(0, 2**40, LEAST_STORE), (10**6, 2**40, LEAST_STORE)])
def test_the_object_store_of_a_small_sweep_is_small(
    nbytes: int, most: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_transfer, "_most_store_bytes", lambda: most)
    assert local_store_bytes(nbytes) == expected


def test_the_object_store_follows_the_data_up_to_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_transfer, "_most_store_bytes", lambda: 2**30)
    assert SHARE * local_store_bytes(400 * 2**20) >= 400 * 2**20
    assert local_store_bytes(2**30) == LEAST_STORE, "more than it has is read by workers"


class FakeSets:
    """Data sets of so many bytes, of which it is noted whether they are held."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes, self.held = nbytes, True

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> str:
        return "arrays"

    def let_go(self) -> None:
        self.held = False

    def reading(self, number: int) -> str:
        return "reading"


@pytest.mark.parametrize(
    ("by", "nbytes", "expected", "held"),
    [
        ("auto", 10**6, "arrays", True),
        ("auto", 10**8, "arrays", False),
        ("auto", 8 * 10**8, "reading", False),
        ("driver", 8 * 10**8, "arrays", False),
        ("workers", 10**6, "reading", False),
    ],
)
def test_data_go_through_the_object_store_where_they_fit(
    by: DataBy, nbytes: int, expected: str, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Context:
        def get_node_id(self) -> str:
            return "here"

    monkeypatch.setattr(data_transfer, "store_bytes", lambda: 10**9)
    monkeypatch.setattr(data_transfer.ray, "get_runtime_context", Context)
    monkeypatch.setattr(data_transfer.ray, "put", lambda value: value)
    fake = FakeSets(nbytes)
    assert sent(fake, by) == (expected,)  # type: ignore[arg-type]
    assert fake.held is held


def test_data_are_put_into_a_ray_once_and_into_the_next_ray_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the rounds of a search on one Ray ask for them."""
    node, put = ["first"], []

    class Context:
        def get_node_id(self) -> str:
            return node[0]

    monkeypatch.setattr(data_transfer, "store_bytes", lambda: 10**9)
    monkeypatch.setattr(data_transfer.ray, "get_runtime_context", Context)
    monkeypatch.setattr(data_transfer.ray, "put", lambda value: put.append(value) or value)
    fake = FakeSets(100)
    for expected in (1, 1, 2):
        node[0] = "second" if expected == 2 else "first"
        sent(fake, "auto")  # type: ignore[arg-type]
        assert len(put) == expected


LARGER = """
import sys
from vaesweep.sweep import data_transfer
data_transfer.LEAST_STORE = 80 * 2**20
data_transfer._most_store_bytes = lambda: 80 * 2**20
received = data_transfer.sent
def noted(data, by):
    given = received(data, by)
    print("given", data.nbytes, type(given[0]).__name__)
    return given
from vaesweep.sweep import runner
runner.sent = noted
sys.argv[0] = "rd_curve_cdvae"
sys.path.insert(0, {sweeps!r})
import rd_curve_cdvae
from vaesweep.cli.script import main
raise SystemExit(main(rd_curve_cdvae.SWEEP, words=sys.argv[1:]))
"""
SIDE = 512


def write_images(folder: Path) -> None:
    """MNIST's files with 460 images: padded to 512 x 512 bytes each they are 115 MiB."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, count in (("train-images-idx3-ubyte", 400), ("t10k-images-idx3-ubyte", 60)):
        header = np.array([0x803, count, 28, 28], dtype=">u4").tobytes()
        (folder / name).write_bytes(header + random.integers(0, 256, (count, 28, 28), dtype=np.uint8).tobytes())


@pytest.mark.slow
def test_data_larger_than_the_object_store_are_trained_on(tmp_path: Path) -> None:
    write_images(tmp_path / "mnist")
    settings = [f"data.size={SIDE}", f"model.size={SIDE}", "data.binarisation=threshold", "model.finest=64"]
    settings += ["model.levels=2", "model.latents=1", "model.width=2", "model.hidden=2", "model.encoder_blocks=1"]
    settings += ["model.decoder_blocks=1", "training.steps=2", "training.warm_up=0", "training.evaluate_every=2"]
    settings += [
        "training.batch_size=2",
        "variant=discrete",
        "model.depth.blocks=1",
        "seed=0",
        "rates.total.target=8.0",
    ]
    words = ["--data", f"mnist:{tmp_path / 'mnist'}", "--out", str(tmp_path / "out"), "--set", *settings]
    with tempfile.TemporaryDirectory(prefix="vs", ignore_cleanup_errors=True) as ray:
        done = subprocess.run(
            [sys.executable, "-c", LARGER.format(sweeps=str(ROOT / "sweeps")), *words],
            cwd=tmp_path,
            env={k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS")}
            | {"RAY_TMPDIR": ray},
            capture_output=True,
            text=True,
            timeout=900,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"given {460 * SIDE**2 + 460 * 8} DataReading" in done.stdout
    assert "0 failed" in done.stdout


@pytest.mark.slow
def test_a_sweep_by_workers_comes_to_the_numbers_of_one_by_the_driver(command_in: Any) -> None:
    tables = []
    for by in ("driver", "workers"):
        command = command_in()
        done = command.run("--data-by", by)
        assert done.returncode == 0, done.stderr
        tables.append((command.folder / "results" / "rd_curve_pvae" / "cells.csv").read_text())
    first, second = (list(csv.DictReader(text.splitlines())) for text in tables)
    numbers = ("cell", "domain", "outcome", "rate", "distortion", "elbo")
    assert [[row[key] for key in numbers] for row in first] == [[row[key] for key in numbers] for row in second]
