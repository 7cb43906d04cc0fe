"""Data sets of recordings: `--data speech:DIR` mixes them, `--data librimix:DIR` reads what has been mixed.

    speech:~/LibriSpeech/train-clean-100,unseen=~/VCTK,noise=~/wham_noise      mixed anew at every training step
    librimix:~/Libri2Mix,unseen=~/VCTK-2mix                                    mixtures on disk
    whamr:~/whamr                                                              the same, in rooms

A domain's rows are mixtures; its arrays have their digests and lengths, so that a data set is its sounds, wherever the
files lie. Where they lie, and how they become signals, is the domain's source.
"""

import hashlib
import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from vaesweep.data.domains import DataSet, Domain, Role, Standardisation
from vaesweep.data.door import guarded
from vaesweep.data.spelling import did_you_mean, existing, slug
from vaesweep.errors import UserError
from vaesweep.families.emd.data.speech import audio, librimix, recordings
from vaesweep.families.emd.data.speech.mixing import Mixer, MixingRules, Mixture, Sound, render
from vaesweep.families.emd.data.speech.recordings import DecodeCache, Recording, SpeakerOf
from vaesweep.families.emd.data.speech.spans import Span
from vaesweep.families.emd.forms import SPEECH, WRITTEN
from vaesweep.packing import Frozen, Since

FORMS = (
    "speech:DIR (with ,noise=DIR, and ,speaker=REGEX or ,speakers=CSV after a folder) or librimix:DIR, wham:DIR or "
    "whamr:DIR (with ,train=SPLIT), each with any number of ,unseen=DIR"
)
COLUMNS = ("time",)
FITTED = 64  # mixtures of the training domain that are evaluated, and whose standard deviation is that of the data
ONE = Span(low=1, high=1)
INDICES = 1_000_000_000  # between one replicate and the next
PARTS: dict[Role, int] = {Role.TRAIN: 0, Role.VALID: 1, Role.TEST: 2, Role.UNSEEN: 3}


class SpeechRows(Frozen):
    """The number of mixtures that are evaluated; of mixtures on disk at most those that there are.

    Of the training domain there are 64 always.
    """

    valid: int = Field(64, ge=1, le=1_000_000)
    test: int = Field(128, ge=1, le=1_000_000, description="of unseen domains too")


class SpeechConfig(Frozen):
    """Mixtures of recordings: how they are mixed, cut for training, and evaluated whole."""

    kind: Literal["speech"] = "speech"
    replicate: int = Field(1, ge=0, description="of the experiment, with mixtures of its own; 0: seed + 1")
    seconds: float = Field(
        2.0, gt=0, le=3_600, description="of a training crop; valid, test and unseen mixtures are whole"
    )
    longest: float = Field(30.0, gt=0, le=86_400, description="seconds after which whole mixtures are cut off")
    mixing: MixingRules = MixingRules()
    heard: Literal["clean", "noisy", "reverberant", "noisy_reverberant"] = Field(
        "clean", description="of mixtures on disk: the sources alone, or with noise, or in a room"
    )
    dequantise: Annotated[bool, Since("0.2")] = Field(
        False, description="add uniform noise of one step of 16 bits to every source of a training crop"
    )
    speed: Annotated[Span, Since("0.2")] = Field(
        ONE, description="factor of the speed, and pitch, of each speaker of a training crop, in steps of a hundredth"
    )
    rows: SpeechRows = SpeechRows()

    @field_validator("speed")
    @classmethod
    def _is_a_factor(cls, speed: Span) -> Span:
        if not 0.5 <= speed.low <= speed.high <= 2:
            raise ValueError(f"a factor from 0.5 to 2, not from {speed.low:g} to {speed.high:g}")
        return speed

    @property
    def condition(self) -> "SpeechConfig":
        """What of it makes a domain's mixtures sound as they do: not which and how many there are.

        Nor what is done to them in training alone.
        """
        return self.model_copy(update={"replicate": 1, "rows": SpeechRows(), "dequantise": False, "speed": ONE})

    @property
    def crop(self) -> int:
        """Samples of a training crop."""
        return round(self.seconds * self.mixing.sample_rate)

    @property
    def played(self) -> int:
        """Samples of recordings that a training crop takes at most: more of those that are played faster."""
        return math.ceil(self.crop * max(1.0, self.speed.high))

    @property
    def most(self) -> int:
        """Samples of the longest mixture that is evaluated."""
        return round(self.longest * self.mixing.sample_rate)


@cache
def signals_at(sample_rate: int) -> DecodeCache:
    """Signals of recordings that this process has read, for whichever domain."""
    return DecodeCache(sample_rate)


class SpeechSource(ABC):
    """The mixtures of a domain; it can be pickled, and reads files where it is used.

    `frames` `[row]` has the samples of the mixtures that are evaluated, `training_rows` how many there are to train on.
    """

    def __init__(self, frames: Sequence[int], training_rows: int, sample_rate: int) -> None:
        self.frames = np.array(frames, dtype=np.int64)
        self.training_rows, self.sample_rate = training_rows, sample_rate

    @property
    @abstractmethod
    def noisy(self) -> bool:
        """Whether noise is heard beside the sources, which themselves have none."""

    @abstractmethod
    def sound(self, row: int) -> Sound:
        """The evaluation mixture of a row."""

    @abstractmethod
    def drawn(self, row: int, number: int, frames: int) -> Sound:
        """The training crop of `frames` samples that `number`, a random one, makes of a training row."""


class MixedSource(SpeechSource):
    """Mixtures of recordings: those of `mixtures` to evaluate, others of the same `mixer` to train on."""

    def __init__(self, mixer: Mixer, mixtures: Sequence[Mixture], recordings: int, sample_rate: int) -> None:
        super().__init__([mixture.frames for mixture in mixtures], recordings, sample_rate)
        self._mixer, self.mixtures = mixer, tuple(mixtures)

    @property
    def noisy(self) -> bool:
        """Whether there is noise to mix them with."""
        return any(mixture.noise for mixture in self.mixtures)

    def sound(self, row: int) -> Sound:
        """The row's own mixture."""
        return render(self.mixtures[row], signals_at(self.sample_rate), self.sample_rate)

    def drawn(self, row: int, number: int, frames: int) -> Sound:
        """A crop that the number alone says: recordings are mixed anew at every step."""
        return render(self._mixer.crop(number, frames), signals_at(self.sample_rate), self.sample_rate)


class WrittenSource(SpeechSource):
    """Mixtures on disk, all to train on, those at the places `evaluated` to evaluate."""

    def __init__(
        self, mixtures: Sequence[librimix.WrittenMixture], evaluated: Sequence[int], config: SpeechConfig
    ) -> None:
        self.mixtures, self.evaluated = tuple(mixtures), tuple(evaluated)
        self._heard = config.heard
        frames = [min(self.mixtures[place].frames, config.most) for place in evaluated]
        super().__init__(frames, len(mixtures), config.mixing.sample_rate)

    @property
    def noisy(self) -> bool:
        """Whether `mix_both` is heard; the sources are those of `s1`, `s2`, … all the same."""
        return self._heard == "noisy"

    def sound(self, row: int) -> Sound:
        """The row's own mixture."""
        return self._read(self.mixtures[self.evaluated[row]], 0, int(self.frames[row]))

    def drawn(self, row: int, number: int, frames: int) -> Sound:
        """A stretch of the row's mixture, zeros after one that is shorter."""
        mixture = self.mixtures[row]
        room = mixture.frames - frames
        sound = self._read(mixture, number % (room + 1) if room > 0 else 0, min(frames, mixture.frames))
        if room >= 0:
            return sound
        speech = None if sound.speech is None else np.pad(sound.speech, (0, -room))
        return Sound(np.pad(sound.sources, ((0, 0), (0, -room))), np.pad(sound.noise, (0, -room)), speech)

    def _read(self, mixture: librimix.WrittenMixture, start: int, frames: int) -> Sound:
        sources = np.stack([audio.read(path, start, frames)[0] for path in mixture.sources])
        heard, _ = audio.read(mixture.mixture, start, frames)
        if mixture.speech is None:
            return Sound(sources, heard - sources.sum(axis=0, dtype=np.float32))
        speech = heard if mixture.speech == mixture.mixture else audio.read(mixture.speech, start, frames)[0]
        return Sound(sources, heard - speech, speech)


@guarded
def load(spec: str, config: SpeechConfig) -> DataSet:
    """The data that `spec` names, with `config.replicate` of 1 or larger; every fault is a `UserError`."""
    named = _parse(spec)
    if config.replicate >= 2**62 // INDICES:
        raise UserError(f"replicate {config.replicate} of the recordings: must be below {2**62 // INDICES}")
    loaded = (
        _mixed(named.folder, named.unseen, named.noise, config)
        if named.kind == SPEECH
        else _written(named.folder.path, [folder.path for folder in named.unseen], named.train, config)
    )
    (train,) = (domain for domain in loaded.domains if domain.role is Role.TRAIN)
    scale = _fitted(train)
    signals_at.cache_clear()  # of the driver, which has no further use for them
    return replace(loaded, standardisation=scale)


def _mixed(folder: "_Folder", unseen: Sequence["_Folder"], noise: Path | None, config: SpeechConfig) -> DataSet:
    found = recordings.scan(folder.path, folder.speaker_of)
    noises = recordings.scan_noise(noise)
    split = recordings.split_speakers(found.recordings, config.mixing.talkers(noise=noise is not None))
    places = [(f"{slug(folder.path.resolve().name)}.{role}", role, own) for role, own in split.items()]
    summary = [*found.summary, *noises.summary]
    for one in unseen:
        other = recordings.scan(one.path, one.speaker_of)
        places.append((slug(one.path.resolve().name), Role.UNSEEN, other.recordings))
        summary += other.summary
    domains = [_mixed_domain(name, role, own, noises.of(role), config) for name, role, own in places]
    repeated = _repeated([(name, role, own) for name, role, own in places])
    return DataSet(tuple(domains), COLUMNS, summary=(*summary, *map(_line, domains), *repeated))


def _repeated(places: Sequence[tuple[str, Role, Sequence[Recording]]]) -> Iterator[str]:
    """Lines on recordings, and on speakers, of a domain that are in the training domain too."""
    ((trained, _, recordings_),) = [place for place in places if place[1] is Role.TRAIN]
    digests, speakers = {r.digest for r in recordings_}, {r.speaker for r in recordings_}
    for name, role, own in places:
        if role is Role.TRAIN:
            continue
        if same := sum(recording.digest in digests for recording in own):
            yield f"{name}: {same} of {len(own)} recordings are equal to recordings of {trained}"
        if names := sorted({recording.speaker for recording in own} & speakers):
            yield f"{name}: {len(names)} speakers are called as speakers of {trained} are, such as {names[0]}"


def _mixed_domain(
    name: str, role: Role, own: Sequence[Recording], noises: Sequence[Recording], config: SpeechConfig
) -> Domain:
    try:
        mixer = Mixer(own, config.mixing, noises, bank=PARTS[role])
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    rows = _rows(role, config)
    first = config.replicate * INDICES + PARTS[role] * (INDICES // len(PARTS))
    draw: Callable[[int], Mixture] = mixer.whole
    if role is Role.TRAIN:
        draw = partial(mixer.crop, frames=config.crop)
    drawn = (draw(first + row) for row in range(rows))
    mixtures = sorted((replace(m, frames=min(m.frames, config.most)) for m in drawn), key=lambda m: m.frames)
    arrays = _arrays([_digest(mixture) for mixture in mixtures], [mixture.frames for mixture in mixtures])
    if role is Role.TRAIN:
        arrays["pool"] = _pool([recording.digest for recording in (*own, *noises)], rows)
    source = MixedSource(mixer, mixtures, len(own), config.mixing.sample_rate)
    return Domain(name, role, arrays, config.condition, source)


def _written(folder: Path, unseen: Sequence[Path], train: str, config: SpeechConfig) -> DataSet:
    name, base = _below(folder, config.mixing)
    own = {librimix.WHAM_SPLITS[Role.TRAIN]} & {path.name for path in base.glob("*")}
    splits = sorted(path.name for path in (*base.glob("train*"), *map(base.joinpath, own)) if path.is_dir())
    chosen = [train] if train else splits
    if len(chosen) != 1 or chosen[0] not in splits:
        found = ", ".join(splits) or "none"
        raise UserError(f"{base}: one split to train on is needed, say which by ,train=SPLIT; there are: {found}")
    layout = librimix.WHAM_SPLITS if chosen[0] in own else librimix.SPLITS | {Role.TRAIN: chosen[0]}
    places = [(f"{name}.{role}", role, base / part) for role, part in layout.items()]
    for path in unseen:
        other, below = _below(path, config.mixing)
        places.append((other, Role.UNSEEN, _only_split(below)))
    domains = [_written_domain(name, role, path, config) for name, role, path in places]
    notes = [line for _, _, path in places for line in librimix.left_out(path)]
    return DataSet(tuple(domains), COLUMNS, summary=(*map(_line, domains), *_repeated_mixtures(domains), *notes))


def _repeated_mixtures(domains: Sequence[Domain]) -> Iterator[str]:
    """Lines on mixtures of a domain that are in the training domain too."""
    digests = {domain.name: _digests_of(_source(domain).mixtures) for domain in domains}
    ((trained, known),) = [(d.name, set(digests[d.name])) for d in domains if d.role is Role.TRAIN]
    for name, own in digests.items():
        if name != trained and (same := sum(digest in known for digest in own)):
            yield f"{name}: {same} of {len(own)} mixtures are equal to mixtures of {trained}"


def _source(domain: Domain) -> WrittenSource:
    assert isinstance(domain.source, WrittenSource)
    return domain.source


def _below(folder: Path, rules: MixingRules) -> tuple[str, Path]:
    """The name of mixtures on disk, and the folder of their rate and mode.

    That is `folder` itself, `wav8k/min` below it, or `Libri2Mix/wav8k/min`, as `vaesweep data mix --out` has it.
    """
    parts = librimix.folder_of(Path(), rules).parts
    for below in (folder.joinpath(*parts[1:]), folder.joinpath(*parts)):
        if below.is_dir():
            return slug(folder.name), below
    named = folder.parent.parent if folder.parts[-2:] == parts[1:] else folder
    return slug(named.name), folder


def _only_split(folder: Path) -> Path:
    """The split `test`, or `tt`, of a folder, or the only one that there is."""
    for name in (librimix.SPLITS[Role.TEST], librimix.WHAM_SPLITS[Role.TEST]):
        if (folder / name).is_dir():
            return folder / name
    splits = [path for path in librimix.folders_of(folder) if path.name != librimix.METADATA]
    if len(splits) != 1:
        raise UserError(
            f"{folder}: has no split called test or tt, and {len(splits)} others; name a folder that has one"
        )
    return splits[0]


def _written_domain(name: str, role: Role, folder: Path, config: SpeechConfig) -> Domain:
    rules = config.mixing
    kind = librimix.NOISY if config.heard.startswith("noisy") else librimix.CLEAN
    ending = librimix.REVERB if config.heard.endswith("reverberant") else ""
    targets = rules.reverberation.targets
    found = librimix.read_split(folder, f"{kind}{ending}", rules.speakers, rules.sample_rate, targets)
    evaluated = np.linspace(0, len(found) - 1, min(_rows(role, config), len(found))).astype(int).tolist()
    if role is not Role.TRAIN:
        found, evaluated = [found[place] for place in evaluated], list(range(len(evaluated)))
    evaluated.sort(key=lambda place: found[place].frames)
    own, source = _digests_of(found), WrittenSource(found, evaluated, config)
    arrays = _arrays([own[place] for place in evaluated], source.frames.tolist())
    if role is Role.TRAIN:
        arrays["pool"] = _pool(own, len(evaluated))
    return Domain(name, role, arrays, config.condition, source)


def _rows(role: Role, config: SpeechConfig) -> int:
    return {Role.TRAIN: FITTED, Role.VALID: config.rows.valid}.get(role, config.rows.test)


def _digests_of(mixtures: Sequence[librimix.WrittenMixture]) -> list[str]:
    """One digest a mixture, of what is heard and of its sources."""
    digests = iter(recordings.digests([path for mixture in mixtures for path in mixture.paths]))
    return [_joined([next(digests) for _ in mixture.paths]) for mixture in mixtures]


def _pool(digests: Sequence[str], rows: int) -> np.ndarray:
    """What is trained on, as a column: it is more than the rows that are evaluated."""
    return np.full(rows, _joined(digests), dtype="S16")


def _joined(digests: Sequence[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def _arrays(digests: Sequence[str], frames: Sequence[int]) -> dict[str, np.ndarray]:
    return {"digest": np.array(digests, dtype="S16"), "frames": np.array(frames, dtype=np.int64)}


def _digest(mixture: Mixture) -> str:
    parts = [
        f"{part.recording.digest} {part.gain:.5g} {part.start} {part.delay}"
        for part in (*mixture.sources, *mixture.noise)
    ]
    room = [f"{mixture.room} {mixture.targets}"] if mixture.room else []
    return hashlib.sha256(" ".join([*parts, str(mixture.frames), *room]).encode()).hexdigest()[:16]


def _fitted(train: Domain) -> Standardisation:
    """The standard deviation of mixtures of the training domain, one number; their mean is zero."""
    assert isinstance(train.source, SpeechSource)
    power = [float(np.square(train.source.sound(row).mixture, dtype=np.float64).mean()) for row in range(len(train))]
    std = float(np.sqrt(np.mean(power)))
    if std == 0:
        raise UserError(f"{train.name}: its mixtures are silent; name another folder")
    return Standardisation(np.zeros(1), np.array([std]))


def _line(domain: Domain) -> str:
    assert isinstance(domain.condition, SpeechConfig)
    minutes = float(domain.arrays["frames"].sum()) / domain.condition.mixing.sample_rate / 60
    line = f"{domain.name}: {len(domain)} mixtures, {minutes:.3g} minutes"
    if domain.role is not Role.TRAIN or not isinstance(domain.source, SpeechSource):
        return line
    kind = "recordings, mixed anew at every step" if isinstance(domain.source, MixedSource) else "mixtures"
    return f"{line}, to evaluate; trained on: {domain.source.training_rows} {kind}"


@dataclass(frozen=True)
class _Folder:
    """A folder of recordings, and the rule for their speakers if one is given."""

    path: Path
    speaker_of: SpeakerOf | None = None


@dataclass(frozen=True)
class _Named:
    """What `--data` names. Paths are absolute: workers have folders of their own to start from."""

    kind: str
    folder: _Folder
    unseen: tuple[_Folder, ...]
    noise: Path | None
    train: str


RULES: dict[str, Callable[[str], SpeakerOf]] = {
    "speaker": recordings.by_pattern,
    "speakers": lambda table: recordings.by_table(_absolute(table)),
}
OPTIONS = {SPEECH: ("unseen", "noise", *RULES)} | dict.fromkeys(WRITTEN, ("unseen", "train"))
NEEDED = {"train": "split", "speaker": "regular expression", "speakers": "CSV file"}


def _parse(spec: str) -> _Named:
    head, *options = re.split(r",(?=[A-Za-z_]+=)", spec.strip())
    kind, _, argument = head.partition(":")
    if kind not in OPTIONS:
        raise UserError(f"--data {spec}: unknown kind {kind!r}{did_you_mean(kind, OPTIONS)}; use {FORMS}")
    if not argument:
        raise UserError(f"--data {spec}: a folder is needed; write {kind}:DIR")
    folders, once = [_Folder(_absolute(argument))], {"noise": "", "train": ""}
    for option in options:
        key, _, value = option.partition("=")
        if key not in OPTIONS[kind]:
            raise UserError(f"--data {spec}: unknown option {key!r}{did_you_mean(key, OPTIONS[kind])}; use {FORMS}")
        if not value:
            raise UserError(f"--data {spec}: {key}= needs a {NEEDED.get(key, 'folder')}")
        if key == "unseen":
            folders.append(_Folder(_absolute(value)))
        elif key in RULES:
            if folders[-1].speaker_of:
                raise UserError(f"--data {spec}: two rules say who speaks in {folders[-1].path}; give one of them")
            folders[-1] = replace(folders[-1], speaker_of=RULES[key](value))
        elif once[key]:
            raise UserError(f"--data {spec}: {key}= is there twice; give it once")
        else:
            once[key] = value
    folder, *unseen = folders
    if folder.path.resolve() in {other.path.resolve() for other in unseen}:
        raise UserError(f"--data {spec}: {folder.path} cannot be both trained on and unseen")
    noise = _absolute(once["noise"]) if once["noise"] else None
    return _Named(kind, folder, tuple(unseen), noise, once["train"])


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(existing(path)))
