"""Separators on recordings: batches, whole utterances, weights of longer data, a cell and its scale."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from voices import SEPARATOR, write_voices

from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.families.emd.family import SCALE, SeparatorProblem
from vaesweep.family import CellConfig, family
from vaesweep.family.trained import trained
from vaesweep.sweep.identity import differing, identity
from vaesweep.sweep.settings import build
from vaesweep.training.batch_order import Draws
from vaesweep.training.evaluate import evaluate, final_uses
from vaesweep.training.finished import of_result
from vaesweep.training.loop import start_state, train_pack
from vaesweep.training.stack import Stack, initial_rows
from vaesweep.training.world import World

CPU = torch.device("cpu")
EMD = family("emd")
SMALL = SEPARATOR | {
    "data.rows.valid": 3,
    "data.rows.test": 4,
    "training.steps": 3,
    "training.batch_size": 4,
    "training.evaluate_every": 2,
    "evaluation.samples": 2,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VAESWEEP_CACHE", str(tmp_path / "cache"))
    return write_voices(tmp_path / "voices")


def made(folder: Path, **settings: Any) -> tuple[CellConfig, DataSet, SeparatorProblem]:
    config = build(EMD.config, SMALL | settings)
    EMD.check(config)
    data = EMD.load(f"speech:{folder}", config)
    problem = EMD.problem(config, data, CPU)
    assert isinstance(problem, SeparatorProblem)
    return config, data, problem


def test_a_training_batch_is_a_function_of_the_generator_and_is_of_one_deviation(folder: Path) -> None:
    _, _, problem = made(folder)
    rows = torch.arange(4)
    batches = [problem.train_batch(rows, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert batches[0]["mixture"].shape == (4, 4000)
    assert batches[0]["sources"].shape == (4, 2, 4000)
    for name, value in batches[0].items():
        assert torch.equal(value, batches[1][name])
    assert not torch.equal(batches[0]["mixture"], batches[2]["mixture"])
    many = torch.cat([problem.train_batch(rows, torch.Generator().manual_seed(s))["mixture"] for s in range(20)])
    assert many.std() == pytest.approx(1.0, abs=0.15)
    torch.testing.assert_close(batches[0]["sources"].sum(1), batches[0]["mixture"])


def test_dequantisation_is_of_training_crops_alone(folder: Path) -> None:
    """Less than half a step of 16 bits from those without, and the mixture is still the sum of its sources."""
    (_, data, plain), (_, _, dequantised) = made(folder), made(folder, **{"data.dequantise": True})
    rows, scale = torch.arange(4), float(data.standardisation.std[0])
    one, other = (p.train_batch(rows, torch.Generator().manual_seed(1)) for p in (plain, dequantised))
    steps = (other["sources"] - one["sources"]) * scale * 2**15
    assert 0.49 < float(steps.abs().max()) < 0.51
    torch.testing.assert_close(other["sources"].sum(1), other["mixture"], atol=1e-5, rtol=0)
    again = dequantised.train_batch(rows, torch.Generator().manual_seed(1))
    assert torch.equal(again["mixture"], other["mixture"])
    for domain in plain.domains:
        found = [p.evaluation_batch(domain, slice(0, 1))["mixture"] for p in (plain, dequantised)]
        assert torch.equal(*found)


def test_speakers_of_other_speeds_are_trained_with_and_never_tested_with(folder: Path) -> None:
    (_, data, plain), (config, _, faster) = (
        made(folder),
        made(folder, **{"data.speed.low": 0.8, "data.speed.high": 1.25}),
    )
    rows = torch.arange(4)
    one, other = (p.train_batch(rows, torch.Generator().manual_seed(1)) for p in (plain, faster))
    assert other["mixture"].shape == one["mixture"].shape
    assert not torch.equal(one["mixture"], other["mixture"])
    torch.testing.assert_close(other["sources"].sum(1), other["mixture"])
    for domain in plain.domains:
        found = [p.evaluation_batch(domain, slice(0, 1))["mixture"] for p in (plain, faster)]
        assert torch.equal(*found)
    assert EMD.load(f"speech:{folder}", config).fingerprint() == data.fingerprint()


@pytest.mark.parametrize("span", [(0.4, 1.0), (1.0, 2.1), (1.1, 0.9)])
def test_a_speed_that_is_no_factor_is_refused(folder: Path, span: tuple[float, float]) -> None:
    with pytest.raises(UserError, match=r"data\.speed"):
        made(folder, **{"data.speed.low": span[0], "data.speed.high": span[1]})


def test_a_cell_keeps_its_identity_unless_it_dequantises_or_is_in_rooms(folder: Path) -> None:
    """By the settings that differ from their defaults, and data that do."""
    cells = [
        made(folder, **own)[:2] for own in ({}, {"data.mixing.reverberation.share": 0.0}, {"data.dequantise": True})
    ]
    one, same, other = (identity(EMD, config, data.fingerprint()) for config, data in cells)
    assert one == same != other
    assert not {"dequantise", "mixing"} & differing(cells[0][0])["data"].keys()


@pytest.mark.parametrize("size", [2, 3, 7])
def test_each_worker_reads_and_draws_its_own_rows_of_the_batch_of_one(folder: Path, size: int) -> None:
    _, _, problem = made(folder)

    def share(rank: int, size: int) -> dict[str, torch.Tensor]:
        draws = Draws(3, 11, torch.arange(4), World(rank, size).share(4), CPU)
        return problem.train_share(draws, problem.read(draws))

    whole, shares = share(0, 1), [share(rank, size) for rank in range(size)]
    assert {"mixture", "sources", "encoding_noise", "mask_noise"} == whole.keys()
    for name, value in whole.items():
        assert torch.equal(torch.cat([own[name] for own in shares]), value), name
    torch.testing.assert_close(whole["sources"].sum(1), whole["mixture"])
    assert len({float(row.sum()) for row in whole["encoding_noise"]}) == 4, "no two rows share noise"


def test_chunks_are_of_equal_length_and_cover_all_rows_once(folder: Path) -> None:
    _, _, problem = made(folder)
    for domain, length in problem.domains.items():
        chunks = list(problem.evaluation_chunks(domain, slice(0, length), 3))
        assert [row for chunk in chunks for row in range(chunk.start, chunk.stop)] == list(range(length))
        for chunk in chunks:
            batch = problem.evaluation_batch(domain, chunk)
            assert len(batch["mixture"]) == chunk.stop - chunk.start <= 3
            assert batch["mask_noise"].shape[-1] == -(-batch["mixture"].shape[-1] // 8)


def test_what_is_longer_counts_as_a_datum_of_training(folder: Path) -> None:
    """A mean over whole utterances is that of each mixture's nats a sample, times the samples of a crop."""
    config, _, problem = made(folder)
    stack = Stack(problem.build(), initial_rows(problem.build, [config.seed]))
    (domain,) = [name for name in problem.domains if name.endswith("test")]
    found = evaluate(stack, problem, domain, 2, World())
    expected = []
    for row in range(problem.domains[domain]):
        batch = problem.evaluation_batch(domain, slice(row, row + 1))
        elbo, _ = stack.apply(lambda result, batch: (result[0].distortion, result[0].rate("masks")), batch, shared=True)
        expected.append(float(elbo) * 4000 / batch["mixture"].shape[-1])
    assert float(found["distortion"]) == pytest.approx(sum(expected) / len(expected), rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model.encoding": "deterministic", "model.masks": "relu"},
        {"data.mixing.reverberation.share": 1.0, "data.mixing.reverberation.rooms": 2, "data.dequantise": True},
    ],
    ids=["vi", "twin", "in rooms"],
)
def test_a_cell_trains_is_evaluated_whole_and_keeps_its_scale(settings: dict[str, Any], folder: Path) -> None:
    if "data.mixing.reverberation.share" in settings:
        pytest.importorskip("pyroomacoustics")
    config, data, problem = made(folder, **settings)
    state = start_state(problem, [config], ["cell"])
    results: list[Any] = []

    class Listener:
        def progress(self, state: Any, latest: Any) -> None: ...
        def checkpoint(self, state: Any) -> None: ...
        def finished(self, result: Any) -> None:
            results.append(result)

    train_pack(problem, [config], state, Listener())
    (result,) = results
    assert result.diverged is None
    assert {name.partition("/")[0] for name in result.metrics} == {"voices.train", "voices.valid", "voices.test"}
    assert all(torch.tensor(list(result.metrics.values())).isfinite())
    assert float(result.kept[SCALE]) == pytest.approx(float(data.standardisation.std[0]))


def test_a_trained_model_evaluates_recordings_by_its_own_scale(folder: Path, recorder: type) -> None:
    """Also data that another one was fitted to."""
    config, data, problem = made(folder)
    kept = recorder()
    train_pack(problem, [config], start_state(problem, [config], ["x"]), kept)
    cell = of_result(kept.results["x"], "emd", config.model_dump(mode="json"), data.fingerprints())
    scale = data.standardisation
    for own in (data, replace(data, standardisation=replace(scale, std=3 * scale.std))):
        found = {f"{d}/{name}": v for d, values in trained(cell).evaluate(own).items() for name, v in values.items()}
        assert found == pytest.approx(cell.metrics, rel=1e-4, abs=1e-4)  # the scale is kept in float32


def test_evaluation_does_not_depend_on_what_is_held_at_once(folder: Path) -> None:
    _, _, problem = made(folder)
    stack = Stack(problem.build(), initial_rows(problem.build, [0, 1]))
    one, many = (final_uses(stack, problem, chunk, World()) for chunk in (1, 8))
    for name, value in one.metrics.items():
        torch.testing.assert_close(value, many.metrics[name], rtol=1e-4, atol=1e-5)


def test_each_mixtures_quality_is_kept_and_its_mean_is_the_metric(folder: Path) -> None:
    _, _, problem = made(folder)
    stack = Stack(problem.build(), initial_rows(problem.build, [0, 1]))
    uses = final_uses(stack, problem, 2, World())
    assert not [name for name in uses.kept if name.startswith("rows/voices.train/")]
    for domain, rows in (("voices.valid", 3), ("voices.test", 4)):
        quality, audible = (uses.kept[f"rows/{domain}/{name}"] for name in ("si_sdri.mode", "audible"))
        assert quality.shape == audible.shape == (2, rows)
        mean = quality.sum(-1) / audible.sum(-1)
        torch.testing.assert_close(mean.double(), uses.metrics[f"{domain}/si_sdri.mode"], rtol=1e-5, atol=1e-5)


def test_the_kind_of_the_data_must_be_that_of_the_cell(folder: Path) -> None:
    with pytest.raises(UserError, match=r"--data pulses: takes data\.kind=pulses, and the cell's is speech"):
        EMD.load("pulses", build(EMD.config, SMALL))
    with pytest.raises(UserError, match=r"takes data\.kind=speech, and the cell's is pulses"):
        EMD.load(f"speech:{folder}", EMD.config())


def refused(settings: dict[str, Any]) -> Callable[[], None]:
    return lambda: EMD.check(build(EMD.config, SMALL | settings))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"data.mixing.speakers": 3}, r"data\.mixing: its mixtures have 3 sources, the model separates 2"),
        ({"data.mixing.sample_rate": 16000}, r"have 16000 Hz, the model is made for 8000 Hz"),
        ({"data.seconds": 0.001}, r"have 8 samples, a frame needs 16"),
    ],
)
def test_data_that_the_model_is_not_made_for_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        refused(settings)()
