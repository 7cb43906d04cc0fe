"""Rooms: drawn from a number, as WHAMR! has them, and what they add to speech."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats
from scipy.signal import sosfilt

from vaesweep.errors import UserError
from vaesweep.families.emd.data.speech import rooms
from vaesweep.families.emd.data.speech.mixing import Mixer, MixingRules, Mixture, Sound, render
from vaesweep.families.emd.data.speech.recordings import DecodeCache, Recording, scan
from vaesweep.families.emd.data.speech.rooms import Reverberation, Room, draw

IN_ROOMS = Reverberation(share=1.0)
WET = MixingRules(reverberation=IN_ROOMS)
RATE = 8000


@pytest.fixture
def acoustics() -> Any:
    return pytest.importorskip("pyroomacoustics")


@pytest.fixture
def recordings(corpus: Callable[..., Path]) -> tuple[Recording, ...]:
    return scan(corpus(speakers=6, utterances=3)).recordings


def response(room: Room, speaker: int = 0) -> np.ndarray:
    """Direct sound and reverberation of an impulse."""
    whole = rooms.tails(room, RATE)[speaker].astype(float)
    whole[0] += 1
    return whole


def test_a_room_is_a_function_of_its_bank_and_number() -> None:
    assert draw(IN_ROOMS, 1, 7, 2) == draw(IN_ROOMS, 1, 7, 2)
    drawn = {draw(IN_ROOMS, bank, number, 2) for bank in range(3) for number in range(100)}
    assert len(drawn) == 300
    assert draw(IN_ROOMS, 0, 5, 3).speakers[:2] == draw(IN_ROOMS, 0, 5, 2).speakers


def test_a_room_is_this_one_on_every_machine() -> None:
    """To a millimetre and a millisecond; written down once, from SplitMix64's integers."""
    assert draw(IN_ROOMS, 0, 59, 2) == Room(
        size=(8.379, 8.406, 3.916),
        seconds=0.599,
        microphone=(4.163, 4.23, 1.749),
        speakers=((3.792, 5.634, 1.281), (3.081, 3.809, 1.38)),
    )


def test_rooms_are_whamrs() -> None:
    drawn = [draw(IN_ROOMS, 0, number, 2) for number in range(1000)]

    def uniform(values: list[float], low: float, high: float) -> None:
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3

    for axis, (low, high) in enumerate(((5, 10), (5, 10), (3, 4))):
        uniform([room.size[axis] for room in drawn], low, high)
    uniform([room.seconds for room in drawn], 0.1, 1.0)
    for axis in (0, 1):
        uniform([room.microphone[axis] - room.size[axis] / 2 for room in drawn], -0.2, 0.2)
    uniform([room.microphone[2] for room in drawn], 0.9, 1.8)
    for speaker in (0, 1):
        offsets = [np.subtract(room.speakers[speaker], room.microphone) for room in drawn]
        uniform([float(np.hypot(x, y)) for x, y, _ in offsets], 0.66, 2)
        uniform([float(np.arctan2(y, x)) for x, y, _ in offsets], -np.pi, np.pi)
        uniform([room.speakers[speaker][2] for room in drawn], 0.9, 1.8)


def test_sound_decays_in_the_time_that_was_drawn(acoustics: Any) -> None:
    """By Schroeder's integral from -5 to -25 dB: within a quarter in every room, and 7 % in the median of them."""
    ratios = []
    for number in range(24):
        room = draw(IN_ROOMS, 0, number, 1)
        remaining = np.cumsum(np.square(response(room))[::-1])[::-1]
        decay = 10 * np.log10(remaining / remaining[0] + 1e-30)
        ratios.append(3 * (np.argmax(decay < -25) - np.argmax(decay < -5)) / RATE / room.seconds)
    assert min(ratios) > 0.75
    assert max(ratios) < 1.25
    assert np.median(ratios) == pytest.approx(1.0, abs=0.07)


@pytest.mark.parametrize("number", [0, 3, 4])
def test_responses_are_the_librarys_own(number: int, acoustics: Any) -> None:
    """Below 3.5 kHz, where the filters of both let all pass, within -30 dB; its response gets the high-pass filter."""
    from scipy.signal import butter

    room = draw(IN_ROOMS, 0, number, 2)
    order = min(int(np.ceil(room.seconds * 343 / min(room.size))), rooms.ORDER)
    walls = acoustics.Material(room.absorption)
    box = acoustics.ShoeBox(room.size, fs=RATE, materials=walls, max_order=order)
    box.add_microphone(list(room.microphone))
    box.add_source(list(room.speakers[1]))
    enabled = acoustics.constants.get("rir_hpf_enable")
    acoustics.constants.set("rir_hpf_enable", False)
    try:
        box.compute_rir()
    finally:
        acoustics.constants.set("rir_hpf_enable", enabled)
    mine, size = rooms.tails(room, RATE)[1].astype(float), 1 << 15
    distance = float(np.linalg.norm(np.subtract(room.speakers[1], room.microphone)))
    delay = 40 + distance / 343 * RATE  # of its direct sound: half of its filter, and the way
    theirs = np.asarray(box.rir[0][0], float)[: len(mine) + round(delay)]
    frequency = np.fft.rfftfreq(size)
    turned = np.fft.irfft(np.fft.rfft(theirs, size) * np.exp(2j * np.pi * frequency * delay), size) * distance
    turned -= np.fft.irfft(np.fft.rfft([1.0], size), size)  # its direct sound
    filtered = np.fft.rfft(
        sosfilt(butter(2, rooms.LOWEST, "highpass", fs=RATE, output="sos"), turned[: len(mine)]), size
    )
    heard = (frequency * RATE > 200) & (frequency * RATE < 3500)
    difference = np.abs(np.fft.rfft(mine, size) - filtered)[heard]
    assert np.square(difference).sum() < 1e-3 * np.square(np.abs(filtered[heard])).sum()


def test_the_last_digit_of_an_image_changes_nothing(acoustics: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds of the library may differ in it: places are float32 there, up to hundreds of metres away."""
    exact = rooms._tail

    def nearby(images: np.ndarray, *rest: Any) -> np.ndarray:
        assert images.dtype == np.float32
        away = np.random.default_rng(0).choice(np.float32([-np.inf, np.inf]), images.shape)
        return exact(np.nextafter(images, away), *rest)

    for number in range(4):
        room = draw(IN_ROOMS, 3, number, 2)
        before = rooms.tails.__wrapped__(room, RATE)
        with monkeypatch.context() as patch:
            patch.setattr(rooms, "_tail", nearby)
            after = rooms.tails.__wrapped__(room, RATE)
        assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def wet_and_dry(recordings: tuple[Recording, ...], index: int) -> tuple[Mixture, dict[str, Sound]]:
    mixture, cache = Mixer(recordings, WET).whole(index), DecodeCache(RATE)
    kinds: dict[str, Mixture] = {
        "dry": replace(mixture, room=None),
        "anechoic": mixture,
        "reverberant": replace(mixture, targets="reverberant"),
    }
    return mixture, {name: render(one, cache, RATE) for name, one in kinds.items()}


def test_anechoic_targets_are_the_sources_without_the_room(acoustics: Any, recordings: tuple[Recording, ...]) -> None:
    """To the last bit, and so is their loudness; what is heard is the same whichever targets are asked for."""
    for index in range(5):
        mixture, sounds = wet_and_dry(recordings, index)
        assert mixture == replace(Mixer(recordings, MixingRules()).whole(index), room=mixture.room)
        assert np.array_equal(sounds["anechoic"].sources, sounds["dry"].sources)
        assert np.array_equal(sounds["anechoic"].mixture, sounds["reverberant"].mixture)
        assert np.array_equal(sounds["reverberant"].sources.sum(0), sounds["reverberant"].mixture)
        assert not np.allclose(sounds["dry"].mixture, sounds["anechoic"].mixture, atol=1e-3)


def test_reverberation_is_no_noise(acoustics: Any, recordings: tuple[Recording, ...]) -> None:
    _, sounds = wet_and_dry(recordings, 1)
    assert not any(sound.noise.any() for sound in sounds.values())
    noisy = MixingRules(reverberation=IN_ROOMS, babble=2)
    mixture, cache = Mixer(recordings, noisy).whole(1), DecodeCache(RATE)
    wet, dry = (render(one, cache, RATE) for one in (mixture, replace(mixture, room=None)))
    assert np.array_equal(wet.noise, dry.noise)
    assert np.array_equal(wet.mixture, wet.clean + wet.noise)


def test_what_is_heard_is_the_source_through_the_response(acoustics: Any, recordings: tuple[Recording, ...]) -> None:
    """Also in a crop, where what was said before it is still heard, and after the end of a recording."""
    rules = MixingRules(reverberation=Reverberation(share=1, targets="reverberant"))
    mixer, cache = Mixer(recordings, rules), DecodeCache(RATE)
    for index, frames in ((0, 4000), (1, 4000), (2, 30_000)):
        crop = mixer.crop(index, frames)
        assert crop.room is not None
        for speaker, (part, source) in enumerate(zip(crop.sources, render(crop, cache, RATE).sources, strict=True)):
            whole = part.gain * np.convolve(cache(part.recording).astype(float), response(crop.room, speaker))
            expected = whole[part.start : part.start + frames - part.delay]
            found = source[part.delay : part.delay + len(expected)]
            np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
            assert not source[: part.delay].any()


def test_a_mixture_that_reverberates_too_loudly_is_made_softer(
    acoustics: Any, recordings: tuple[Recording, ...]
) -> None:
    mixture = Mixer(recordings, WET).whole(7)
    loud = replace(mixture, sources=tuple(replace(part, gain=20 * part.gain) for part in mixture.sources))
    soft, hard = (render(own, DecodeCache(RATE), RATE) for own in (mixture, loud))
    assert np.abs(hard.mixture).max() == pytest.approx(0.9, rel=1e-5)
    assert hard.mixture[1000] / soft.mixture[1000] == pytest.approx(
        hard.sources[0, 1000] / soft.sources[0, 1000], rel=1e-3
    )


def test_a_share_of_the_mixtures_is_heard_in_rooms_of_a_bank(acoustics: Any, recordings: tuple[Recording, ...]) -> None:
    """300 of 1000 within five standard errors; mixers of other banks have no room of them."""
    rules = MixingRules(reverberation=Reverberation(share=0.3, rooms=20))
    drawn = [[Mixer(recordings, rules, bank=bank).whole(i).room for i in range(1000)] for bank in (0, 1)]
    one, other = ({room for room in own if room} for own in drawn)
    assert abs(sum(room is not None for room in drawn[0]) - 300) < 5 * np.sqrt(1000 * 0.3 * 0.7)
    assert len(one) == len(other) == 20
    assert not one & other


def test_without_rooms_no_library_is_needed_and_with_them_it_is_named(
    recordings: tuple[Recording, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    assert render(Mixer(recordings, MixingRules()).whole(0), DecodeCache(RATE), RATE).sources.any()
    with pytest.raises(UserError, match=r"takes pyroomacoustics, .* pip install 'vaesweep\[speech\]'"):
        Mixer(recordings, WET)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seconds": {"low": 0.0, "high": 0.5}}, "reverberation takes from 0.05 to 1 seconds"),
        ({"seconds": {"low": 0.2, "high": 1.5}}, "reverberation takes from 0.05 to 1 seconds"),
        ({"distance": {"low": 1, "high": 3}}, "a speaker 3 m from the microphone is not inside a room 5 m wide"),
        ({"distance": {"low": 0, "high": 1}}, "the distance of a speaker is above 0 metres"),
        ({"height": {"low": 1.5, "high": 2}}, r"a room is at least 1\.9 m high"),
        ({"share": 2}, "less than or equal to 1"),
        ({"rooms": 0}, "greater than or equal to 1"),
    ],
)
def test_rooms_that_cannot_be_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Reverberation.model_validate(values)
