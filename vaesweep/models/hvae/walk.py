"""What a level gives: where the latent path ends, and what it cost to get there."""

from typing import NamedTuple

from torch import Tensor


class Walk(NamedTuple):
    """One level's end.

    `state` `[batch, channels, height, width]` goes on to the next level; `rate` and `log_ratio` are
    `[batch, *latent]`, in nats: the divergence of posterior from prior, and log q - log p of what was drawn.
    """

    state: Tensor
    rate: Tensor
    log_ratio: Tensor
