"""Predictions of the unobserved dimensions of a partial datum: a mixture of Gaussians in every dimension.

Thesis study A, section 3.2, "Predicting full observations from partial data": p(x_U | x_O) = ∫ p(x_U | z) p(z | x_O) dz
is estimated by samples of z, each of them one part of the mixture. The conditional of a Gaussian mixture has the same
form, with its components as the parts, so that every acquisition rule serves both.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)
BISECTIONS = 40  # halve the bracket of a quantile to below float32's resolution


@dataclass(frozen=True)
class Predictive:
    """Predictive distributions of a batch of partial data, by a stack of models.

    `weights` `[cell, row, part]` sum to one over the parts; `mean` and `std` `[cell, row, part, dim]` are in physical
    units (dB, years). `bound` `[cell, row]` is the model's log density of the observed part, log p(x_O), or a lower
    bound of it, in nats of standardised units.
    """

    weights: Tensor
    mean: Tensor
    std: Tensor
    bound: Tensor

    @property
    def expectation(self) -> Tensor:
        """The mean of every dimension, `[cell, row, dim]`."""
        return torch.einsum("crs,crsd->crd", self.weights, self.mean)

    @property
    def variance(self) -> Tensor:
        """The variance of every dimension, `[cell, row, dim]`: within the parts and between them (thesis eq. 3)."""
        deviation = self.mean - self.expectation.unsqueeze(-2)
        return self.within + torch.einsum("crs,crsd->crd", self.weights, deviation.square())

    @property
    def within(self) -> Tensor:
        """The mean of the parts' variances, `[cell, row, dim]`."""
        return torch.einsum("crs,crsd->crd", self.weights, self.std.square())

    @property
    def between(self) -> Tensor:
        """The covariance of the parts' means, `[cell, row, dim, dim]`."""
        deviation = self.weights.sqrt().unsqueeze(-1) * (self.mean - self.expectation.unsqueeze(-2))
        return deviation.mT @ deviation

    @property
    def effective_samples(self) -> Tensor:
        """Effective sample size of the weights, `[cell, row]`: 1 / Σ w², between 1 and the number of parts."""
        return 1.0 / self.weights.square().sum(-1)

    def complete(self, x: Tensor, observed: Tensor) -> Tensor:
        """The estimate x̂ `[cell, row, dim]`: `x` where it is observed, and the expectation elsewhere."""
        return torch.where(observed, x, self.expectation)

    def log_densities(self, x: Tensor) -> Tensor:
        """log p(x_d | part) in physical units, `[cell, row, part, dim]`."""
        scaled = (x.unsqueeze(-2) - self.mean) / self.std
        return -0.5 * (scaled.square() + LOG_2PI) - self.std.log()

    def below(self, x: Tensor) -> Tensor:
        """The share of the mixture that lies below the values `x` `[row, dim]`, `[cell, row, dim]`."""
        shares = torch.special.ndtr((x.unsqueeze(-2) - self.mean) / self.std)
        return torch.einsum("crs,crsd->crd", self.weights, shares.to(self.weights.dtype))

    def quantile(self, share: float) -> Tensor:
        """The value below which `share` of the mixture lies in every dimension, `[cell, row, dim]`, by bisection."""
        reach = math.sqrt(2) * torch.special.erfinv(torch.tensor(2 * share - 1, dtype=torch.float64)).to(self.mean)
        ends = self.mean + reach * self.std  # the mixture's quantile lies between its parts' quantiles
        low, high = ends.amin(-2), ends.amax(-2)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            below = torch.special.ndtr((middle.unsqueeze(-2) - self.mean) / self.std)
            under = torch.einsum("crs,crsd->crd", self.weights, below) < share
            low, high = torch.where(under, middle, low), torch.where(under, high, middle)
        return (low + high) / 2

    def part(self, draws: "RandomNumbers", number: int) -> Tensor:
        """The part that draw `number` of every datum comes from, `[cell, row]`."""
        cumulative = self.weights.cumsum(-1)
        part = (cumulative < draws.uniform[:, number, None] * cumulative[..., -1:]).sum(-1)
        return part.clamp(max=self.weights.shape[-1] - 1)

    def sample(self, draws: "RandomNumbers", number: int) -> Tensor:
        """Draw `number` of every datum, `[cell, row, dim]`: one part for all dimensions, then independent Gaussians.

        Cells share the random numbers, so that they differ by what they predict and not by luck.
        """
        part = self.part(draws, number)
        index = part[..., None, None].expand(*part.shape, 1, self.mean.shape[3])
        mean, std = (values.gather(2, index).squeeze(2) for values in (self.mean, self.std))
        return mean + std * draws.normal[:, number]


def among_unobserved(covariance: Tensor, observed: Tensor) -> Tensor:
    """`covariance` `[cell, row, dim, dim]` with zeros where either dimension is `observed` `[cell, row, dim]`."""
    return covariance.masked_fill(observed.unsqueeze(-1) | observed.unsqueeze(-2), 0.0)


@dataclass(frozen=True)
class RandomNumbers:
    """Random numbers that belong to data: `uniform` `[row, draw]` and standard `normal` `[row, draw, dim]`."""

    uniform: Tensor
    normal: Tensor

    @classmethod
    def of(cls, x: Tensor, count: int, seed: int) -> "RandomNumbers":
        """`count` draws for each of the data `x` `[row, dim]`."""
        generator = torch.Generator().manual_seed(seed)
        uniform = torch.rand(len(x), count, generator=generator)
        normal = torch.randn(len(x), count, x.shape[1], generator=generator)
        return cls(uniform.to(x), normal.to(x))

    def __len__(self) -> int:
        return self.uniform.shape[1]

    def __getitem__(self, rows: slice) -> "RandomNumbers":
        return RandomNumbers(self.uniform[rows], self.normal[rows])


class Predictor(Protocol):
    """A stack of models that predict what they have not observed: `cells` of them, over `dims` dimensions."""

    cells: int
    dims: int

    @property
    def rows(self) -> int:
        """The number of data that are best predicted at a time."""

    def predict(self, x: Tensor, observed: Tensor) -> Predictive:
        """Predictives of the data `x` `[row, dim]` (physical units) of which `observed` `[cell, row, dim]` is known.

        Unobserved values of `x` are not used.
        """

    def unexplained(self, x: Tensor, observed: Tensor, predictive: Predictive) -> Tensor:
        """-log p(x_U | x_O) of the true values, joint over unobserved dimensions: nats `[cell, row]`.

        In physical units; zero where all is observed.
        """

    def covariance(self, observed: Tensor, predictive: Predictive) -> Tensor:
        """Cov(x_U | x_O) in physical units, `[cell, row, dim, dim]`; zero in rows and columns of observed dimensions.

        Its diagonal is the predictive's variance where nothing is observed.
        """

    def information(self, x: Tensor, observed: Tensor, predictive: Predictive, draws: RandomNumbers) -> Tensor:
        """The expected information of observing one dimension on all other unobserved ones: nats `[cell, row, dim]`.

        The expected information reward of Ma et al. (2019) with every other unobserved dimension as the target, the
        mutual information I(x_d; x_U∖d | x_O), estimated with the `draws` of each datum.
        """
