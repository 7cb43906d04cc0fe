"""A flow as the prior of encodings: mean-only and autoregressive, its means from masked networks.

Thesis lines 1543-1546, after the variational lossy autoencoder (Chen et al., 2017) and MADE (Germain et al., 2015).

    z ─► z - μ₁(z) ─► · - μ₂(·) ─► … ─► ε ~ N(0, I),        μ of channel k from the channels before k only

Every step has a triangular Jacobian with ones on its diagonal, so densities need no determinant. From step to step the
order of the channels is reversed. Each frame is a variable of its own, of K channels.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vaesweep.distributions import standard_gaussian
from vaesweep.families.emd.models.layers import Pointwise1d, affine
from vaesweep.packing import Frozen, Since


class FlowConfig(Frozen):
    """The shape of a flow prior; the thesis gives none of these numbers, only their outcome for K = 512: 12.6 M.

    Four steps of three hidden layers of 1024 units have 12 597 248 parameters.
    """

    kind: Literal["flow"] = "flow"
    steps: int = Field(2, ge=1, description="changes of variables, one after the other")
    hidden: int = Field(64, ge=1, description="hidden units of a layer of a step's network")
    layers: Annotated[int, Since("0.2")] = Field(1, ge=1, description="hidden layers of a step's network")


class FlowPrior(nn.Module):
    """A density of `channels` real numbers a frame."""

    def __init__(self, channels: int, config: FlowConfig) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            Made(channels, config.hidden, config.layers, backwards=number % 2 == 1) for number in range(config.steps)
        )

    def noise(self, z: Tensor) -> Tensor:
        """The standard normal numbers behind `z` `[..., channels, frames]`, which has a leading axis or more."""
        epsilon = z.flatten(0, -3)
        for means in self.steps:
            epsilon = epsilon - means(epsilon)
        return epsilon.reshape(z.shape)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats, split over the channels of `noise(z)`: `[..., channels, frames]`.

        The sum over channels is the log density of a frame, and is what has a meaning.
        """
        epsilon = self.noise(z)
        return standard_gaussian(epsilon).log_prob(epsilon)


class Made(nn.Module):
    """A network of hidden layers whose output k sees the inputs before k, or behind k where it goes `backwards`.

    `[batch, channels, frames]` to the same, frame by frame. Hidden unit h has a degree: it sees the channels up to it
    and the units of no higher degree, and is seen by the channels behind it. Degrees are spread evenly over the
    channels.
    """

    def __init__(self, channels: int, hidden: int, layers: int = 1, *, backwards: bool) -> None:
        super().__init__()
        self.backwards = backwards
        self.enter = Pointwise1d(channels, hidden)
        self.between = nn.ModuleList(Pointwise1d(hidden, hidden) for _ in range(layers - 1))
        self.leave = Pointwise1d(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """One mean a channel and frame."""
        channels, hidden = self.leave.out_channels, self.leave.in_channels
        position = torch.arange(channels, device=x.device)
        if self.backwards:
            position = position.flip(0)
        degree = torch.arange(hidden, device=x.device) * (channels - 1) // hidden
        inner = masked(self.enter, degree.unsqueeze(-1) >= position, x).relu()
        for layer in self.between:
            assert isinstance(layer, Pointwise1d)
            inner = masked(layer, degree.unsqueeze(-1) >= degree, inner).relu()
        return masked(self.leave, position.unsqueeze(-1) > degree, inner)


def masked(layer: Pointwise1d, mask: Tensor, x: Tensor) -> Tensor:
    """A `Pointwise1d` of `x`, of whose weights only those in `mask` `[outputs, inputs]` count."""
    return affine(layer.weight.squeeze(-1) * mask.to(x.dtype), layer.bias, x)
