"""Folders of single-speaker recordings: who speaks, for how long, how loud, and which speakers are held out.

Every file is read once: its length, loudness and digest go to an index in the user's cache folder, under its path,
size and time of change. The digest is of the samples, so that a folder that was moved is the same data.
"""

import contextlib
import hashlib
import json
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vaesweep.data.cache import cache_folder
from vaesweep.data.domains import Role
from vaesweep.data.folders import find
from vaesweep.data.tables import Table
from vaesweep.data.writing import replace_file
from vaesweep.errors import UserError
from vaesweep.families.emd.data.speech import audio

SHORTEST = 1.0  # seconds; shorter recordings are left out
QUIETEST = -70.0  # LUFS, the gate of ITU-R BS.1770: quieter recordings are silence and left out
INDEX_FORMAT = 1
SHARES: Mapping[Role, float] = {Role.TRAIN: 0.8, Role.VALID: 0.1, Role.TEST: 0.1}  # of speakers, and of noises
PARTS: Mapping[Role, tuple[str, ...]] = {  # folders of noise, the first as WHAM! has it
    Role.TRAIN: ("tr", "train"),
    Role.VALID: ("cv", "valid", "dev"),
    Role.TEST: ("tt", "test"),
}
TABLE_COLUMNS = ("path", "speaker")
_USE = {Role.TRAIN: "train with", Role.VALID: "validate with", Role.TEST: "test with"}

SpeakerOf = Callable[[str], str | None]  # of a path below the folder, with slashes; None where the file is not wanted


@dataclass(frozen=True)
class Recording:
    """One file: its path, who speaks, samples and samples a second, loudness in LUFS, largest sample, digest."""

    path: Path
    speaker: str
    frames: int
    rate: int
    loudness: float
    peak: float
    digest: str

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.frames / self.rate


@dataclass(frozen=True)
class Folder:
    """The usable recordings of a folder, in the order of their paths, and lines for people about the others."""

    recordings: tuple[Recording, ...]
    summary: tuple[str, ...]


@dataclass(frozen=True)
class Noise:
    """The usable recordings of a folder of noise by the role of what they are mixed with, and lines for people."""

    by_role: Mapping[Role, tuple[Recording, ...]]
    summary: tuple[str, ...]

    def of(self, role: Role) -> tuple[Recording, ...]:
        """The noise of a domain; unseen ones have that of testing."""
        return self.by_role[Role.TEST if role is Role.UNSEEN else role]

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """All of them, each once."""
        return tuple({r.path: r for own in self.by_role.values() for r in own}.values())


def scan(folder: Path, speaker_of: SpeakerOf | None = None) -> Folder:
    """The recordings below `folder`; who speaks by `speaker_of`, or `by_place`.

    Recordings shorter than a second and silent ones are left out and counted. No folder, no recordings, and files that
    cannot be read are refused with a `UserError`.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; name one with recordings of single speakers")
    files = find(folder, audio.SUFFIXES)
    names = sorted(files.names)
    rule = speaker_of or by_place
    speakers = {name: speaker for name in names if (speaker := rule(name)) is not None}
    if not speakers:
        known = ", ".join(audio.SUFFIXES)
        found = f"{len(names)} audio files, but no speaker is known of any" if names else f"no files ending in {known}"
        there = "".join(f"; {line.partition(': ')[2]}" for line in files.summary)
        raise UserError(
            f"{folder}: has {found}; name the folder of the recordings, or a rule for their speakers{there}"
        )
    entries = _indexed(folder, list(speakers), _measure)
    all_recordings = [entries[name].of(folder / name, speaker) for name, speaker in speakers.items()]
    usable = [r for r in all_recordings if r.seconds >= SHORTEST and r.loudness >= QUIETEST]
    if not usable:
        raise UserError(
            f"{folder}: all of its {len(all_recordings)} recordings are shorter than {SHORTEST:g} s or silent; "
            "name another folder"
        )
    short = sum(r.seconds < SHORTEST for r in all_recordings)
    silent = len(all_recordings) - len(usable) - short
    hours = sum(r.seconds for r in usable) / 3600
    line = f"{folder}: {len(usable)} recordings of {len({r.speaker for r in usable})} speakers, {hours:.2g} hours"
    left_out = [f"{short} shorter than {SHORTEST:g} s"] * (short > 0) + [f"{silent} silent"] * (silent > 0)
    nobody = len(names) - len(speakers)
    left_out += [f"{nobody} of no known speaker"] * (nobody > 0)
    line += f"; left out: {', '.join(left_out)}" if left_out else ""
    return Folder(tuple(usable), (line, *files.summary))


def scan_noise(folder: Path | None) -> Noise:
    """The recordings below a folder of noise, whoever speaks there, and the role of each; none of no folder.

    Where it has folders called as WHAM!'s noise has them, `tr`, `cv` and `tt`, or after the roles, these say the roles.
    Otherwise digests of the recordings do, each of which is in one role only. Where there are fewer recordings than
    roles, all are in each. A folder of some roles and not of others is refused with a `UserError`.
    """
    if folder is None:
        return Noise(dict.fromkeys(SHARES, ()), ())
    named = {role: [folder / name for name in names if (folder / name).is_dir()] for role, names in PARTS.items()}
    present = [path.name for paths in named.values() for path in paths]
    if all(len(paths) == 1 for paths in named.values()):
        scanned = {role: _scanned_noise(paths[0]) for role, paths in named.items()}
        lines = tuple(line for one in scanned.values() for line in one.summary)
        return Noise({role: one.recordings for role, one in scanned.items()}, lines)
    if len(present) > 1:
        raise UserError(
            f"{folder}: has {', '.join(present)}; noise is in one folder each of {PARTS[Role.TRAIN][0]}, "
            f"{PARTS[Role.VALID][0]} and {PARTS[Role.TEST][0]}, or in none of these"
        )
    found = _scanned_noise(folder)
    distinct = {recording.digest for recording in found.recordings}
    if len(distinct) < len(SHARES):
        line = f"{folder}: {len(distinct)} recordings of noise are too few to divide: they are the same in all domains"
        return Noise(dict.fromkeys(SHARES, found.recordings), (*found.summary, line))
    role_of = _dealt(distinct, 1)
    by_role = {role: tuple(r for r in found.recordings if role_of[r.digest] == role) for role in SHARES}
    counts = ", ".join(f"{len(own)} of noise to {_USE[role]}" for role, own in by_role.items())
    return Noise(by_role, (*found.summary, f"{folder}: {counts}"))


def _scanned_noise(folder: Path) -> Folder:
    return scan(folder, lambda name: "noise")


def by_place(name: str) -> str:
    """The name of the file up to its first `-`, `_` or `.` where a folder of its path is called so, or it has none.

    Else the first folder. So LibriSpeech's `train-clean-100/103/1240/103-1240-0000.flac` is of 103, with or without its
    folders, VCTK's `wav48/p225/p225_003.wav` of p225, and `anna/1.wav` of anna.
    """
    *folders, file = name.split("/")
    beginning = re.split(r"[-_.]", file, maxsplit=1)[0]
    return beginning if beginning in folders or not folders else folders[0]


def by_pattern(pattern: str) -> SpeakerOf:
    """The first group of a regular expression that is looked for in the path; files without it are not wanted."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"speaker pattern {pattern}: is no regular expression ({error})") from None
    if compiled.groups < 1:
        raise UserError(f"speaker pattern {pattern}: has no group; put the part that names the speaker in parentheses")
    return lambda name: match.group(1) if (match := compiled.search(name)) else None


def by_table(table: Path) -> SpeakerOf:
    """The column `speaker` of a CSV file beside its column `path`, below the folder; other files are not wanted."""
    if not table.exists():
        raise UserError(f"{table}: cannot be read as a table, there is none; give a CSV file with path and speaker")
    read = Table.read(table, needed=TABLE_COLUMNS)
    read.refuse_duplicates(TABLE_COLUMNS)
    if not set(TABLE_COLUMNS) <= set(read.header):
        raise UserError(f"{table}: has no columns path and speaker; give a CSV file with these")
    speakers: dict[str, str] = {}
    for row in read.rows():
        path, speaker = (read.text(row, name) for name in TABLE_COLUMNS)
        if not path or not speaker:
            raise UserError(
                f"{table}, line {row.line}: {'speaker' if path else 'path'} is empty; write one in every row"
            )
        if speakers.setdefault(path, speaker) != speaker:
            raise UserError(f"{table}, line {row.line}: {path} is of {speakers[path]} and of {speaker}; keep one row")
    return speakers.get


def split_speakers(recordings: Sequence[Recording], talkers: int = 2) -> dict[Role, tuple[Recording, ...]]:
    """Recordings by role, no speaker in two: each role gets its share, two and the `talkers` of a mixture at least.

    Which speakers is decided by a digest of their names, so that one speaker more moves few others. Too few speakers
    are refused with a `UserError`.
    """
    least, speakers = max(2, talkers), {r.speaker for r in recordings}
    if len(speakers) < least * len(SHARES):
        raise UserError(
            f"{len(speakers)} speakers cannot be split into {', '.join(SHARES)}, of {least} or more each; "
            "use more recordings, or name folders of their own for these"
        )
    role_of = _dealt(speakers, least)
    return {role: tuple(r for r in recordings if role_of[r.speaker] == role) for role in SHARES}


def _dealt(names: Collection[str], least: int) -> dict[str, Role]:
    """The role of every name, by the order of their digests: each role has its share, and `least` of them at least."""
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    counts = {role: max(least, round(share * len(ordered))) for role, share in SHARES.items()}
    largest = max(counts, key=lambda role: counts[role])
    counts[largest] -= sum(counts.values()) - len(ordered)
    roles = [role for role, count in counts.items() for _ in range(count)]
    return dict(zip(ordered, roles, strict=True))


def digests(paths: Sequence[Path]) -> list[str]:
    """The digests of the samples of files, in their order; each is read once, as those of a scanned folder are."""
    by_folder: dict[Path, list[str]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(path.name)
    known = {folder: _indexed(folder, names, _hash) for folder, names in by_folder.items()}
    return [known[path.parent][path.name].digest for path in paths]


def _indexed(folder: Path, names: Sequence[str], measure: "_Measure") -> dict[str, "_Entry"]:
    """What is known of the files, by name: from the index where they have not changed, else measured anew."""
    about = hashlib.sha256(f"{measure.__name__} {folder.resolve()}".encode()).hexdigest()[:16]
    file = cache_folder() / f"recordings-{about}.json"
    known = _read_index(file)
    marks = {name: _mark(folder / name) for name in names}
    left = [name for name in names if name not in known or known[name].mark != marks[name]]
    measured: dict[str, _Entry] = {}
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for name, entry in zip(left, pool.map(lambda n: measure(folder / n, marks[n]), left), strict=True):
                measured[name] = entry
    finally:  # of files before one that is refused all is kept
        if measured:
            _write_index(file, known | measured)
    return known | measured


def _mark(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _hash(path: Path, mark: tuple[int, int]) -> "_Entry":
    """All but the loudness, which takes a library and the most time."""
    signal, rate = audio.read(path)
    return _entry(signal, rate, mark, -1000.0)


def _measure(path: Path, mark: tuple[int, int]) -> "_Entry":
    signal, rate = audio.read(path)
    return _entry(signal, rate, mark, loudness(signal, rate))


def _entry(signal: np.ndarray, rate: int, mark: tuple[int, int], loud: float) -> "_Entry":
    digest = hashlib.sha256(f"{rate} ".encode() + np.ascontiguousarray(signal).tobytes()).hexdigest()[:16]
    return _Entry(mark, len(signal), rate, loud, float(np.abs(signal).max(initial=0.0)), digest)


_Measure = Callable[[Path, tuple[int, int]], "_Entry"]


class _Entry(NamedTuple):
    """A file in the index: size and time of change, then the fields of a `Recording`."""

    mark: tuple[int, int]
    frames: int
    rate: int
    loudness: float
    peak: float
    digest: str

    def of(self, path: Path, speaker: str) -> Recording:
        """The recording."""
        return Recording(path, speaker, self.frames, self.rate, self.loudness, self.peak, self.digest)


def loudness(signal: np.ndarray, rate: int) -> float:
    """Integrated loudness of `signal` `[time]` by ITU-R BS.1770-4, LUFS; -1000 for silence and less than 0.4 s.

    To a thousandth: its last digits differ between processors, and all that is drawn from it would.
    """
    if len(signal) < 0.4 * rate:
        return -1000.0
    with np.errstate(divide="ignore"):
        value = float(_meter(rate).integrated_loudness(signal.astype(np.float64)))
    return round(value, 3) if np.isfinite(value) else -1000.0


def _meter(rate: int) -> Any:
    try:
        import pyloudnorm
    except ImportError:
        raise UserError(
            "the loudness of recordings takes pyloudnorm, which is not installed: pip install 'vaesweep[speech]'"
        ) from None
    return pyloudnorm.Meter(rate)


def _read_index(file: Path) -> dict[str, "_Entry"]:
    try:
        index = json.loads(file.read_text())
        if index["format"] != INDEX_FORMAT:
            return {}
        return {name: _Entry((mark[0], mark[1]), *rest) for name, (mark, *rest) in index["recordings"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return {}  # there is none, or it is no index: all files are read


def _write_index(file: Path, entries: Mapping[str, "_Entry"]) -> None:
    text = json.dumps({"format": INDEX_FORMAT, "recordings": entries})
    with contextlib.suppress(OSError):  # else the files are read again next time
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, lambda draft: draft.write_text(text))


class DecodeCache:
    """Signals of recordings at one rate, read where they are asked for; those used last are kept within a bound.

    Threads may share it: two that ask for one recording at once may both read it.
    """

    def __init__(self, sample_rate: int, limit_bytes: int = 2**28) -> None:
        self._rate, self._limit, self._bytes = sample_rate, limit_bytes, 0
        self._kept: OrderedDict[Path, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, recording: Recording) -> np.ndarray:
        """The whole signal of `recording`, float32 `[time]`; it is not to be changed."""
        path = recording.path
        with self._lock:
            if path in self._kept:
                self._kept.move_to_end(path)
                return self._kept[path]
        signal, rate = audio.read(path)
        signal = audio.resample(signal, rate, self._rate)
        with self._lock:
            if path not in self._kept:
                self._kept[path] = signal
                self._bytes += signal.nbytes
            while self._bytes > self._limit and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return signal


def speakers_of(recordings: Sequence[Recording]) -> Iterator[tuple[str, tuple[Recording, ...]]]:
    """Every speaker with the recordings of it, in the order of their names."""
    by_speaker: dict[str, list[Recording]] = {}
    for recording in recordings:
        by_speaker.setdefault(recording.speaker, []).append(recording)
    for speaker in sorted(by_speaker):
        yield speaker, tuple(by_speaker[speaker])
