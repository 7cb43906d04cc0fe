"""Pictures and sounds of one trained separator: what is shown is what its sweep measured."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from mlflow import MlflowClient

from vaesweep.analysis import runs as tracked
from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.families.emd.analysis.audio import PEAK, scale_of, write_audio
from vaesweep.families.emd.analysis.example import Example, separate
from vaesweep.families.emd.analysis.picture import detail_of, order_of_channels, spectrogram
from vaesweep.families.emd.analysis.report import FOLDER, report, write_example
from vaesweep.families.emd.family import SeparatorCell
from vaesweep.family import family
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell
from vaesweep.training.loop import start_state, train_pack
from vaesweep.vocabulary import MODEL_FILE, SWEEP_FILE, Outcome, RunKind, Tag, final

EMD = family("emd")
SECONDS = 0.25
DATA = {
    "rows": {"train": 16, "valid": 2, "test": 2},
    "condition": {"seconds": SECONDS, "scale": (0.01, 0.05)},
}
MASKER = {"kind": "tasnet", "bottleneck": 8, "hidden": 8, "skip": 4, "repeats": 1, "blocks": 3}
SPEC = "pulses:conditions=noise_0"


class Keeper:
    """Keeps the file of a finished cell."""

    def __init__(self, config: Any) -> None:
        self.config, self.file = config, b""

    def progress(self, *_: object) -> None: ...

    def checkpoint(self, *_: object) -> None: ...

    def finished(self, result: Any) -> None:
        self.file = finished.to_bytes(finished.of_result(result, "emd", self.config.model_dump(mode="json"), {}))


def train(data: DataSet, cell: str, **model: Any) -> bytes:
    """The file of a cell that has trained for a few steps."""
    training = {"steps": 20, "batch_size": 4, "evaluate_every": 20, "learning_rate": 5e-3}
    raw = {"model": {"latents": 8, "masker": MASKER} | model, "data": DATA, "training": training}
    config = SeparatorCell.model_validate(raw)
    problem, keeper = EMD.problem(config, data, torch.device("cpu")), Keeper(config)
    train_pack(problem, [config], start_state(problem, [config], [cell]), keeper)
    return keeper.file


@pytest.fixture(scope="module")
def data() -> DataSet:
    return EMD.load(SPEC, SeparatorCell.model_validate({"data": DATA}))


@pytest.fixture(scope="module")
def files(data: DataSet) -> dict[str, bytes]:
    """A variational cell and its deterministic twin."""
    return {
        "variational": train(data, "variational"),
        "deterministic": train(data, "deterministic", encoding="deterministic", masks="relu"),
    }


@pytest.fixture(scope="module")
def kept(files: dict[str, bytes]) -> FinishedCell:
    return finished.from_bytes(files["variational"], "here")


@pytest.fixture(scope="module")
def example(kept: FinishedCell, data: DataSet) -> Example:
    return separate(kept, data)


def test_the_mixtures_are_separated_as_they_were_when_the_cell_was_evaluated(kept: FinishedCell, data: DataSet) -> None:
    for domain in ("pulses.test", "noise_0"):
        rows = [separate(kept, data, domain, row) for row in range(2)]
        quality = torch.stack([row.si_sdr for row in rows]).mean()
        better = torch.stack([row.si_sdr - row.si_sdr_before for row in rows]).mean()
        rate = np.mean([sum(row.rates.values()) for row in rows]) / SECONDS
        names = ("si_sdr.mode", "si_sdri.mode", "rate_per_second")
        tracked_as = {name: kept.metrics[f"{domain}/{name}"] for name in names}
        found = dict(zip(names, (float(quality), float(better), float(rate)), strict=True))
        assert found == pytest.approx(tracked_as, rel=1e-3, abs=1e-3)


def test_the_fitted_estimate_is_the_nearest_multiple(example: Example) -> None:
    left = example.sources - example.fitted
    assert torch.linalg.vecdot(left, example.estimates).abs().max() < 1e-3 * example.sources.square().sum()
    signal = 10 * (example.sources.square().sum(-1) / left.square().sum(-1)).log10()
    # cos² of an angle is in both: 1 / sin² is SNR, cos² / sin² is SI-SDR
    torch.testing.assert_close((10 ** (signal / 10) - 1).log10() * 10, example.si_sdr, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    ("change", "arguments", "complaint"),
    [
        ({"family": "pvae"}, {}, "is of family 'pvae'; name a cell of 'emd'"),
        ({"config": {}}, {}, "another version"),
        ({}, {"domain": "noise_2"}, "did you mean 'noise_0'"),
        ({}, {"row": 2}, r"0\.\.1"),
    ],
    ids=["family", "version", "domain", "row"],
)
def test_what_cannot_be_shown_is_refused(
    kept: FinishedCell, data: DataSet, change: dict[str, Any], arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        separate(replace(kept, **change), data, **arguments)


def test_other_data_are_refused(kept: FinishedCell) -> None:
    other = SeparatorCell.model_validate({"data": DATA | {"condition": {"seconds": 0.5}}})
    with pytest.raises(UserError, match="other data"):
        separate(kept, EMD.load(SPEC, other))


# --- what is drawn ----------------------------------------------------------------------------------------------


def test_a_tone_is_at_its_frequency() -> None:
    time = np.arange(8000) / 8000
    power = spectrogram(np.sin(2 * np.pi * 1000 * time), 8000)
    frequencies = np.linspace(0, 4000, len(power))
    assert frequencies[power[:, power.shape[1] // 2].argmax()] == pytest.approx(1000)


def test_alike_channels_stand_together() -> None:
    low, high = np.zeros(50), np.ones(50)
    encoding = np.stack([low, high, low + 0.01, high + 0.01, low, high])
    order = order_of_channels(encoding)
    assert {frozenset(order[:3]), frozenset(order[3:])} == {frozenset({0, 2, 4}), frozenset({1, 3, 5})}


def test_the_detail_is_where_both_sources_are_heard() -> None:
    sources = np.zeros((2, 1000))
    sources[0, 100:500], sources[1, 400:900] = 1, 1
    assert detail_of(sources, 100) == slice(400, 500)
    assert detail_of(sources, 5000) == slice(0, 1000)


# --- what is heard ----------------------------------------------------------------------------------------------


def test_files_hold_the_signals_times_the_scale_that_is_said(example: Example, tmp_path: Path) -> None:
    write_audio(example, tmp_path)
    said = pd.read_csv(tmp_path / "audio.csv").set_index("file")
    signals = {
        "mixture.wav": example.mixture,
        "source_2.wav": example.sources[1],
        "estimate_1.wav": example.estimates[0],
    }
    for name, signal in signals.items():
        heard, rate = soundfile.read(tmp_path / name)
        assert rate == 8000
        assert soundfile.info(tmp_path / name).subtype == "PCM_16"
        assert np.abs(heard).max() == pytest.approx(PEAK, abs=1e-4)
        np.testing.assert_allclose(heard, signal.numpy() * said.loc[name, "scale"], atol=2**-15)
    assert said.loc["estimate_2.wav", "si_sdr_db"] == pytest.approx(float(example.si_sdr[1]))


def test_silence_stays_silence() -> None:
    assert scale_of(torch.zeros(10)) == 1.0


# --- a sweep in a store -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A sweep of the two cells."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("tiny", artifact_location=(folder / "artifacts").as_uri())
    sweep = client.create_run(experiment, tags={Tag.KIND: RunKind.SWEEP, Tag.SWEEP: "aaaa"}).info.run_id
    roles = {"pulses.train": "train", "pulses.valid": "valid", "pulses.test": "test", "noise_0": "unseen"}
    record = {
        "sweep": "aaaa",
        "name": "tiny",
        "family": "emd",
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
        (folder / MODEL_FILE).write_bytes(file)
        client.log_artifact(run, str(folder / MODEL_FILE))
        for metric, value in finished.from_bytes(file, name).metrics.items():
            client.log_metric(run, final(*metric.rsplit("/", 1)), value)
    return uri


TABLES = ("curve", "findings", "estimates", "generalisation", "differences")
WRITTEN = {
    *("separation.png", "audio.csv", "mixture.wav"),
    *("source_1.wav", "source_2.wav", "estimate_1.wav", "estimate_2.wav"),
}


def test_a_sweep_leaves_pictures_and_sounds_with_the_runs_of_its_cells(
    store: str, data: DataSet, tmp_path: Path
) -> None:
    found = tracked.read("tiny", store)
    written = report(found, data, tmp_path / "out", store)
    tables = {f"separation_{name}.csv" for name in TABLES}
    assert {path.name for path in written.paths} == tables
    table = pd.read_csv(tmp_path / "out" / "separation_generalisation.csv")
    finals = found.finals[found.finals["metric"] == "si_sdri.mode"].set_index(["cell", "domain"])["value"]
    for domain, rows in table.groupby("domain"):
        wanted = sorted(float(value) for (_, where), value in finals.items() if where == domain)
        assert sorted(rows["si_sdri"]) == pytest.approx(wanted, abs=1e-3)
    assert any("judged by the modes" in line for line in written.summary)
    for why in ("lowest_rate_best_highest_rate", "deterministic"):
        assert {path.name for path in (tmp_path / "out" / FOLDER / why).iterdir()} == WRITTEN
    assert any(line.startswith("lowest rate, best, highest rate: cell variational") for line in written.summary)
    for run in found.run_ids.values():
        names = {Path(file.path).name for file in MlflowClient(store).list_artifacts(run, FOLDER)}
        assert names == WRITTEN


def test_a_cell_without_a_model_is_left_out_and_named(store: str, data: DataSet, tmp_path: Path) -> None:
    found = tracked.read("tiny", store)
    lines = report(replace(found, run_ids=dict.fromkeys(found.run_ids, found.run_id)), data, tmp_path, store).summary
    assert sum("no picture of" in line for line in lines) == 2


def test_a_gaussian_picture_and_a_deterministic_one_are_drawn(
    files: dict[str, bytes], data: DataSet, tmp_path: Path
) -> None:
    for name, file in files.items():
        paths = write_example(separate(finished.from_bytes(file, name), data), name, tmp_path / name)
        assert paths[0].read_bytes().startswith(b"\x89PNG")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[4] / "analysis" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_scripts_read_the_store(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = ["--tracking-uri", store, "--out", str(tmp_path)]
    for name, words in {"separation_cell": ["--run", "variational", "--row", "1"], "separation_curves": []}.items():
        named = words or ["--experiment", "tiny"]
        monkeypatch.setattr("sys.argv", [f"{name}.py", *named, *read])
        assert script(name).main() == 0
    assert "SI-SDR" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} >= WRITTEN


def test_a_row_that_there_is_not_ends_the_script_with_code_two(
    store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "sys.argv", ["separation_cell.py", "--run", "variational", "--row", "9", "--tracking-uri", store]
    )
    assert script("separation_cell").main() == 2
    assert "0..1" in capsys.readouterr().err
