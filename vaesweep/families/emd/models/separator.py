"""Encoder-masker-decoder separators, deterministic and variational (VI-EMD): one template.

Thesis lines 921-951, the bound at 1186-1249, multitasking at 1264-1274:

    x ─► encoder ─► q(z | x) ─► z ─┬─► masker ─► q(m | z) ─► m_1 … m_N
                                   └───────────── × ◄──────────┘
                                                  └─► decoder ─► p(s_n | z m_n)      D of all s_n, permuted to fit best

Where encoder and masker return numbers in the place of distributions this is Conv-TasNet, SuDoRM-RF or SepFormer. The
encoder and the decoder may be shared by two more tasks, the dashed ways of Figure 6:

    s_n ─► encoder ─► q(z_n | s_n) ─► z_n ─► decoder ─► p(s_n | z_n)      single sources; Σ z_n is the adaptive prior's
    x ─► … z ─► decoder ─► p(x | z)                                       the mixture itself: needs no references
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vaesweep.distributions import Distribution, convolve
from vaesweep.elbo import Elbo
from vaesweep.families.emd.models.flows import FlowConfig, FlowPrior
from vaesweep.families.emd.models.latents import (
    LARGEST_MASK,
    Draw,
    EncodingKind,
    Latent,
    MaskKind,
    Variable,
    draw,
    encoding_latent,
    mask_latent,
    point,
)
from vaesweep.families.emd.models.masker import MaskerConfig, masker
from vaesweep.families.emd.models.observation import Blr, LikelihoodConfig, distortion, outputs
from vaesweep.families.emd.models.tasnet import TasNetConfig
from vaesweep.families.emd.models.waveforms import (
    KERNEL,
    STRIDE,
    WaveformDecoder,
    WaveformEncoder,
    frames_of,
    overlap_of,
)
from vaesweep.packing import Frozen
from vaesweep.permutation import best_assignment, pairwise

ENCODING, MASKS, SOURCES = "encoding", "masks", "sources"  # the rates' names


class StandardPriorConfig(Frozen):
    """The fixed prior of the encoding's kind (thesis section F): N(0, 1), LN(0, 1) or Gamma(1/2, 1)."""

    kind: Literal["standard"] = "standard"


class AdaptivePriorConfig(Frozen):
    """The adaptive prior: a mixture's encoding is expected to be the sum of its sources' encodings (thesis eq. 5).

    The sources' own prior is such that the sum has the standard one: N(0, 1/N) or Gamma(1/2N). With the thesis'
    Gamma(1/2) for each source of two the sum's prior is Gamma(1), which no silent mixture has: no weight β could bring
    the rates below 0.41 nats an element.
    """

    kind: Literal["adaptive"] = "adaptive"


PriorConfig = Annotated[StandardPriorConfig | FlowConfig | AdaptivePriorConfig, Field(discriminator="kind")]
PRIORS_OF: dict[EncodingKind, tuple[str, ...]] = {
    "deterministic": ("standard",),
    "gaussian": ("standard", "flow", "adaptive"),
    "log_normal": ("standard",),
    "gamma": ("standard", "adaptive"),
}


class SeparatorConfig(Frozen):
    """The shape of a separator; the defaults are the thesis' model of Gaussian pulses (line 1563)."""

    speakers: int = Field(2, ge=1, description="N, sources that are separated")
    sample_rate: int = Field(8000, gt=0, description="Hz, of the signals that it is made for")
    latents: int = Field(32, ge=1, description="K, numbers a frame of an encoding")
    kernel: int = Field(KERNEL, ge=1, description="samples that a frame sees, a multiple of the stride")
    stride: int = Field(STRIDE, ge=1, description="samples between frames")
    encoding: EncodingKind = "gaussian"
    masks: MaskKind = "log_normal"
    masker: MaskerConfig = TasNetConfig(bottleneck=16, hidden=16, skip=8, repeats=1)
    prior: PriorConfig = Field(StandardPriorConfig(), description="of encodings")
    mask_prior_location: float = Field(
        0.0, description="location of log-normal masks' prior: 0 at thesis line 1368, 0.9 in its eq. 35"
    )
    likelihood: LikelihoodConfig = Blr()
    kl: Literal["analytic", "sample"] = Field("analytic", description="closed form where there is one, or one sample")
    single_source_task: bool = Field(False, description="also reconstruct each source from its own encoding")
    mixture_task: bool = Field(False, description="also reconstruct the mixture, noise included, from its encoding")
    margin_weight: float = Field(0.0, ge=0, description="of gradients against estimates beyond ±1 (thesis line 1540)")

    @model_validator(mode="after")
    def _check(self) -> Self:
        overlap_of(self.kernel, self.stride)
        possible = PRIORS_OF[self.encoding]
        if self.prior.kind not in possible:
            raise ValueError(
                f"a {self.encoding} encoding cannot have the prior {self.prior.kind}: {_REASONS[self.prior.kind]}; "
                f"it can have {', '.join(possible)}"
            )
        if self.mask_prior_location and self.masks != "log_normal":
            raise ValueError(f"mask_prior_location is of log_normal masks, not of {self.masks} ones; leave it at 0")
        return self

    @property
    def encodes_sources(self) -> bool:
        """Whether the single sources are encoded too, which takes references."""
        return self.single_source_task or self.prior.kind == "adaptive"


_REASONS = {
    "flow": "its densities are of Gaussian encodings",
    "adaptive": "only sums of Gaussian and of gamma encodings have a closed form",
}


def rate_names(config: SeparatorConfig) -> tuple[str, ...]:
    """The rates of a separator, in the order of its `Elbo`; none where all of it is deterministic."""
    encodes = encoding_latent(config.encoding).noise is not None
    masks = mask_latent(config.masks, config.mask_prior_location).noise is not None
    stochastic = {ENCODING: encodes, MASKS: masks, SOURCES: encodes and config.encodes_sources}
    return tuple(name for name, has_rate in stochastic.items() if has_rate)


def noise_shapes(config: SeparatorConfig, time: int) -> dict[str, tuple[int, ...]]:
    """The standard normal noise that `forward` needs for a datum of `time` samples, by argument."""
    frames = frames_of(time, config.stride)
    encoding, masks = encoding_latent(config.encoding).noise, mask_latent(config.masks, 0.0).noise
    mixture_shape, speakers_shape = (config.latents, frames), (config.speakers, config.latents, frames)
    shapes: dict[str, tuple[int, ...]] = {}
    if encoding is not None:
        shapes["encoding_noise"] = (*mixture_shape, *encoding)
    if masks is not None:
        shapes["mask_noise"] = (*speakers_shape, *masks)
    if encoding is not None and config.encodes_sources:
        shapes["source_noise"] = (*speakers_shape, *encoding)
    return shapes


@dataclass(frozen=True)
class Separation:
    """The output for a batch of mixtures, speakers in the order of the true sources.

    `estimates` `[batch, speaker, time]`, `masks` `[batch, speaker, K, frames]` and `encoding` `[batch, K, frames]` are
    samples, or the numbers themselves where they are deterministic. `order` `[batch, speaker]` says which of the
    model's own outputs each source got. `uncertainty` `[batch]` is the negative ELBO of the mixture, for which no
    reference is needed; None without the mixture task. `mode()` are the estimates `[batch, speaker, time]` by the
    points of the distributions in the place of samples, assigned anew: what a user would deploy.
    """

    estimates: Tensor
    masks: Tensor
    encoding: Tensor
    order: Tensor
    uncertainty: Tensor | None
    mode: Callable[[], Tensor]


class Separator(nn.Module):
    """A separator of mixtures of `config.speakers` sources."""

    def __init__(self, config: SeparatorConfig) -> None:
        super().__init__()
        self.config = config
        self.encoding: Latent = encoding_latent(config.encoding)
        parts = config.speakers if config.prior.kind == "adaptive" else 1
        self.source_encoding: Latent = encoding_latent(config.encoding, parts)
        self.masking: Latent = mask_latent(config.masks, config.mask_prior_location)
        self.loss: Callable[..., Tensor] = distortion(config.likelihood)
        features = config.latents
        self.encoder = WaveformEncoder(self.encoding.parameters * features, config.kernel, config.stride)
        self.masker = masker(features, config.speakers, self.masking.parameters * features, config.masker)
        self.decoder = WaveformDecoder(features, outputs(config.likelihood), config.kernel, config.stride)
        self.flow = FlowPrior(features, config.prior) if isinstance(config.prior, FlowConfig) else None

    def encode(self, waveforms: Tensor) -> Variable:
        """The encoding of mixtures `[..., time]`, at least one leading axis: each parameter `[..., K, frames]`."""
        return self.encoding.variable(self._encoded(waveforms))

    def encode_sources(self, waveforms: Tensor) -> Variable:
        """The encoding of single sources, of which a mixture's is the sum where the prior is adaptive."""
        return self.source_encoding.variable(self._encoded(waveforms))

    def _encoded(self, waveforms: Tensor) -> Tensor:
        return self.encoder(waveforms.flatten(0, -2)).unflatten(0, waveforms.shape[:-1])

    def mask(self, encoding: Tensor) -> Variable:
        """The masks for an encoding `[batch, K, frames]`: each parameter `[batch, speaker, K, frames]`."""
        return self.masking.variable(self.masker(encoding).unflatten(1, (self.config.speakers, -1)))

    def decode(self, encoding: Tensor, time: int) -> tuple[Tensor, ...]:
        """The likelihood's parameters from `encoding` `[..., K, frames]`, each `[..., time]`, the signal first."""
        return self.decoder(encoding, time).unbind(-2)

    def separate(
        self, mixture: Tensor, encoding_noise: Tensor | None = None, mask_noise: Tensor | None = None
    ) -> tuple[Draw, Draw, tuple[Tensor, ...]]:
        """The encoding, the masks and the decoded sources, speakers in the model's own order: no reference is needed.

        `mixture` is `[batch, time]`, the noise as in `forward`, and what is decoded `[batch, speaker, time]`.
        """
        encoding = draw(self.encode(mixture), encoding_noise)
        masks = draw(self.mask(encoding.value), mask_noise)
        return encoding, masks, self._decode_masked(encoding.value, masks.value, mixture.shape[-1])

    def separate_by_points(self, mixture: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Encoding, masks and decoded sources as `separate` gives them, by points in the place of samples."""
        # A copy, since torch's norms refuse some views where models are stacked.
        encoding = point(self.encode(mixture)).clone(memory_format=torch.contiguous_format)
        masks = point(self.mask(encoding))
        return encoding, masks, self._decode_masked(encoding, masks, mixture.shape[-1])

    def mode_estimate(self, mixture: Tensor, sources: Tensor) -> Tensor:
        """The estimates by points, `[batch, speaker, time]`, in the order of `sources`: what a user would deploy."""
        _, _, decoded = self.separate_by_points(mixture)
        return permuted(decoded[0], self.order(sources, decoded))

    def mean_estimate(self, mixture: Tensor, noise: dict[str, Tensor]) -> Tensor:
        """The mean over samples of the estimates, `[batch, speaker, time]`, speakers in the model's own order.

        `noise` is as in `forward`, with an axis of samples before the batch. Each sample's speakers are matched to
        those of the points' estimates, so no reference is needed.
        """
        _, _, (fixed, *_) = self.separate_by_points(mixture)
        if not noise:  # all of it is deterministic
            return fixed
        total, count = torch.zeros_like(fixed), 0
        for signals in self.sampled(mixture, noise, fixed):
            total, count = total + signals, count + 1
        return total / count

    def sampled(self, mixture: Tensor, noise: dict[str, Tensor], fixed: Tensor) -> Iterator[Tensor]:
        """The estimates of one sample of the latent variables after the other, each matched to those of `fixed`.

        `noise` is as in `mean_estimate`, `fixed` `[batch, speaker, time]` what is decoded from the points; none where
        all of it is deterministic.
        """
        for number in range(min((len(values) for values in noise.values()), default=0)):
            own = {name: values[number] for name, values in noise.items() if name != "source_noise"}
            _, _, (signals, *_) = self.separate(mixture, **own)
            yield permuted(signals, best_assignment(-pairwise(_similarity, fixed, signals)).order)

    def uncertainty(self, mixture: Tensor, encoding_noise: Tensor | None = None) -> Tensor:
        """The negative ELBO of mixtures `[batch, time]` alone, `[batch]`, nats: no reference is needed."""
        encoding = draw(self.encode(mixture), encoding_noise)
        return self._uncertainty(self.loss(mixture, *self.decode(encoding.value, mixture.shape[-1])), encoding)

    def order(self, sources: Tensor, decoded: tuple[Tensor, ...]) -> Tensor:
        """The index of the output that each source gets, `[batch, speaker]`, by the least distortion."""
        return best_assignment(pairwise(self.loss, sources, *decoded)).order

    def _decode_masked(self, encoding: Tensor, masks: Tensor, time: int) -> tuple[Tensor, ...]:
        """What is decoded from the masked encoding; the decoder takes masks above 1000 as 1000."""
        return self.decode(masks.clamp_max(LARGEST_MASK) * encoding.unsqueeze(1), time)

    def forward(
        self,
        mixture: Tensor,
        sources: Tensor,
        encoding_noise: Tensor | None = None,
        mask_noise: Tensor | None = None,
        source_noise: Tensor | None = None,
    ) -> tuple[Elbo, Separation]:
        """The bound of a batch under its best permutation, and the separation.

        `mixture` `[batch, time]`, `sources` `[batch, speaker, time]`; the noise is `[batch, *noise_shapes(…)]`. The
        distortion `[batch]` is the sum over speakers, and over tasks. Rates: `encoding` `[batch, K, frames]`, `masks`
        and `sources` `[batch, speaker, K, frames]`.
        """
        encoding, masks, decoded = self.separate(mixture, encoding_noise, mask_noise)
        order, total = best_assignment(pairwise(self.loss, sources, *decoded))
        parts = draw(self.encode_sources(sources), source_noise) if self.config.encodes_sources else None
        if self.config.single_source_task and parts is not None:
            total = total + self.loss(sources, *self.decode(parts.value, mixture.shape[-1])).sum(-1)
        uncertainty = None
        if self.config.mixture_task:
            of_mixture = self.loss(mixture, *self.decode(encoding.value, mixture.shape[-1]))
            total = total + of_mixture
            uncertainty = self._uncertainty(of_mixture, encoding)
        total = total + self._margin(decoded[0])
        estimates, permuted_masks = permuted(decoded[0], order), permuted(masks.value, order)

        def mode() -> Tensor:
            if self.encoding.noise is None and self.masking.noise is None:
                return estimates
            return self.mode_estimate(mixture, sources)

        separation = Separation(estimates, permuted_masks, encoding.value, order, uncertainty, mode)
        return Elbo(total, self._rates(encoding, masks, parts)), separation

    def _rates(self, encoding: Draw, masks: Draw, parts: Draw | None) -> dict[str, Tensor]:
        analytic = self.config.kl == "analytic"
        rates = {}
        if self.encoding.prior is not None:
            rates[ENCODING] = encoding.rate(self._prior(encoding, parts), analytic=analytic)
        if self.masking.prior is not None:
            rates[MASKS] = masks.rate(self.masking.prior(masks.value), analytic=analytic)
        if self.encoding.prior is not None and parts is not None:
            rates[SOURCES] = parts.rate(self._fixed_prior(self.source_encoding, parts.value), analytic=analytic)
        return rates

    def _prior(self, encoding: Draw, parts: Draw | None) -> Distribution | FlowPrior:
        """The prior of a mixture's encoding, given its sources' where it is adaptive."""
        if self.config.prior.kind == "adaptive" and parts is not None:
            return convolve(_by_speaker(parts.q, self.config.speakers))
        return self._fixed_prior(self.encoding, encoding.value)

    def _fixed_prior(self, latent: Latent, like: Tensor) -> Distribution | FlowPrior:
        """The prior of mixtures' or of sources' encodings that needs no references."""
        assert latent.prior is not None
        return latent.prior(like) if self.flow is None else self.flow

    def _uncertainty(self, of_mixture: Tensor, encoding: Draw) -> Tensor:
        """The negative ELBO of the mixture alone, `[batch]`; against the fixed prior where the other is adaptive."""
        if self.encoding.prior is None:
            return of_mixture
        rate = encoding.rate(self._fixed_prior(self.encoding, encoding.value), analytic=self.config.kl == "analytic")
        return of_mixture + rate.flatten(1).sum(-1)

    def _margin(self, estimates: Tensor) -> Tensor:
        """Zero, `[batch]`, with the gradient of how far samples lie beyond ±1: a distortion must not contain it."""
        beyond = self.config.margin_weight * torch.relu(estimates.abs() - 1).sum((-2, -1))
        return beyond - beyond.detach()


def permuted(values: Tensor, order: Tensor) -> Tensor:
    """`values` `[batch, speaker, ...]` in the order of the sources."""
    return values.take_along_dim(order.unflatten(-1, (-1, *[1] * (values.dim() - 2))), dim=1)


def _similarity(one: Tensor, other: Tensor) -> Tensor:
    """Cosine of two signals `[..., time]`."""
    return torch.nn.functional.cosine_similarity(one, other, dim=-1)


def _by_speaker(q: Variable, speakers: int) -> list[Any]:
    """Each speaker's part of a distribution whose parameters are `[batch, speaker, ...]`."""
    return [type(q)(*(parameter[:, number] for parameter in vars(q).values())) for number in range(speakers)]
