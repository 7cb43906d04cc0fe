"""Pictures of trained hierarchies: what is shown is what their sweep measured, and what cannot be shown is refused."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from vaesweep.analysis import load
from vaesweep.analysis import runs as tracked
from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.families.hvae.analysis.example import from_prior, from_top_level, process_of, reconstruct
from vaesweep.families.hvae.analysis.pictures import montage
from vaesweep.families.hvae.analysis.processes import initial_to_show, numbers_to_show, rate_along
from vaesweep.families.hvae.analysis.report import FOLDER, report, write_pictures
from vaesweep.families.hvae.analysis.trained import TrainedCell, restore_hierarchy, rows_to_show
from vaesweep.families.hvae.family import HierarchyCell
from vaesweep.families.hvae.models.continuous import SdeLevel
from vaesweep.family import family
from vaesweep.packing import leaves
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell
from vaesweep.training.loop import start_state, train_pack
from vaesweep.vocabulary import MODEL_FILE, SWEEP_FILE, Outcome, RunKind, Tag, final

HVAE = family("hvae")
SHAPE = {"size": 8, "levels": 2, "latents": 2, "width": 8, "hidden": 4, "encoder_blocks": 1, "decoder_blocks": 1}
DATA = {"size": 8, "rows": {"train": 32, "valid": 8, "test": 8}}
SPEC = "poisson:unseen=noise_2"
STEPS = (2, 4, 6)  # 4 in training: a divisor, the same, and neither
DEPTHS: dict[str, dict[str, Any]] = {
    "continuous": {"kind": "continuous", "step": 0.25, "hidden": 4},
    "odelike": {"kind": "ode_like", "step": 0.25, "hidden": 4},
    "discrete": {"kind": "discrete", "blocks": 2, "hidden": 4},
}
PICTURES = {"reconstructions.png", "prior_samples.png", "top_level.png"}


class Keeper:
    """Keeps the file of a finished cell."""

    def __init__(self, config: Any) -> None:
        self.config, self.file = config, b""

    def progress(self, *_: object) -> None: ...

    def checkpoint(self, *_: object) -> None: ...

    def finished(self, result: Any) -> None:
        self.file = finished.to_bytes(finished.of_result(result, "hvae", self.config.model_dump(mode="json"), {}))


def config_of(kind: str, **model: Any) -> HierarchyCell:
    raw = {
        "model": SHAPE | {"depth": DEPTHS[kind]} | model,
        "data": DATA,
        "evaluation": {"steps": STEPS if kind != "discrete" else ()},
        "training": {"steps": 10, "batch_size": 8, "evaluate_every": 10, "learning_rate": 5e-3},
    }
    return HierarchyCell.model_validate(raw)


def train(data: DataSet, kind: str, **model: Any) -> bytes:
    """The file of a cell that has trained for a few steps."""
    config = config_of(kind, **model)
    problem, keeper = HVAE.problem(config, data, torch.device("cpu")), Keeper(config)
    train_pack(problem, [config], start_state(problem, [config], [kind]), keeper)
    return keeper.file


@pytest.fixture(scope="module")
def data() -> DataSet:
    return HVAE.load(SPEC, config_of("continuous"))


@pytest.fixture(scope="module")
def files(data: DataSet) -> dict[str, bytes]:
    return {kind: train(data, kind) for kind in DEPTHS}


@pytest.fixture(scope="module")
def kept(files: dict[str, bytes]) -> dict[str, FinishedCell]:
    return {kind: finished.from_bytes(file, kind) for kind, file in files.items()}


@pytest.fixture(scope="module")
def cell(kept: dict[str, FinishedCell], data: DataSet) -> TrainedCell:
    return restore_hierarchy(kept["continuous"], data)


@pytest.mark.parametrize("kind", ["continuous", "odelike"])
@pytest.mark.parametrize("domain", ["poisson.test", "poisson_noise_2"])
def test_images_are_reconstructed_as_they_were_when_the_cell_was_evaluated(
    kept: dict[str, FinishedCell], data: DataSet, kind: str, domain: str
) -> None:
    for steps in STEPS:
        found = reconstruct(restore_hierarchy(kept[kind], data, domain, steps), torch.arange(8))
        # float32 in another order of sums: hundreds of nats to six digits
        assert float(found.elbo.mean()) == pytest.approx(kept[kind].metrics[f"{domain}/steps_{steps}.elbo"], rel=1e-4)


def test_a_discrete_cell_is_too(kept: dict[str, FinishedCell], data: DataSet) -> None:
    found = reconstruct(restore_hierarchy(kept["discrete"], data), torch.arange(8))
    assert float(found.elbo.mean()) == pytest.approx(kept["discrete"].metrics["poisson.test/elbo"], rel=1e-4)


def test_inputs_are_shown_in_the_units_of_the_data(cell: TrainedCell, data: DataSet) -> None:
    (test,) = [domain for domain in data.domains if domain.name == "poisson.test"]
    found = reconstruct(cell, torch.tensor([3, 1]))
    torch.testing.assert_close(found.x, torch.as_tensor(test.arrays["images"][[3, 1]]), rtol=1e-4, atol=1e-6)


def test_the_data_of_a_cell_are_read_as_it_is_configured(kept: dict[str, FinishedCell], data: DataSet) -> None:
    assert load.load_cell_data(kept["continuous"], SPEC).fingerprint() == data.fingerprint()


def test_a_cell_of_another_version_is_refused_by_its_name(kept: dict[str, FinishedCell]) -> None:
    stranger = replace(kept["continuous"], config=kept["continuous"].config | {"depth_charge": 1})
    with pytest.raises(UserError, match="cell continuous was trained by another version of vaesweep"):
        load.load_cell_data(stranger, SPEC)


def test_what_is_drawn_is_drawn_the_same_again(cell: TrainedCell) -> None:
    rows = torch.arange(2)
    assert torch.equal(reconstruct(cell, rows).samples, reconstruct(cell, rows).samples)
    assert torch.equal(from_prior(cell, 3)[1], from_prior(cell, 3)[1])
    assert torch.equal(from_top_level(cell, rows, 2), from_top_level(cell, rows, 2))


def test_draws_below_the_topmost_level_differ(cell: TrainedCell) -> None:
    first, second = from_top_level(cell, torch.arange(2), 2)
    assert not torch.allclose(first, second)


def test_images_of_both_solutions_are_shown(cell: TrainedCell) -> None:
    indices = cell.population.pixels.indices(rows_to_show(cell, 2))
    assert sorted((indices % 2).tolist()) == [0, 1]


def test_no_image_is_shown_twice(cell: TrainedCell) -> None:
    assert sorted(rows_to_show(cell, 8).tolist()) == list(range(8))


def test_a_montage_has_images_row_by_row_and_gaps_between() -> None:
    pixels = torch.arange(6.0)[:, None, None, None].expand(6, 1, 2, 2)
    found = montage(pixels, 2)
    assert found.shape == (5, 8)
    assert found[0, ::3].tolist() == [0, 1, 2]
    assert found[3, ::3].tolist() == [3, 4, 5]
    assert np.isnan(found[2]).all()


# --- processes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["continuous", "odelike"])
def test_a_process_is_the_path_that_the_model_walks(kept: dict[str, FinishedCell], data: DataSet, kind: str) -> None:
    cell, row = restore_hierarchy(kept[kind], data, steps=6), torch.tensor([2])
    with torch.no_grad():
        elbo, _ = cell.model(cell.images(row), **cell.noise(row))
    process = process_of(cell, 2)
    for level, trace in enumerate(process.traces):
        rate, along = rate_along(trace)
        assert len(rate) == 7
        assert along[-1] == pytest.approx(float(elbo.rate(f"level_{level}")[0]), rel=1e-4, abs=1e-6)
    assert torch.equal(process.traces[0].states[0, 0], process.value)


def test_a_trace_ends_where_the_level_ends(cell: TrainedCell) -> None:
    level, generator = cell.model.levels[0], torch.Generator().manual_seed(1)
    assert isinstance(level, SdeLevel)
    start, noise = torch.randn(2, 2, 4, 4, generator=generator), torch.randn(2, 5, 2, 4, 4, generator=generator)
    signal = torch.randn(2, 8, 4, 4, generator=generator)
    with torch.no_grad():
        walked, trace = level(start, noise, signal), level.trace(start, noise, signal)
    torch.testing.assert_close(trace.states[:, -1], walked.state)
    torch.testing.assert_close(trace.rate[:, :-1].mean(1), walked.rate)


def test_latent_numbers_of_most_rate_are_shown_and_others_where_there_is_none(
    kept: dict[str, FinishedCell], data: DataSet
) -> None:
    for kind in ("continuous", "odelike"):
        trace = process_of(restore_hierarchy(kept[kind], data), 0).traces[1]
        shown = numbers_to_show(trace)
        assert len(set(shown)) == 4
        rate = trace.rate[0].mean(0).flatten()
        assert float(rate[shown].sum()) == pytest.approx(float(rate.topk(4).values.sum()))


def test_a_global_initial_value_is_drawn_by_its_own_numbers_of_most_rate(data: DataSet, tmp_path: Path) -> None:
    whole = {"top": 5, "biases": True, "mean_image": True}
    file = train(data, "continuous", **whole)
    cell = restore_hierarchy(finished.from_bytes(file, "global"), data)
    process = process_of(cell, 0)
    assert process.value.shape == (5, 1, 1)
    shown = initial_to_show(process, [20, 25, 30, 31])
    rate = (0.5 * (process.mean**2 + process.std**2 - 1) - process.std.log()).flatten()
    assert float(rate[shown].sum()) == pytest.approx(float(rate.topk(4).values.sum()))
    assert {path.name for path in write_pictures(cell, 2, "global", tmp_path)} == PICTURES | {"processes.png"}


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "change", "arguments", "complaint"),
    [
        ("continuous", {"family": "pvae"}, {}, "is of family 'pvae'; name a cell of 'hvae'"),
        ("continuous", {"config": {}}, {}, "another version"),
        ("continuous", {}, {"domain": "poisson_noise_3"}, "did you mean 'poisson_noise_2'"),
        ("continuous", {}, {"steps": 0}, "--steps 0: a level takes at least 1 step"),
        ("discrete", {}, {"steps": 5}, "blocks and no steps"),
    ],
    ids=["family", "version", "domain", "steps", "blocks"],
)
def test_what_cannot_be_shown_is_refused(
    kept: dict[str, FinishedCell],
    data: DataSet,
    kind: str,
    change: dict[str, Any],
    arguments: dict[str, Any],
    complaint: str,
) -> None:
    with pytest.raises(UserError, match=complaint):
        restore_hierarchy(replace(kept[kind], **change), data, **arguments)


@pytest.mark.parametrize("count", [0, 9])
def test_more_images_than_there_are_are_refused(cell: TrainedCell, count: int) -> None:
    with pytest.raises(UserError, match=rf"--rows {count}: poisson.test has 1 to 8 images"):
        rows_to_show(cell, count)


def test_a_discrete_hierarchy_has_no_processes(kept: dict[str, FinishedCell], data: DataSet) -> None:
    with pytest.raises(UserError, match="no processes"):
        process_of(restore_hierarchy(kept["discrete"], data), 0)


# --- a sweep in a store -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A sweep of one cell of every kind."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("tiny", artifact_location=(folder / "artifacts").as_uri())
    sweep = client.create_run(experiment, tags={Tag.KIND: RunKind.SWEEP, Tag.SWEEP: "aaaa"}).info.run_id
    roles = {f"poisson.{part}": part for part in ("train", "valid", "test")} | {"poisson_noise_2": "unseen"}
    record = {
        "sweep": "aaaa",
        "name": "tiny",
        "family": "hvae",
        "preset": "small",
        "command": "",
        "axes": {"variant": list(files)},
        "cells": [{"cell": name, "values": {"variant": name}} for name in files],
        "domains": [{"name": name, "role": role} for name, role in roles.items()],
        "data": {"spec": SPEC},
    }
    (folder / SWEEP_FILE).write_text(json.dumps(record))
    client.log_artifact(sweep, str(folder / SWEEP_FILE))
    for name, file in files.items():
        tags = {Tag.KIND: RunKind.CELL, Tag.CELL: name, Tag.OUTCOME: Outcome.FINISHED, Tag.SWEEP: "aaaa"}
        run = client.create_run(experiment, tags=tags).info.run_id
        params = [Param(key, str(value)) for key, value in leaves(config_of(name).model_dump(mode="json"))]
        found = finished.from_bytes(file, name).metrics.items()
        metrics = [Metric(final(*metric.rsplit("/", 1)), value, 1, 10) for metric, value in found]
        client.log_batch(run, metrics=metrics, params=params)
        (folder / MODEL_FILE).write_bytes(file)
        client.log_artifact(run, str(folder / MODEL_FILE))
    return uri


def test_a_sweep_leaves_tables_figures_and_pictures(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--experiment", "tiny", "--tracking-uri", store, "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["hierarchy_steps.py", *words])
    assert script("hierarchy_steps").main() == 0
    names = {"continuity.csv", "hierarchy_findings.csv", "continuity.png", "continuity_poisson_noise_2.png", FOLDER}
    assert {path.name for path in tmp_path.iterdir()} == names
    for kind, run in tracked.read("tiny", store).run_ids.items():
        expected = PICTURES if kind == "discrete" else PICTURES | {"processes.png"}
        assert {path.name for path in (tmp_path / FOLDER / kind).iterdir()} == expected
        assert {Path(file.path).name for file in MlflowClient(store).list_artifacts(run, FOLDER)} == expected
    assert "undecided: finer steps" in capsys.readouterr().out


def test_a_cell_without_a_model_is_left_out_and_named(store: str, data: DataSet, tmp_path: Path) -> None:
    found = tracked.read("tiny", store)
    alone = replace(found, cells=found.cells[found.cells["cell"] == "discrete"])
    lost = without_artifacts(store, found.run_ids["discrete"])
    lines = report(replace(alone, run_ids={"discrete": lost}), data, tmp_path, store).summary
    assert [line for line in lines if "no pictures of discrete (cell discrete)" in line]


def without_artifacts(store: str, run_id: str) -> str:
    """A new run with the parameters of another, and no artifacts."""
    client = MlflowClient(store)
    old = client.get_run(run_id)
    new = client.create_run(client.create_experiment("lost")).info.run_id
    client.log_batch(new, params=[Param(key, value) for key, value in old.data.params.items()])
    return new


def test_a_sweep_without_a_finished_cell_says_so(store: str, data: DataSet, tmp_path: Path) -> None:
    found = tracked.read("tiny", store)
    none = replace(found, cells=found.cells.assign(outcome="failed"))
    written = report(none, data, tmp_path, store)
    assert written.paths == ()
    assert "nothing to report yet" in written.summary[0]


def test_a_single_image_is_drawn(kept: dict[str, FinishedCell], data: DataSet, tmp_path: Path) -> None:
    for path in write_pictures(restore_hierarchy(kept["continuous"], data, steps=1), 1, "one", tmp_path):
        assert path.read_bytes().startswith(b"\x89PNG")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[4] / "analysis" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_cell_is_drawn_as_asked(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--run", "continuous", "--rows", "2", "--steps", "3", "--domain", "poisson_noise_2", "--tolerance", "0.1"]
    monkeypatch.setattr("sys.argv", ["hierarchy_cell.py", *words, "--tracking-uri", store, "--out", str(tmp_path)])
    assert script("hierarchy_cell").main() == 0
    assert {path.name for path in tmp_path.iterdir()} == PICTURES | {"processes.png"}
    said = capsys.readouterr().out
    assert "nats, 3 steps a level" in said
    assert "adaptive steps of tolerance 0.1" in said
    assert "an estimate, and no bound" in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--run", "elsewhere"], "no run and no cell of that name"),
        (["--run", "continuous", "--rows", "9"], "1 to 8 images"),
        (["--run", "continuous", "--steps", "0"], "at least 1 step"),
        (["--run", "discrete", "--steps", "2"], "no steps"),
        (["--run", "discrete", "--tolerance", "0.1"], "no steps"),
        (["--run", "continuous", "--tolerance", "0"], "must be above 0"),
        (["--run", "continuous", "--domain", "nowhere"], "no such domain"),
        (["--run", "continuous", "--data", "poisson:unseen=nothing"], "unknown domain"),
    ],
    ids=["run", "rows", "steps", "blocks", "adaptive blocks", "tolerance", "domain", "data"],
)
def test_bad_input_ends_the_script_with_code_two_and_one_line(
    store: str, words: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["hierarchy_cell.py", *words, "--tracking-uri", store])
    assert script("hierarchy_cell").main() == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def test_images_of_another_size_are_refused(kept: dict[str, FinishedCell]) -> None:
    larger = HVAE.load("poisson", HierarchyCell.model_validate({"data": {"size": 16}}))
    with pytest.raises(UserError, match=r"set model\.size=16"):
        restore_hierarchy(kept["continuous"], larger)
