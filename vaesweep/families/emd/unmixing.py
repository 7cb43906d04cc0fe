"""A trained separator put to use: signals and files of any length and rate, in memory that does not grow with them.

    window ─ separated by the modes ─ gains that explain the mixture ─ speakers matched ─ faded into the last window

A signal is taken in windows, each half over the next. Estimates of a window have a gain, and a sign, of their own,
since the likelihood leaves them free: those are taken whose sum comes closest to the mixture (least squares). Speakers
are matched to those of the window before by what both say of the half that they share.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from vaesweep.errors import UserError
from vaesweep.families.emd.data.speech import audio
from vaesweep.families.emd.family import SCALE, SeparatorCell
from vaesweep.families.emd.models.separator import Separator
from vaesweep.family.restore import restore
from vaesweep.permutation import best_assignment
from vaesweep.training.finished import FinishedCell

WINDOW = 4.0  # seconds
QUIET = 1e-10  # of a signal's energy: below it there is nothing to be matched or scaled


@dataclass(frozen=True)
class TrainedSeparator:
    """A trained separator; `scale` is what its training signals were divided by."""

    config: SeparatorCell
    model: Separator
    scale: float

    @classmethod
    def restore(cls, cell: FinishedCell) -> "TrainedSeparator":
        """Read `cell`. Raises `UserError` where it is of another family, or of another version of this one."""
        config, model = restore(cell, SeparatorCell, Separator)
        return cls(config, model, float(cell.kept[SCALE]) if SCALE in cell.kept else 1.0)

    @property
    def sample_rate(self) -> int:
        """Hz, of the signals that it was trained on: what is separated has no more than half of it."""
        return self.config.model.sample_rate

    def separate(self, mixture: np.ndarray, sample_rate: int, window: float = WINDOW) -> np.ndarray:
        """The sources of `mixture` `[time]` at its own rate: float32 `[speaker, time]`.

        They add up to what the model explains of the mixture. A `UserError` where it is no finite signal.
        """
        if mixture.ndim != 1 or not len(mixture):
            raise UserError(f"a mixture is [time], one sample or more, not {[*mixture.shape]}")
        if not np.isfinite(mixture).all():
            raise UserError("the mixture has samples that are not finite; take them away")

        def read(start: int, frames: int) -> np.ndarray:
            return mixture[start : start + frames]

        return np.concatenate(list(self.stream(read, len(mixture), sample_rate, window)), axis=-1)

    def separate_file(self, path: Path, out: Path, window: float = WINDOW) -> tuple[Path, ...]:
        """Write a WAV file a speaker into `out`, at the rate of the file at `path`, and return their paths.

        Several channels are separated as their mean. Files are written anew as wholes.
        """
        about = audio.info(path)

        def read(start: int, frames: int) -> np.ndarray:
            return audio.read(path, start, frames)[0]

        out.mkdir(parents=True, exist_ok=True)
        targets = [out / f"{path.stem}_speaker_{number + 1}.wav" for number in range(self.config.model.speakers)]
        drafts = [target.with_name(f".{target.name}.part") for target in targets]
        try:
            files = [soundfile.SoundFile(draft, "w", about.rate, 1, "FLOAT", format="WAV") for draft in drafts]
            try:
                for piece in self.stream(read, about.frames, about.rate, window):
                    for file, signal in zip(files, piece, strict=True):
                        file.write(signal)
            finally:
                for file in files:
                    file.close()
            return tuple(draft.replace(target) for target, draft in zip(targets, drafts, strict=True))
        finally:
            for draft in drafts:
                draft.unlink(missing_ok=True)

    def stream(
        self, read: Callable[[int, int], np.ndarray], frames: int, sample_rate: int, window: float = WINDOW
    ) -> Iterator[np.ndarray]:
        """The sources piece after piece, `[speaker, piece]`, of `frames` samples that `read(start, count)` gives.

        No more than two windows are held.
        """
        hop = max(round(window * sample_rate / 2), 1)
        rise = (np.arange(hop, dtype=np.float32) + 0.5) / hop
        tail = np.zeros((0, 0), np.float32)  # of the last window, its second half; that of the very last may be shorter
        for start in range(0, max(frames - hop, 1), hop):
            count = min(2 * hop, frames - start)
            sources = self._window(read(start, count), sample_rate)
            if start:
                sources = sources[matching(tail, sources[:, :hop])]
                yield tail * (1 - rise) + sources[:, :hop] * rise
            else:
                yield sources[:, :hop]
            tail = sources[:, hop:]
        if tail.shape[-1]:
            yield tail

    @torch.no_grad()
    def _window(self, mixture: np.ndarray, sample_rate: int) -> np.ndarray:
        signal = audio.resample(np.asarray(mixture, np.float32), sample_rate, self.sample_rate) / self.scale
        short = max(self.config.model.kernel - len(signal), 0)
        padded = torch.as_tensor(np.pad(signal, (0, short)))
        _, _, (estimates, *_) = self.model.separate_by_points(padded[None])
        scaled = fitted(padded, estimates[0])[:, : len(signal)].numpy() * np.float32(self.scale)
        back = np.stack([audio.resample(source, self.sample_rate, sample_rate) for source in scaled])
        return np.pad(back, ((0, 0), (0, max(len(mixture) - back.shape[-1], 0))))[:, : len(mixture)]


def fitted(mixture: Tensor, estimates: Tensor) -> Tensor:
    """`estimates` `[speaker, time]`, each times the number with which their sum comes closest to `mixture` `[time]`.

    Nothing is made of silence: an estimate without energy stays silent, and so does all of a silent mixture.
    """
    energy = estimates.square().sum(-1)
    sounds = energy > QUIET * energy.max().clamp_min(torch.finfo(estimates.dtype).tiny)
    if not bool(mixture.square().sum() > 0) or not bool(sounds.any()):
        return torch.zeros_like(estimates)
    unit = torch.where(sounds, energy, 1.0).rsqrt().unsqueeze(-1) * estimates * sounds.unsqueeze(-1)
    gains = torch.linalg.lstsq(unit.T.double(), mixture.double().unsqueeze(-1), driver="gelsd").solution
    return (gains * unit.double()).to(estimates.dtype)


def matching(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """The order of `now` in which it comes closest to `before`, `[speaker, time]` each: `[speaker]`."""
    count = min(before.shape[-1], now.shape[-1])
    one, other = torch.as_tensor(before[:, :count]).double(), torch.as_tensor(now[:, :count]).double()
    losses = (one.unsqueeze(1) - other.unsqueeze(0)).square().sum(-1)
    return best_assignment(losses).order.numpy()
