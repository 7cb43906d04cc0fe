"""Mixtures: drawn from an index alone, as LibriMix's rules say, and the sound of them."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from vaesweep.errors import UserError
from vaesweep.families.emd.data.speech import audio
from vaesweep.families.emd.data.speech.mixing import (
    PEAK,
    Mixer,
    MixingRules,
    Mixture,
    Part,
    Sound,
    at_speeds,
    dequantised,
    extended,
    render,
)
from vaesweep.families.emd.data.speech.recordings import DecodeCache, Recording, loudness, scan
from vaesweep.families.emd.data.speech.spans import Span

RULES = MixingRules()


@pytest.fixture
def recordings(corpus: Callable[..., Path]) -> tuple[Recording, ...]:
    return scan(corpus(speakers=6, utterances=3)).recordings


def made_up(count: int, speakers: int) -> list[Recording]:
    """Recordings that are nowhere, for statistics of what is drawn."""
    return [
        Recording(Path(f"{number}.wav"), f"s{number % speakers}", 16000 + 160 * number, 16000, -20.0, 0.01, str(number))
        for number in range(count)
    ]


def test_a_mixture_is_a_function_of_its_index(recordings: tuple[Recording, ...]) -> None:
    assert [Mixer(recordings, RULES).whole(i) for i in range(9)] == [
        Mixer(recordings, RULES).whole(i) for i in range(9)
    ]
    assert len({Mixer(recordings, RULES).whole(i).sources for i in range(50)}) > 40


def test_the_order_of_the_recordings_says_nothing_about_who_is_mixed(recordings: tuple[Recording, ...]) -> None:
    """Only that of a speaker's own, by their paths."""
    turned = sorted(recordings, key=lambda r: (r.speaker[::-1], r.path), reverse=False)
    assert Mixer(turned, RULES).whole(3) == Mixer(recordings, RULES).whole(3)


@pytest.mark.parametrize("speakers", [1, 2, 3])
def test_sources_are_of_different_speakers_all_equally_likely(speakers: int) -> None:
    mixer = Mixer(made_up(20, 5), MixingRules(speakers=speakers))
    drawn = [[part.recording.speaker for part in mixer.whole(index).sources] for index in range(2000)]
    assert all(len(set(own)) == speakers for own in drawn)
    counts = np.unique([name for own in drawn for name in own], return_counts=True)[1]
    assert stats.chisquare(counts).pvalue > 1e-3
    recordings = np.unique(
        [p.recording.digest for i in range(2000) for p in mixer.whole(i).sources], return_counts=True
    )
    assert len(recordings[0]) == 20


def test_loudness_is_uniform_between_its_ends() -> None:
    """Gains of equally loud recordings are what makes them so loud."""
    mixer = Mixer(made_up(20, 5), RULES)
    levels = np.array([[20 * np.log10(p.gain) - 20.0 for p in mixer.whole(i).sources] for i in range(2000)])
    for own in levels.T:
        assert stats.kstest(own, stats.uniform(-33, 8).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(levels.T)[0, 1]) < 0.08


def test_what_is_heard_is_as_loud_as_was_drawn(recordings: tuple[Recording, ...]) -> None:
    """Of whole sources, so by `max`, at their own rate: within a hundredth of a decibel."""
    rules = MixingRules(mode="max", sample_rate=16000)
    mixture = Mixer(recordings, rules).whole(4)
    sound = render(mixture, DecodeCache(16000), 16000)
    for part, source in zip(mixture.sources, sound.sources, strict=True):
        heard = source[part.delay : part.delay + part.recording.frames]
        drawn = 20 * np.log10(part.gain) + part.recording.loudness
        assert loudness(heard, 16000) == pytest.approx(drawn, abs=0.01)


def test_min_ends_with_the_first_source_and_max_with_the_last(recordings: tuple[Recording, ...]) -> None:
    for mode, end in (("min", min), ("max", max)):
        mixture = Mixer(recordings, MixingRules.model_validate({"mode": mode})).whole(2)
        lengths = [audio.resampled_frames(part.recording.frames, 16000, 8000) for part in mixture.sources]
        assert mixture.frames == end(lengths)
        sound = render(mixture, DecodeCache(8000), 8000)
        assert sound.sources.shape == (2, mixture.frames)


def test_the_mixture_is_the_sum_of_its_parts_at_the_same_gains(recordings: tuple[Recording, ...]) -> None:
    mixture = Mixer(recordings, RULES).whole(7)
    cache = DecodeCache(8000)
    sound = render(mixture, cache, 8000)
    for part, source in zip(mixture.sources, sound.sources, strict=True):
        np.testing.assert_allclose(source, part.gain * cache(part.recording)[: mixture.frames], rtol=1e-6)
    np.testing.assert_allclose(sound.mixture, sound.sources.sum(0), rtol=1e-6)
    assert not sound.noise.any()


def test_a_mixture_that_is_too_loud_is_made_softer_as_a_whole(recordings: tuple[Recording, ...]) -> None:
    mixture = Mixer(recordings, RULES).whole(7)
    loud = replace(mixture, sources=tuple(replace(part, gain=20 * part.gain) for part in mixture.sources))
    soft, hard = (render(own, DecodeCache(8000), 8000) for own in (mixture, loud))
    assert np.abs(hard.mixture).max() == pytest.approx(PEAK, rel=1e-5)
    ratio = hard.sources[:, 1000] / soft.sources[:, 1000]
    assert ratio[0] == pytest.approx(ratio[1], rel=1e-4)


def test_a_source_that_would_exceed_full_scale_is_made_softer() -> None:
    spiky = [replace(recording, loudness=-60.0, peak=0.5) for recording in made_up(4, 2)]
    for part in Mixer(spiky, RULES).whole(0).sources:
        assert part.gain * 0.5 == pytest.approx(PEAK)


def test_speakers_overlap_by_the_share_that_was_drawn() -> None:
    rules = MixingRules(mode="max", overlap=Span(low=0.2, high=0.6), speakers=3, sample_rate=16000)
    mixer, shares = Mixer(made_up(20, 5), rules), []
    for index in range(500):
        parts = mixer.whole(index).sources
        assert parts[0].delay == 0
        for before, after in itertools.pairwise(parts):
            end = before.delay + before.recording.frames
            shares.append((end - after.delay) / min(before.recording.frames, after.recording.frames))
    assert stats.kstest(shares, stats.uniform(0.2, 0.4).cdf).pvalue > 1e-3
    with pytest.raises(ValueError, match="overlap below 1 needs mode max"):
        MixingRules(overlap=Span(low=0.5, high=1.0))
    with pytest.raises(ValueError, match="overlap is a share"):
        MixingRules(overlap=Span(low=0.5, high=1.5), mode="max")
    with pytest.raises(ValueError, match="begins at -20 and ends at -30"):
        Span(low=-20, high=-30)


def test_noise_has_a_loudness_and_a_place_of_its_own() -> None:
    noises = [replace(recording, speaker="noise", frames=160_000) for recording in made_up(3, 1)]
    mixer = Mixer(made_up(20, 5), MixingRules(sample_rate=16000), noises)
    parts = [mixer.whole(index).noise[0] for index in range(2000)]
    levels = [20 * np.log10(part.gain) - 20.0 for part in parts]
    assert stats.kstest(levels, stats.uniform(-38, 8).cdf).pvalue > 1e-3
    assert len({part.start for part in parts}) > 1000
    assert all(part.start + mixer.whole(0).frames <= 160_000 for part in parts[:1])
    clean = Mixer(made_up(20, 5), MixingRules(sample_rate=16000))
    assert [clean.whole(i).sources for i in range(20)] == [mixer.whole(i).sources for i in range(20)]


def test_babble_is_of_speakers_who_are_not_sources() -> None:
    mixer = Mixer(made_up(40, 8), MixingRules(babble=4))
    for index in range(200):
        mixture = mixer.whole(index)
        speakers = [part.recording.speaker for part in (*mixture.sources, *mixture.noise)]
        assert len(mixture.noise) == 4
        assert len(set(speakers)) == 6


def test_babble_is_as_loud_as_a_noise(recordings: tuple[Recording, ...]) -> None:
    rules = MixingRules(babble=4, noise_loudness=Span(low=-34, high=-34), mode="max", sample_rate=16000)
    sound = render(Mixer(recordings, rules).whole(1), DecodeCache(16000), 16000)
    assert loudness(sound.noise, 16000) == pytest.approx(-34, abs=1.0)


def test_a_noise_that_is_too_short_passes_into_itself() -> None:
    """Without a seam: of white noise every tenth of a second has the same energy within a third."""
    noise = np.random.default_rng(0).normal(size=12_000).astype(np.float32)
    long = extended(noise, 40_000, 8000)
    assert len(long) >= 40_000
    np.testing.assert_array_equal(long[:6000], noise[:6000])
    energy = np.square(long[:40_000]).reshape(-1, 800).mean(1)
    assert energy.min() > 0.67
    assert energy.max() < 1.4
    assert extended(noise, 100, 8000) is noise


def test_crops_are_stretches_of_the_same_sources(recordings: tuple[Recording, ...]) -> None:
    mixer, cache = Mixer(recordings, RULES), DecodeCache(8000)
    starts = set()
    for index in range(50):
        crop, whole = mixer.crop(index, 4000), mixer.whole(index)
        assert [p.recording for p in crop.sources] == [p.recording for p in whole.sources]
        assert [p.gain for p in crop.sources] == [p.gain for p in whole.sources]
        starts |= {part.start for part in crop.sources}
        sound = render(crop, cache, 8000)
        for part, source in zip(crop.sources, sound.sources, strict=True):
            expected = part.gain * cache(part.recording)[part.start : part.start + 4000]
            np.testing.assert_allclose(source, expected, rtol=1e-6)
    assert len(starts) > 80


def test_a_recording_shorter_than_a_crop_lies_somewhere_in_it(recordings: tuple[Recording, ...]) -> None:
    mixer, cache = Mixer(recordings, RULES), DecodeCache(8000)
    delays = set()
    for index in range(30):
        crop = mixer.crop(index, 24_000)
        sound = render(crop, cache, 8000)
        for part, source in zip(crop.sources, sound.sources, strict=True):
            delays.add(part.delay)
            length = len(cache(part.recording))
            assert part.delay + length <= 24_000
            assert not source[: part.delay].any()
            assert not source[part.delay + length :].any()
            assert source[part.delay : part.delay + length].any()
    assert len(delays) > 40


def test_too_few_speakers_are_refused(recordings: tuple[Recording, ...]) -> None:
    with pytest.raises(UserError, match="6 speakers: a mixture needs 7 different ones"):
        Mixer(recordings, MixingRules(babble=5))


def test_signals_are_kept_within_a_bound(recordings: tuple[Recording, ...]) -> None:
    one = len(DecodeCache(8000)(recordings[0])) * 4
    cache = DecodeCache(8000, limit_bytes=3 * one)
    for recording in (*recordings, *recordings):
        first = cache(recording)
        assert cache(recording) is first
        assert cache._bytes == sum(signal.nbytes for signal in cache._kept.values()) <= 3 * one


def test_nothing_but_silence_is_no_mixture_of_nothing() -> None:
    silent = Mixture((Part(made_up(1, 1)[0], 1.0),), (), 10)
    assert not render(silent, lambda recording: np.zeros(20, np.float32), 8000).mixture.any()


@pytest.mark.parametrize("speech", [None, np.full(20_000, 0.5, np.float32)], ids=["dry", "in a room"])
def test_dequantisation_is_a_uniform_step_of_16_bits_that_all_hear(speech: np.ndarray | None) -> None:
    """Independent in every source, a function of the number; the mixture has the sum of it, and the noise none."""
    sound = Sound(np.zeros((2, 20_000), np.float32), np.zeros(20_000, np.float32), speech)
    found = dequantised(sound, 2**61 + 5)
    steps = found.sources * 2**15
    for own in steps:
        assert stats.kstest(own, stats.uniform(-0.5, 1).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(steps)[0, 1]) < 5 / np.sqrt(20_000)
    np.testing.assert_allclose(found.mixture - sound.mixture, found.sources.sum(0), atol=2**-24)
    assert not found.noise.any()
    assert np.array_equal(found.sources, dequantised(sound, 2**61 + 5).sources)
    assert not np.array_equal(found.sources, dequantised(sound, 6).sources)


def test_a_faster_speaker_is_higher_by_the_factor_that_the_number_says() -> None:
    """Of tones, by the peaks of their spectra: every source its own factor, within the span, uniformly."""
    frames, tones = 16_000, (500.0, 1000.0)
    time = np.arange(round(1.1 * frames)) / 8000
    sound = Sound(np.stack([np.sin(2 * np.pi * tone * time) for tone in tones]).astype(np.float32), 0 * time)
    factors = []
    for number in range(60):
        found = at_speeds(sound, number, Span(low=0.9, high=1.1), frames)
        assert found.sources.shape == (2, frames)
        peaks = np.abs(np.fft.rfft(found.sources * np.hanning(frames), axis=1)).argmax(1) * 8000 / frames
        factors.append(peaks / tones)
    assert np.abs(np.array(factors) * 100 - np.rint(np.array(factors) * 100)).max() < 0.06, "of whole hundredths"
    assert stats.kstest(np.array(factors).ravel(), stats.uniform(0.895, 0.21).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(np.array(factors).T)[0, 1]) < 0.4


def test_in_a_room_all_speakers_have_one_speed_and_noise_has_none() -> None:
    draw = np.random.default_rng(0)
    sources, noise = draw.normal(size=(2, 11_000)).astype(np.float32), draw.normal(size=11_000).astype(np.float32)
    found = at_speeds(Sound(sources, noise, sources.sum(0)), 5, Span(low=0.9, high=1.1), 10_000)
    assert found.speech is not None
    np.testing.assert_allclose(found.speech, found.sources.sum(0), atol=1e-5)
    np.testing.assert_array_equal(found.noise, noise[:10_000])
