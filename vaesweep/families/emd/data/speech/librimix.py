"""Mixtures on disk, in LibriMix's layout: written, and read whoever wrote them.

    Libri2Mix/wav8k/min/
      train-100/ dev/ test/           one folder a split, the same file names in all of its folders:
        mix_clean/ mix_both/            sources alone, and with noise
        s1/ s2/ … noise/
      metadata/mixture_<split>_mix_clean.csv, mixture_<split>_mix_both.csv

The folders say what there is. Metadata name files by the paths that they had where they were made, so only the names
of their mixtures are read.
"""

import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vaesweep.data.domains import Role
from vaesweep.data.writing import replace_file
from vaesweep.errors import UserError
from vaesweep.families.emd.data.speech import audio
from vaesweep.families.emd.data.speech.mixing import Mixer, MixingRules, Mixture, SignalOf, render

CLEAN, NOISY, NOISE, METADATA = "mix_clean", "mix_both", "noise", "metadata"
SPLITS = {Role.TRAIN: "train-100", Role.VALID: "dev", Role.TEST: "test"}  # folders as LibriMix names them
RECORD = "mixing.json"
LONGEST_NAME = 200  # bytes of a file's name before its index; file systems take 255


@dataclass(frozen=True)
class WrittenMixture:
    """The files of one mixture: what is heard, its sources in order, and their samples."""

    name: str
    mixture: Path
    sources: tuple[Path, ...]
    frames: int


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
    kinds = [CLEAN, NOISY] if noisy else [CLEAN]
    rows: dict[str, list[list[object]]] = {kind: [] for kind in kinds}
    record = []
    try:
        for name in (*kinds, *source_names(rules.speakers), *([NOISE] if noisy else [])):
            (draft / name).mkdir(parents=True)
        for count, index in enumerate(indices, 1):
            mixture = mixer.whole(index)
            sound, file = render(mixture, signal_of, rules.sample_rate), f"{_name(mixture, index)}.wav"
            signals = {CLEAN: sound.clean, **dict(zip(source_names(rules.speakers), sound.sources, strict=True))}
            signals |= {NOISY: sound.mixture, NOISE: sound.noise} if noisy else {}
            for name, signal in signals.items():
                audio.write(draft / name / file, signal, rules.sample_rate, subtype=subtype)
            for kind in kinds:
                rows[kind].append(_row(target, kind, file, rules.speakers, mixture.frames))
            record.append(_recipe(mixture, file, index))
            written(count)
        (draft / RECORD).write_text(json.dumps({"rules": rules.model_dump(mode="json"), "mixtures": record}, indent=1))
        metadata = folder / METADATA
        metadata.mkdir(exist_ok=True)
        draft.rename(target)
        for kind in kinds:
            table: list[Sequence[object]] = [_header(kind, rules.speakers), *rows[kind]]
            replace_file(metadata / f"mixture_{split}_{kind}.csv", partial(_write_table, table))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def read_split(folder: Path, kind: str, speakers: int, sample_rate: int) -> list[WrittenMixture]:
    """The mixtures of a split's `folder`, in the order of their names, heard as `kind` says.

    Every file's header is read: one that is missing, has another rate or another length than the rest of its mixture is
    refused with a `UserError` that names it.
    """
    names = sorted(path.name for path in (folder / kind).glob("*") if path.suffix.lower() in audio.SUFFIXES)
    if not names:
        there = ", ".join(sorted(path.name for path in folder.glob("*") if path.is_dir())) or "no folders"
        raise UserError(f"{folder / kind}: holds no mixtures; {folder} has {there}")
    return [_written(folder, name, kind, speakers, sample_rate) for name in names]


def source_names(speakers: int) -> list[str]:
    """The folders of the sources: s1, s2, …"""
    return [f"s{number}" for number in range(1, speakers + 1)]


def _written(folder: Path, name: str, kind: str, speakers: int, sample_rate: int) -> WrittenMixture:
    mixture, *sources = paths = [folder / part / name for part in (kind, *source_names(speakers))]
    found = [audio.info(path) for path in paths]
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
    return WrittenMixture(Path(name).stem, mixture, tuple(sources), found[0].frames)


def _name(mixture: Mixture, index: int) -> str:
    """The names of the recordings, as in LibriMix, and the index, since a pair may come again."""
    stems = [re.sub(r"[^A-Za-z0-9_.-]", "-", part.recording.path.stem) for part in mixture.sources]
    return f"{'_'.join(stems)[:LONGEST_NAME]}_{index}"


def _header(kind: str, speakers: int) -> list[str]:
    sources = [f"source_{number}_path" for number in range(1, speakers + 1)]
    return ["mixture_ID", "mixture_path", *sources, *(["noise_path"] if kind == NOISY else []), "length"]


def _row(target: Path, kind: str, file: str, speakers: int, frames: int) -> list[object]:
    parts = [kind, *source_names(speakers), *([NOISE] if kind == NOISY else [])]
    return [Path(file).stem, *(str((target / part / file).resolve()) for part in parts), frames]


def _recipe(mixture: Mixture, file: str, index: int) -> dict[str, object]:
    parts = {"sources": mixture.sources, "noise": mixture.noise}
    return {"file": file, "index": index, "frames": mixture.frames} | {
        name: [
            {"recording": str(part.recording.path), "digest": part.recording.digest}
            | {"speaker": part.recording.speaker, "gain": part.gain, "start": part.start, "delay": part.delay}
            for part in own
        ]
        for name, own in parts.items()
    }


def _write_table(rows: Sequence[Sequence[object]], path: Path) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
