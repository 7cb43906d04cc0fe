"""The input and the output of a level: steps of adaptive size, and the end of the latent path with its rate."""

from typing import NamedTuple

from torch import Tensor


class Adaptive(NamedTuple):
    """Adaptive steps in place of a continuous level's noise: as small as `tolerance` asks for, on a path of `entropy`.

    For looking closely at a trained model (`sde/adaptive.py`): one step size serves a batch, and none of it can be
    mapped over cells. The path is another than that of any noise, and has no `log_ratio`. Its `rate` is an estimate and
    no divergence: the midpoint rule's drift sees the noise of its own step, as the choice of the step does.
    """

    entropy: int
    tolerance: float


class Walk(NamedTuple):
    """The end of the path through one level, and its cost.

    `state` `[batch, channels, height, width]` goes on to the next level; `rate` and `log_ratio` are
    `[batch, *latent]`, in nats: the divergence of posterior from prior, and log q - log p of what was drawn, NaN where
    that is not known.
    """

    state: Tensor
    rate: Tensor
    log_ratio: Tensor
