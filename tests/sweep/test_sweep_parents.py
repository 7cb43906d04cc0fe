"""A parent run that cannot be opened is refused before anything is made; readers pass over one without a record."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from vaesweep.analysis import runs
from vaesweep.errors import UserError
from vaesweep.sweep.store import Store
from vaesweep.vocabulary import RECORD_DIGEST, SWEEP_FILE, record_digest

EXPERIMENT = "parents"


def record(sweep: str = "aaaa", preset: str = "small", family: str = "pvae") -> dict[str, Any]:
    """The record of a sweep of two cells."""
    about: dict[str, Any] = {"sweep": sweep, "name": EXPERIMENT, "family": family, "preset": preset}
    about |= {"command": f"sweeps/{EXPERIMENT}.py --preset {preset}", "axes": {}, "domains": []}
    about["cells"] = [{"cell": f"{sweep}{number}", "values": {}, "steps": 1} for number in range(2)]
    return about | {RECORD_DIGEST: record_digest(about)}


@pytest.fixture
def uri(store_file: Path, tmp_path: Path) -> str:
    (tmp_path / "results").mkdir()
    shutil.copy(store_file, tmp_path / "results" / "mlflow.db")
    return f"sqlite:///{tmp_path}/results/mlflow.db"


def finished(uri: str, **about: str) -> str:
    """The parent run of a sweep that has ended."""
    store = Store(uri, EXPERIMENT)
    run = store.open_sweep(record(**about), {})
    store.end(run, "FINISHED")
    return run


def statuses(uri: str) -> list[str]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return [run.info.status for run in client.search_runs([experiment.experiment_id])] if experiment else []


def move(uri: str, place: Path) -> None:
    """Let the store say that artifacts are at `place`, as one does that comes from elsewhere."""
    file = Path(uri.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(file)) as database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(f"update {table} set {column} = replace({column}, ?, ?)", (str(file.parent), str(place)))
        database.commit()


def test_a_sweep_that_is_known_may_be_opened_again(uri: str) -> None:
    Store(uri, EXPERIMENT).check_sweep(record())
    finished(uri)
    Store(uri, EXPERIMENT).check_sweep(record())
    Store(uri, EXPERIMENT).check_sweep(record("bbbb", "large"))


@pytest.mark.parametrize(("field", "value"), [("preset", "large"), ("family", "emd")])
def test_other_words_of_the_same_cells_are_refused(uri: str, field: str, value: str) -> None:
    finished(uri)
    with pytest.raises(UserError, match=f"{field} {record()[field]}.* and not {value}"):
        Store(uri, EXPERIMENT).check_sweep(record(**{field: value}))
    with pytest.raises(UserError):  # and where nobody has asked before
        Store(uri, EXPERIMENT).open_sweep(record(**{field: value}), {})
    assert "RUNNING" not in statuses(uri)


@pytest.mark.parametrize("sweep", ["aaaa", "bbbb"], ids=["a known sweep", "another sweep"])
def test_a_place_of_artifacts_that_cannot_be_made_is_refused(uri: str, sweep: str, tmp_path: Path) -> None:
    finished(uri)
    (tmp_path / "afile").touch()
    move(uri, tmp_path / "afile" / "home")
    with pytest.raises(UserError, match="afile/home"):
        Store(uri, EXPERIMENT).check_sweep(record(sweep))
    if sweep == "bbbb":  # of a known run MLflow remembers, in this process, where its artifacts were
        with pytest.raises(UserError):
            Store(uri, EXPERIMENT).open_sweep(record(sweep), {})
    assert "RUNNING" not in statuses(uri)


def test_a_store_that_was_moved_is_told_with_where_its_artifacts_are_now(uri: str, tmp_path: Path) -> None:
    finished(uri)
    (tmp_path / "results").rename(tmp_path / "moved")
    moved = f"sqlite:///{tmp_path}/moved/mlflow.db"
    with pytest.raises(UserError, match=f"{tmp_path}/results.*link that place to {tmp_path}/moved"):
        Store(moved, EXPERIMENT).check_sweep(record())
    assert not (tmp_path / "results").exists()


def test_readers_take_the_last_used_that_has_a_record_and_say_which(uri: str) -> None:
    first, second = finished(uri, sweep="aaaa"), finished(uri, sweep="bbbb", preset="large")
    store, client = Store(uri, EXPERIMENT), MlflowClient(uri)
    for sweep in ("aaaa", "bbbb"):
        for number in range(2):
            tags = {"vaesweep.kind": "cell", "vaesweep.cell": f"{sweep}{number}", "vaesweep.outcome": "failed"}
            client.create_run(store.id, tags=tags)
    assert runs.read(EXPERIMENT, uri).run_id == second
    client.set_tag(first, "vaesweep.began", "2100-01-01T00:00:00+00:00")
    assert runs.read(EXPERIMENT, uri).run_id == first
    found = Path(client.get_run(first).info.artifact_uri.removeprefix("file://"), SWEEP_FILE)
    for content in (b"", b"\xff\xfe", json.dumps(record("cccc")).encode(), None):
        found.unlink() if content is None else found.write_bytes(content)
        read = runs.read(EXPERIMENT, uri)
        assert (read.run_id, read.title) == (second, "sweep bbbb, preset large: sweeps/parents.py --preset large")
        with pytest.raises(UserError):
            runs.read(EXPERIMENT, uri, "aaaa")
