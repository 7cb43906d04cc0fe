"""A trained separator put to use: signals and files of any length and rate, in memory that does not grow with them.

    window ─ separated by the modes ─ gains that explain the mixture ─ speakers matched ─ faded into the last window

A signal is taken in windows, each half over the next. Estimates of a window have a gain, and a sign, of their own,
since the likelihood leaves them free: those are taken whose sum comes closest to the mixture (least squares). Speakers
are matched to those of the window before by what both say of the half that they share. How far to trust a window is
predicted from its scores, by the calibration that is kept with the cell (`trust`).
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
from vaesweep.families.emd.models.separator import Separator, noise_shapes
from vaesweep.families.emd.trust import scores
from vaesweep.families.emd.trust.calibration import Calibration, mixtures_needed
from vaesweep.families.emd.trust.summary import Trust, WindowTrust
from vaesweep.family.restore import restore
from vaesweep.permutation import best_assignment
from vaesweep.training.finished import FinishedCell

WINDOW = scores.WINDOW  # seconds
SILENT = 1e-8  # mean square of a window, in units of the training signals: nothing is said of it
QUIET = 1e-10  # of a signal's energy: below it there is nothing to be matched or scaled


@dataclass(frozen=True)
class TrainedSeparator:
    """A trained separator; `scale` is what its training signals were divided by.

    `calibration` is None where its cell has none: then nothing is said of how far to trust it.
    """

    config: SeparatorCell
    model: Separator
    scale: float
    calibration: Calibration | None = None

    @classmethod
    def restore(cls, cell: FinishedCell) -> "TrainedSeparator":
        """Read `cell`. Raises `UserError` where it is of another family, or of another version of this one."""
        config, model = restore(cell, SeparatorCell, Separator)
        scale = float(cell.kept[SCALE]) if SCALE in cell.kept else 1.0
        return cls(config, model, scale, Calibration.of(cell.kept))

    @property
    def sample_rate(self) -> int:
        """Hz, of the signals that it was trained on: what is separated has no more than half of it."""
        return self.config.model.sample_rate

    def separate(
        self, mixture: np.ndarray, sample_rate: int, window: float = WINDOW, trust: Trust | None = None
    ) -> np.ndarray:
        """The sources of `mixture` `[time]` at its own rate: float32 `[speaker, time]`.

        They add up to what the model explains of the mixture. A `UserError` where it is no finite signal. The windows
        are added to `trust`.
        """
        if mixture.ndim != 1 or not len(mixture):
            raise UserError(f"a mixture is [time], one sample or more, not {[*mixture.shape]}")
        if not np.isfinite(mixture).all():
            raise UserError("the mixture has samples that are not finite; take them away")

        def read(start: int, frames: int) -> np.ndarray:
            return mixture[start : start + frames]

        return np.concatenate(list(self.stream(read, len(mixture), sample_rate, window, trust)), axis=-1)

    def trust(self, mixture: np.ndarray, sample_rate: int, window: float = WINDOW) -> Trust:
        """How far to trust what `separate` gives of `mixture` `[time]`; a `UserError` without a calibration."""
        trust = self.start_trust()
        self.separate(mixture, sample_rate, window, trust)
        return trust

    def start_trust(self) -> Trust:
        """A summary to give to a separation, of no window yet; a `UserError` of a cell without a calibration."""
        if self.calibration is None:
            raise UserError(f"how far to trust it is not known: {self.no_calibration}")
        level = self.config.evaluation.trust
        return Trust(level, self.calibration.half_width(level))

    def separate_file(
        self, path: Path, out: Path, window: float = WINDOW, trust: Trust | None = None
    ) -> tuple[Path, ...]:
        """Write a WAV file a speaker into `out`, at the rate of the file at `path`, and return their paths.

        Several channels are separated as their mean. Files are written anew as wholes. The windows are added to
        `trust`.
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
                for piece in self.stream(read, about.frames, about.rate, window, trust):
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
        self,
        read: Callable[[int, int], np.ndarray],
        frames: int,
        sample_rate: int,
        window: float = WINDOW,
        trust: Trust | None = None,
    ) -> Iterator[np.ndarray]:
        """The sources piece after piece, `[speaker, piece]`, of `frames` samples that `read(start, count)` gives.

        No more than two windows are held. Each is added to `trust`, where that is given.
        """
        hop = max(round(window * sample_rate / 2), 1)
        rise = (np.arange(hop, dtype=np.float32) + 0.5) / hop
        tail = np.zeros((0, 0), np.float32)  # of the last window, its second half; that of the very last may be shorter
        for start in range(0, max(frames - hop, 1), hop):
            count = min(2 * hop, frames - start)
            span = (start / sample_rate, (start + count) / sample_rate)
            sources = self._window(read(start, count), sample_rate, span, trust)
            if start:
                sources = sources[matching(tail, sources[:, :hop])]
                yield tail * (1 - rise) + sources[:, :hop] * rise
            else:
                yield sources[:, :hop]
            tail = sources[:, hop:]
        if tail.shape[-1]:
            yield tail

    @torch.no_grad()
    def _window(
        self, mixture: np.ndarray, sample_rate: int, span: tuple[float, float], trust: Trust | None
    ) -> np.ndarray:
        signal = audio.resample(np.asarray(mixture, np.float32), sample_rate, self.sample_rate) / self.scale
        short = max(self.config.model.kernel - len(signal), 0)
        padded = torch.as_tensor(np.pad(signal, (0, short)))
        if trust is None:
            _, _, (estimates, *_) = self.model.separate_by_points(padded[None])
        else:
            estimates, judged = self._judged(padded, span)
            trust.add(judged)
        scaled = fitted(padded, estimates[0])[:, : len(signal)].numpy() * np.float32(self.scale)
        back = np.stack([audio.resample(source, self.sample_rate, sample_rate) for source in scaled])
        return np.pad(back, ((0, 0), (0, max(len(mixture) - back.shape[-1], 0))))[:, : len(mixture)]

    def _judged(self, mixture: Tensor, span: tuple[float, float]) -> tuple[Tensor, WindowTrust | None]:
        """The estimates `[1, speaker, time]` of a window, and what is expected of them; None of a silent one.

        Windows of one length have the same noise.
        """
        assert self.calibration is not None
        generator = torch.Generator().manual_seed(0)
        shapes, samples = noise_shapes(self.config.model, len(mixture)), self.config.evaluation.samples
        noise = {name: torch.randn(samples, 1, *shape, generator=generator) for name, shape in shapes.items()}
        found = scores.estimate(self.model, mixture[None], noise)
        if float(mixture.square().mean()) < SILENT:
            return found.points, None
        (expected,), (unlike,) = self.calibration.predict(found.scores), self.calibration.unlike(found.scores)
        return found.points, WindowTrust(*span, float(expected), bool(unlike))

    @property
    def no_calibration(self) -> str:
        """Why a cell has no calibration, and how it gets one."""
        evaluation = self.config.evaluation
        again = "run its sweep again with --set {}, which trains nothing and evaluates"
        if not evaluation.samples:
            return f"the cell was evaluated without samples; {again.format('evaluation.samples=4')}"
        if not evaluation.trust:
            return f"the cell was evaluated with evaluation.trust=0; {again.format('evaluation.trust=0.8')}"
        # Another level makes another evaluation, where this one was before there was trust.
        other = f"evaluation.trust={0.75 if evaluation.trust == 0.8 else 0.8}"
        needed = mixtures_needed(evaluation.trust)
        return f"the cell has no calibration, or was validated on fewer than {needed} mixtures; {again.format(other)}"


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
