"""The evidence lower bound, kept in its parts (thesis section 2.2, eq. 2.1): ELBO = -(D + R).

A model returns its distortion and its named rates; nothing here re-weights them. Re-weighting is `vaesweep.rates`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Elbo:
    """Distortion and rates of a batch, in nats, under any number of leading axes (`...`, e.g. the cell).

    `distortion` is `[..., batch]`, nats per datum. Each rate is `[..., batch, *latent]`: unreduced over its latent
    axes, so that free nats can apply to a dimension or to the group as a whole.

    A model that draws its latent variables several times gives means over the draws, and every draw's own parts as
    `draws`, with one more axis after the batch: an importance-weighted bound needs them.
    """

    distortion: Tensor
    rates: Mapping[str, Tensor]
    draws: "Elbo | None" = None

    @classmethod
    def drawn(cls, draws: "Elbo") -> "Elbo":
        """The bound of several draws, from each draw's parts: `[..., batch, draw]`, `[..., batch, draw, *latent]`."""
        axis = draws.distortion.dim() - 1
        return cls(draws.distortion.mean(axis), {n: rate.mean(axis) for n, rate in draws.rates.items()}, draws)

    def rate(self, name: str) -> Tensor:
        """One named rate summed over its latent axes: `[..., batch]`, nats per datum."""
        return total_over_latents(self.rates[name], self.distortion)

    def total_rate(self) -> Tensor:
        """The sum of all rates: `[..., batch]`, nats per datum."""
        return sum((self.rate(name) for name in self.rates), start=torch.zeros_like(self.distortion))

    def value(self) -> Tensor:
        """The bound itself, -(D + R), never re-weighted: `[..., batch]`, nats per datum."""
        return -(self.distortion + self.total_rate())


def total_over_latents(rate: Tensor, datum: Tensor) -> Tensor:
    """Sum `rate` over the axes that `datum` does not have: `[..., batch, *latent]` to `[..., batch]`."""
    return rate.flatten(datum.dim()).sum(-1) if rate.dim() > datum.dim() else rate
