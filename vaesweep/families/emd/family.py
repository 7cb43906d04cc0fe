"""Encoder-masker-decoder separators of mixtures (thesis study B), on mixtures of Gaussian pulses.

A batch is rendered where it is needed, on the device, from the mixtures' parameters: a mixture, its sources, and noise
for the latent variables. In training that noise comes from the step's generator; in evaluation it is keyed by the
mixture's index, so that it depends on neither batch nor device.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from vaesweep.data.counters import Stream, normal
from vaesweep.data.domains import DataSet, Domain, Role
from vaesweep.elbo import Elbo
from vaesweep.errors import UserError
from vaesweep.families.emd import evaluation as separation
from vaesweep.families.emd.data import pulses
from vaesweep.families.emd.data.pulses import PulseCondition, SplitRows
from vaesweep.families.emd.evaluation import EstimatesConfig
from vaesweep.families.emd.models.separator import Separation, Separator, SeparatorConfig, noise_shapes, rate_names
from vaesweep.family.base import CellConfig, Family
from vaesweep.packing import Frozen, Since
from vaesweep.training.problem import Uses
from vaesweep.training.stack import Batch, Stack

STREAMS = {"encoding_noise": Stream.ENCODING, "mask_noise": Stream.MASKS, "source_noise": Stream.SOURCES}


class PulsesConfig(Frozen):
    """The mixtures of Gaussian pulses that are trained on; the defaults are the thesis' (K.1)."""

    replicate: int = Field(
        1, ge=0, description="of the experiment, with mixtures of its own; 0 for the seed's, seed + 1"
    )
    rows: SplitRows = SplitRows()
    condition: PulseCondition = PulseCondition()


class SeparatorCell(CellConfig):
    """One cell: a separator of mixtures."""

    family: Literal["emd"] = "emd"
    model: SeparatorConfig = SeparatorConfig()
    data: PulsesConfig = PulsesConfig()
    evaluation: Annotated[EstimatesConfig, Since("0.2")] = EstimatesConfig()


class Mixtures:
    """The mixtures of one domain, rendered on `device` where they are asked for.

    Parameters that are not finite, and signals that a `model` is not made for, are refused with a `UserError`.
    """

    def __init__(self, domain: Domain, model: SeparatorConfig, device: torch.device) -> None:
        assert isinstance(domain.condition, PulseCondition)
        check_signals(model, domain.condition, domain.name)
        self.condition, self._device = domain.condition, device
        self._indices = torch.as_tensor(domain.arrays["indices"], device=device)
        self._parameters = torch.as_tensor(domain.arrays["parameters"], device=device)
        finite = self._parameters.isfinite().flatten(1).all(-1)
        if not finite.all():
            row = int(finite.int().argmin())
            raise UserError(f"{domain.name}: row {row} has a parameter that is not finite; make the data anew")
        self._shapes = noise_shapes(model, self.condition.samples)

    def __len__(self) -> int:
        return len(self._indices)

    def batch(self, rows: Tensor | slice) -> Batch:
        """`mixture` `[batch, time]` and `sources` `[batch, speaker, time]` of some rows."""
        mixture, sources = pulses.render(self._parameters[rows], self.condition, self._indices[rows])
        return {"mixture": mixture, "sources": sources}

    def drawn_noise(self, rows: int, generator: torch.Generator) -> Batch:
        """Noise of the latent variables for as many `rows`, from a generator."""
        return {
            name: torch.randn(rows, *shape, generator=generator, device=self._device)
            for name, shape in self._shapes.items()
        }

    def keyed_noise(self, rows: slice, samples: int = 1) -> Batch:
        """Noise of the latent variables that is each mixture's own, `[sample, batch, ...]`.

        The first sample is the same whatever the number of `samples`.
        """
        indices = self._indices[rows]
        return {
            name: normal(STREAMS[name], indices, samples * math.prod(shape))
            .unflatten(-1, (samples, *shape))
            .movedim(1, 0)
            for name, shape in self._shapes.items()
        }

    @property
    def numbers(self) -> int:
        """Of the noise of one sample of a mixture."""
        return sum(math.prod(shape) for shape in self._shapes.values())


class SeparatorProblem:
    """Batches, evaluation and metrics of separators on one data set and device."""

    def __init__(self, config: SeparatorCell, data: DataSet, device: torch.device) -> None:
        self._model, self.device = config.model, device
        self._samples = config.evaluation.samples
        self.rate_names = rate_names(config.model)
        self._mixtures = {domain.name: Mixtures(domain, config.model, device) for domain in data.domains}
        self.domains: Mapping[str, int] = {name: len(mixtures) for name, mixtures in self._mixtures.items()}
        self._train, self.valid = data.domain(Role.TRAIN).name, data.domain(Role.VALID).name
        self.train_rows = self.domains[self._train]
        used = {name: rows for name, rows in self.domains.items() if name != self._train}
        self._used = used if self._samples else {}
        self.use_rows = max(self._used.values(), default=0)

    def build(self) -> Separator:
        """A freshly initialised separator."""
        return Separator(self._model)

    def train_batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        """Mixtures, their sources, and noise for the latent variables."""
        mixtures = self._mixtures[self._train]
        return mixtures.batch(rows) | mixtures.drawn_noise(len(rows), generator)

    def evaluation_batch(self, domain: str, rows: slice) -> Batch:
        """Mixtures, their sources, and each mixture's own noise for the latent variables."""
        noise = self._mixtures[domain].keyed_noise(rows)
        return self._mixtures[domain].batch(rows) | {name: values[0] for name, values in noise.items()}

    def quick_rows(self, domain: str) -> int:
        """The number of mixtures of `domain`: quick evaluations are of all of them."""
        return self.domains[domain]

    def measure(self, elbo: Elbo, output: Separation, batch: Batch) -> dict[str, Tensor]:
        """Qualities and rates of each mixture."""
        return separation.measure(elbo, output, batch, self._model)

    def summarise(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Means of what is measured, and the correlation of the mixtures' ELBO with the quality of separation."""
        return separation.summarise(means)

    def use(self, stack: Stack, rows: int | None = None) -> Uses:
        """The quality of mean estimates, where `evaluation.samples` asks for them; nothing is kept."""

        def batch_of(domain: str, chosen: slice) -> tuple[Batch, Batch]:
            mixtures = self._mixtures[domain]
            return mixtures.batch(chosen), mixtures.keyed_noise(chosen, self._samples)

        domains = {name: length if rows is None else min(rows, length) for name, length in self._used.items()}
        numbers = self._samples * self._mixtures[self._train].numbers
        return separation.use(stack, domains, batch_of, self._model, numbers)


class SeparatorFamily(Family):
    """Encoder-masker-decoder separators."""

    name = "emd"
    config = SeparatorCell
    data_forms = ("pulses",)
    bfloat16 = True
    data_axes = True
    evaluation_settings = ("evaluation",)
    metrics: ClassVar[dict[str, str]] = separation.METRICS

    def metrics_of(self, config: CellConfig) -> Mapping[str, str]:
        """The metrics of a separator: rates of what is stochastic, and the mixture's ELBO with the mixture task."""
        return separation.metrics_of(_own(config).model)

    def revision(self, config: CellConfig) -> int:
        """2 of SuDoRM-RF and SepFormer, not the thesis' in 0.1, and of adaptive priors, which had a floor."""
        model = _own(config).model
        return 2 if model.masker.kind in ("sudormrf", "sepformer") or model.prior.kind == "adaptive" else 1

    def load(self, spec: str, config: CellConfig) -> DataSet:
        """The data of `pulses`, or of `pulses:conditions=A+B` (docs/data.md)."""
        data = self.loading(config)
        return pulses.load(spec, data.replicate, data.rows, data.condition)

    def loading(self, config: CellConfig) -> PulsesConfig:
        """The part of the configuration that says which mixtures there are, with the number of the replicate."""
        own = _own(config)
        return own.data.model_copy(update={"replicate": own.data.replicate or own.seed + 1})

    def example(self) -> DataSet:
        """A few mixtures of a quarter of a second."""
        rows = SplitRows(train=24, valid=9, test=9)
        return pulses.load("pulses:conditions=noise_0", 1, rows, PulseCondition(seconds=0.25, scale=(0.01, 0.05)))

    def small(self) -> SeparatorCell:
        """The default with fewer channels."""
        masker = {"kind": "tasnet", "bottleneck": 8, "hidden": 8, "skip": 4, "repeats": 1, "blocks": 3}
        return SeparatorCell.model_validate({"model": {"latents": 8, "masker": masker}})

    def rate_names(self, config: CellConfig) -> tuple[str, ...]:
        """The rates that the model has, of `encoding`, `masks` and `sources`."""
        return rate_names(_own(config).model)

    def check(self, config: CellConfig) -> None:
        """Refuse rates of a model that has none, and data that it is not made for."""
        own = _own(config)
        if not rate_names(own.model) and (own.rates or own.free_nats):
            key = next(iter([*own.rates, *own.free_nats]))
            raise UserError(f"rates: a deterministic separator has no rate, so none named {key!r}; leave it out")
        super().check(config)
        check_signals(own.model, own.data.condition, "data.condition")

    def model(self, config: CellConfig) -> Separator:
        """A freshly initialised model."""
        return Separator(_own(config).model)

    def problem(self, config: CellConfig, data: DataSet, device: torch.device) -> SeparatorProblem:
        """The problem of all cells that share `config`'s structure."""
        return SeparatorProblem(_own(config), data, device)


def check_signals(model: SeparatorConfig, condition: PulseCondition, where: str) -> None:
    """Refuse signals of another sample rate, another number of sources, or shorter than one frame."""
    speakers = len(condition.speakers)
    if speakers != model.speakers:
        raise UserError(
            f"{where}: its mixtures have {speakers} sources, the model separates {model.speakers}; "
            f"set model.speakers={speakers}"
        )
    if condition.sample_rate != model.sample_rate:
        raise UserError(
            f"{where}: its signals have {condition.sample_rate} Hz, the model is made for {model.sample_rate} Hz; "
            "make the two equal"
        )
    if condition.samples < model.kernel:
        raise UserError(
            f"{where}: its signals have {condition.samples} samples, a frame needs {model.kernel}; use more seconds"
        )


def _own(config: Any) -> SeparatorCell:
    if not isinstance(config, SeparatorCell):
        raise TypeError(f"a separator was given a {type(config).__name__}")
    return config


FAMILY = SeparatorFamily()
