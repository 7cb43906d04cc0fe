"""Audio files as mono signals: what a file holds, a stretch of it, another sample rate, and writing one.

libsndfile reads WAV, FLAC, OGG and MP3. Several channels become their mean. A file that is not there, is no audio or
ends before its header says is refused with a `UserError` that names it.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from vaesweep.data.reading import check_regular
from vaesweep.errors import UserError

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")  # of files that are taken for recordings
REMEDY = "replace the file, or take it away"
SAMPLES = 2**31  # of a file, of all channels: 12 hours at 48 kHz; as float32 they take 8 GiB
RATES = (100, 1_000_000)  # Hz
FAULTS = (OSError, ValueError, RuntimeError, MemoryError, soundfile.SoundFileError)


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says: samples of a channel, samples a second, channels."""

    frames: int
    rate: int
    channels: int


def info(path: Path) -> AudioInfo:
    """What the header of the file at `path` says."""
    check_regular(path, REMEDY)
    try:
        found = soundfile.info(str(path))
    except FAULTS as error:
        raise _refused(path, error) from None
    return _checked(path, AudioInfo(found.frames, found.samplerate, found.channels))


def _checked(path: Path, about: AudioInfo) -> AudioInfo:
    """What a header says, refused where no recording is like that: it would ask for memory without end."""
    if not about.frames:
        raise UserError(f"{path}: has no samples; {REMEDY}")
    if about.frames * about.channels > SAMPLES:
        raise UserError(
            f"{path}: says that it has {about.frames} samples of {about.channels} channels, where at most {SAMPLES} "
            f"are read of one file; {REMEDY}, or cut it"
        )
    if not RATES[0] <= about.rate <= RATES[1]:
        raise UserError(f"{path}: has {about.rate} samples a second, read are {RATES[0]} to {RATES[1]}; {REMEDY}")
    return about


def read(path: Path, start: int = 0, frames: int | None = None) -> tuple[np.ndarray, int]:
    """`frames` samples from `start` on, all that follow if not given, float32 `[time]`, and their rate in Hz."""
    check_regular(path, REMEDY)
    try:
        with soundfile.SoundFile(str(path)) as file:
            _checked(path, AudioInfo(file.frames, file.samplerate, file.channels))
            wanted = file.frames - start if frames is None else frames
            if start < 0 or wanted < 0 or start + wanted > file.frames:
                raise UserError(f"{path}: has {file.frames} samples, {start} to {start + wanted} were asked for")
            file.seek(start)
            signal = file.read(wanted, dtype="float32", always_2d=True)
            rate = file.samplerate
    except FAULTS as error:
        if isinstance(error, UserError):
            raise
        raise _refused(path, error) from None
    if len(signal) < wanted:
        raise UserError(f"{path}: is cut off: {start + len(signal)} samples of the {start + wanted} it says; {REMEDY}")
    if not np.isfinite(signal).all():
        raise UserError(f"{path}: has samples that are not finite; {REMEDY}")
    return (signal[:, 0] if signal.shape[1] == 1 else signal.mean(axis=1)), rate


def write(path: Path, signal: np.ndarray, rate: int, *, subtype: str = "FLOAT") -> None:
    """Write a mono WAV file of `signal` `[time]`; a `FLOAT` is read again as it was, `PCM_16` takes half the room.

    Its bytes depend on the signal alone: libsndfile would put the time of day into a file of floats.
    """
    if subtype == "FLOAT":
        from scipy.io import wavfile

        wavfile.write(path, rate, signal.astype(np.float32))
    else:
        soundfile.write(str(path), signal, rate, subtype=subtype, format="WAV")


def resample(signal: np.ndarray, source: int, target: int) -> np.ndarray:
    """`signal` `[time]` at `target` instead of `source` samples a second: ⌈time · target / source⌉ samples, float32.

    A polyphase filter with a Kaiser window, as LibriMix is made with. It is the same on every machine.
    """
    if source == target:
        return signal
    from scipy.signal import resample_poly  # takes a second to import, which every sweep of separators would pay

    common = math.gcd(source, target)
    up, down = target // common, source // common
    return resample_poly(signal.astype(np.float64), up, down).astype(np.float32)


def resampled_frames(frames: int, source: int, target: int) -> int:
    """The length that `resample` gives."""
    return -(-frames * target // source)


def _refused(path: Path, error: Exception) -> UserError:
    if not path.exists():
        return UserError(f"{path}: there is no such file; {REMEDY}")
    reason = " ".join(str(error).split()).rpartition(": ")[2] or str(error) or type(error).__name__
    return UserError(f"{path}: cannot be read as audio ({reason.rstrip('.')}); {REMEDY}")
