"""Mixtures on disk, in the layouts of LibriMix, WHAM! and WHAMR!: written, and read whoever wrote them.

    Libri2Mix/wav8k/min/
      train-100/ dev/ test/           one folder a split, the same file names in all of its folders:
        mix_clean/ mix_both/            sources alone, and with noise
        s1/ s2/ … noise/
      metadata/mixture_<split>_mix_clean.csv, mixture_<split>_mix_both.csv

WHAM! calls the splits `tr`, `cv` and `tt`. WHAMR! has each mixture and source twice, `mix_clean_anechoic/` and
`mix_clean_reverb/`, `s1_anechoic/` and `s1_reverb/`: so mixtures in rooms are written too.

The folders say what there is. Metadata name files by the paths that they had where they were made, and are not read.
"""

import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from vaesweep.data.domains import Role
from vaesweep.data.folders import find
from vaesweep.data.writing import replace_file
from vaesweep.errors import UserError
from vaesweep.families.emd.data.speech import audio
from vaesweep.families.emd.data.speech.mixing import Mixer, MixingRules, Mixture, SignalOf, Sound, render
from vaesweep.families.emd.data.speech.rooms import Targets
from vaesweep.packing import additions

CLEAN, NOISY, NOISE, METADATA = "mix_clean", "mix_both", "noise", "metadata"
ANECHOIC, REVERB = "_anechoic", "_reverb"  # endings of WHAMR!'s folders
ENDINGS: Mapping[Targets, str] = {"anechoic": ANECHOIC, "reverberant": REVERB}
WHAM_SPLITS = {Role.TRAIN: "tr", Role.VALID: "cv", Role.TEST: "tt"}
SPLITS = {Role.TRAIN: "train-100", Role.VALID: "dev", Role.TEST: "test"}  # folders as LibriMix names them
RECORD = "mixing.json"
LONGEST_NAME = 200  # bytes of a file's name before its index; file systems take 255


@dataclass(frozen=True)
class WrittenMixture:
    """The files of one mixture: what is heard, its sources in order, and their samples.

    `speech` is what is heard of the speakers, where that is not the sum of the sources.
    """

    name: str
    mixture: Path
    sources: tuple[Path, ...]
    frames: int
    speech: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of its files, each once."""
        return tuple(dict.fromkeys((self.mixture, *self.sources, self.speech or self.mixture)))


def folder_of(out: Path, rules: MixingRules) -> Path:
    """Where mixtures of these rules lie below `out`: `Libri2Mix/wav8k/min`."""
    return out / f"Libri{rules.speakers}Mix" / f"wav{rules.sample_rate / 1000:g}k" / rules.mode


def write_split(
    folder: Path,
    split: str,
    mixer: Mixer,
    rules: MixingRules,
    indices: Sequence[int],
    signal_of: SignalOf,
    *,
    subtype: str = "FLOAT",
    written: Callable[[int], object] = lambda count: None,
) -> Path:
    """Write the mixtures `indices` as the split's folder below `folder`, and their metadata; return that folder.

    All is written beside it first, so that a split is there as a whole or not at all; one that is there is refused.
    """
    target = folder / split
    if target.exists():
        raise UserError(f"{target}: is there already; name another folder or split, or take it away")
    draft = folder / f".{split}.{os.getpid()}"
    noisy = any(mixer.whole(index).noise for index in indices[:1])
    kinds = _kinds(rules, noisy=noisy)
    rows: dict[str, list[list[object]]] = {kind: [] for kind in kinds}
    record = []
    try:
        for count, index in enumerate(indices, 1):
            mixture = mixer.whole(index)
            file = f"{_name(mixture, index)}.wav"
            for name, signal in _signals(mixture, rules, signal_of, noisy=noisy).items():
                (draft / name).mkdir(parents=True, exist_ok=True)
                audio.write(draft / name / file, signal, rules.sample_rate, subtype=subtype)
            for kind, parts in kinds.items():
                paths = [str((target / part / file).resolve()) for part in (kind, *parts)]
                rows[kind].append([Path(file).stem, *paths, mixture.frames])
            record.append(_recipe(mixture, file, index))
            written(count)
        about = rules.model_dump(mode="json", exclude=additions(rules))
        (draft / RECORD).write_text(json.dumps({"rules": about, "mixtures": record}, indent=1))
        metadata = folder / METADATA
        metadata.mkdir(exist_ok=True)
        draft.rename(target)
        for kind in kinds:
            table: list[Sequence[object]] = [_header(rules.speakers, noisy=NOISE in kinds[kind]), *rows[kind]]
            replace_file(metadata / f"mixture_{split}_{kind}.csv", partial(_write_table, table))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def read_split(
    folder: Path, kind: str, speakers: int, sample_rate: int, targets: Targets = "anechoic"
) -> list[WrittenMixture]:
    """The mixtures of a split's `folder`, in the order of their names, heard as `kind` says; `targets` if in a room.

    `kind` is `mix_clean` or `mix_both`, which WHAMR! calls anechoic, or one of these with `_reverb`. Every file's
    header is read: one that is missing, has another rate or another length than the rest of its mixture is refused with
    a `UserError` that names it.
    """
    reverberant = kind.endswith(REVERB)
    whamr = reverberant or ((folder / f"{kind}{ANECHOIC}").is_dir() and not (folder / kind).is_dir())
    heard = kind if reverberant or not whamr else f"{kind}{ANECHOIC}"
    ending = ENDINGS[targets if reverberant else "anechoic"] if whamr else ""
    names = _audio_names(folder / heard)
    if not names:
        there = ", ".join(path.name for path in folders_of(folder)) or "no folders"
        raise UserError(f"{folder / heard}: holds no mixtures; {folder} has {there}")
    parts = [f"{source}{ending}" for source in source_names(speakers)]
    if reverberant and targets == "anechoic":
        parts.append(f"{CLEAN}{REVERB}")
    for part in parts:
        if more := sorted(_audio_names(folder / part) - names):
            raise UserError(f"{folder / heard / more[0]}: there is no such file, but one in {part}; {audio.REMEDY}")
    mixtures = []
    for name in sorted(names):
        paths = [folder / part / name for part in (heard, *parts)]
        frames = _frames(paths, sample_rate)
        sources, speech = tuple(paths[1 : speakers + 1]), paths[speakers + 1 :]
        mixtures.append(WrittenMixture(Path(name).stem, paths[0], sources, frames, *speech))
    return mixtures


def folders_of(folder: Path) -> list[Path]:
    """The folders in `folder`, in the order of their names, less hidden ones."""
    return sorted(path for path in folder.glob("*") if path.is_dir() and not path.name.startswith("."))


def left_out(folder: Path) -> Iterator[str]:
    """Lines on what is no audio, and on links, in the folders of a split."""
    for part in folders_of(folder):
        yield from find(part, audio.SUFFIXES, deep=False).summary


def _audio_names(folder: Path) -> set[str]:
    """The names of the audio files of a folder, of none where there is no such folder."""
    return set(find(folder, audio.SUFFIXES, deep=False).names) if folder.is_dir() else set()


def source_names(speakers: int) -> list[str]:
    """The folders of the sources: s1, s2, …"""
    return [f"s{number}" for number in range(1, speakers + 1)]


def _frames(paths: Sequence[Path], sample_rate: int) -> int:
    """The samples of the files of one mixture, the first of which is what is heard."""
    mixture, found = paths[0], [audio.info(path) for path in paths]
    for path, about in zip(paths, found, strict=True):
        if about.rate != sample_rate:
            raise UserError(
                f"{path}: has {about.rate} Hz, {sample_rate} are wanted; use the folder wav{sample_rate / 1000:g}k, "
                "or another sample_rate"
            )
        if about.frames != found[0].frames:
            raise UserError(
                f"{path}: has {about.frames} samples and {mixture} {found[0].frames}; the files of a mixture are "
                "equally long"
            )
    return found[0].frames


def _kinds(rules: MixingRules, *, noisy: bool) -> dict[str, list[str]]:
    """The folders of mixtures to write, with those of their parts: sources, and noise."""
    targets = rules.reverberation.targets
    of_sources = {ANECHOIC: ANECHOIC, REVERB: ENDINGS[targets]} if rules.reverberation.share else {"": ""}
    mixed = {CLEAN: [], NOISY: [NOISE]} if noisy else {CLEAN: []}
    return {
        f"{kind}{ending}": [f"{source}{own}" for source in source_names(rules.speakers)] + noise
        for ending, own in of_sources.items()
        for kind, noise in mixed.items()
    }


def _signals(mixture: Mixture, rules: MixingRules, signal_of: SignalOf, *, noisy: bool) -> dict[str, np.ndarray]:
    """The signals of a mixture, by the folders that they are written to."""

    def sound(targets: Targets) -> Sound:
        return render(replace(mixture, targets=targets), signal_of, rules.sample_rate)

    heard = sound("reverberant")
    sounds = {"": heard}
    if rules.reverberation.share:
        sounds = {ANECHOIC: Sound(sound("anechoic").sources, heard.noise), REVERB: heard}
    signals = {NOISE: heard.noise} if noisy else {}
    for ending, one in sounds.items():
        signals |= {f"s{number}{ending}": source for number, source in enumerate(one.sources, 1)}
        signals |= {f"{CLEAN}{ending}": one.clean} | ({f"{NOISY}{ending}": one.mixture} if noisy else {})
    return signals


def _name(mixture: Mixture, index: int) -> str:
    """The names of the recordings, as in LibriMix, and the index, since a pair may come again."""
    stems = [re.sub(r"[^A-Za-z0-9_.-]", "-", part.recording.path.stem) for part in mixture.sources]
    return f"{'_'.join(stems)[:LONGEST_NAME]}_{index}"


def _header(speakers: int, *, noisy: bool) -> list[str]:
    sources = [f"source_{number}_path" for number in range(1, speakers + 1)]
    return ["mixture_ID", "mixture_path", *sources, *(["noise_path"] if noisy else []), "length"]


def _recipe(mixture: Mixture, file: str, index: int) -> dict[str, object]:
    parts = {"sources": mixture.sources, "noise": mixture.noise}
    room = {"room": asdict(mixture.room)} if mixture.room else {}
    return (
        {"file": file, "index": index, "frames": mixture.frames}
        | room
        | {
            name: [
                {"recording": str(part.recording.path), "digest": part.recording.digest}
                | {"speaker": part.recording.speaker, "gain": part.gain, "start": part.start, "delay": part.delay}
                for part in own
            ]
            for name, own in parts.items()
        }
    )


def _write_table(rows: Sequence[Sequence[object]], path: Path) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
