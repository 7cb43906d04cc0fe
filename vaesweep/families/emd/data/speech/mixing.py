"""Mixtures of recordings: what is mixed, how loud, from where on, as a function of an index, and the sound of it.

The rules are LibriMix's (Cosentino et al., 2020, section 3): every source gets a loudness of its own, at random from
-33 to -25 LUFS, noise one from -38 to -30; a source whose largest sample would exceed one is made softer, and so is a
mixture that exceeds 0.9, all parts alike; `min` ends with the first source that does, `max` with the last.
Speakers may be heard in rooms (`rooms.py`); their loudness is that of their direct sound, and noise is in no room.

A mixture is drawn from its index alone, so that one made while training and one written to disk are the same, on every
machine. What is drawn for whole utterances is drawn for crops too: only where they begin differs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from vaesweep.data.counters import Stream, uniform
from vaesweep.errors import UserError
from vaesweep.families.emd.data.speech import rooms
from vaesweep.families.emd.data.speech.audio import resample, resampled_frames
from vaesweep.families.emd.data.speech.recordings import Recording, speakers_of
from vaesweep.families.emd.data.speech.rooms import Reverberation, Room, Targets
from vaesweep.families.emd.data.speech.spans import Span
from vaesweep.packing import Frozen, Since

PEAK, FULL_SCALE = 0.9, 1.0  # of a mixture, and of a source before it is mixed
STEP = 2.0**-15  # between two values of a sample of 16 bits
DRAWS = 5  # numbers a source: speaker, recording, loudness, place, overlap
FADE = 1.0  # seconds in which a noise that is too short passes into itself


class MixingRules(Frozen):
    """How recordings become mixtures; the defaults are LibriMix's, of two speakers at 8 kHz."""

    speakers: int = Field(2, ge=1, le=100, description="sources of a mixture, each another speaker")
    sample_rate: int = Field(8000, gt=0, le=1_000_000, description="Hz")
    mode: Literal["min", "max"] = Field(
        "min", description="a mixture ends with its first source that does, or its last"
    )
    loudness: Span = Field(Span(low=-33, high=-25), description="LUFS of a source")
    noise_loudness: Span = Field(Span(low=-38, high=-30), description="LUFS of the noise")
    overlap: Span = Field(
        Span(low=1, high=1), description="share of a source that the one before still speaks in; of whole mixtures"
    )
    babble: int = Field(0, ge=0, le=100, description="other speakers whose sum is the noise, where no noise is given")
    reverberation: Annotated[Reverberation, Since("0.2")] = Reverberation()

    @model_validator(mode="after")
    def _overlap_is_possible(self) -> Self:
        if not 0 <= self.overlap.low <= self.overlap.high <= 1:
            raise ValueError("overlap is a share, from 0 to 1")
        if self.overlap.low < 1 and self.mode == "min":
            raise ValueError("overlap below 1 needs mode max: with min a mixture ends with its first source")
        return self

    def talkers(self, *, noise: bool) -> int:
        """Different speakers that a mixture needs, where its noise is of a folder, or not."""
        return self.speakers + (0 if noise else self.babble)


@dataclass(frozen=True)
class Part:
    """A stretch of a recording in a mixture: its factor, its first sample, and where that is heard, at that rate."""

    recording: Recording
    gain: float
    start: int = 0
    delay: int = 0


@dataclass(frozen=True)
class Mixture:
    """What is mixed: sources, noise (several recordings of a babble, none where it is clean), samples in all.

    `room` is where the sources are heard, if anywhere; `targets` says which of their signals a separator shall give.
    """

    sources: tuple[Part, ...]
    noise: tuple[Part, ...]
    frames: int
    room: Room | None = None
    targets: Targets = "anechoic"


@dataclass(frozen=True)
class Sound:
    """A mixture's signals, float32: `sources` `[speaker, time]`, and `noise` `[time]`, zeros where there is none.

    The sources are what a separator shall give. Where that is not what is heard of the speakers, `speech` `[time]` is:
    reverberation is neither in the sources, if they are anechoic, nor in the noise.
    """

    sources: np.ndarray
    noise: np.ndarray
    speech: np.ndarray | None = None

    @property
    def clean(self) -> np.ndarray:
        """The speakers as they are heard, `[time]`: the sum of the sources, but for reverberation that these lack."""
        return self.sources.sum(axis=0, dtype=np.float32) if self.speech is None else self.speech

    @property
    def mixture(self) -> np.ndarray:
        """The speakers as they are heard and the noise, `[time]`."""
        return self.clean + self.noise


SignalOf = Callable[[Recording], np.ndarray]  # the whole signal of a recording, at the mixture's rate


class Mixer:
    """Draws mixtures of some recordings; fewer speakers than a mixture needs are refused with a `UserError`.

    Mixers of different `bank` share no room.
    """

    def __init__(
        self, recordings: Sequence[Recording], rules: MixingRules, noises: Sequence[Recording] = (), bank: int = 0
    ) -> None:
        self._speakers = [own for _, own in speakers_of(recordings)]
        self._rules, self._noises, self._bank = rules, tuple(noises), bank
        if rules.reverberation.share:
            rooms.library()
        needed = rules.talkers(noise=bool(noises))
        if len(self._speakers) < needed:
            raise UserError(
                f"{len(self._speakers)} speakers: a mixture needs {needed} different ones; use more recordings"
            )

    def whole(self, index: int) -> Mixture:
        """The mixture `index` of whole recordings."""
        numbers, sources, noises = self._drawn(index)
        lengths = [self._length(part.recording) for part in sources]
        delays = self._delays(lengths, numbers)
        ends = [delay + length for delay, length in zip(delays, lengths, strict=True)]
        frames = min(ends) if self._rules.mode == "min" else max(ends)
        placed = [_placed(part, 0, delay) for part, delay in zip(sources, delays, strict=True)]
        return self._mixture(index, placed, noises, frames)

    def crop(self, index: int, frames: int) -> Mixture:
        """The mixture `index` of stretches of `frames` samples; zeros surround a recording that is shorter."""
        numbers, sources, noises = self._drawn(index)
        placed = []
        for part, number in zip(sources, numbers, strict=True):
            room = self._length(part.recording) - frames
            place = int(number[3] * (abs(room) + 1))
            placed.append(_placed(part, place, 0) if room >= 0 else _placed(part, 0, place))
        return self._mixture(index, placed, noises, frames)

    def _mixture(self, index: int, placed: list[Part], noises: list[tuple[Part, float]], frames: int) -> Mixture:
        targets = self._rules.reverberation.targets
        return Mixture(tuple(placed), self._noise(noises, frames), frames, self._room(index), targets)

    def _room(self, index: int) -> Room | None:
        """The room of a mixture; none where it is heard without one."""
        rules = self._rules.reverberation
        if not rules.share:
            return None
        first = (self._rules.speakers + self._rules.babble + 1) * DRAWS  # numbers that the parts of a mixture leave
        reverberates, place = uniform(Stream.MIXING, torch.tensor(index), torch.arange(first, first + 2)).tolist()
        if reverberates >= rules.share:
            return None
        return rooms.draw(rules, self._bank, int(place * rules.rooms), self._rules.speakers)

    def _length(self, recording: Recording) -> int:
        return resampled_frames(recording.frames, recording.rate, self._rules.sample_rate)

    def _drawn(self, index: int) -> tuple[np.ndarray, list[Part], list[tuple[Part, float]]]:
        """Numbers of the sources `[speaker, DRAWS]`, the sources from their beginnings, noises and their places."""
        rules = self._rules
        babble = 0 if self._noises else rules.babble
        count = rules.speakers + babble + 1
        numbers = uniform(Stream.MIXING, torch.tensor(index), torch.arange(count * DRAWS)).reshape(count, DRAWS).numpy()
        places = _distinct(numbers[:-1, 0], len(self._speakers))
        recordings = [
            _chosen(self._speakers[place], float(number[1])) for place, number in zip(places, numbers[:-1], strict=True)
        ]
        levels = rules.loudness.at(numbers[:-1, 2])
        parts = [Part(r, _gain(r, float(level))) for r, level in zip(recordings, levels, strict=True)]
        return numbers[: rules.speakers], parts[: rules.speakers], self._noises_of(parts[rules.speakers :], numbers)

    def _noises_of(self, babble: list[Part], numbers: np.ndarray) -> list[tuple[Part, float]]:
        level = float(self._rules.noise_loudness.at(numbers[-1, 2]))
        if self._noises:
            noise = _chosen(self._noises, float(numbers[-1, 1]))
            return [(Part(noise, _gain(noise, level)), float(numbers[-1, 3]))]
        each = level - 10 * np.log10(max(len(babble), 1))  # of unrelated signals energies add up
        talkers = numbers[self._rules.speakers : -1]
        return [
            (Part(part.recording, _gain(part.recording, each)), float(number[3]))
            for part, number in zip(babble, talkers, strict=True)
        ]

    def _noise(self, noises: list[tuple[Part, float]], frames: int) -> tuple[Part, ...]:
        """The noises from places of their own on; one that is too short from its beginning, again and again."""
        rooms = [max(self._length(part.recording) - frames, 0) for part, _ in noises]
        return tuple(_placed(part, int(p * (room + 1)), 0) for (part, p), room in zip(noises, rooms, strict=True))

    def _delays(self, lengths: Sequence[int], numbers: np.ndarray) -> list[int]:
        """Where each source begins: with the first, or so that a share of the shorter one overlaps the one before."""
        if self._rules.overlap.low == 1:
            return [0] * len(lengths)
        delays, end = [0], lengths[0]
        for before, length, number in zip(lengths, lengths[1:], numbers[1:], strict=False):
            share = float(self._rules.overlap.at(number[4]))
            delays.append(max(end - round(share * min(before, length)), 0))
            end = delays[-1] + length
        return delays


def render(mixture: Mixture, signal_of: SignalOf, sample_rate: int) -> Sound:
    """The signals of a mixture; all of them softer where their sum exceeds 0.9."""
    frames = mixture.frames
    sources = heard = np.stack([_stretch(signal_of(part.recording), part, frames) for part in mixture.sources])
    if mixture.room is not None:
        tails = zip(mixture.sources, rooms.tails(mixture.room, sample_rate), strict=True)
        heard = sources + np.stack([_echo(signal_of(part.recording), part, tail, frames) for part, tail in tails])
    noise = np.zeros(frames, np.float32)
    for part in mixture.noise:
        noise += _stretch(extended(signal_of(part.recording), part.start + frames, sample_rate), part, frames)
    largest = float(np.abs(heard.sum(axis=0) + noise).max(initial=0.0))
    if largest > PEAK:
        factor = np.float32(PEAK / largest)
        sources, heard, noise = sources * factor, heard * factor, noise * factor
    if mixture.room is None or mixture.targets == "reverberant":
        return Sound(heard, noise)
    return Sound(sources, noise, heard.sum(axis=0, dtype=np.float32))


def dequantised(sound: Sound, number: int) -> Sound:
    """`sound` with uniform noise of one step of 16 bits on each source, a function of `number`; all of it is heard."""
    numbers = uniform(Stream.DEQUANTISATION, torch.tensor(number), torch.arange(sound.sources.size))
    noise = (STEP * (numbers.reshape(sound.sources.shape).numpy() - 0.5)).astype(np.float32)
    speech = None if sound.speech is None else sound.speech + noise.sum(axis=0)
    return replace(sound, sources=sound.sources + noise, speech=speech)


def at_speeds(sound: Sound, number: int, speeds: Span, frames: int) -> Sound:
    """The first `frames` samples of `sound` with every speaker faster or slower, and so higher or lower.

    The factors are functions of `number`. Noise stays as it is. In a room all speakers have one speed, so that what is
    heard stays what a room makes of them.
    """
    shares = uniform(Stream.SPEEDS, torch.tensor(number), torch.arange(len(sound.sources))).numpy()
    percents = np.rint(100 * speeds.at(shares)).astype(int).tolist()
    if sound.speech is not None:
        percents = percents[:1] * len(percents)

    def played(signal: np.ndarray, percent: int) -> np.ndarray:
        return resample(signal[: -(-frames * percent // 100)], percent, 100)[:frames]

    sources = np.stack([played(*part) for part in zip(sound.sources, percents, strict=True)])
    speech = None if sound.speech is None else played(sound.speech, percents[0])
    return Sound(sources, sound.noise[:frames], speech)


def extended(noise: np.ndarray, frames: int, sample_rate: int) -> np.ndarray:
    """`noise` `[time]` again and again, each end passing into the next beginning, until it has `frames` samples.

    The passage takes a second, half of the noise where that is shorter, and keeps the energy of unrelated signals.
    """
    fade = min(int(FADE * sample_rate), len(noise) // 2)
    rise = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32))
    long = noise
    while len(long) < frames:
        passage = long[len(long) - fade :] * rise[::-1] + noise[:fade] * rise
        long = np.concatenate([long[: len(long) - fade], passage, noise[fade:]])
    return long


def _stretch(signal: np.ndarray, part: Part, frames: int) -> np.ndarray:
    heard = signal[part.start : part.start + frames - part.delay]
    out = np.zeros(frames, np.float32)
    out[part.delay : part.delay + len(heard)] = np.float32(part.gain) * heard
    return out


def _echo(signal: np.ndarray, part: Part, tail: np.ndarray, frames: int) -> np.ndarray:
    """What follows the direct sound of `_stretch`, also of what was said before it."""
    from scipy.signal import fftconvolve

    before = min(part.start, len(tail) - 1)
    said = signal[part.start - before : part.start + frames - part.delay].astype(np.float64)
    heard = part.gain * fftconvolve(said, tail)[before : before + frames - part.delay]
    out = np.zeros(frames, np.float32)
    out[part.delay : part.delay + len(heard)] = heard
    return out


def _placed(part: Part, start: int, delay: int) -> Part:
    return Part(part.recording, part.gain, start, delay)


def _gain(recording: Recording, loudness: float) -> float:
    """The factor that gives a recording its loudness, less where a sample would exceed full scale."""
    gain = float(10 ** ((loudness - recording.loudness) / 20))
    return PEAK / recording.peak if gain * recording.peak >= FULL_SCALE else gain


def _distinct(numbers: np.ndarray, count: int) -> list[int]:
    """As many different places below `count` as `numbers` in [0, 1), every set of them equally likely."""
    taken: list[int] = []
    for number in numbers:
        place = int(number * (count - len(taken)))
        for other in sorted(taken):
            place += place >= other
        taken.append(place)
    return taken


def _chosen(recordings: Sequence[Recording], number: float) -> Recording:
    return recordings[int(number * len(recordings))]
