"""Interface of elementwise distributions of a latent variable, so that models need not know which one they have."""

from typing import ClassVar, Protocol, Self

from torch import Tensor


class Distribution(Protocol):
    """Independent variables, one an element of the parameters' common shape; everything is in nats and unreduced.

    `NOISE` is the shape of the standard normal noise that one draw of one element needs: noise for parameters
    `[*shape]` is `[*shape, *NOISE]`. Any leading sample axes of the noise broadcast.
    """

    NOISE: ClassVar[tuple[int, ...]]

    @property
    def mean(self) -> Tensor:
        """The mean, elementwise."""

    @property
    def std(self) -> Tensor:
        """The standard deviation, elementwise."""

    @property
    def point(self) -> Tensor:
        """The most likely value where the variable is written without bounds: its logarithm, or its log odds."""

    def draw(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A reparameterised sample and its log density, elementwise."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density, elementwise."""

    def kl(self, other: Self) -> Tensor:
        """Analytic KL(self || other), elementwise and therefore unreduced over latent axes."""
