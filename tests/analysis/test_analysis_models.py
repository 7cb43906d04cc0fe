"""Models by name: a run, a cell, the best of a sweep; and what MLflow's registry gives back of them."""

import errno
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from tracked_sweeps import DOMAINS, TrackedSweep, grid

import vaesweep
from vaesweep.analysis import logged, models, register
from vaesweep.analysis.runs import DomainRecord, Runs, read
from vaesweep.cli.main import main
from vaesweep.data.domains import DataSet, Role
from vaesweep.errors import UserError
from vaesweep.family import Family, family
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell
from vaesweep.vocabulary import MODEL_FILE, Outcome, Tag, final

ROOT = Path(__file__).parents[2]
EXPERIMENT = "toy sweep"
ELBOS = {"1-0": -24.0, "1-1": -22.0, "2-0": -21.0, "2-1": -21.0, "4-0": float("nan")}
PREDICT = """
import sys
sys.modules["ray"] = None
import mlflow, numpy
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
numpy.save(sys.argv[4], model.predict(numpy.load(sys.argv[3])))
"""


def trained_cell(identity: str, seed: int) -> FinishedCell:
    """A partial VAE of initial weights."""
    pvae = family("pvae")
    config = pvae.config.model_validate({"model": {"latents": 2}, "seed": seed})
    torch.manual_seed(seed)
    weights = {name: value.detach() for name, value in pvae.model(config).state_dict().items()}
    kept = {"standardisation/mean": torch.full((15,), 40.0), "standardisation/std": torch.full((15,), 15.0)}
    return FinishedCell(identity, "pvae", config.model_dump(mode="json"), 1, {}, None, (), (1,), {}, weights, kept)


@dataclass
class Tracked:
    """A store with one sweep: five finished cells, one failed."""

    uri: str
    sweep: TrackedSweep
    client: MlflowClient


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    folder = tmp_path_factory.mktemp("models")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    cells = grid([1, 2, 4], 2)
    sweep = TrackedSweep(client, EXPERIMENT, cells).open(folder / "artifacts")
    for number, cell in enumerate(cells):
        run = sweep.train(cell, [(1.0, 10)])
        if cell not in ELBOS:
            sweep.end(cell, 2.0, outcome=Outcome.FAILED)
            continue
        sweep.end(cell, 2.0)
        for domain in DOMAINS:
            client.log_metric(run, final(domain, "elbo"), ELBOS[cell], step=2000)
            client.log_metric(run, final(domain, "rmse_observed"), 10.0 + number)
        with tempfile.TemporaryDirectory() as place:
            path = Path(place, MODEL_FILE)
            path.write_bytes(finished.to_bytes(trained_cell(cell, number)))
            client.log_artifact(run, str(path))
    return Tracked(uri, sweep, client)


@pytest.fixture(scope="module")
def runs(tracked: Tracked) -> Runs:
    return read(EXPERIMENT, tracked.uri)


def weights_of(name: str, tracked: Tracked) -> torch.Tensor:
    return next(iter(vaesweep.load(name, tracking_uri=tracked.uri).model.parameters()))


def test_a_run_and_a_cell_name_the_same_model(tracked: Tracked) -> None:
    run = tracked.sweep.runs["1-1"]
    for name in (run, "1-1"):
        model = vaesweep.load(name, tracking_uri=tracked.uri)
        assert model.cell.cell == "1-1"
    assert torch.equal(weights_of(run, tracked), weights_of("1-1", tracked))
    assert not torch.equal(weights_of("1-0", tracked), weights_of("1-1", tracked))


@pytest.mark.parametrize(
    "name", [f"{EXPERIMENT}:best=rmse_observed@valid", f"{EXPERIMENT}:aaaa:best=rmse_observed@toy.test"]
)
def test_the_best_is_the_one_with_the_least_error(name: str, tracked: Tracked) -> None:
    assert vaesweep.load(name, tracking_uri=tracked.uri).cell.cell == "1-0"


def test_of_the_elbo_more_is_better_and_a_cell_without_one_is_none(runs: Runs) -> None:
    finals = runs.finals[runs.finals["cell"] != "2-1"]
    assert models.best_cell(replace(runs, finals=finals), "elbo", "test") == "2-0"


def test_cells_that_share_the_best_value_are_named(runs: Runs) -> None:
    with pytest.raises(UserError, match=r"best=elbo@valid: cells 2-0, 2-1 share -21; name one of them"):
        models.best_cell(runs, "elbo", "valid")


def with_best(runs: Runs, cell: str) -> Runs:
    """The sweep, had that cell the highest ELBO on validation data."""
    finals = runs.finals.copy()
    finals.loc[(finals["cell"] == cell) & (finals["metric"] == "elbo"), "value"] = -1.0
    return replace(runs, finals=finals)


def test_the_best_cell_is_logged_as_a_model_once_and_the_runs_points_stay_as_they_are(
    tracked: Tracked, runs: Runs
) -> None:
    def points(cell: str) -> dict[str, list[tuple[int, float]]]:
        run = tracked.client.get_run(runs.run_ids[cell])
        histories = {name: tracked.client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
        return {name: [(point.step, point.value) for point in history] for name, history in histories.items()}

    before = points("1-1")
    for _ in range(2):
        assert list(logged.log_best(with_best(runs, "1-1"), tracked.uri)) == []
    (model,) = logged.logged_models(tracked.client, runs)
    assert (model.source_run_id, model.tags[Tag.BEST]) == (runs.run_ids["1-1"], "elbo@valid")
    assert {(m.key, m.value) for m in model.metrics} >= {(final(name, "elbo"), -22.0) for name in DOMAINS}
    (output,) = tracked.client.get_run(runs.run_ids["1-1"]).outputs.model_outputs
    assert output.model_id == model.model_id
    assert points("1-1") == before

    assert list(logged.log_best(with_best(runs, "1-0"), tracked.uri)) == []  # another is better now
    tags = {one.tags[Tag.CELL]: one.tags[Tag.BEST] for one in logged.logged_models(tracked.client, runs)}
    assert tags == {"1-1": "", "1-0": "elbo@valid"}


def test_of_cells_that_share_the_best_value_the_first_is_logged(tracked: Tracked, runs: Runs) -> None:
    assert list(logged.log_best(runs, tracked.uri)) == []
    tags = {one.tags[Tag.CELL]: one.tags[Tag.BEST] for one in logged.logged_models(tracked.client, runs)}
    assert [cell for cell, best in tags.items() if best] == ["2-0"]


def test_what_cannot_be_logged_is_a_line_and_no_error(
    tracked: Tracked, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = replace(runs, finals=runs.finals[runs.finals["metric"] != "elbo"])
    (line,) = logged.log_best(without, tracked.uri)
    assert line.startswith("no model is logged of the best cell: best=elbo: there is no such metric on toy.valid")

    def missing(*_: Any, **__: Any) -> Any:
        raise MlflowException("404: no such endpoint")

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_model_artifacts", full)
        (line,) = logged.log_best(with_best(runs, "4-0"), tracked.uri)
    assert line == "the best cells are not logged as models: No space left on device"
    assert "4-0" not in {model.tags[Tag.CELL] for model in logged.logged_models(tracked.client, runs)}

    monkeypatch.setattr(MlflowClient, "search_logged_models", missing)
    (line,) = logged.log_best(runs, tracked.uri)
    assert line == "the best cells are not logged as models: 404: no such endpoint"


@pytest.mark.parametrize(
    ("metric", "where", "words"),
    [
        ("elbow", "valid", r"no such metric on toy.valid \(did you mean 'elbo'\?\)"),
        ("unheard", "valid", "there are distortion, elbo, rate, rmse_observed"),
        ("rate", "valid", "neither more nor less of it is known to be better"),
        ("elbo", "tset", r"no such domain \(did you mean 'test'\?\)"),
        ("elbo", "elsewhere", "there are train, valid, test, toy.train, toy.valid, toy.test"),
        ("elbo", "unseen", "there are train, valid, test"),
    ],
)
def test_a_choice_that_is_none_is_refused_with_what_there_is(metric: str, where: str, words: str, runs: Runs) -> None:
    with pytest.raises(UserError, match=words):
        models.best_cell(runs, metric, where)


def test_one_of_several_unseen_domains_must_be_named(runs: Runs) -> None:
    unseen = tuple(DomainRecord(name, Role.UNSEEN) for name in ("near", "far"))
    record = replace(runs.record, domains=runs.record.domains + unseen)
    with pytest.raises(UserError, match="several domains are unseen; name one of near, far"):
        models.best_cell(replace(runs, record=record), "elbo", "unseen")


def test_a_sweep_without_a_finite_value_says_what_became_of_its_cells(runs: Runs) -> None:
    finals = runs.finals[runs.finals["cell"] == "4-0"]
    with pytest.raises(UserError, match=r"no finished cell has a finite elbo on toy.valid \(5 finished, 1 failed\)"):
        models.best_cell(replace(runs, finals=finals), "elbo", "valid")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (f"{EXPERIMENT}:best=elbo", "EXPERIMENT:best=METRIC@DOMAIN"),
        ("unheard", "no run and no cell of that name"),
        ("4-1", "its cell has failed"),
        ("no sweep:best=elbo@valid", "there is no experiment 'no sweep'"),
        (f"{EXPERIMENT}:zzzz:best=elbo@valid", "holds no sweep 'zzzz'"),
        ("folder/cell.safetensors", "cannot be read"),
    ],
)
def test_a_name_of_nothing_is_refused(name: str, words: str, tracked: Tracked) -> None:
    with pytest.raises(UserError, match=words):
        vaesweep.load(name, tracking_uri=tracked.uri)


def test_a_tracked_model_knows_what_its_sweep_was_trained_on(tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
    pvae, named = family("pvae"), list[str]()
    data = pvae.example()

    def load(self: Family, spec: str, config: Any) -> DataSet:
        named.append(spec)
        return data

    monkeypatch.setattr(type(pvae), "load", load)
    known = replace(read(EXPERIMENT, tracked.uri).record, data="what it read")
    monkeypatch.setattr("vaesweep.analysis.runs.record_of", lambda *_: known)
    for name in ("1-0", f"{EXPERIMENT}:best=rmse_observed@valid"):
        metrics = vaesweep.load(name, tracking_uri=tracked.uri).evaluate()
        assert metrics.keys() == {domain.name for domain in data.domains}
    assert named == ["what it read"] * 2


def test_a_registered_model_predicts_the_same_in_another_process_and_has_no_pickle(
    tracked: Tracked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{EXPERIMENT}:best=rmse_observed@valid"
    words = ["register", name, "--as", "audiograms", "--tracking-uri", tracked.uri]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "cell 1-0 is now version 1 of audiograms" in told
    assert "mlflow.pyfunc.load_model('models:/audiograms/1')" in told

    folder = Path(tracked.client.download_artifacts(tracked.sweep.runs["1-0"], register.FOLDER, str(tmp_path)))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {"", ".json", ".yaml", ".txt", ".safetensors"}
    assert [path.name for path in files if not path.suffix] == ["MLmodel"]
    assert [path.name for path in files if path.suffix == ".safetensors"] == ["1-0.safetensors"]

    model = vaesweep.load(name, tracking_uri=tracked.uri)
    example = model.example().numpy()
    assert np.isnan(example).any(), "an example of what may be missing"
    np.save(tmp_path / "x.npy", example)
    command = [sys.executable, "-c", PREDICT, tracked.uri, "models:/audiograms/1", *("x.npy", "y.npy")]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), model.reconstruct(example).numpy())

    info = mlflow.models.Model.load(str(folder))
    assert info.signature.inputs.inputs[0].shape == info.signature.outputs.inputs[0].shape == (-1, 15)
    np.testing.assert_array_equal(info.load_input_example(str(folder)), example)

    assert main(words) == 0
    assert "cell 1-0 was already version 1 of audiograms" in capsys.readouterr().out
    assert register.register("1-1", "audiograms", tracked.uri).version == "2"


def test_what_cannot_be_registered_is_said_in_one_line(
    tracked: Tracked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "1-0.safetensors"
    path.write_bytes(finished.to_bytes(trained_cell("1-0", 0)))
    for name, model, words in ((str(path), "m", "a file has no run"), ("1-0", "a/b", "cannot be registered as 'a/b'")):
        assert main(["register", name, "--as", model, "--tracking-uri", tracked.uri]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
