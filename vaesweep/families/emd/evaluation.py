"""Metrics of separation: quantities of each mixture, and metrics of their means (thesis lines 1340 and 962).

Rates are normalised as the thesis does: by the samples T of a signal and, a dimension, by the number K of latent
channels. The rate of the masks is the mean over speakers.

Three estimates of a source are judged. `sample` is decoded from one sample of the latent variables, as the distortion
is; `mode` from the points of their distributions, which is what a user would deploy; `mean` is the mean over the
estimates of several samples. At low rates a sample is several dB worse than the other two, which are alike. Those of a
deterministic separator are one and the same.

Further qualities of the mode, of whole signals and slow (`qualities.py`), are judged of finished cells where they are
asked for. With those that have no customary improvement goes the quality of the `mixture` itself.

A source that is silent beside another of its mixture has no quality: its likelihood and its SI-SDR are those of
silence, tens of nats or dB away from all others, and would own every mean. Means are over the audible sources.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from pydantic import Field, field_validator
from torch import Tensor

from vaesweep.elbo import Elbo
from vaesweep.families.emd import qualities
from vaesweep.families.emd.models.observation import Blr
from vaesweep.families.emd.models.separator import (
    ENCODING,
    MASKS,
    Separation,
    Separator,
    SeparatorConfig,
    permuted,
    rate_names,
)
from vaesweep.families.emd.qualities import QUALITIES, Quality
from vaesweep.families.emd.trust import calibration, scores
from vaesweep.families.emd.trust.calibration import Scored
from vaesweep.likelihoods import BlrPrior, blr_nll, si_sdr
from vaesweep.packing import Frozen
from vaesweep.permutation import best_assignment, pairwise
from vaesweep.training.evaluate import ROWS
from vaesweep.training.problem import Uses
from vaesweep.training.stack import Batch, Stack

SAMPLE, MODE, MEAN = "sample", "mode", "mean"  # the estimates
MIXTURE = "mixture"  # in the place of an estimate
AUDIBLE = 1e-6  # of the energy of a mixture's loudest source: -60 dB
SILENCE = -120.0  # dB, SI-SDR of silence
MIXTURES_AT_ONCE = 16
NUMBERS_AT_ONCE = 1 << 23  # of latent noise, all samples of a chunk of mixtures together

_QUALITY = {
    "si_sdr": "dB: of the estimates, mean over audible sources",
    "si_sdri": "dB: by how much that exceeds the SI-SDR of the mixture itself",
    "blr": "nats per sample of a source: negative log-likelihood by Bayesian linear regression on its estimate",
}


def _qualities(estimate: str) -> dict[str, str]:
    return {f"{name}.{estimate}": unit for name, unit in _QUALITY.items()}


QUALITY = _qualities(SAMPLE) | _qualities(MODE)
OF_MEANS = _qualities(MEAN)
LEFT_OUT = "left_out"
_SCALES = {
    "stoi": "share, about 0 to 1: short-time objective intelligibility",
    "estoi": "share, about 0 to 1: extended short-time objective intelligibility",
    "pesq": "mean opinion score, 1 to 4.6: PESQ of ITU-T P.862.1 at 8 kHz, P.862.2 at 16 kHz",
}
FURTHER = (
    {f"sdr.{MODE}": "dB: BSS-eval's signal-to-distortion ratio, mean over the audible sources that have a value"}
    | {f"sdri.{MODE}": "dB: by how much that exceeds the SDR of the mixture itself"}
    | {f"{name}.{MODE}": f"{scale}, mean over the audible sources that have a value" for name, scale in _SCALES.items()}
    | {f"{name}.{MIXTURE}": f"{scale}, of the mixture itself, over the same sources" for name, scale in _SCALES.items()}
    | {f"{name}.{LEFT_OUT}": "audible sources without a value" for name in QUALITIES}
)
PER_SECOND = {"rate_per_second": "nats per second of the mixture: all rates together"}
ENCODING_RATE = {"rate_encoding_per_dimension": "nats per sample of the mixture and latent channel"}
MASK_RATE = {"rate_masks_per_dimension": "nats per sample of the mixture, latent channel and speaker"}
UNCERTAINTY = {
    "mixture_elbo": "nats per sample of the mixture: ELBO of the mixture itself, without references",
    "mixture_correlation": "Pearson's, over mixtures: of the mixture's ELBO with SI-SDRi; 0 where one does not vary",
}
METRICS = QUALITY | OF_MEANS | FURTHER | PER_SECOND | ENCODING_RATE | MASK_RATE | UNCERTAINTY | calibration.METRICS
AUDIBLE_SOURCES = "audible"
_UNCERTAIN, _SQUARED, _IMPROVED_SQUARED, _PRODUCT = "mixture_elbo", "mixture_elbo²", "si_sdri²", "mixture_elbo·si_sdri"
_IMPROVED = "si_sdri of a mixture"


class EstimatesConfig(Frozen):
    """The evaluation of trained separators; their training depends on none of it."""

    samples: int = Field(0, ge=0, description="whose mean estimate is judged too, on all domains but the training's")
    trust: float = Field(
        0.8,
        ge=0,
        lt=1,
        description="share of mixtures that an interval of a predicted SI-SDR holds, given samples; 0 for none",
    )
    qualities: tuple[Quality, ...] = Field((), description="of the mode, judged too on all domains but the training's")

    @field_validator("qualities")
    @classmethod
    def _in_order(cls, names: tuple[Quality, ...]) -> tuple[Quality, ...]:
        """Each once and in one order: which were asked for is what counts."""
        return tuple(name for name in QUALITIES if name in names)


def metrics_of(config: SeparatorConfig) -> dict[str, str]:
    """The metrics that every evaluation of a separator has, with their units; deterministic parts have no rate."""
    rates = rate_names(config)
    return (
        QUALITY
        | (PER_SECOND if rates else {})
        | (ENCODING_RATE if ENCODING in rates else {})
        | (MASK_RATE if MASKS in rates else {})
        | (UNCERTAINTY if config.mixture_task else {})
    )


def kept_rows(config: SeparatorConfig) -> tuple[str, ...]:
    """The quantities of which each mixture's value is kept with a cell: sums over audible sources, and their number.

    With the mixture task its ELBO is among them.
    """
    return (f"si_sdri.{MODE}", f"blr.{MODE}", AUDIBLE_SOURCES, *((_UNCERTAIN,) if config.mixture_task else ()))


def measure(elbo: Elbo, separation: Separation, batch: Batch, config: SeparatorConfig) -> dict[str, Tensor]:
    """Quantities of each mixture, `[batch]`, whose means `summarise` reads."""
    mixture, sources = batch["mixture"], batch["sources"]
    time = mixture.shape[-1]
    values = judged(sources, {SAMPLE: separation.estimates, MODE: separation.mode()}, mixture, config)
    if elbo.rates:
        values["rate_per_second"] = elbo.total_rate() * (config.sample_rate / time)
    if ENCODING in elbo.rates:
        values["rate_encoding_per_dimension"] = elbo.rate(ENCODING) / (time * config.latents)
    if MASKS in elbo.rates:
        values["rate_masks_per_dimension"] = elbo.rate(MASKS) / (time * config.latents * config.speakers)
    if separation.uncertainty is None:
        return values
    improvement = values[f"si_sdri.{MODE}"] / values[AUDIBLE_SOURCES].clamp_min(1)
    return values | _moments(-separation.uncertainty / time, improvement)


def judged(
    sources: Tensor, estimates: Mapping[str, Tensor], mixture: Tensor, config: SeparatorConfig
) -> dict[str, Tensor]:
    """Sums over the audible sources `[batch]` of the qualities of `estimates`, and the number of those sources."""
    prior = config.likelihood if isinstance(config.likelihood, Blr) else BlrPrior()
    audible = audible_sources(sources).to(sources.dtype)
    before = si_sdr(sources, mixture.unsqueeze(1))
    sums = {AUDIBLE_SOURCES: audible.sum(-1)}
    for estimate, signals in estimates.items():
        quality = si_sdr(sources, signals)
        values = {
            "si_sdr": quality,
            "si_sdri": quality - before,
            "blr": blr_nll(sources, signals, prior) / sources.shape[-1],
        }
        sums |= {f"{name}.{estimate}": (value * audible).sum(-1) for name, value in values.items()}
    return sums


def audible_sources(sources: Tensor) -> Tensor:
    """Which `sources` `[..., speaker, time]` are not silent beside the loudest of their mixture: `[..., speaker]`."""
    energy = sources.square().sum(-1)
    return energy > AUDIBLE * energy.amax(-1, keepdim=True)


def summarise(means: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Metrics `[cell]` from the means over a domain: those by name, and the correlation."""
    metrics = {
        name: means[name] / means[AUDIBLE_SOURCES] if name in QUALITY | OF_MEANS else means[name]
        for name in METRICS
        if name in means
    }
    return metrics | ({"mixture_correlation": _correlation(means)} if _UNCERTAIN in means else {})


def _moments(elbo: Tensor, improvement: Tensor) -> dict[str, Tensor]:
    """The moments that a correlation is computed from, in float64: small differences of squares matter."""
    elbo, improvement = elbo.double(), improvement.double()
    squares = {_SQUARED: elbo.square(), _IMPROVED_SQUARED: improvement.square()}
    return {_UNCERTAIN: elbo, _IMPROVED: improvement, _PRODUCT: elbo * improvement} | squares


def _correlation(means: Mapping[str, Tensor]) -> Tensor:
    elbo, improvement = means[_UNCERTAIN], means[_IMPROVED]
    covariance = means[_PRODUCT] - elbo * improvement
    variances = (means[_SQUARED] - elbo.square()) * (means[_IMPROVED_SQUARED] - improvement.square())
    varies = variances > torch.finfo(variances.dtype).eps
    return torch.where(varies, covariance / torch.where(varies, variances, 1.0).sqrt(), 0.0).clamp(-1, 1)


@torch.no_grad()
def use_samples(
    stack: Stack,
    domains: Mapping[str, int],
    batch_of: Callable[[str, slice], tuple[Batch, Batch]],
    chunks: Callable[[str, slice, int], Iterator[slice]],
    config: SeparatorConfig,
    numbers: int,
    valid: str = "",
    level: float = 0.0,
) -> Uses:
    """The quality of the mean estimates of all mixtures of `domains`, by `domain/metric`, and how far to trust them.

    `batch_of(domain, rows)` gives mixtures with their sources, and noise `[sample, batch, ...]` by name, of which a
    mixture has at most as many `numbers`; `chunks(domain, rows, size)` slices rows that can be one batch. Trust is
    calibrated on the domain `valid` for intervals of the share `level`; 0 for none.
    """
    metrics: dict[str, Tensor] = {}
    scored: dict[str, Scored] = {}
    size = min(MIXTURES_AT_ONCE, max(1, NUMBERS_AT_ONCE // max(1, numbers)))  # whose noise is held at once
    for domain, length in domains.items():
        sums: dict[str, Tensor] = {}
        parts: list[Scored] = []
        for chunk in chunks(domain, slice(0, length), size):
            signals, noise = batch_of(domain, chunk)
            values, part = _judge_samples(stack, signals, noise, config)
            parts.append(part)
            for name, value in values.items():
                total = value.double().sum(-1)
                sums[name] = sums[name] + total if name in sums else total
        metrics |= {f"{domain}/{name}": value for name, value in summarise(sums).items()}
        scored[domain] = Scored(*(torch.cat(values, 1).cpu() for values in zip(*parts, strict=True)))
    trusted = calibration.uses(scored, valid, level) if level and valid in scored else Uses()
    return Uses(metrics) | trusted


def _judge_samples(
    stack: Stack, signals: Batch, noise: Batch, config: SeparatorConfig
) -> tuple[dict[str, Tensor], Scored]:
    """What `judged` says of each cell's mean estimates, `[cell, batch]`, and what trust in its modes needs."""
    names, samples = list(noise), round(scores.WINDOW * config.sample_rate)

    def judge(model: Separator, mixture: Tensor, sources: Tensor, *values: Tensor) -> tuple[dict[str, Tensor], Scored]:
        found = scores.estimate(model, mixture, dict(zip(names, values, strict=True)))
        quality = judged(sources, {MEAN: _in_order(sources, found.mean)}, mixture, config)
        parts = [scores.middle(value, samples) for value in (sources, found.points, mixture)]
        return quality, Scored(found.scores, _achieved(parts[0], parts[1], parts[2], config))

    arguments = [signals["mixture"], signals["sources"], *noise.values()]
    return stack.call(judge, *(value.expand(len(stack), *value.shape) for value in arguments))


@torch.no_grad()
def use_qualities(
    stack: Stack,
    domains: Mapping[str, int],
    signals_of: Callable[[str, slice], Batch],
    chunks: Callable[[str, slice, int], Iterator[slice]],
    config: SeparatorConfig,
    names: Sequence[Quality],
) -> Uses:
    """The qualities `names` of the mode's estimates of all mixtures of `domains`: metrics, and each mixture's value.

    Metrics are means over the audible sources that have a value, and the number of those that have none; a domain
    without a value has no mean. A mixture's value is the mean over its own sources, NaN where none has one.
    `signals_of(domain, rows)` gives mixtures with their sources.
    """
    metrics: dict[str, Tensor] = {}
    kept: dict[str, Tensor] = {}
    for domain, length in domains.items():
        parts = [
            _judge_modes(stack, signals_of(domain, chunk), config, names)
            for chunk in chunks(domain, slice(0, length), MIXTURES_AT_ONCE)
        ]
        for name in parts[0]:
            values = torch.cat([part[name] for part in parts], dim=1)
            if name.endswith(LEFT_OUT):
                metrics[f"{domain}/{name}"] = values.sum((1, 2))
            elif not values.isnan().all():
                metrics[f"{domain}/{name}"] = values.flatten(1).nanmean(-1)
                kept[f"{ROWS}/{domain}/{name}"] = values.nanmean(-1).float()
    return Uses(metrics, kept)


def _judge_modes(stack: Stack, signals: Batch, config: SeparatorConfig, names: Sequence[Quality]) -> dict[str, Tensor]:
    """Values of each cell's modes `[cell, batch, speaker]` by metric; NaN where the mixture itself has none.

    What has a value of the mixture, and none of the estimate, has the least: a silent estimate must not be left out.
    """
    mixture, sources = signals["mixture"], signals["sources"]

    def estimate(model: Separator, mixture: Tensor, sources: Tensor) -> Tensor:
        return model.mode_estimate(mixture, sources)

    estimates = stack.call(estimate, *(signal.expand(len(stack), *signal.shape) for signal in (mixture, sources)))
    audible = audible_sources(sources)

    def judge(signals: Tensor) -> dict[str, Tensor]:
        return qualities.judge(names, sources, signals, audible, config.sample_rate)

    before, by_cell = judge(mixture.unsqueeze(1).expand_as(sources)), [judge(own) for own in estimates]
    values: dict[str, Tensor] = {}
    for name in names:
        own = torch.stack([cell[name] for cell in by_cell])
        of_mixture, missing = before[name].expand_as(own), before[name].isnan()
        own = own.nan_to_num(qualities.least(name, config.sample_rate)).masked_fill(missing, torch.nan)
        values[f"{name}.{MODE}"] = own
        if name == "sdr":
            values[f"sdri.{MODE}"] = own - of_mixture
        else:
            values[f"{name}.{MIXTURE}"] = of_mixture
        values[f"{name}.{LEFT_OUT}"] = (missing & audible).double().expand_as(own)
    return values


def _in_order(sources: Tensor, estimates: Tensor) -> Tensor:
    return permuted(estimates, best_assignment(-pairwise(si_sdr, sources, estimates)).order)


def _achieved(sources: Tensor, estimates: Tensor, mixture: Tensor, config: SeparatorConfig) -> Tensor:
    """SI-SDR `[batch]`, dB: the mean over the audible sources, NaN without one."""
    sums = judged(sources, {MODE: _in_order(sources, estimates)}, mixture, config)
    quality = sums[f"si_sdr.{MODE}"].nan_to_num(SILENCE)  # an estimate that is not finite is none
    return quality / torch.where(sums[AUDIBLE_SOURCES] > 0, sums[AUDIBLE_SOURCES], torch.nan)
