"""Audio files: every format, channels, stretches, rates, and what is wrong with a file said in one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from vaesweep.errors import UserError
from vaesweep.families.emd.data.speech import audio

TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000).astype(np.float32)


def test_a_float_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", TONE, 8000)
    signal, rate = audio.read(tmp_path / "a.wav")
    assert (rate, signal.dtype) == (8000, np.float32)
    assert np.array_equal(signal, TONE)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_all_formats_are_read(suffix: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / f"a.{suffix}", TONE, 8000)
    assert audio.info(tmp_path / f"a.{suffix}") == audio.AudioInfo(8000, 8000, 1)
    signal, _ = audio.read(tmp_path / f"a.{suffix}")
    assert np.abs(signal - TONE).max() < 0.05


def test_channels_become_their_mean(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([TONE, 0 * TONE], 1), 8000, subtype="FLOAT")
    assert audio.info(tmp_path / "a.wav").channels == 2
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav")[0], TONE / 2)


def test_a_stretch_is_that_of_the_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", TONE, 8000)
    whole, _ = audio.read(tmp_path / "a.flac")
    assert np.array_equal(audio.read(tmp_path / "a.flac", 100, 50)[0], whole[100:150])
    assert np.array_equal(audio.read(tmp_path / "a.flac", 7990)[0], whole[7990:])


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path) -> None:
    soundfile.write(path, TONE[:0], 8000, subtype="FLOAT")


def not_finite(path: Path) -> None:
    soundfile.write(path, np.where(np.arange(8000) == 5, np.nan, TONE), 8000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (Path.unlink, "there is no such file"),
        (lambda path: path.write_bytes(b"not audio at all"), "cannot be read as audio"),
        (lambda path: path.write_bytes(b""), "cannot be read as audio"),
        (not_finite, "has samples that are not finite"),
    ],
    ids=["missing", "no audio", "no bytes", "NaN"],
)
def test_a_bad_file_is_named(spoil: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    audio.write(path, TONE, 8000)
    spoil(path)
    with pytest.raises(UserError, match=words) as error:
        audio.read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    empty(tmp_path / "a.wav")
    with pytest.raises(UserError, match="has no samples"):
        audio.info(tmp_path / "a.wav")


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, TONE, 8000)
    cut(path)
    with pytest.raises(UserError, match=r"a\.flac: (is cut off|cannot be read)"):
        audio.read(path)


def test_a_stretch_that_is_not_there_is_refused(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", TONE, 8000)
    with pytest.raises(UserError, match="has 8000 samples, 7990 to 8010 were asked for"):
        audio.read(tmp_path / "a.wav", 7990, 20)


@pytest.mark.parametrize(
    ("source", "target"), [(16000, 8000), (44100, 8000), (8000, 16000), (48000, 16000), (22050, 8000)]
)
def test_a_tone_stays_a_tone_at_another_rate(source: int, target: int) -> None:
    """A tone below both limits has its samples there, but for the ends; one above the new limit is gone."""
    seconds = 0.5
    low = np.sin(2 * np.pi * 1000 * np.arange(int(seconds * source)) / source).astype(np.float32)
    found = audio.resample(low, source, target)
    assert len(found) == audio.resampled_frames(len(low), source, target)
    wanted = np.sin(2 * np.pi * 1000 * np.arange(len(found)) / target)
    inner = slice(len(found) // 8, -len(found) // 8)
    assert np.abs(found - wanted)[inner].max() < 2e-3
    if target < source:
        high = np.sin(2 * np.pi * 0.65 * target * np.arange(len(low)) / source).astype(np.float32)
        assert np.abs(audio.resample(high, source, target))[inner].max() < 1e-2


def gain(resample: Callable[[np.ndarray, int, int], np.ndarray], share: float, source: int, target: int) -> float:
    """The size of what a tone becomes, dB, of a frequency that is a `share` of half the target's rate."""
    tone = np.sin(np.pi * share * target * np.arange(source) / source).astype(np.float32)
    inner = np.asarray(resample(tone, source, target), float)[target // 4 : -(target // 4)]
    return float(10 * np.log10(2 * np.square(inner).mean() + 1e-20))


def by_soxr(signal: np.ndarray, source: int, target: int) -> np.ndarray:
    return pytest.importorskip("soxr").resample(signal, source, target)


def by_torchaudio(signal: np.ndarray, source: int, target: int) -> np.ndarray:
    """With the filter that its documentation calls Kaiser best."""
    try:
        from torchaudio.functional import resample
    except (ImportError, OSError):
        pytest.skip("torchaudio cannot be imported")
    best = {"lowpass_filter_width": 64, "rolloff": 0.9475937167399596, "beta": 14.769656459379492}
    return resample(torch.tensor(signal), source, target, resampling_method="sinc_interp_kaiser", **best).numpy()


@pytest.mark.parametrize("other", [by_soxr, by_torchaudio])
@pytest.mark.parametrize(("source", "target"), [(16000, 8000), (48000, 8000), (44100, 8000)])
def test_resampling_is_that_of_others_but_for_the_passage(
    other: Callable[[np.ndarray, int, int], np.ndarray], source: int, target: int
) -> None:
    """0.1 dB up to 0.85 of the new limit and 1 dB at 0.9; from 1.2 of it on nothing above -50 dB comes back."""
    for share, bound in ((0.1, 0.1), (0.3, 0.1), (0.5, 0.1), (0.7, 0.1), (0.8, 0.1), (0.85, 0.1), (0.9, 1.0)):
        assert gain(audio.resample, share, source, target) == pytest.approx(
            gain(other, share, source, target), abs=bound
        )
    for share in (1.2, 1.3, 1.5, 1.8):
        assert max(gain(audio.resample, share, source, target), gain(other, share, source, target)) < -50


def test_the_same_rate_changes_nothing() -> None:
    assert audio.resample(TONE, 8000, 8000) is TONE
