"""Metrics of separation: quantities of each mixture, and metrics of their means (thesis lines 1340 and 962).

Rates are normalised as the thesis does: by the samples T of a signal and, a dimension, by the number K of latent
channels. The rate of the masks is the mean over speakers.

Three estimates of a source are judged. `sample` is decoded from one sample of the latent variables, as the distortion
is; `mode` from the points of their distributions, which is what a user would deploy; `mean` is the mean over the
estimates of several samples. At low rates a sample is several dB worse than the other two, which are alike. Those of a
deterministic separator are one and the same.

A source that is silent beside another of its mixture has no quality: its likelihood and its SI-SDR are those of
silence, tens of nats or dB away from all others, and would own every mean. Means are over the audible sources.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from pydantic import Field
from torch import Tensor

from vaesweep.elbo import Elbo
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
from vaesweep.families.emd.trust import calibration, scores
from vaesweep.families.emd.trust.calibration import Scored
from vaesweep.likelihoods import BlrPrior, blr_nll, si_sdr
from vaesweep.packing import Frozen
from vaesweep.permutation import best_assignment, pairwise
from vaesweep.training.problem import Uses
from vaesweep.training.stack import Batch, Stack

SAMPLE, MODE, MEAN = "sample", "mode", "mean"  # the estimates
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
PER_SECOND = {"rate_per_second": "nats per second of the mixture: all rates together"}
ENCODING_RATE = {"rate_encoding_per_dimension": "nats per sample of the mixture and latent channel"}
MASK_RATE = {"rate_masks_per_dimension": "nats per sample of the mixture, latent channel and speaker"}
UNCERTAINTY = {
    "mixture_elbo": "nats per sample of the mixture: ELBO of the mixture itself, without references",
    "mixture_correlation": "Pearson's, over mixtures: of the mixture's ELBO with SI-SDRi; 0 where one does not vary",
}
METRICS = QUALITY | OF_MEANS | PER_SECOND | ENCODING_RATE | MASK_RATE | UNCERTAINTY | calibration.METRICS
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
    energy = sources.square().sum(-1)
    audible = (energy > AUDIBLE * energy.amax(-1, keepdim=True)).to(sources.dtype)
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
def use(
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
    return Uses(metrics | trusted.metrics, trusted.kept)


def _judge_samples(
    stack: Stack, signals: Batch, noise: Batch, config: SeparatorConfig
) -> tuple[dict[str, Tensor], Scored]:
    """What `judged` says of each cell's mean estimates, `[cell, batch]`, and what trust in its modes needs."""
    names, samples = list(noise), round(scores.WINDOW * config.sample_rate)

    def judge(model: Separator, mixture: Tensor, sources: Tensor, *values: Tensor) -> tuple[dict[str, Tensor], Scored]:
        found = scores.estimate(model, mixture, dict(zip(names, values, strict=True)))
        qualities = judged(sources, {MEAN: _in_order(sources, found.mean)}, mixture, config)
        parts = [scores.middle(value, samples) for value in (sources, found.points, mixture)]
        return qualities, Scored(found.scores, _achieved(parts[0], parts[1], parts[2], config))

    arguments = [signals["mixture"], signals["sources"], *noise.values()]
    return stack.call(judge, *(value.expand(len(stack), *value.shape) for value in arguments))


def _in_order(sources: Tensor, estimates: Tensor) -> Tensor:
    return permuted(estimates, best_assignment(-pairwise(si_sdr, sources, estimates)).order)


def _achieved(sources: Tensor, estimates: Tensor, mixture: Tensor, config: SeparatorConfig) -> Tensor:
    """SI-SDR `[batch]`, dB: the mean over the audible sources, NaN without one."""
    sums = judged(sources, {MODE: _in_order(sources, estimates)}, mixture, config)
    quality = sums[f"si_sdr.{MODE}"].nan_to_num(SILENCE)  # an estimate that is not finite is none
    return quality / torch.where(sums[AUDIBLE_SOURCES] > 0, sums[AUDIBLE_SOURCES], torch.nan)
