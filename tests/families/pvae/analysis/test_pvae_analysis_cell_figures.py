"""The figures of a single cell: the numbers behind them are the trained model's, and those that its sweep tracked."""

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

from vaesweep.analysis import load
from vaesweep.data.domains import DataSet, Role, Standardisation
from vaesweep.errors import UserError
from vaesweep.families.pvae.analysis.cell import figures
from vaesweep.families.pvae.analysis.cell.acquisition_sequence import Acquisition
from vaesweep.families.pvae.analysis.cell.information_curves import InformationCurves, typical_listener
from vaesweep.families.pvae.analysis.cell.representation import GRID, Representation
from vaesweep.families.pvae.analysis.cell.stopping import ErrorPredictors, Stopping
from vaesweep.families.pvae.analysis.cell.trained import TrainedCell, restore_cell, with_data
from vaesweep.families.pvae.data import archetypes
from vaesweep.families.pvae.data.audiograms import COLUMNS, DIMS, THRESHOLDS
from vaesweep.families.pvae.tasks.stopping import StopOutcome
from vaesweep.family import family
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell
from vaesweep.training.loop import start_state, train_pack
from vaesweep.vocabulary import MODEL_FILE, SWEEP_FILE, Outcome, RunKind, Tag

CPU = torch.device("cpu")
SEED = 3
ROWS = 24  # data of a domain that the cells acquire
TEST = "synthetic.test"
STEPS = range(1, THRESHOLDS + 1)


@pytest.fixture(scope="module")
def data() -> DataSet:
    loaded = archetypes.synthetic(SEED, rows=400, unseen_rows=10)
    return DataSet(loaded.domains, COLUMNS, Standardisation.fit(loaded.domains[0].arrays["x"]))


class Keeper:
    """Keeps the file of a finished cell."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.file = b""

    def progress(self, *_: object) -> None: ...

    def checkpoint(self, *_: object) -> None: ...

    def finished(self, result: Any) -> None:
        self.file = finished.to_bytes(finished.of_result(result, "pvae", self.config.model_dump(mode="json"), {}))


def train(data: DataSet, steps: int, **model: Any) -> bytes:
    """The file of a cell that has trained for so many steps, and has learnt when to stop."""
    pvae = family("pvae")
    config = pvae.config.model_validate(
        {
            "model": {"latents": 2, "hidden": 16, "features": 8} | model,
            "data": {"seed": SEED, "draws": 1},
            "training": {"steps": steps, "batch_size": 64, "evaluate_every": steps, "learning_rate": 5e-3},
            "acquisition": {"rules": ("variance",), "samples": 16, "rows": ROWS, "threshold": 6.0},
        }
    )
    problem, keeper = pvae.problem(config, data, CPU), Keeper(config)
    train_pack(problem, [config], start_state(problem, [config], ["tiny"]), keeper)
    return keeper.file


@pytest.fixture(scope="module")
def file(data: DataSet) -> bytes:
    return train(data, 300)


@pytest.fixture(scope="module")
def kept(file: bytes) -> FinishedCell:
    return finished.from_bytes(file, "here")


@pytest.fixture(scope="module")
def cell(kept: FinishedCell, data: DataSet) -> TrainedCell:
    return with_data(kept, data, archetypes.archetypes_of(SEED))


@pytest.fixture(scope="module")
def wide(data: DataSet) -> TrainedCell:
    """A cell of another shape: three latents, a posterior with covariance, a mixture as the prior."""
    other = train(data, 40, latents=3, posterior="full", prior="mixture")
    return with_data(finished.from_bytes(other, "here"), data)


# --- the cell put back together ---------------------------------------------------------------------------------


def test_the_cell_acquires_as_it_did_when_it_was_trained(cell: TrainedCell, kept: FinishedCell) -> None:
    for name in ("rmse", "nll"):
        curve = getattr(cell.test_trace, name)[0].mean(0)
        torch.testing.assert_close(curve, kept.kept[f"acquisition/{TEST}/variance/{name}"], rtol=1e-4, atol=1e-4)
    assert torch.equal(cell.test_trace.order[0].to(torch.uint8), kept.kept[f"acquisition/{TEST}/variance/order"])


def test_where_audiograms_before_noise_are_known_its_curves_end_at_the_noise_as_the_thesis_do() -> None:
    loaded = archetypes.synthetic_wide(SEED, rows=400, unseen_rows=10)
    wide = DataSet(loaded.domains, COLUMNS, Standardisation.fit(loaded.domains[0].arrays["x"]))
    content = finished.from_bytes(train(wide, 20), "here")
    cell = with_data(content, wide, archetypes.archetypes_of(SEED, archetypes.WIDE))
    curve = cell.test_trace.rmse[0].mean(0)
    tracked = content.kept["acquisition/synthetic_wide.test/variance/rmse_clean"]
    torch.testing.assert_close(curve, tracked, rtol=1e-4, atol=1e-4)
    # root mean squares of 15 numbers of noise; a standard error of 5/sqrt(2·15·24) = 0.19
    assert float(curve[-1]) == pytest.approx(4.92, abs=0.75)


def test_its_archetypes_are_those_that_its_data_are_mixed_from(cell: TrainedCell, data: DataSet) -> None:
    known = cell.archetypes
    assert known is not None
    x = np.concatenate([data.domain(role).arrays["x"] for role in (Role.TRAIN, Role.VALID, Role.TEST)])
    # equal weights on average; 400 data with a standard deviation of at most 20 have a mean within 1 (one sigma)
    np.testing.assert_allclose(x.mean(0), known.mean(0), atol=4)
    centred, directions = x - known.mean(0), np.linalg.svd(known - known.mean(0))[2][:4]
    beside = centred - centred @ directions.T @ directions
    assert beside.std() == pytest.approx(archetypes.NOISE, rel=0.2), "noise is all that is off their plane"


def test_other_data_are_refused(kept: FinishedCell) -> None:
    with pytest.raises(UserError, match="not what cell tiny was trained on"):
        restore_cell(kept, "synthetic")  # the full number of rows, so another standardisation


def test_a_single_latent_is_refused(data: DataSet) -> None:
    with pytest.raises(UserError, match="one latent"):
        restore_cell(finished.from_bytes(train(data, 1, latents=1), "here"), "synthetic")


def test_weights_of_another_shape_are_refused(kept: FinishedCell, data: DataSet) -> None:
    config = kept.config | {"model": kept.config["model"] | {"hidden": 17}}
    with pytest.raises(UserError, match="another version"):
        with_data(FinishedCell(**(vars(kept) | {"config": config})), data)


# --- Figure 1 ---------------------------------------------------------------------------------------------------


def test_the_grid_is_decoded_where_it_is_drawn(cell: TrainedCell) -> None:
    found = Representation.of(cell)
    assert found.grid is not None
    assert found.grid.shape == (GRID, GRID, DIMS)
    corner = cell.decode(torch.tensor([found.z1[-1], found.z2[0]], dtype=torch.float32))
    np.testing.assert_allclose(found.grid[0, -1], corner, rtol=1e-4)
    assert found.limits[0][0] < found.z1[0] < found.z1[-1] < found.limits[0][1]


def test_archetypes_are_encoded_as_data_are(cell: TrainedCell) -> None:
    found = Representation.of(cell)
    assert found.archetypes is not None
    assert found.archetypes_encoded is not None
    assert len(found.encoded) == len(found.x) == 400
    again = cell.posterior(torch.tensor(found.archetypes, dtype=torch.float32)).mean
    np.testing.assert_allclose(found.archetypes_encoded, again, rtol=1e-4)
    for (low, high), places in zip(found.limits, found.archetypes_encoded.T, strict=True):
        assert low < places.min() < places.max() < high


def test_of_more_latents_the_two_of_highest_rate_are_shown_and_nothing_is_decoded(wide: TrainedCell) -> None:
    found = Representation.of(wide)
    assert found.grid is None
    assert found.archetypes is None
    assert set(found.plane) == set(np.argsort(wide.rates.numpy())[-2:])
    mean = wide.posterior(torch.tensor(found.x)).mean[:, list(found.plane)]
    np.testing.assert_allclose(found.encoded, mean, rtol=1e-4, atol=1e-5)


# --- Figure 2 ---------------------------------------------------------------------------------------------------


def test_stages_know_the_age_and_then_what_was_measured(cell: TrainedCell) -> None:
    found = Acquisition.of(cell, 5, (2, 1, 14))
    assert [stage.observed.sum() for stage in found.stages] == [0, 1, 2, 3, 15]
    assert found.stages[1].observed[THRESHOLDS]
    for one, other in zip(found.stages, found.stages[1:], strict=False):
        assert (other.observed >= one.observed).all()
    np.testing.assert_array_equal(found.x, cell.test.x[5])


def test_what_deviates_most_is_measured_next(cell: TrainedCell) -> None:
    found = Acquisition.of(cell, 5, (1, 2, 14))
    assert [found.stages[0].following, found.stages[-1].following] == [None, None]
    for stage, later in zip(found.stages[1:4], found.stages[2:], strict=False):
        assert stage.following == np.where(stage.observed, -1, stage.std).argmax()
        assert later.observed[stage.following]


def test_nothing_known_is_the_prior_and_all_known_the_full_posterior(cell: TrainedCell) -> None:
    found = Acquisition.of(cell, 0, (14,))
    np.testing.assert_allclose(found.stages[0].latent.mean, 0)
    np.testing.assert_allclose(found.stages[0].latent.covariance, np.eye(2))
    for name in ("mean", "covariance"):
        np.testing.assert_allclose(getattr(found.stages[-1].latent, name), getattr(found.full, name), rtol=1e-5)


def test_bands_hold_one_another(cell: TrainedCell) -> None:
    for stage in Acquisition.of(cell, 1).stages:
        (low, high), (inner_low, inner_high) = stage.bands
        assert (low < inner_low).all()
        assert (inner_low < inner_high).all()
        assert (inner_high < high).all()


def test_a_posterior_with_covariance_is_shown_by_its_marginal(wide: TrainedCell) -> None:
    q, plane = wide.posterior(wide.test.x[:1]), list(wide.plane)
    covariance = Acquisition.of(wide, 0, (1,)).full.covariance
    np.testing.assert_allclose(covariance, q.covariance[0][plane][:, plane], rtol=1e-4)
    assert abs(covariance[0, 1]) > 0


@pytest.mark.parametrize("measurements", [(0,), (15,), (1, -2)])
def test_a_number_of_measurements_that_there_is_not_is_refused(cell: TrainedCell, measurements: tuple[int]) -> None:
    with pytest.raises(UserError, match=r"must be in 1\.\.14"):
        Acquisition.of(cell, 0, measurements)


# --- Figure 3 ---------------------------------------------------------------------------------------------------


def test_areas_are_those_under_the_curves_that_are_drawn(cell: TrainedCell, kept: FinishedCell) -> None:
    found = InformationCurves.of(cell, 7)
    assert found.listeners == ROWS
    for curve, name in zip(found.curves, ("nll", "rmse"), strict=True):
        assert curve.area == pytest.approx(curve.one[1:].sum(), rel=1e-5)
        assert curve.mean_area == pytest.approx(curve.mean[1:].sum(), rel=1e-5)
        assert curve.mean_area == pytest.approx(kept.metrics[f"{TEST}/area_{name}.variance"], rel=1e-4)
    assert found.curves[1].one[-1] == 0, "what is measured is known"


def test_the_typical_listener_has_as_many_better_as_worse(cell: TrainedCell) -> None:
    areas = cell.test_trace.rmse[0, :, 1:].sum(-1)
    chosen = areas[typical_listener(cell)]
    assert abs(int((areas < chosen).sum()) - int((areas > chosen).sum())) <= 1


# --- Figures 4 and 5 --------------------------------------------------------------------------------------------


def test_correlations_are_those_of_the_dots_that_are_drawn(cell: TrainedCell) -> None:
    found = ErrorPredictors.of(cell)
    assert len(found.rmse) == ROWS * THRESHOLDS
    assert set(found.measurements) == set(STEPS)
    assert len(found.predictors) == 4
    for predictor in found.predictors:
        assert predictor.correlation == pytest.approx(np.corrcoef(predictor.values, found.rmse)[0, 1], abs=1e-4)


def test_stops_are_those_that_the_sweep_tracked(cell: TrainedCell, kept: FinishedCell) -> None:
    found = Stopping.of(cell)
    assert found.threshold == 6.0
    for stops, name in zip(found.rows, ("measurements", "constant", "uncertainty", "oracle"), strict=True):
        offset = float(stops.result.mean_absolute_offset[0])
        assert offset == pytest.approx(kept.metrics[f"{TEST}/stop_offset.{name}"], abs=1e-6)
        share = float(stops.result.share(StopOutcome.FALSE_POSITIVE)[0])
        assert share == pytest.approx(kept.metrics[f"{TEST}/stop_share.false_positive.{name}"], abs=1e-6)


# --- files and the script ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cell", "wide"])
def test_five_figures_are_drawn(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    written = figures.write(request.getfixturevalue(name), tmp_path / "new", 2, (1,))
    assert len(written.paths) == 5
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written.paths)
    assert any("no decoded grid" in line for line in written.summary) == (name == "wide")
    assert any("listener 2" in line for line in written.summary)


@pytest.mark.parametrize("listener", [-1, ROWS])
def test_a_listener_that_is_not_acquired_is_refused(cell: TrainedCell, listener: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"0\.\.{ROWS - 1}"):
        figures.write(cell, tmp_path, listener)


def script() -> ModuleType:
    path = Path(__file__).parents[4] / "analysis" / "acquisition_cell.py"
    spec = importlib.util.spec_from_file_location("acquisition_cell", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def store(file: bytes, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with two sweeps of one finished cell: the record of `told` names its data, that of `untold` does not."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("tiny", artifact_location=(folder / "artifacts").as_uri())
    for cell, spec in (("told", "synthetic"), ("untold", "")):
        sweep = client.create_run(experiment, tags={Tag.KIND: RunKind.SWEEP, Tag.SWEEP: f"of {cell}"}).info.run_id
        words = dict.fromkeys(("name", "family", "preset", "command"), "")
        cells = [{"cell": cell, "values": {}}]
        record = {"sweep": f"of {cell}", **words, "axes": {}, "cells": cells, "domains": [], "data": {"spec": spec}}
        (folder / SWEEP_FILE).write_text(json.dumps(record))
        client.log_artifact(sweep, str(folder / SWEEP_FILE))
        tags = {Tag.KIND: RunKind.CELL, Tag.CELL: cell, Tag.OUTCOME: Outcome.FINISHED, Tag.SWEEP: f"of {cell}"}
        run = client.create_run(experiment, tags=tags).info.run_id
        (folder / MODEL_FILE).write_bytes(finished.to_bytes(replace(finished.from_bytes(file, "here"), cell=cell)))
        client.log_artifact(run, str(folder / MODEL_FILE))
    return uri


def test_data_are_those_that_the_cells_own_sweep_read(store: str) -> None:
    assert load.data_spec("told", store) == "synthetic"
    assert load.data_spec("untold", store, "csv:FILE") == "csv:FILE"
    with pytest.raises(UserError, match="give it as --data SPEC"):
        load.data_spec("untold", store)
    with pytest.raises(UserError, match="no cell of that name"):
        load.data_spec("unheard", store)


@pytest.mark.parametrize(("run", "complaint"), [("untold", "--data SPEC"), ("told", "was trained on")])
def test_the_script_refuses_what_it_cannot_draw(
    run: str, complaint: str, store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["acquisition_cell.py", "--run", run, "--tracking-uri", store])
    assert script().main() == 2
    assert complaint in capsys.readouterr().err
