"""Scores of a separation that take no references, for which its quality is then read from validation mixtures.

| score | unit | what | of |
|---|---|---|---|
| `agreement` | dB | SI-SDR of the estimates, were samples of the latent variables the truth | variational |
| `scale` | dB | energy of the estimates over that of the scale that the decoder gives them | Cauchy, Student-t |
| `explained` | dB | energy of the mixture over that of what the estimates leave of it | all |
| `apart` | dB | negative SI-SDR of the mixture, were the estimates the sources | all |
| `mixture_elbo` | nats per sample | the mixture's own ELBO (thesis, Figure 3) | with the mixture task |

Bayesian linear regression has no scale to offer: its noise is integrated out given the source, so that without the
source there is none. Scores are of the middle four seconds, which is what `vaesweep separate` takes at a time: longer
signals have scores that vary less.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vaesweep.families.emd.models.latents import log_positive
from vaesweep.families.emd.models.observation import Cauchy, StudentT
from vaesweep.families.emd.models.separator import Separator, SeparatorConfig, noise_shapes
from vaesweep.families.emd.models.waveforms import frames_of
from vaesweep.likelihoods import si_sdr

WINDOW = 4.0  # seconds
LEAST, MOST = -30.0, 60.0  # dB, of scores: an estimate that is silent must not own a mean


def score_names(config: SeparatorConfig) -> tuple[str, ...]:
    """The scores of a separator, in the order of `Scores.of`."""
    return (
        *(("agreement",) if noise_shapes(config, config.kernel) else ()),  # dB: SI-SDR of samples to the estimates
        *(("scale",) if isinstance(config.likelihood, Cauchy | StudentT) else ()),  # dB: of estimates to their scale
        "explained",  # dB: of the mixture to what the estimates leave of it
        "apart",  # dB: of the estimates from the mixture
        *(("mixture_elbo",) if config.mixture_task else ()),  # nats per sample
    )


def middle(signals: Tensor, samples: int) -> Tensor:
    """The middle `samples` of `signals` `[..., time]`; all where there are fewer."""
    start = max(signals.shape[-1] - samples, 0) // 2
    return signals[..., start : start + samples]


@dataclass(frozen=True)
class Estimates:
    """The estimates of a batch of mixtures `[batch, speaker, time]` in the model's order, and their scores.

    `points` are decoded from the points of the latent variables, `mean` is the mean over samples, and `scores`
    `[batch, score]` are of the middle `WINDOW` seconds.
    """

    points: Tensor
    mean: Tensor
    scores: Tensor


def estimate(model: Separator, mixture: Tensor, noise: dict[str, Tensor]) -> Estimates:
    """Separate `mixture` `[batch, time]` by points and by samples, with `noise` as in `Separator.mean_estimate`."""
    config = model.config
    samples = round(WINDOW * config.sample_rate)
    _, _, decoded = model.separate_by_points(mixture)
    points, heard = decoded[0], middle(mixture, samples)
    judged = middle(points, samples)
    total, agreement, count = torch.zeros_like(points), torch.zeros_like(points[..., 0]), 0
    for signals in model.sampled(mixture, noise, points):
        total, count = total + signals, count + 1
        agreement = agreement + si_sdr(middle(signals, samples), judged).clamp(LEAST, MOST)
    scores = [agreement / count] if count else []
    if isinstance(config.likelihood, Cauchy | StudentT):
        scores.append(_ratio(judged.square().sum(-1), (2 * log_positive(middle(decoded[1], samples))).exp().sum(-1)))
    scores = [score.mean(-1) for score in scores]
    scores += [explained(heard, judged), -si_sdr(judged, heard.unsqueeze(-2)).clamp(-MOST, -LEAST).mean(-1)]
    if config.mixture_task:
        frames = frames_of(heard.shape[-1], config.stride)
        own = noise["encoding_noise"][0][:, :, :frames] if "encoding_noise" in noise else None
        scores.append(-model.uncertainty(heard, own) / heard.shape[-1])
    return Estimates(points, total / count if count else points, torch.stack(scores, -1).nan_to_num())


def explained(mixture: Tensor, estimates: Tensor) -> Tensor:
    """10 log10 of the energy of `mixture` `[..., time]` over that of its residual from `estimates`, `[...]`, dB.

    The residual is that of least squares, with a gain for each of the estimates `[..., speaker, time]`.
    """
    one, others = mixture.double(), estimates.double()
    unit = others * others.square().sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny).rsqrt()
    gram = unit @ unit.transpose(-1, -2) + 1e-9 * torch.eye(unit.shape[-2], dtype=unit.dtype, device=unit.device)
    projections = (unit @ one.unsqueeze(-1)).squeeze(-1)
    energy = one.square().sum(-1)
    residual = energy - (projections * torch.linalg.solve(gram, projections.unsqueeze(-1)).squeeze(-1)).sum(-1)
    return _ratio(energy, residual.clamp_min(0)).to(mixture.dtype)


def _ratio(energy: Tensor, other: Tensor) -> Tensor:
    tiny = torch.finfo(torch.float32).tiny
    return (10 * (energy.clamp_min(tiny).log10() - other.clamp_min(tiny).log10())).clamp(LEAST, MOST)
