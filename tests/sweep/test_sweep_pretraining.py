"""Pretraining: a cell that starts from the weights of one with other settings, and is one cell to everything else."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from packs import CPU, assert_identical, job, read

from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.family import family
from vaesweep.sweep.cells import Cell, Preset, Sweep, canonical, expand, make_packs, parameters
from vaesweep.sweep.options import Options
from vaesweep.sweep.session import Session
from vaesweep.sweep.settings import build, combine
from vaesweep.sweep.storage import Storage
from vaesweep.sweep.tracking import Store, Tracker
from vaesweep.sweep.worker import run_job
from vaesweep.training.finished import FinishedCell

FIRST = {
    "pretraining.training.steps": 9,
    "pretraining.model.draws": 1,
    "pretraining.model.minimum_std": 0.3,
    "pretraining.rates.total.kind": "linear",
    "pretraining.rates.total.steps": 5,
    "pretraining.training.skip.norm": 1e6,
}
OWN = {"model.draws": 2, "training.average": 0.9, "rates.total.kind": "target"}
STEPS = (3, 6, 9, 12, 15, 18, 21)  # 9 of pretraining, then 12


@pytest.fixture(scope="module")
def cells(small_cell: Callable[..., Cell]) -> list[Cell]:
    """Two seeds at two target rates, each with pretraining."""
    return [
        small_cell(OWN | FIRST | {"rates.total.target": rate, "seed": seed}) for rate in (0.5, 2.0) for seed in (0, 1)
    ]


def run(
    cells: Sequence[Cell], data: DataSet, folder: Path, listener: Any = lambda event: None, size: int | None = None
) -> dict[str, FinishedCell]:
    """Train `cells` as one pack, with a checkpoint at every evaluation; what is finished."""
    storage = Storage(str(folder))
    run_job(job(cells, storage, size=size), data, listener, CPU)
    return read(storage, cells)


# Training


def test_a_cell_starts_from_what_its_pretraining_would_be_as_a_cell_of_its_own(
    small_cell: Callable[..., Cell], audiograms: DataSet, tmp_path: Path
) -> None:
    """Steps too small to move anything leave the weights of pretraining, here a running mean."""
    tiny = {"training.steps": 1, "training.learning_rate": 1e-30, "pretraining.training.learning_rate": 1e-2}
    before = {"pretraining.training.steps": 12, "pretraining.training.average": 0.8}
    (trained,) = run([small_cell(FIRST | tiny | before)], audiograms, tmp_path).values()
    alone = {key.removeprefix("pretraining."): v for key, v in (FIRST | tiny | before).items() if key[:3] == "pre"}
    (first,) = run([small_cell(alone)], audiograms, tmp_path).values()
    assert trained.weights.keys() == first.weights.keys()
    assert all(torch.equal(trained.weights[name], first.weights[name]) for name in first.weights)
    assert trained.evaluated == (*first.evaluated, 13)
    for name, values in first.history.items():
        assert torch.equal(trained.history[name][:4], values), name


def test_a_cell_has_one_history_over_both(undisturbed: dict[str, FinishedCell], cells: list[Cell]) -> None:
    for cell in cells:
        found = undisturbed[cell.identity]
        assert (found.step, found.evaluated, found.diverged) == (21, STEPS, None)
        assert all(values.shape == (len(STEPS),) for values in found.history.values())
        warm_up = found.history["train/beta.z"][:3]
        assert torch.allclose(warm_up, torch.tensor([0.6, 1.0, 1.0], dtype=torch.float64))
        assert found.history["valid/elbo"].isfinite().all()
        skipped = found.history["train/skipped"]  # which only pretraining counts
        assert skipped[:3].tolist() == [0, 0, 0]
        assert skipped[3:].isnan().all()


@pytest.mark.parametrize("patience", range(1, len(STEPS)))
def test_a_run_that_was_killed_in_either_ends_as_if_it_had_not_been(
    cells: list[Cell],
    audiograms: DataSet,
    tmp_path: Path,
    driver: Any,
    killed: type[Exception],
    undisturbed: dict[str, FinishedCell],
    patience: int,
) -> None:
    with pytest.raises(killed):
        run(cells, audiograms, tmp_path, driver(patience))
    heard = driver()
    assert_identical(run(cells, audiograms, tmp_path, heard), undisturbed)
    assert {step for _, step in heard.points()} == set(STEPS[patience - 1 :])
    assert {event.steps for event in heard.events} == {21}


@pytest.mark.parametrize("size", [1, 3])
def test_cells_in_smaller_groups_end_with_the_same_numbers(
    cells: list[Cell], audiograms: DataSet, tmp_path: Path, undisturbed: dict[str, FinishedCell], size: int
) -> None:
    found = run(cells, audiograms, tmp_path, size=size)
    for name, one in found.items():
        for key, value in one.metrics.items():
            assert value == pytest.approx(undisturbed[name].metrics[key], rel=1e-4, abs=1e-4)


def test_a_cell_that_diverges_in_pretraining_ends_there_and_its_neighbour_goes_on(
    small_cell: Callable[..., Cell], audiograms: DataSet, tmp_path: Path
) -> None:
    wild = {"pretraining.training.learning_rate": 1e3, "pretraining.training.clip_norm": 1e12}
    both = FIRST | OWN | {"rates.total.target": 1.0, "pretraining.training.skip.most": 2}
    cells = [small_cell(both | extra) for extra in ({}, wild)]
    sound, broken = run(cells, audiograms, tmp_path).values()
    assert (sound.diverged, sound.step) == (None, 21)
    assert broken.diverged is not None
    assert broken.diverged < 9
    assert broken.step <= 9


def test_what_is_tracked_has_no_gaps_that_were_never_measured(
    cells: list[Cell], undisturbed: dict[str, FinishedCell], store_file: Path
) -> None:
    uri, cell = f"sqlite:///{store_file}", cells[0]
    store = Store(uri, "pretrained")
    parent = store.open_sweep({"sweep": "s", "name": "pretrained", "preset": "smoke", "family": "pvae"}, {})
    with Tracker(store, parent, [cell], {}, {cell.identity: {}}) as tracker:
        tracker.ended(undisturbed[cell.identity], b"")
    again = Store(uri, "pretrained")
    points = again.reopen(again.cells()[cell.identity].run_id, cell)
    assert {step for name, step in points if name == "valid/elbo"} == set(STEPS)
    assert {step for name, step in points if name == "train/skipped"} == set(STEPS[:3])


# Settings


def test_pretraining_is_the_cell_with_its_own_settings_over_it() -> None:
    config = build(PartialVaeCell, OWN | FIRST | {"rates.total.target": 3.0, "seed": 7})
    first = config.pretraining
    assert first is not None
    assert (first.seed, first.training.steps, first.model.draws, first.model.minimum_std) == (7, 9, 1, 0.3)
    assert first.rates["total"].kind == "linear"
    assert config.rates["total"].kind == "target"
    assert first.training.average == config.training.average == 0.9
    assert (config.training.steps, config.all_steps, first.all_steps) == (4000, 4009, 9)
    assert PartialVaeCell.model_validate_json(config.model_dump_json()) == config


def test_null_takes_away_what_a_preset_has_set() -> None:
    preset = Preset(FIRST | {"pretraining.training.steps": 3})
    ((without, _),) = expand(family("pvae"), preset, {"pretraining": None})
    assert without.pretraining is None
    again = combine(FIRST, {"pretraining": None, "pretraining.training.steps": 5})
    first = build(PartialVaeCell, again).pretraining
    assert first is not None
    assert (first.training.steps, first.model.minimum_std) == (5, 0.02)


def test_null_and_what_is_below_it_replace_each_other_whatever_the_setting() -> None:
    skipping = {"training.skip.norm": 100.0}
    assert combine(skipping, {"training.skip": None}) == {"training.skip": None}
    assert combine({"training.skip": None}, skipping) == skipping
    config = build(PartialVaeCell, skipping | {"pretraining.training.skip": None})
    assert config.training.skip is not None
    assert config.pretraining is not None
    assert config.pretraining.training.skip is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pretraining.training.step": 3}, "setting pretraining.training.step: there is no such setting"),
        ({"pretraining.training.steps": 0}, "setting pretraining.training.steps=0: "),
        ({"pretraining": 3}, "set what is below it, such as pretraining.training.steps=2000, or null"),
        ({"pretraining.pretraining.seed": 3}, "one pretraining, not one before another"),
        ({"pretraining.training.early_stopping.patience": 3}, "pretraining ends after its steps"),
        ({"training.early_stopping.patience": 3, "pretraining.seed": 0}, "pretraining ends after its steps"),
        ({"pretraining.data.seed": 3}, "the cell's own data"),
        ({"pretraining.free_nats.y.nats": 1.0}, "pretraining: rates: this model has no rate named 'y'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        expand(family("pvae"), Preset(), settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pretraining_of_another_size_is_refused_before_anything_runs(tmp_path: Path) -> None:
    sweep = Sweep("s", "pvae", lambda data: {"smoke": Preset({"pretraining.model.hidden": 32})})
    with pytest.raises(UserError, match=r"encoder\.0\.weight is 32 × \d+ in pretraining and 64 × \d+ in the cell"):
        Session(sweep, Options("smoke", "synthetic", out=tmp_path))


def test_a_cell_without_pretraining_is_the_cell_that_it_was_before_there_was_any(
    small_cell: Callable[..., Cell],
) -> None:
    assert "pretraining" not in canonical(small_cell().config)
    assert small_cell(FIRST).identity != small_cell().identity


def test_parameters_name_what_pretraining_has_otherwise_and_no_more(small_cell: Callable[..., Cell]) -> None:
    found = parameters(small_cell(FIRST | {"seed": 4}).config)
    assert {key: value for key, value in found.items() if key.startswith("pretraining")} == {
        "pretraining.training.steps": 9,
        "pretraining.model.minimum_std": 0.3,
        "pretraining.rates.total.kind": "linear",
        "pretraining.rates.total.value": 1.0,
        "pretraining.rates.total.start_value": 0.0,
        "pretraining.rates.total.steps": 5.0,
        "pretraining.rates.total.share": 0.0,
        "pretraining.training.skip.norm": 1e6,
        "pretraining.training.skip.most": 50,
    }
    assert not any(key.startswith("pretraining") for key in parameters(small_cell().config))


def test_packs_keep_cells_of_different_pretraining_apart(small_cell: Callable[..., Cell]) -> None:
    made = [small_cell(FIRST | {"pretraining.training.steps": n, "seed": s}) for n in (6, 9) for s in (0, 1)]
    packs = make_packs([*made, small_cell()], 8)
    assert sorted(len(one.cells) for one in packs) == [1, 2, 2]
    assert not any(math.isnan(one.cells[0].config.all_steps) for one in packs)
