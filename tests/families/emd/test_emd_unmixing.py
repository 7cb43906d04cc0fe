"""Separating signals and files: windows that fit together, speakers that stay, gains that explain, bad input named."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from vaesweep.cli.main import main
from vaesweep.errors import UserError
from vaesweep.families.emd.family import SCALE, SeparatorCell
from vaesweep.families.emd.models.separator import Separator
from vaesweep.families.emd.trained import TrainedSeparator
from vaesweep.families.emd.unmixing import fitted, matching
from vaesweep.family import family
from vaesweep.training.finished import FinishedCell

RATE = 8000
LOW, HIGH = 300, 1000  # Hz, of two sources that a filter can tell apart


class Filter:
    """A separator that hears who is low and who is high, and says so in any order, at any gain and with any sign."""

    def __init__(self) -> None:
        self.draw = np.random.default_rng(0)
        self.windows: list[int] = []

    def separate_by_points(self, mixture: Tensor) -> tuple[None, None, tuple[Tensor, ...]]:
        self.windows.append(mixture.shape[-1])
        spectrum = torch.fft.rfft(mixture)
        low = torch.fft.rfftfreq(mixture.shape[-1], 1 / RATE) < (LOW + HIGH) / 2
        parts = torch.stack([torch.fft.irfft(spectrum * keep, mixture.shape[-1]) for keep in (low, ~low)], dim=1)
        gains = torch.tensor(self.draw.choice([-3.0, 0.2, 5.0], size=(1, 2, 1)), dtype=mixture.dtype)
        return None, None, ((gains * parts)[:, self.draw.permutation(2)],)


@pytest.fixture
def separator() -> TrainedSeparator:
    cell = FinishedCell("c", "emd", {}, 1, {}, None, (), (), {}, {}, {})
    return TrainedSeparator(SeparatorCell(), Filter(), 0.1, cell=cell)  # type: ignore[arg-type]


def tones(seconds: float, rate: int = RATE) -> np.ndarray:
    """Two sources `[speaker, time]`, both always there."""
    time = np.arange(int(seconds * rate)) / rate
    slow = [1 + 0.5 * np.sin(2 * np.pi * 0.31 * time), 1 + 0.5 * np.cos(2 * np.pi * 0.17 * time)]
    return np.stack([0.2 * slow[0] * np.sin(2 * np.pi * LOW * time), 0.1 * slow[1] * np.sin(2 * np.pi * HIGH * time)])


def deviation(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference of two signals in the better order of speakers, away from the ends."""
    inner = slice(400, -400)
    return min(np.abs(found[order][:, inner] - wanted[:, inner]).max() for order in ([0, 1], [1, 0]))


@pytest.mark.parametrize("seconds", [0.3, 0.99, 1.0, 1.01, 1.5, 2.0, 2.7, 7.3])
def test_windows_fit_together_and_speakers_stay(seconds: float, separator: TrainedSeparator) -> None:
    """Whatever gain, sign and order each window has."""
    sources = tones(seconds)
    found = separator.separate(sources.sum(0), RATE, window=1.0)
    assert found.shape == sources.shape
    assert found.dtype == np.float32
    assert deviation(found, sources) < 0.02


def test_what_is_separated_adds_up_to_the_mixture(separator: TrainedSeparator) -> None:
    mixture = tones(3.3).sum(0).astype(np.float32)
    np.testing.assert_allclose(separator.separate(mixture, RATE, window=1.0).sum(0), mixture, atol=1e-5)


@pytest.mark.parametrize("rate", [16000, 44100, 48000, 11025])
def test_a_signal_keeps_its_rate_and_length(rate: int, separator: TrainedSeparator) -> None:
    sources = tones(2.3, rate)
    found = separator.separate(sources.sum(0), rate, window=1.0)
    assert found.shape == sources.shape
    assert deviation(found, sources) < 0.03


def test_windows_are_no_longer_than_asked_for(separator: TrainedSeparator) -> None:
    separator.separate(tones(9.0).sum(0), RATE, window=2.0)
    model: Any = separator.model
    assert max(model.windows) == 2 * RATE
    assert len(model.windows) == 8


def test_one_sample_is_a_signal_and_silence_is_silence(separator: TrainedSeparator) -> None:
    assert separator.separate(np.ones(1, np.float32), RATE).shape == (2, 1)
    assert not separator.separate(np.zeros(3 * RATE, np.float32), RATE, 1.0).any()
    paused = tones(4.0).sum(0)
    paused[RATE : 2 * RATE] = 0
    assert np.isfinite(separator.separate(paused, RATE, 1.0)).all()


def test_gains_are_those_of_least_squares() -> None:
    draw = np.random.default_rng(1)
    mixture, estimates = draw.normal(size=50), draw.normal(size=(3, 50))
    gains = np.linalg.lstsq(estimates.T, mixture, rcond=None)[0]
    found = fitted(torch.tensor(mixture), torch.tensor(estimates))
    np.testing.assert_allclose(found.numpy(), gains[:, None] * estimates, rtol=1e-6)


def test_an_estimate_without_energy_stays_silent_and_equal_ones_share() -> None:
    signal = torch.randn(50, generator=torch.Generator().manual_seed(0))
    found = fitted(signal, torch.stack([torch.zeros(50), 2 * signal]))
    torch.testing.assert_close(found, torch.stack([torch.zeros(50), signal]))
    torch.testing.assert_close(fitted(signal, torch.stack([signal, signal])).sum(0), signal)


def test_speakers_are_matched_to_those_before() -> None:
    draw = np.random.default_rng(2)
    before = draw.normal(size=(3, 40))
    order = np.array([2, 0, 1])
    now = np.empty((3, 60))
    now[order, :40], now[:, 40:] = before + 0.1, draw.normal(size=(3, 20))
    assert matching(before, now).tolist() == order.tolist()


@pytest.mark.parametrize(
    ("signal", "words"),
    [(np.zeros((2, 5)), r"is \[time\]"), (np.zeros(0), r"is \[time\]"), (np.array([0.0, np.nan]), "not finite")],
)
def test_what_is_no_signal_is_refused(signal: np.ndarray, words: str, separator: TrainedSeparator) -> None:
    with pytest.raises(UserError, match=words):
        separator.separate(signal, RATE)


# Files


def test_a_file_gives_a_file_a_speaker_at_its_own_rate(separator: TrainedSeparator, tmp_path: Path) -> None:
    """Stereo, 44.1 kHz, two whole windows and a bit."""
    sources = tones(2.3, 44100)
    soundfile.write(tmp_path / "in.wav", np.stack([sources.sum(0), sources.sum(0)], 1), 44100, subtype="FLOAT")
    paths = separator.separate_file(tmp_path / "in.wav", tmp_path / "out", 1.0)
    assert [path.name for path in paths] == ["in_speaker_1.wav", "in_speaker_2.wav"]
    found = np.stack([soundfile.read(path)[0] for path in paths])
    assert deviation(found, sources) < 0.03
    assert {soundfile.info(path).samplerate for path in paths} == {44100}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [path.name for path in paths]


def test_a_file_is_separated_as_its_signal_is(separator: TrainedSeparator, tmp_path: Path) -> None:
    mixture = tones(3.7).sum(0).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", mixture, RATE, subtype="FLOAT")
    paths = separator.separate_file(tmp_path / "in.wav", tmp_path, 1.0)
    again = replace(separator, model=Filter())  # type: ignore[arg-type]
    np.testing.assert_allclose(
        np.stack([soundfile.read(path, dtype="float32")[0] for path in paths]),
        again.separate(mixture, RATE, 1.0),
        atol=1e-6,
    )


def test_memory_does_not_grow_with_the_length(separator: TrainedSeparator, tmp_path: Path) -> None:
    """Of a file of ten minutes what is held is that of a file of one, and of a tenth of its signal."""
    peaks = []
    for minutes in (1, 10):
        soundfile.write(tmp_path / "in.wav", np.tile(tones(30.0).sum(0), 2 * minutes), RATE, subtype="PCM_16")
        tracemalloc.start()
        separator.separate_file(tmp_path / "in.wav", tmp_path / "out", 2.0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
    assert peaks[1] < 600 * RATE * 4 / 10


def test_a_file_that_fails_half_way_leaves_nothing(separator: TrainedSeparator, tmp_path: Path) -> None:
    signal = tones(5.0).sum(0)
    signal[-1] = np.nan
    soundfile.write(tmp_path / "in.wav", signal, RATE, subtype="FLOAT")
    with pytest.raises(UserError, match=r"in\.wav: has samples that are not finite"):
        separator.separate_file(tmp_path / "in.wav", tmp_path / "out", 1.0)
    assert list((tmp_path / "out").iterdir()) == []


# The command


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> FinishedCell:
    emd = family("emd")
    config = emd.small()
    torch.manual_seed(0)
    model = emd.model(config)
    assert isinstance(model, Separator)
    kept = {SCALE: torch.tensor([0.05])}
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    cell = FinishedCell("c", "emd", config.model_dump(mode="json"), 1, {}, None, (), (1,), {}, weights, kept)
    monkeypatch.setattr("vaesweep.analysis.load.load_cell", lambda run, uri: cell)
    return cell


def test_the_command_separates_every_file(
    trained: FinishedCell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, rate in (("one", 8000), ("two", 16000)):
        soundfile.write(tmp_path / f"{name}.flac", tones(1.3, rate).sum(0), rate)
    words = [
        "separate",
        "--run",
        "c",
        str(tmp_path / "one.flac"),
        str(tmp_path / "two.flac"),
        "-o",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "two.flac: 16000 Hz; the cell is made for 8000: nothing above 4000 Hz is left" in told
    assert len(list((tmp_path / "out").iterdir())) == 4
    signals, rate = zip(*(soundfile.read(tmp_path / "out" / f"one_speaker_{n}.wav") for n in (1, 2)), strict=True)
    assert rate == (8000, 8000)
    mixture = tones(1.3).sum(0)
    assert np.square(np.sum(signals, 0) - mixture).sum() < np.square(mixture).sum()


def test_the_scale_of_the_cell_is_that_of_its_signals(trained: FinishedCell) -> None:
    """What is divided by it before is multiplied after: the scale says only how the model hears."""
    separator = TrainedSeparator.restore(trained)
    assert separator.scale == pytest.approx(0.05)
    mixture = tones(0.5).sum(0).astype(np.float32)
    louder = replace(separator, scale=0.1)
    np.testing.assert_allclose(
        louder.separate(2 * mixture, RATE), 2 * separator.separate(mixture, RATE), rtol=1e-3, atol=1e-6
    )


def empty(path: Path) -> None:
    soundfile.write(path, np.zeros(0), RATE, subtype="FLOAT")


@pytest.mark.parametrize(
    ("make", "more", "told"),
    [
        (lambda path: None, (), "there is no such file"),
        (empty, (), "has no samples"),
        (lambda path: path.write_text("words"), (), "cannot be read as audio"),
        (lambda path: soundfile.write(path, tones(1.0).sum(0), RATE), ("--window", "0"), "--window 0: from 0.1 to 600"),
        (
            lambda path: soundfile.write(path, np.full(RATE, np.nan), RATE, subtype="FLOAT"),
            (),
            "has samples that are not finite",
        ),
    ],
    ids=["missing", "empty", "text", "window", "NaN"],
)
def test_what_cannot_be_separated_is_said_in_one_line(
    make: Callable[[Path], Any],
    more: tuple[str, ...],
    told: str,
    trained: FinishedCell,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(tmp_path / "in.wav")
    assert main(["separate", "--run", "c", str(tmp_path / "in.wav"), "-o", str(tmp_path / "out"), *more]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
