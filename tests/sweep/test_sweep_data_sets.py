"""Sweeps whose cells have data of their own: what is read, packed, trained on, told and found again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.tracking import MlflowClient

from vaesweep.errors import UserError
from vaesweep.family import family
from vaesweep.sweep.cells import Preset, Sweep, expand
from vaesweep.sweep.data_sets import DataSets
from vaesweep.sweep.jobs import PackJob
from vaesweep.sweep.options import Options
from vaesweep.sweep.plan import estimate_seconds
from vaesweep.sweep.runner import job_of
from vaesweep.sweep.session import Session
from vaesweep.sweep.worker import run_job
from vaesweep.vocabulary import RunKind, Tag

OWN = {
    "data.replicate": 0,
    "data.rows": {"train": 8, "valid": 4, "test": 4},
    "data.condition.seconds": 0.25,
    "model.masker": {"kind": "tasnet", "bottleneck": 4, "hidden": 4, "skip": 2, "repeats": 1, "blocks": 2},
    "model.latents": 4,
    "training.steps": 2,
    "training.evaluate_every": 1,
    "training.batch_size": 2,
}
SPEC = "pulses:conditions=noise_0"
EMD = family("emd")


def sets(settings: dict[str, Any]) -> tuple[DataSets, list[Any]]:
    configs = [config for config, _ in expand(EMD, Preset(OWN), settings)]
    return DataSets(EMD, SPEC, configs), configs


def test_a_data_set_is_read_once_however_many_cells_share_it() -> None:
    found, configs = sets({"seed": [0, 1], "training.learning_rate": [1e-3, 1e-4]})
    assert (len(found), len(configs)) == (2, 4)
    assert sorted(found.number(config) for config in configs) == [0, 0, 1, 1]
    for config in configs:
        assert found.of(config).fingerprint() == found.fingerprint(config) == EMD.load(SPEC, config).fingerprint()
        assert found.domains(config) == EMD.load(SPEC, config).fingerprints()
    assert len(found.all_fingerprints.split()) == 2
    assert found.summary[-1] == "and 1 more data set like this, by the cells' data settings"


def test_data_sets_that_only_differ_in_what_is_tested_are_kept_apart() -> None:
    found, configs = sets({"data.replicate": 1, "data.rows.test": [3, 4]})
    assert [len(found.of(config).domains[2]) for config in configs] == [3, 4]
    assert len(found.all_fingerprints.split()) == 1


def test_settings_that_read_the_same_share_what_they_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As replicates of mixtures on disk do: one data set, one pack, one compilation."""
    read = EMD.load(SPEC, expand(EMD, Preset(OWN), {})[0][0])
    monkeypatch.setattr(type(EMD), "load", lambda self, spec, config: read)
    found, configs = sets({"seed": [0, 1, 2]})
    assert (len(found), [found.number(config) for config in configs]) == (1, [0, 0, 0])


def test_a_tag_names_few_fingerprints_and_a_digest_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = sets({"seed": [0, 1, 2]})
    assert len(found.all_fingerprints.split()) == 3
    monkeypatch.setattr("vaesweep.sweep.data_sets.MOST_NAMED", 2)
    assert len(found.all_fingerprints) == 16


def test_families_whose_reports_are_of_one_data_set_refuse_several(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [config for config, _ in expand(family("pvae"), Preset(), {"data.seed": [0, 1]})]
    monkeypatch.setattr(type(family("pvae")), "data_axes", False)
    with pytest.raises(UserError, match="the cells of a sweep of pvae share one data set"):
        DataSets(family("pvae"), "synthetic", configs)


def test_audiograms_are_split_anew_for_every_data_seed() -> None:
    configs = [config for config, _ in expand(family("pvae"), Preset(), {"data.seed": [0, 1], "seed": [0, 1]})]
    found = DataSets(family("pvae"), "synthetic_wide", configs)
    assert len(found) == 2
    assert len({found.fingerprint(config) for config in configs}) == 2


def session(folder: Path) -> Session:
    sweep = Sweep("own", "emd", lambda data: {"smoke": Preset(OWN, {"seed": [0, 1]})}, default_data=SPEC)
    return Session(sweep, Options("smoke", SPEC, out=folder, storage=str(folder / "cells")))


@pytest.fixture
def store(tmp_path: Path, store_file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = f"sqlite:///{store_file}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    return uri


def test_packs_jobs_and_estimates_take_each_cells_own_data(store: str, tmp_path: Path) -> None:
    made = session(tmp_path)
    plan = made.plan(1)
    assert [len(pack.cells) for pack in plan.packs] == [1, 1]
    seen = []

    def data_of(config: Any) -> Any:
        seen.append(config.seed)
        return made.data.of(config)

    assert estimate_seconds(plan, data_of, 1).wall > 0
    assert [job_of(pack, made.data, made.storage, made.options).data for pack in plan.packs] == [0, 1]


def test_cells_train_on_their_own_data_are_told_so_and_found_again(store: str, tmp_path: Path) -> None:
    made = session(tmp_path)
    plan = made.plan(1)
    for pack in plan.packs:
        job = PackJob.from_json(job_of(pack, made.data, made.storage, made.options).to_json())
        run_job(job, made.data[job.data], lambda event: None, torch.device("cpu"))
    again = session(tmp_path)
    tracker, parent = again.tracker(again.plan(1))
    with tracker:
        assert again.hand_over_recovered(tracker) == 2
    client = MlflowClient(tracking_uri=store)
    runs = client.search_runs([made.store.id], f"tags.`{Tag.KIND}` = '{RunKind.CELL}'")
    assert {run.data.tags[Tag.CELL]: run.data.tags[Tag.DATA] for run in runs} == {
        cell.identity: cell.data for cell in made.cells
    }
    assert client.get_run(parent).data.tags[Tag.DATA] == made.data.all_fingerprints
    assert session(tmp_path).survey.done == {cell.identity for cell in made.cells}


def test_a_session_with_other_cells_reads_their_data_where_it_has_not_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    sweep = Sweep("tiny", "emd", lambda data: {"tiny": Preset(OWN)}, "tiny")
    first = Session(sweep, Options("tiny", SPEC, storage=str(tmp_path)))
    (config,) = [cell.config for cell in first.cells]
    same, other = (config.model_copy(update=more) for more in ({"training": config.training}, {"seed": 7}))
    again = first.of_configurations([(same, {"trial": 1})])
    assert again.data is first.data
    assert [cell.identity for cell in again.cells] == [cell.identity for cell in first.cells]
    assert again.cells[0].values == {"trial": 1}
    further = first.of_configurations([(other, {})])
    assert further.cells[0].data == EMD.load(SPEC, other).fingerprint() != first.cells[0].data
    assert first.cells[0].config == config
