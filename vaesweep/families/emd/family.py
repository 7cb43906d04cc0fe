"""Encoder-masker-decoder separators of mixtures (thesis study B), of Gaussian pulses and of speakers.

A batch is a mixture, its sources, and noise for the latent variables (`mixtures.py`).
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Discriminator, Field, Tag
from torch import Tensor

from vaesweep.data.domains import DataSet, Domain, Role
from vaesweep.elbo import Elbo
from vaesweep.errors import UserError
from vaesweep.families.emd import evaluation as separation
from vaesweep.families.emd import qualities
from vaesweep.families.emd.data import pulses, speech
from vaesweep.families.emd.data.pulses import PulseCondition, SplitRows
from vaesweep.families.emd.data.speech import SpeechConfig
from vaesweep.families.emd.evaluation import EstimatesConfig
from vaesweep.families.emd.forms import DATA_FORMS, PULSES, SPEECH, is_speech
from vaesweep.families.emd.mixtures import Mixtures, PulseMixtures, SpeechMixtures, check_signals
from vaesweep.families.emd.models.separator import Separation, Separator, SeparatorConfig, rate_names
from vaesweep.families.emd.trust.calibration import mixtures_needed
from vaesweep.family.base import CellConfig, Family
from vaesweep.packing import Frozen, Since
from vaesweep.training.batch_order import Draws
from vaesweep.training.problem import Problem, Uses
from vaesweep.training.stack import Batch, Stack
from vaesweep.vocabulary import DATUM

SCALE = "signal_scale"  # kept with a cell of recordings: what its signals were divided by


class PulsesConfig(Frozen):
    """The mixtures of Gaussian pulses that are trained on; the defaults are the thesis' (K.1)."""

    kind: Annotated[Literal["pulses"], Since("0.2")] = "pulses"
    replicate: int = Field(
        1, ge=0, description="of the experiment, with mixtures of its own; 0 for the seed's, seed + 1"
    )
    rows: SplitRows = SplitRows()
    condition: PulseCondition = PulseCondition()


def _kind(value: Any) -> str:
    """The kind of a data configuration; those of release 0.1 do not say theirs."""
    return str(value.get("kind", "pulses") if isinstance(value, dict) else value.kind)


DataConfig = Annotated[
    Annotated[PulsesConfig, Tag("pulses")] | Annotated[SpeechConfig, Tag("speech")], Discriminator(_kind)
]


class SeparatorCell(CellConfig):
    """One cell: a separator of mixtures."""

    family: Literal["emd"] = "emd"
    model: SeparatorConfig = SeparatorConfig()
    data: DataConfig = PulsesConfig()
    evaluation: Annotated[EstimatesConfig, Since("0.2")] = EstimatesConfig()

    @property
    def units(self) -> Mapping[str, float]:
        """A datum is a training mixture: so many samples, and seconds of them."""
        data = self.data
        samples = data.crop if isinstance(data, SpeechConfig) else data.condition.samples
        return {DATUM: 1.0, "sample": float(samples), "second": samples / self.model.sample_rate}


class SeparatorProblem(Problem):
    """Batches, evaluation and metrics of separators on one data set and device."""

    def __init__(self, config: SeparatorCell, data: DataSet, device: torch.device) -> None:
        self._model, self.device = config.model, device
        self._samples, self._level = config.evaluation.samples, config.evaluation.trust
        self._qualities = config.evaluation.qualities
        qualities.check(self._qualities, config.model.sample_rate)  # here too: cells may train on another machine
        self.reads = isinstance(config.data, SpeechConfig)
        self._scale = torch.tensor(data.standardisation.std).float() if isinstance(config.data, SpeechConfig) else None
        self.rate_names = rate_names(config.model)
        self._mixtures = {domain.name: _mixtures(domain, data, config, device) for domain in data.domains}
        self.domains: Mapping[str, int] = {name: len(mixtures) for name, mixtures in self._mixtures.items()}
        self._train, self.valid = data.domain(Role.TRAIN).name, data.domain(Role.VALID).name
        self.train_rows = self._mixtures[self._train].training_rows
        used = {name: rows for name, rows in self.domains.items() if name != self._train}
        self._used = used if self._samples or self._qualities else {}
        self.use_rows = max(self._used.values(), default=0)

    def build(self) -> Separator:
        """A freshly initialised separator."""
        return Separator(self._model)

    def train_batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        """Mixtures, their sources, and noise for the latent variables."""
        mixtures = self._mixtures[self._train]
        return mixtures.training_batch(rows, generator) | mixtures.drawn_noise(len(rows), generator)

    def read(self, draws: Draws) -> Batch | None:
        """Mixtures of recordings, with their sources."""
        return self._mixtures[self._train].read(draws)

    def train_share(self, draws: Draws, read: Batch | None = None) -> Batch:
        """Mixtures, their sources, and noise: of recordings every row's own, so that no worker draws another's."""
        if not self.reads:
            return super().train_share(draws)
        moved = {name: value.to(self.device, non_blocking=True) for name, value in (read or {}).items()}
        return moved | self._mixtures[self._train].noise_of_rows(draws)

    def evaluation_batch(self, domain: str, rows: slice) -> Batch:
        """Mixtures, their sources, and each mixture's own noise for the latent variables."""
        noise = self._mixtures[domain].keyed_noise(rows)
        return self._mixtures[domain].evaluation_batch(rows) | {name: values[0] for name, values in noise.items()}

    def evaluation_chunks(self, domain: str, rows: slice, size: int) -> Iterator[slice]:
        """Slices of equally long mixtures."""
        return self._mixtures[domain].chunks(rows, size)

    def weight(self, batch: Batch) -> float:
        """Training's length over the batch's own: of longer mixtures so much is a datum of training."""
        return self._mixtures[self._train].crop / batch["mixture"].shape[-1]

    def kept_rows(self, domain: str) -> tuple[str, ...]:
        """What intervals over mixtures and pictures of them need, of all domains but training's."""
        return () if domain == self._train else separation.kept_rows(self._model)

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
        """Mean estimates, how far to trust the modes, and further qualities, as `evaluation` asks for them.

        The calibration of trust and the scale of recordings are kept.
        """
        uses = Uses(kept={} if self._scale is None else {SCALE: self._scale.expand(len(stack), 1)})
        domains = {name: length if rows is None else min(rows, length) for name, length in self._used.items()}
        if self._samples:
            uses |= self._use_samples(stack, domains)
        if self._qualities:
            uses |= self._use_qualities(stack, domains)
        return uses

    def _use_qualities(self, stack: Stack, domains: Mapping[str, int]) -> Uses:
        def signals_of(domain: str, chosen: slice) -> Batch:
            return self._mixtures[domain].evaluation_batch(chosen)

        return separation.use_qualities(
            stack, domains, signals_of, self.evaluation_chunks, self._model, self._qualities
        )

    def _use_samples(self, stack: Stack, domains: Mapping[str, int]) -> Uses:
        def batch_of(domain: str, chosen: slice) -> tuple[Batch, Batch]:
            mixtures = self._mixtures[domain]
            return mixtures.evaluation_batch(chosen), mixtures.keyed_noise(chosen, self._samples)

        numbers = self._samples * max((self._mixtures[name].numbers for name in domains), default=0)
        return separation.use_samples(
            stack, domains, batch_of, self.evaluation_chunks, self._model, numbers, self.valid, self._level
        )


class SeparatorFamily(Family):
    """Encoder-masker-decoder separators."""

    name = "emd"
    config = SeparatorCell
    data_forms = DATA_FORMS
    bfloat16 = True
    data_axes = True
    trained_model = "vaesweep.families.emd.trained:TrainedSeparator"
    table_metrics = (
        *("*.sample", "*.mean", "*.mixture", "*.left_out"),
        *("blr.*", "trust_*", "rate_*_per_dimension"),
    )
    best_by = ("elbo", "si_sdri.mode")
    more_is_better = ("si_sdr*", "sdr*", "*stoi.mode", "pesq.mode", "mixture_elbo", "*_correlation")
    less_is_better = ("blr.*", "*.left_out", "trust_error")
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
        """The data of `pulses`, `pulses:conditions=A+B`, `speech:DIR`, or `librimix:DIR` and others (docs/data.md)."""
        data = self.loading(config)
        wanted = SPEECH if is_speech(spec) else PULSES
        if data.kind != wanted:
            raise UserError(f"--data {spec}: takes data.kind={wanted}, and the cell's is {data.kind}; set it")
        if isinstance(data, SpeechConfig):
            return speech.load(spec, data)
        return pulses.load(spec, data.replicate, data.rows, data.condition)

    def loading(self, config: CellConfig) -> PulsesConfig | SpeechConfig:
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
        qualities.check(own.evaluation.qualities, own.model.sample_rate)
        _check_trust(own)
        if isinstance(own.data, SpeechConfig):
            rules = own.data.mixing
            check_signals(own.model, rules.speakers, rules.sample_rate, own.data.crop, "data.mixing")
        else:
            signals = own.data.condition
            check_signals(own.model, len(signals.speakers), signals.sample_rate, signals.samples, "data.condition")

    def model(self, config: CellConfig) -> Separator:
        """A freshly initialised model."""
        return Separator(_own(config).model)

    def problem(self, config: CellConfig, data: DataSet, device: torch.device) -> SeparatorProblem:
        """The problem of all cells that share `config`'s structure."""
        return SeparatorProblem(_own(config), data, device)


def _mixtures(domain: Domain, data: DataSet, config: SeparatorCell, device: torch.device) -> Mixtures:
    if isinstance(config.data, SpeechConfig):
        return SpeechMixtures(domain, float(data.standardisation.std[0]), config.data, config.model, device)
    return PulseMixtures(domain, config.model, device)


def _check_trust(config: SeparatorCell) -> None:
    """Refuse a share that was asked for and cannot be; with the default one, too few mixtures have no intervals."""
    level, rows = config.evaluation.trust, config.data.rows.valid
    if level not in (0, EstimatesConfig().trust) and rows < (needed := mixtures_needed(level)):
        raise UserError(
            f"evaluation.trust={level:g} takes {needed} validation mixtures, and data.rows.valid is {rows}; "
            "set evaluation.trust lower, or to 0"
        )


def _own(config: Any) -> SeparatorCell:
    if not isinstance(config, SeparatorCell):
        raise TypeError(f"a separator was given a {type(config).__name__}")
    return config


FAMILY = SeparatorFamily()
