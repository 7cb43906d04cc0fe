"""A trained separator put to use: its users' interface, and signals and files of any length and rate.

How far to trust a window of a signal is predicted from its scores, by the calibration that is kept with the cell
(`trust`). How windows are put together: `unmixing`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.families.emd.data.speech import audio
from vaesweep.families.emd.family import SCALE, SeparatorCell
from vaesweep.families.emd.models.latents import LARGEST_MASK, Variable, draw, point
from vaesweep.families.emd.models.separator import Separator, noise_shapes
from vaesweep.families.emd.models.waveforms import frames_of
from vaesweep.families.emd.trust import scores
from vaesweep.families.emd.trust.calibration import Calibration, mixtures_needed
from vaesweep.families.emd.trust.summary import Trust, WindowTrust
from vaesweep.families.emd.unmixing import fitted, in_windows
from vaesweep.family.restore import restore
from vaesweep.family.trained import Estimate, Trained, Values, as_values, check_count
from vaesweep.training.finished import FinishedCell

WINDOW = scores.WINDOW  # seconds
SILENT = 1e-8  # mean square of a window, in units of the training signals: nothing is said of it


@dataclass(frozen=True)
class TrainedSeparator(Trained):
    """A trained separator; `scale` is what its training signals were divided by.

    `calibration` is None where its cell has none: then nothing is said of how far to trust it. Signals are `[time]` or
    `[batch, time]` at `sample_rate`, in the units of those trained on, such as 1 for full scale; `separate` takes any
    length and rate. An encoding is `[batch, K, frames]`, one frame a stride of samples, masks `[batch, speaker, K,
    frames]`, both without a unit.
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
        return cls(config, model, scale, Calibration.of(cell.kept), cell=cell)

    @property
    def sample_rate(self) -> int:
        """Hz, of the signals that it was trained on: what is separated has no more than half of it."""
        return self.config.model.sample_rate

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Mixtures `[batch, time]` to sources `[batch, speaker, time]`."""
        return (-1, -1), (-1, self.config.model.speakers, -1)

    def example(self) -> Tensor:
        """Two signals of white noise, of the length of a training mixture."""
        generator = torch.Generator().manual_seed(0)
        return self.scale * torch.randn(2, round(self.config.units["sample"]), generator=generator)

    @torch.no_grad()
    def encode(self, x: Values) -> Estimate:
        """q(z | x) of mixtures `x` `[batch, time]`, or of signals: an encoding `[batch, K, frames]`.

        `std` is zero where encodings are deterministic.
        """
        return _estimate(self.model.encode(self._signals(x) / self.scale), self.model.encoding.noise)

    @torch.no_grad()
    def masks(self, z: Values) -> Estimate:
        """q(m | z) of an encoding: masks `[batch, speaker, K, frames]`; `std` is zero of deterministic ones."""
        return _estimate(self.model.mask(self._encoding(z)), self.model.masking.noise)

    @torch.no_grad()
    def decode(self, z: Values, time: int | None = None) -> Estimate:
        """The sources of a mixture whose encoding is `z`, `[batch, speaker, time]`, masks at their points.

        Estimates: their gain and sign are free, as they are to the likelihood, and there is no spread. `time` is how
        many samples, by default as many as the frames cover.
        """
        encoding = self._encoding(z)
        return Estimate(self.scale * self._decoded(encoding, point(self.model.mask(encoding)), time))

    @torch.no_grad()
    def reconstruct(self, x: Values) -> Tensor:
        """The sources of mixtures `x` `[batch, time]`: `[batch, speaker, time]`, of points and no samples.

        Points are the medians of log-normal variables, and the means of others: what a separator is used with. Each
        source has the gain, and the sign, with which they add up to what explains most of the mixture.
        """
        signals = self._signals(x) / self.scale
        _, _, (estimates, *_) = self.model.separate_by_points(signals)
        return self.scale * torch.stack([fitted(*pair) for pair in zip(signals, estimates, strict=True)])

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Sources `[n, speaker, time]` of mixtures that never were, of the length of a training mixture.

        Encoding and masks are samples of their priors; masks that have none are the masker's. What is decoded from them
        is no sample: its gain and sign are free. Raises `UserError` of a separator whose encoding has no prior, or one
        that cannot be drawn from.
        """
        check_count(n)
        name, config = self.cell.cell, self.config.model
        encoding, masking = self.model.encoding, self.model.masking
        if encoding.prior is None or encoding.noise is None:
            raise UserError(f"cell {name} is deterministic: it has no prior to sample from; use one of its twins")
        if self.model.flow is not None:
            raise UserError(f"cell {name} has a flow as its prior, which gives densities and no samples")
        generator, time = torch.Generator().manual_seed(seed), round(self.config.units["sample"])
        noise = {key: torch.randn(n, *shape, generator=generator) for key, shape in noise_shapes(config, time).items()}
        shape = (n, config.latents, frames_of(time, config.stride))
        z = encoding.prior(torch.zeros(shape)).draw(noise["encoding_noise"])[0]
        if masking.prior is None:
            masks = point(self.model.mask(z))
        else:
            like = torch.zeros(n, config.speakers, *shape[1:])
            masks = masking.prior(like).draw(noise["mask_noise"])[0]
        return self.scale * self._decoded(z, masks, time)

    def standardised(self, data: DataSet) -> DataSet:
        """`data` divided by what this model's signals were."""
        if SCALE not in self.cell.kept:
            return data
        return replace(data, standardisation=replace(data.standardisation, std=np.array([self.scale])))

    def _signals(self, x: Values) -> Tensor:
        return as_values(x, "signals", "[batch, time]", None, None)

    def _encoding(self, z: Values) -> Tensor:
        latents = self.config.model.latents
        return as_values(z, "an encoding", f"[batch, {latents}, frames]", None, latents, None)

    def _decoded(self, encoding: Tensor, masks: Tensor, time: int | None) -> Tensor:
        length = encoding.shape[-1] * self.config.model.stride if time is None else time
        return self.model.decode(masks.clamp_max(LARGEST_MASK) * encoding.unsqueeze(1), length)[0]

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

        def separate(mixture: np.ndarray, span: tuple[float, float]) -> np.ndarray:
            return self._window(mixture, sample_rate, span, trust)

        return in_windows(separate, read, frames, sample_rate, window)

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


def _estimate(q: Variable, noise: tuple[int, ...] | None) -> Estimate:
    """Numbers, or a distribution of which one draw of an element takes `noise`."""
    if isinstance(q, Tensor):
        return Estimate.exact(q)
    assert noise is not None
    shape = (*q.mean.shape, *noise)
    return Estimate(q.mean, q.std, lambda generator: draw(q, torch.randn(shape, generator=generator)).value)
