"""Metrics of separation: quantities of each mixture, and metrics of their means (thesis lines 1340 and 962).

Rates are normalised as the thesis does: by the samples T of a signal and, a dimension, by the number K of latent
channels. The rate of the masks is the mean over speakers.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from vaesweep.elbo import Elbo
from vaesweep.families.emd.models.observation import Blr
from vaesweep.families.emd.models.separator import ENCODING, MASKS, Separation, SeparatorConfig, rate_names
from vaesweep.likelihoods import BlrPrior, blr_nll, si_sdr, si_sdr_improvement
from vaesweep.training.stack import Batch

QUALITY = {
    "si_sdr": "dB: of the estimates, mean over speakers",
    "si_sdri": "dB: by how much that exceeds the SI-SDR of the mixture itself",
    "blr": "nats per sample of a source: negative log-likelihood by Bayesian linear regression on its estimate",
}
PER_SECOND = {"rate_per_second": "nats per second of the mixture: all rates together"}
ENCODING_RATE = {"rate_encoding_per_dimension": "nats per sample of the mixture and latent channel"}
MASK_RATE = {"rate_masks_per_dimension": "nats per sample of the mixture, latent channel and speaker"}
UNCERTAINTY = {
    "mixture_elbo": "nats per sample of the mixture: ELBO of the mixture itself, without references",
    "mixture_correlation": "Pearson's, over mixtures: of the mixture's ELBO with SI-SDRi; 0 where one does not vary",
}
METRICS = QUALITY | PER_SECOND | ENCODING_RATE | MASK_RATE | UNCERTAINTY
_UNCERTAIN, _SQUARED, _IMPROVED_SQUARED, _PRODUCT = "mixture_elbo", "mixture_elbo²", "si_sdri²", "mixture_elbo·si_sdri"


def metrics_of(config: SeparatorConfig) -> dict[str, str]:
    """The metrics of a separator, with their units; deterministic parts have no rate."""
    rates = rate_names(config)
    return (
        QUALITY
        | (PER_SECOND if rates else {})
        | (ENCODING_RATE if ENCODING in rates else {})
        | (MASK_RATE if MASKS in rates else {})
        | (UNCERTAINTY if config.mixture_task else {})
    )


def measure(elbo: Elbo, separation: Separation, batch: Batch, config: SeparatorConfig) -> dict[str, Tensor]:
    """Quantities of each mixture, `[batch]`, whose means `summarise` reads."""
    mixture, sources = batch["mixture"], batch["sources"]
    time = mixture.shape[-1]
    prior = config.likelihood if isinstance(config.likelihood, Blr) else BlrPrior()
    improvement = si_sdr_improvement(sources, separation.estimates, mixture.unsqueeze(1)).mean(-1)
    values = {
        "si_sdr": si_sdr(sources, separation.estimates).mean(-1),
        "si_sdri": improvement,
        "blr": blr_nll(sources, separation.estimates, prior).mean(-1) / time,
    }
    if elbo.rates:
        values["rate_per_second"] = elbo.total_rate() * (config.sample_rate / time)
    if ENCODING in elbo.rates:
        values["rate_encoding_per_dimension"] = elbo.rate(ENCODING) / (time * config.latents)
    if MASKS in elbo.rates:
        values["rate_masks_per_dimension"] = elbo.rate(MASKS) / (time * config.latents * config.speakers)
    return values if separation.uncertainty is None else values | _moments(-separation.uncertainty / time, improvement)


def summarise(means: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Metrics `[cell]` from the means over a domain: those by name, and the correlation."""
    metrics = {name: means[name] for name in METRICS if name in means}
    return metrics | ({"mixture_correlation": _correlation(means)} if _UNCERTAIN in means else {})


def _moments(elbo: Tensor, improvement: Tensor) -> dict[str, Tensor]:
    """The moments that a correlation is computed from, in float64: small differences of squares matter."""
    elbo, improvement = elbo.double(), improvement.double()
    squares = {_SQUARED: elbo.square(), _IMPROVED_SQUARED: improvement.square()}
    return {_UNCERTAIN: elbo, _PRODUCT: elbo * improvement} | squares


def _correlation(means: Mapping[str, Tensor]) -> Tensor:
    elbo, improvement = means[_UNCERTAIN], means["si_sdri"]
    covariance = means[_PRODUCT] - elbo * improvement
    variances = (means[_SQUARED] - elbo.square()) * (means[_IMPROVED_SQUARED] - improvement.square())
    varies = variances > torch.finfo(variances.dtype).eps
    return torch.where(varies, covariance / torch.where(varies, variances, 1.0).sqrt(), 0.0).clamp(-1, 1)
