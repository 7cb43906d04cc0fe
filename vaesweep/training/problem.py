"""The interface of a family to the training loop: a model to build, batches to draw, domains to be evaluated on.

All randomness is in the batches, so that a step is a function of (parameters, batch) and cells of one seed share their
data order and noise whatever pack they are in.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vaesweep.elbo import Elbo
from vaesweep.training.batch_order import Draws
from vaesweep.training.stack import Batch, Stack


@dataclass(frozen=True)
class Uses:
    """The results of using trained models, beyond their ELBO: `metrics` by `domain/metric`, each `[cell]`.

    `kept` are tensors `[cell, ...]` by name that are stored with a cell's weights, since its users need them.
    """

    metrics: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[str, Tensor] = field(default_factory=dict)

    def __or__(self, other: "Uses") -> "Uses":
        """The results of both."""
        return Uses(self.metrics | other.metrics, self.kept | other.kept)


class Problem(Protocol):
    """One structure of one family on one device, its data included.

    A family's own inherits from it, for what there is a default of.
    """

    rate_names: tuple[str, ...]
    train_rows: int
    valid: str  # the domain that is evaluated while training
    domains: Mapping[str, int]  # evaluation rows of every domain
    device: torch.device
    reads: bool = False  # whether `read` takes time that the steps before can give
    evaluation_rows: int = 0  # of all cells together that are little to hold: evaluated at once, in whole batches
    use_rows: int  # data that `use` takes of the domain of which it takes the most, 0 where there is no use

    def build(self) -> nn.Module:
        """A freshly initialised model, on the CPU, from the global random state; its forward gives (Elbo, output)."""

    def train_batch(self, rows: Tensor, generator: torch.Generator) -> Batch:
        """The training batch of the data `rows` `[batch]`, everything random about it drawn from `generator`."""

    def train_share(self, draws: Draws, read: Any = None) -> Batch:
        """The rows of a step's batch that `draws` names; by default of the whole batch, which is drawn for them.

        `read` is what `read` has given for the same draws.
        """
        whole = self.train_batch(draws.rows, draws.of_batch())
        return {name: value[draws.share] for name, value in whole.items()}

    def read(self, draws: Draws) -> Any:
        """What `train_share` needs of files. Called by threads, ahead of the step, of problems that say they read."""
        return None

    def evaluation_batch(self, domain: str, rows: slice) -> Batch:
        """Evaluation rows of a domain, the same for every cell: fixed masks, fixed noise."""

    def evaluation_chunks(self, domain: str, rows: slice, size: int) -> Iterator[slice]:
        """Slices of the evaluation `rows` that can be one batch, of at most `size`; by default all can."""
        for start in range(rows.start, rows.stop, size):
            yield slice(start, min(start + size, rows.stop))

    def weight(self, batch: Batch) -> float:
        """What distortion and rates of an evaluation batch are multiplied by, to be those of a datum as in training.

        One where all data are alike; less than one of data that are longer than those trained on.
        """
        return 1.0

    def kept_rows(self, domain: str) -> tuple[str, ...]:
        """Those of `measure`'s quantities of which each datum's value is kept with a finished cell; by default none."""
        return ()

    def quick_rows(self, domain: str) -> int:
        """The number of first evaluation rows that stand for the domain during training."""

    def measure(self, elbo: Elbo, output: Any, batch: Batch) -> dict[str, Tensor]:
        """The family's own quantities, each `[batch]`, whose means over a domain `summarise` reads."""

    def summarise(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The family's own metrics from the means of `measure`'s quantities, each `[cell]`."""

    def use(self, stack: Stack, rows: int | None = None) -> Uses:
        """Put trained models to their downstream uses, on at most `rows` data of a domain (each once) if given."""
