"""What the trained models of every registered family promise to their users."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vaesweep
from vaesweep.data.domains import DataSet, Standardisation
from vaesweep.errors import UserError
from vaesweep.family import Family
from vaesweep.family.trained import Estimate, Trained, as_values, trained
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell
from vaesweep.training.loop import start_state, train_pack

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SHORT = {"steps": 3, "batch_size": 8, "evaluate_every": 3}
SAMPLES = 400
WITHOUT_RAY_AND_MLFLOW = """
import sys
sys.modules["ray"] = sys.modules["mlflow"] = None
import vaesweep
from vaesweep.errors import UserError
from vaesweep.family import family
model = vaesweep.load(sys.argv[1])
metrics = model.evaluate(family(model.cell.family).example())
try:
    print(*model.reconstruct(model.example()).shape, *model.sample(2).shape)
except UserError as error:
    print(error)
print(all(f"{domain}/{name}" in model.cell.metrics for domain, own in metrics.items() for name in own))
"""


@pytest.fixture(scope="module")
def file(subject: Family, data: DataSet, recorder: type) -> bytes:
    """The file of the family's small cell, after a very short training."""
    config = subject.config.model_validate(subject.small().model_dump() | {"training": SHORT})
    problem, kept = subject.problem(config, data, CPU), recorder()
    train_pack(problem, [config], start_state(problem, [config], ["x"]), kept)
    raw = config.model_dump(mode="json")
    return finished.to_bytes(finished.of_result(kept.results["x"], subject.name, raw, data.fingerprints()))


@pytest.fixture(scope="module")
def cell(file: bytes) -> FinishedCell:
    return finished.from_bytes(file, "here")


@pytest.fixture
def model(cell: FinishedCell) -> Trained:
    return trained(cell)


@pytest.fixture
def usable(model: Trained) -> Trained:
    """The model, where its family has code for more than evaluating it."""
    if type(model) is Trained:
        for method in (model.encode, model.decode, model.reconstruct, model.sample):
            with pytest.raises(UserError, match="the family has no code for it"):
                method(torch.zeros(1))  # type: ignore[arg-type]
        pytest.skip("the family has no trained models of its own")
    return model


def numbers(metrics: dict[str, dict[str, float]]) -> dict[str, float]:
    return {f"{domain}/{name}": value for domain, own in metrics.items() for name, value in own.items()}


def test_an_evaluation_on_its_own_data_gives_the_cells_own_numbers(model: Trained, data: DataSet) -> None:
    found = numbers(model.evaluate(data))
    assert found.keys() == model.cell.metrics.keys()
    for name, value in model.cell.metrics.items():
        assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name  # float32, summed in another order


def test_other_data_are_standardised_as_the_models_own_were(model: Trained, data: DataSet) -> None:
    if not any(name.startswith("standardisation/") for name in model.cell.kept):
        pytest.skip("the cell keeps no standardisation")
    scale = data.standardisation
    other = replace(data, standardisation=Standardisation(scale.mean + 1, 2 * scale.std))
    assert numbers(model.evaluate(other)) == pytest.approx(model.cell.metrics, rel=1e-5, abs=1e-6)


def test_a_models_own_data_are_those_that_its_sweep_names(
    model: Trained, data: DataSet, subject: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[str] = []

    def load(self: Family, spec: str, config: Any) -> DataSet:
        named.append(spec)
        return data

    monkeypatch.setattr(type(subject), "load", load)
    known = replace(model, data_name=lambda: "the data")
    assert numbers(known.evaluate()) == pytest.approx(model.cell.metrics, rel=1e-5, abs=1e-6)
    assert named == ["the data"]
    test = data.domains[2].name
    changed = replace(model.cell, domains=model.cell.domains | {test: "0" * 16})
    with pytest.raises(UserError, match=f"the data: {test} is not what cell x was evaluated on"):
        replace(known, cell=changed).evaluate()


def test_the_data_of_a_file_must_be_named(model: Trained) -> None:
    with pytest.raises(UserError, match="read from a file, which does not name its data"):
        model.evaluate()


def test_a_posterior_is_what_its_samples_are(usable: Trained) -> None:
    q = usable.encode(usable.example())
    assert q.std is not None
    assert q.mean.shape == q.std.shape == q.sample().shape
    assert len(q.mean) == 2
    assert torch.equal(q.sample(3), q.sample(3))
    assert not torch.equal(q.sample(3), q.sample(4))
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([q.drawn(generator) for _ in range(SAMPLES)])
    error = q.std / SAMPLES**0.5  # thousands of elements: the furthest of them lies within six standard errors
    assert ((draws.mean(0) - q.mean).abs() < 6 * error + 1e-6).all()
    spread = (draws.std(0) / q.std)[q.std > 1e-6]
    assert float(spread.mean()) == pytest.approx(1.0, abs=0.1)


def test_what_is_decoded_and_sampled_has_the_shape_of_the_data(usable: Trained) -> None:
    taken, given = usable.shapes
    x = usable.example()
    for found, shape in ((x, taken), (usable.reconstruct(x), given), (usable.sample(2), given)):
        assert len(found) == 2
        assert all(wanted in (-1, length) for length, wanted in zip(found.shape, shape, strict=True))
    assert usable.reconstruct(x).isfinite().all()
    decoded = usable.decode(usable.encode(x).mean)
    assert len(decoded.mean) == 2
    assert decoded.mean.isfinite().all()
    assert decoded.std is None or (decoded.std > 0).all()


def test_samples_of_one_seed_are_the_same_and_of_another_are_not(usable: Trained) -> None:
    first = usable.sample(3, seed=1)
    torch.rand(3)  # the global state is nobody's business
    assert torch.equal(usable.sample(3, seed=1), first)
    assert not torch.equal(usable.sample(3, seed=2), first)
    assert not torch.equal(first[0], first[1])


def test_arrays_tensors_and_single_data_are_taken(usable: Trained) -> None:
    x = usable.example()
    whole = usable.reconstruct(x)
    assert torch.equal(usable.reconstruct(x.double().numpy()), whole)
    torch.testing.assert_close(usable.reconstruct(x[:1]), usable.reconstruct(x[0]))


def test_what_is_no_datum_is_refused_with_what_is_needed(usable: Trained) -> None:
    x = usable.example()
    wrong = [torch.zeros(0, *x.shape[1:]), torch.zeros(1, 1, *x.shape), np.full(x.shape, np.inf)]
    for values in [*wrong, np.array([["words"]])]:
        with pytest.raises(UserError) as refused:
            usable.encode(values)
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="0 samples cannot be drawn"):
        usable.sample(0)


def test_a_file_is_used_in_a_process_without_ray_and_without_mlflow(
    file: bytes, model: Trained, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(file)
    command = [sys.executable, "-c", WITHOUT_RAY_AND_MLFLOW, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    shapes, agree = done.stdout.splitlines()
    assert agree == "True"
    if type(model) is not Trained:
        expected = (*model.reconstruct(model.example()).shape, *model.sample(2).shape)
        assert shapes == " ".join(map(str, expected))


def test_a_file_is_loaded_by_its_path(file: bytes, cell: FinishedCell, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(file)
    for name in (path, str(path)):
        assert vaesweep.load(name).cell.metrics == cell.metrics
    with pytest.raises(UserError, match="cannot be read"):
        vaesweep.load(tmp_path / "y.safetensors")
    path.write_bytes(file[:-9])
    with pytest.raises(UserError, match="damaged"):
        vaesweep.load(path)


def test_a_cell_that_has_diverged_has_no_model(cell: FinishedCell) -> None:
    with pytest.raises(UserError, match="cell x has diverged"):
        trained(replace(cell, diverged=2, cause="step 2: not finite"))


def test_a_cell_of_another_version_is_refused(cell: FinishedCell) -> None:
    with pytest.raises(UserError, match="cell x was trained by another version"):
        trained(replace(cell, config=cell.config | {"unheard_of": 1}))


def test_an_estimate_without_a_spread_has_no_samples() -> None:
    with pytest.raises(UserError, match="without a spread"):
        Estimate(torch.zeros(1)).sample()


@pytest.mark.parametrize(
    ("values", "shape"), [([1.0, 2.0], (1, 2)), ([[1.0, 2.0]], (1, 2)), (np.ones((3, 2), np.float64), (3, 2))]
)
def test_values_are_float32_with_a_batch(values: Any, shape: tuple[int, ...]) -> None:
    found = as_values(values, "numbers", "[row, 2]", None, 2)
    assert found.dtype is torch.float32
    assert found.shape == shape
