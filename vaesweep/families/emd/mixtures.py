"""The mixtures of a domain as batches on a device, whatever they are made of, and noise for a separator's variables.

In training noise comes from the step's generator, of recordings from one that is the row's own; in evaluation it is
keyed by the mixture's index, so that it depends on neither batch nor device.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vaesweep.data.counters import Stream, normal
from vaesweep.data.domains import Domain
from vaesweep.errors import UserError
from vaesweep.families.emd.data import pulses
from vaesweep.families.emd.data.pulses import PulseCondition
from vaesweep.families.emd.data.speech.domains import ONE, SpeechConfig, SpeechSource
from vaesweep.families.emd.data.speech.mixing import Sound, at_speeds, dequantised
from vaesweep.families.emd.models.separator import SeparatorConfig, noise_shapes
from vaesweep.training.batch_order import Draws
from vaesweep.training.stack import Batch

STREAMS = {"encoding_noise": Stream.ENCODING, "mask_noise": Stream.MASKS, "source_noise": Stream.SOURCES}


class Mixtures(ABC):
    """The mixtures of one domain, for one separator.

    `crop` is the samples of a training mixture, `training_rows` how many there are to draw from, and `indices` `[row]`
    what an evaluation mixture's noise is keyed by.
    """

    crop: int
    training_rows: int
    indices: Tensor

    def __init__(self, model: SeparatorConfig, device: torch.device) -> None:
        self._model, self._device = model, device

    def __len__(self) -> int:
        return len(self.indices)

    @abstractmethod
    def training_batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        """`mixture` `[batch, time]` and `sources` `[batch, speaker, time]` to train on, as `generator` draws them."""

    @abstractmethod
    def evaluation_batch(self, rows: slice) -> Batch:
        """`mixture` and `sources` of evaluation rows that are equally long."""

    @abstractmethod
    def frames(self, row: int) -> int:
        """Samples of an evaluation mixture."""

    def chunks(self, rows: slice, size: int) -> Iterator[slice]:
        """Slices of at most `size` of the `rows`, each of equally long mixtures."""
        start = rows.start
        while start < rows.stop:
            stop = start + 1
            while stop < min(start + size, rows.stop) and self.frames(stop) == self.frames(start):
                stop += 1
            yield slice(start, stop)
            start = stop

    def drawn_noise(self, rows: int, generator: torch.Generator) -> Batch:
        """Noise of the latent variables for as many training `rows`, from a generator."""
        shapes = noise_shapes(self._model, self.crop)
        return {
            name: torch.randn(rows, *shape, generator=generator, device=self._device) for name, shape in shapes.items()
        }

    def read(self, draws: Draws) -> Batch | None:
        """Training mixtures and sources that come from files, every row by a number of its own; None where none do."""
        return None

    def noise_of_rows(self, draws: Draws) -> Batch:
        """Noise of the latent variables of training rows, each from a generator of its own."""
        rows = [self.drawn_noise(1, draws.of_row(place)) for place in draws.places]
        rows = rows or [self.drawn_noise(0, draws.of_batch())]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def keyed_noise(self, rows: slice, samples: int = 1) -> Batch:
        """Noise of the latent variables that is each mixture's own, `[sample, batch, ...]`.

        The first sample is the same whatever the number of `samples`.
        """
        indices, shapes = self.indices[rows], noise_shapes(self._model, self.frames(rows.start))
        return {
            name: normal(STREAMS[name], indices, samples * math.prod(shape))
            .unflatten(-1, (samples, *shape))
            .movedim(1, 0)
            for name, shape in shapes.items()
        }

    @property
    def numbers(self) -> int:
        """Of the noise of one sample of the longest mixture."""
        longest = max((self.frames(row) for row in range(len(self))), default=0)
        return sum(math.prod(shape) for shape in noise_shapes(self._model, longest).values())


class PulseMixtures(Mixtures):
    """Mixtures of Gaussian pulses, rendered on the device from a table of parameters.

    Parameters that are not finite, and signals that a `model` is not made for, are refused with a `UserError`.
    """

    def __init__(self, domain: Domain, model: SeparatorConfig, device: torch.device) -> None:
        super().__init__(model, device)
        assert isinstance(domain.condition, PulseCondition)
        check_signals(
            model, len(domain.condition.speakers), domain.condition.sample_rate, domain.condition.samples, domain.name
        )
        self.condition, self.crop = domain.condition, domain.condition.samples
        self.indices = torch.as_tensor(domain.arrays["indices"], device=device)
        self.training_rows = len(self.indices)
        self._parameters = torch.as_tensor(domain.arrays["parameters"], device=device)
        finite = self._parameters.isfinite().flatten(1).all(-1)
        if not finite.all():
            row = int(finite.int().argmin())
            raise UserError(f"{domain.name}: row {row} has a parameter that is not finite; make the data anew")

    def training_batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        """The mixtures of `rows`."""
        return self._batch(rows)

    def evaluation_batch(self, rows: slice) -> Batch:
        """The mixtures of `rows`."""
        return self._batch(rows)

    def frames(self, row: int) -> int:
        """All are equally long."""
        return self.crop

    def _batch(self, rows: Tensor | slice) -> Batch:
        mixture, sources = pulses.render(self._parameters[rows], self.condition, self.indices[rows])
        return {"mixture": mixture, "sources": sources}


class SpeechMixtures(Mixtures):
    """Mixtures of recordings, read where they are asked for, over the standard deviation `scale` of the training's.

    Training crops are as `config` has them: where speakers have other speeds, at these; where it dequantises, with
    uniform noise of one step of 16 bits on each source, and so on the mixture by their sum.
    """

    def __init__(
        self, domain: Domain, scale: float, config: SpeechConfig, model: SeparatorConfig, device: torch.device
    ) -> None:
        super().__init__(model, device)
        assert isinstance(domain.condition, SpeechConfig)
        assert isinstance(domain.source, SpeechSource)
        rules, self.crop = domain.condition.mixing, domain.condition.crop
        check_signals(model, rules.speakers, rules.sample_rate, self.crop, domain.name)
        self._source, self._scale, self.training_rows = domain.source, np.float32(scale), domain.source.training_rows
        self._config = config
        words = [int(digest, 16) >> 1 for digest in domain.arrays["digest"].astype(str)]
        self.indices = torch.tensor(words, dtype=torch.int64, device=device)

    def training_batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        """Crops: a number a row says which, whatever else is in the batch."""
        numbers = torch.randint(2**62, (len(rows),), generator=generator, device=generator.device).tolist()
        return self._batch([self._crop(row, number) for row, number in zip(rows.tolist(), numbers, strict=True)])

    def read(self, draws: Draws) -> Batch:
        """Crops, as `training_batch` has them; on the CPU, from where a step takes them to its device."""
        rows = zip(draws.rows[draws.share].tolist(), draws.places, strict=True)
        batch = self._signals([self._crop(row, draws.number_of_row(place)) for row, place in rows])
        return {name: value.pin_memory() for name, value in batch.items()} if self._device.type == "cuda" else batch

    def evaluation_batch(self, rows: slice) -> Batch:
        """Whole mixtures, or the training domain's own crops."""
        return self._batch([self._source.sound(row) for row in range(rows.start, rows.stop)])

    def frames(self, row: int) -> int:
        """They are of different lengths, the shortest first."""
        return int(self._source.frames[row])

    def _crop(self, row: int, number: int) -> Sound:
        config = self._config
        sound = self._source.drawn(row, number, config.played)
        if config.speed != ONE:
            sound = at_speeds(sound, number, config.speed, self.crop)
        return dequantised(sound, number) if config.dequantise else sound

    def _batch(self, sounds: list[Sound]) -> Batch:
        return {name: value.to(self._device) for name, value in self._signals(sounds).items()}

    def _signals(self, sounds: list[Sound]) -> Batch:
        if not sounds:  # of a worker that has no row of a batch
            empty = torch.zeros(0, self._model.speakers, self.crop)
            return {"mixture": empty[:, 0], "sources": empty}
        sources = np.stack([sound.sources for sound in sounds]) / self._scale
        mixture = np.stack([sound.mixture for sound in sounds]) / self._scale
        return {"mixture": torch.from_numpy(mixture), "sources": torch.from_numpy(sources)}


def check_signals(model: SeparatorConfig, speakers: int, sample_rate: int, samples: int, where: str) -> None:
    """Refuse signals of another sample rate, another number of sources, or shorter than one frame."""
    if speakers != model.speakers:
        raise UserError(
            f"{where}: its mixtures have {speakers} sources, the model separates {model.speakers}; "
            f"set model.speakers={speakers}"
        )
    if sample_rate != model.sample_rate:
        raise UserError(
            f"{where}: its signals have {sample_rate} Hz, the model is made for {model.sample_rate} Hz; "
            "make the two equal"
        )
    if samples < model.kernel:
        raise UserError(f"{where}: its signals have {samples} samples, a frame needs {model.kernel}; use more seconds")
