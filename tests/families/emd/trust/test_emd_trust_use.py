"""Trust in use: a trained separator says how good a signal, a file and a window will be, or why it cannot say."""

import math
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from vaesweep.cli.main import main
from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.families.emd.data import pulses
from vaesweep.families.emd.data.pulses import PulseCondition, SplitRows
from vaesweep.families.emd.models.separator import noise_shapes, permuted
from vaesweep.families.emd.trained import TrainedSeparator
from vaesweep.families.emd.trust.calibration import METRICS, Calibration
from vaesweep.families.emd.trust.scores import estimate
from vaesweep.families.emd.trust.summary import Trust, WindowTrust
from vaesweep.family import family
from vaesweep.likelihoods import si_sdr
from vaesweep.permutation import best_assignment, pairwise
from vaesweep.sweep.identity import identity
from vaesweep.sweep.settings import build
from vaesweep.training.evaluate import final_uses
from vaesweep.training.finished import FinishedCell, from_bytes, of_result, to_bytes
from vaesweep.training.loop import start_state, train_pack
from vaesweep.training.stack import Stack
from vaesweep.training.world import World

EMD = family("emd")
CPU = torch.device("cpu")
RATE = 8000
STEPS = 60
MODEL = {
    "latents": 16,
    "masker": {"kind": "tasnet", "bottleneck": 8, "hidden": 16, "skip": 8, "repeats": 1, "blocks": 4},
}
CONDITION = {"seconds": 0.5, "scale": (0.01, 0.05)}
TRAINING = {"steps": STEPS, "batch_size": 8, "evaluate_every": STEPS, "learning_rate": 3e-3, "clip_norm": 1e5}


def cell(**values: Any) -> Any:
    rates = {"total": {"kind": "fixed", "value": 1e-3}}
    own = {"model": MODEL, "data": {"condition": CONDITION}, "training": TRAINING, "rates": rates}
    return EMD.config.model_validate(own | {"evaluation": {"samples": 3}} | values)


@pytest.fixture(scope="module")
def data() -> DataSet:
    rows = SplitRows(train=64, valid=40, test=40)
    return pulses.load("pulses:conditions=noise_1", 1, rows, PulseCondition(**CONDITION))


@pytest.fixture(scope="module")
def trained(data: DataSet) -> FinishedCell:
    """A separator after a few steps on pulses, as it is read back from its file."""
    config, results = cell(), list[Any]()

    class Listener:
        def progress(self, state: Any, latest: Any) -> None: ...
        def checkpoint(self, state: Any) -> None: ...
        def finished(self, result: Any) -> None:
            results.append(result)

    problem = EMD.problem(config, data, CPU)
    train_pack(problem, [config], start_state(problem, [config], ["c"]), Listener())
    whole = of_result(results[0], "emd", config.model_dump(mode="json"), dict.fromkeys(problem.domains, "f"))
    return from_bytes(to_bytes(whole), "file")


@pytest.fixture
def separator(trained: FinishedCell) -> TrainedSeparator:
    return TrainedSeparator.restore(trained)


def mixture_of(data: DataSet, row: int) -> np.ndarray:
    return EMD.problem(cell(), data, CPU).evaluation_batch("pulses.test", slice(row, row + 1))["mixture"][0].numpy()


# Evaluation


def test_an_evaluated_cell_says_how_it_predicts_and_keeps_each_mixtures_value(trained: FinishedCell) -> None:
    for domain in ("pulses.test", "noise_1"):
        values = [trained.metrics[f"{domain}/{name}"] for name in METRICS]
        assert all(math.isfinite(value) for value in values)
    assert "pulses.valid/trust_coverage" not in trained.metrics
    assert "pulses.train/trust_coverage" not in trained.metrics
    for domain in ("pulses.valid", "pulses.test", "noise_1"):
        predicted, achieved = (trained.kept[f"rows/{domain}/{name}_si_sdr"] for name in ("predicted", "achieved"))
        assert predicted.shape == achieved.shape == (40,)
    within = (predicted - achieved).abs() <= trained.metrics["noise_1/trust_width"] / 2
    assert float(within.float().mean()) == pytest.approx(trained.metrics["noise_1/trust_coverage"])


def test_what_was_achieved_is_the_quality_of_what_is_deployed(trained: FinishedCell, data: DataSet) -> None:
    model = TrainedSeparator.restore(trained).model
    batch = EMD.problem(cell(), data, CPU).evaluation_batch("pulses.test", slice(0, 40))
    with torch.no_grad():
        decoded = model.separate_by_points(batch["mixture"])[2][0]
    order = best_assignment(-pairwise(si_sdr, batch["sources"], decoded)).order
    expected = si_sdr(batch["sources"], permuted(decoded, order)).mean(-1)
    torch.testing.assert_close(trained.kept["rows/pulses.test/achieved_si_sdr"], expected, rtol=1e-3, atol=1e-2)


def test_a_cell_alone_is_trusted_as_in_a_pack(data: DataSet, trained: FinishedCell) -> None:
    problem = EMD.problem(cell(), data, CPU)
    row = torch.cat([trained.weights[name].reshape(-1) for name, _ in problem.build().named_parameters()])
    pack = torch.stack([row, 1.1 * row])
    alone, together = (final_uses(Stack(problem.build(), flat), problem, 8, World()) for flat in (pack[:1], pack))
    for name, value in together.metrics.items():
        torch.testing.assert_close(value[:1], alone.metrics[name], rtol=1e-3, atol=1e-3)
    for name, value in together.kept.items():
        torch.testing.assert_close(value[:1], alone.kept[name], rtol=1e-3, atol=1e-3)


def test_trust_is_no_part_of_what_a_cell_trains_on_and_its_default_of_no_identity() -> None:
    plain, other = (identity(EMD, cell(evaluation={"samples": 3} | more), "data") for more in ({}, {"trust": 0.9}))
    assert plain == identity(EMD, cell(evaluation={"samples": 3, "trust": 0.8}), "data")
    assert other.partition("-")[0] == plain.partition("-")[0]
    assert other != plain


def test_a_share_that_the_validation_mixtures_cannot_hold_is_refused() -> None:
    words = r"evaluation\.trust=0\.99 takes 197 validation mixtures, and data\.rows\.valid is 128; set"
    with pytest.raises(UserError, match=words):
        EMD.check(build(EMD.config, {"evaluation.samples": 4, "evaluation.trust": 0.99}))
    EMD.check(build(EMD.config, {"evaluation.samples": 4, "evaluation.trust": 0.99, "data.rows.valid": 197}))
    EMD.check(build(EMD.config, {"data.rows.valid": 2}))


# Signals


def test_a_window_is_expected_to_be_what_its_scores_say(separator: TrainedSeparator, data: DataSet) -> None:
    mixture = mixture_of(data, 3)
    trust = separator.trust(mixture, RATE)
    assert separator.calibration is not None
    generator = torch.Generator().manual_seed(0)
    shapes = noise_shapes(separator.config.model, len(mixture))
    noise = {name: torch.randn(3, 1, *shape, generator=generator) for name, shape in shapes.items()}
    with torch.no_grad():
        found = estimate(separator.model, torch.tensor(mixture)[None], noise)
    expected = float(separator.calibration.predict(found.scores))
    assert (trust.windows, trust.judged, trust.level) == (1, 1, 0.8)
    assert trust.expected == pytest.approx(expected)
    assert trust.interval == pytest.approx((expected - trust.half_width, expected + trust.half_width))


def test_what_is_separated_is_the_same_whether_it_is_judged_or_not(separator: TrainedSeparator, data: DataSet) -> None:
    mixture = np.concatenate([mixture_of(data, row) for row in range(3)])
    trust = separator.start_trust()
    judged = separator.separate(mixture, RATE, 0.5, trust)
    np.testing.assert_allclose(judged, separator.separate(mixture, RATE, 0.5), atol=1e-6)
    assert trust.windows == 5


def test_noise_at_another_level_is_unlike_the_mixtures_of_validation(
    separator: TrainedSeparator, data: DataSet
) -> None:
    draw = np.random.default_rng(0)
    mixture = mixture_of(data, 0)
    loud = 10 * draw.normal(size=len(mixture)).astype(np.float32)
    trust = separator.trust(np.concatenate([loud, loud]), RATE, 0.5)
    assert trust.unlike == trust.windows
    assert math.isnan(trust.expected)


def test_silence_is_not_judged(separator: TrainedSeparator) -> None:
    trust = separator.trust(np.zeros(2 * RATE, np.float32), RATE, 1.0)
    assert trust.silent == trust.windows == 3
    assert trust.judged == 0


def test_a_summary_is_the_mean_and_names_the_worst_and_the_first_unlike() -> None:
    trust = Trust(0.8, 2.0)
    windows = [(5.0, False), (-40.0, True), (1.0, False), (99.0, True), (3.0, False)]
    for number, (expected, unlike) in enumerate(windows):
        trust.add(WindowTrust(2.0 * number, 2.0 * number + 4, expected, unlike))
    trust.add(None)
    assert (trust.windows, trust.judged, trust.unlike, trust.silent) == (6, 3, 2, 1)
    assert trust.expected == pytest.approx(3.0)
    assert trust.worst is not None
    assert trust.first_unlike is not None
    assert (trust.worst.start, trust.first_unlike.start) == (4.0, 2.0)


def test_memory_does_not_grow_with_the_length(separator: TrainedSeparator, tmp_path: Path) -> None:
    peaks, draw = [], np.random.default_rng(0)
    for seconds in (10, 60):
        soundfile.write(tmp_path / "in.wav", 0.1 * draw.normal(size=seconds * RATE), RATE, subtype="PCM_16")
        tracemalloc.start()
        separator.separate_file(tmp_path / "in.wav", tmp_path / "out", 2.0, separator.start_trust())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        (
            {"samples": 0},
            r"without samples; run its sweep again with --set evaluation\.samples=4, which trains nothing",
        ),
        ({"samples": 4, "trust": 0.0}, r"--set evaluation\.trust=0\.8, which"),
        (
            {"samples": 4},
            r"or was validated on fewer than 7 mixtures; run its sweep again with --set evaluation\.trust=",
        ),
        ({"samples": 4, "trust": 0.9}, r"fewer than 17 mixtures; .* --set evaluation\.trust=0\.8, which"),
    ],
)
def test_a_cell_without_a_calibration_says_how_it_gets_one(
    evaluation: dict[str, Any], words: str, separator: TrainedSeparator
) -> None:
    bare = replace(separator, config=cell(evaluation=evaluation), calibration=None)
    with pytest.raises(UserError, match=words):
        bare.trust(np.ones(100, np.float32), RATE)


# The command


@pytest.fixture
def file(data: DataSet, tmp_path: Path) -> Path:
    path = tmp_path / "in.wav"
    soundfile.write(path, np.concatenate([mixture_of(data, row) for row in range(3)]), RATE, subtype="FLOAT")
    return path


def command(cell: FinishedCell, file: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.setattr("vaesweep.analysis.load.load_cell", lambda run, uri: cell)
    return main(["separate", "--run", "c", str(file), "-o", str(file.parent / "out"), "--window", "0.5", *more])


def test_the_command_says_how_good_its_output_is(
    trained: FinishedCell, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(trained, file, monkeypatch) == 0
    told = capsys.readouterr().out
    trust = TrainedSeparator.restore(trained).trust(soundfile.read(file, dtype="float32")[0], RATE, 0.5)
    assert trust.worst is not None
    assert f"in.wav: expected SI-SDR {trust.expected:.1f} dB" in told
    assert (
        f"80 % of validation mixtures so scored lie within {trust.interval[0]:.1f} to {trust.interval[1]:.1f}" in told
    )
    assert f"least at {trust.worst.start:.1f} to {trust.worst.stop:.1f} s: {trust.worst.expected:.1f} dB" in told
    assert "calibrated for windows of 4 s" in told


def test_the_command_makes_no_estimate_of_what_is_unlike_validation(
    trained: FinishedCell, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow = trained.kept | {"trust/farthest": torch.tensor(-1.0, dtype=torch.float64)}
    assert command(replace(trained, kept=narrow), file, monkeypatch) == 0
    told = capsys.readouterr().out
    assert "in.wav: unlike anything that the cell was validated on; no estimate of the quality" in told
    assert "expected SI-SDR " not in told.replace("expected SI-SDRs", "")


def test_the_command_says_that_a_cell_has_no_calibration_or_nothing_where_nothing_is_asked(
    trained: FinishedCell, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = replace(trained, kept={name: value for name, value in trained.kept.items() if "trust/" not in name})
    assert Calibration.of(bare.kept) is None
    assert command(bare, file, monkeypatch) == 0
    told = capsys.readouterr().out
    assert "how far to trust this is not known: the cell has no calibration" in told
    assert len(list((file.parent / "out").iterdir())) == 2
    assert command(trained, file, monkeypatch, "--no-trust") == 0
    told = capsys.readouterr().out
    assert "SI-SDR" not in told
    assert "trust" not in told
