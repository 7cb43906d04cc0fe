"""Encodings of a datum of which any dimensions are observed: `x`, `observed` `[batch, dim]` to `[batch, width]`.

    sum            h(x_d · e_d, e_d) summed over observed d: PointNet Plus, Ma et al. (2019), the thesis' choice
    attention      the same features, averaged with weights that learnt queries give them
    concatenation  [x · observed, observed]: for a fixed and small number of dimensions

All ignore unobserved values of `x`.
"""

import math

import torch
from torch import Tensor, nn

HEADS = 4


class PointNetPlus(nn.Module):
    """Embeds observed dimensions and sums them: to `[batch, features]`.

    Each dimension d has a learnt identity vector e_d. The product x_d · e_d carries no identity where x_d = 0, the mean
    of standardised data, so e_d goes in beside it. The layer h is linear in x_d before its activation:
    W[x_d e_d; e_d] + b = x_d (W₁ e_d) + (W₂ e_d + b). Both brackets are per dimension, not per datum, which turns a
    matrix product a datum and dimension into one multiply-add; an unobserved dimension multiplies both by zero.
    """

    def __init__(self, dims: int, embedding: int, features: int) -> None:
        super().__init__()
        self.identity = nn.Parameter(torch.randn(dims, embedding))
        self.slope = nn.Linear(embedding, features, bias=False)
        self.offset = nn.Linear(embedding, features)
        self.width = features

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        """The sum over observed dimensions."""
        return self.dimension_features(x, observed).sum(0)

    def dimension_features(self, x: Tensor, observed: Tensor) -> Tensor:
        """The features of every dimension, `[dim, batch, features]`, zero where unobserved."""
        inputs = torch.stack([x.masked_fill(~observed, 0.0), observed.to(x.dtype)], dim=-1)
        line = torch.stack([self.slope(self.identity), self.offset(self.identity)], dim=-2)
        return torch.relu(torch.einsum("bdk,dkh->dbh", inputs, line))


class Attention(nn.Module):
    """Averages the features of observed dimensions, `HEADS` times with weights of its own: `[batch, 4 features + 1]`.

    The number of observed dimensions would be lost in an average, so their share is a last feature beside the heads.
    """

    def __init__(self, dims: int, embedding: int, features: int) -> None:
        super().__init__()
        self.embed = PointNetPlus(dims, embedding, features)
        self.queries = nn.Linear(features, HEADS)
        self.values = nn.Linear(features, features)
        self.width = HEADS * features + 1

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        """The averages of all heads, and the share of dimensions that is observed."""
        features = self.embed.dimension_features(x, observed)
        mask = observed.T.unsqueeze(-1)
        scores = (self.queries(features) / math.sqrt(features.shape[-1])).masked_fill(~mask, -1e9)
        weights = scores.softmax(0) * mask
        averaged = torch.einsum("dbh,dbf->bhf", weights, self.values(features)).flatten(1)
        return torch.cat([averaged, observed.to(x.dtype).mean(-1, keepdim=True)], dim=-1)


class Concatenation(nn.Module):
    """Concatenates the observed values, zero elsewhere, and the mask of observed dimensions: `[batch, 2 dim]`."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.width = 2 * dims

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        """The values, then the mask."""
        return torch.cat([x.masked_fill(~observed, 0.0), observed.to(x.dtype)], dim=-1)
