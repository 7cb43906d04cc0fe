"""Trained models ready for use: one interface for the finished cells of every family.

    x ─► encode ─► q(z | x) ─► z ─► decode ─► p(x | z)        mean, std and samples of either
                    p(z) ─► z ─► decode ─► sample             x ─► reconstruct ─► x        data ─► evaluate ─► metrics

Values are in the units of the data on both sides: a model has its standardisation with it. A model is on the CPU, and
is made of tensors and JSON; nothing is unpickled.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.family.base import CellConfig
from vaesweep.family.registry import family
from vaesweep.family.restore import restore_any
from vaesweep.training import finished
from vaesweep.training.evaluate import final_uses
from vaesweep.training.finished import FinishedCell
from vaesweep.training.stack import Stack, joined, layout_of
from vaesweep.training.world import World

CPU = torch.device("cpu")
Values = Tensor | np.ndarray


@dataclass(frozen=True)
class Estimate:
    """What a model says of some numbers: their `mean`, and their standard deviation `std`, elementwise.

    `std` is zero of what the model computes and does not estimate, and None where it gives numbers without a spread;
    these have no `draw` either, which gives one sample of the shape of `mean`.
    """

    mean: Tensor
    std: Tensor | None = None
    draw: Callable[[torch.Generator], Tensor] | None = None

    @classmethod
    def exact(cls, values: Tensor) -> "Estimate":
        """The estimate of numbers that a model computes."""
        return cls(values, torch.zeros_like(values), lambda generator: values)

    def sample(self, seed: int = 0) -> Tensor:
        """One sample, the same for the same seed. Raises `UserError` where there is no spread to draw from."""
        return self.drawn(torch.Generator().manual_seed(seed))

    def drawn(self, generator: torch.Generator) -> Tensor:
        """One sample by the random numbers of `generator`."""
        if self.draw is None:
            raise UserError("the model gives an estimate without a spread here, so there is no sample; take its mean")
        return self.draw(generator)


@dataclass(frozen=True)
class Trained:
    """The trained model of a finished cell.

    This class evaluates the cells of every family. A family that can do more has a subclass, whose methods give shapes
    and units. `data_name` tells what the cell's sweep was trained on, where that is known.
    """

    config: CellConfig
    model: nn.Module
    cell: FinishedCell = field(kw_only=True)
    data_name: Callable[[], str] | None = field(default=None, kw_only=True)

    @classmethod
    def restore(cls, cell: FinishedCell) -> Self:
        """Read `cell`. Raises `UserError` where another version of vaesweep trained it."""
        config, model = restore_any(cell)
        return cls(config, model, cell=cell)

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes that `reconstruct` takes and gives, -1 where a length is free; the first axis is the batch."""
        raise self._cannot("reconstruct")

    def example(self) -> Tensor:
        """Two data as `reconstruct` takes them, made up."""
        raise self._cannot("reconstruct")

    def encode(self, x: Values) -> Estimate:
        """The approximate posterior q(z | x) of the latent variables of `x`."""
        raise self._cannot("encode")

    def decode(self, z: Values) -> Estimate:
        """What is expected of data whose latent variables are `z`: p(x | z)."""
        raise self._cannot("decode")

    def reconstruct(self, x: Values) -> Tensor:
        """The mean of p(x | z) at the mean of q(z | x): two means and no sample."""
        return self.decode(self.encode(x).mean).mean

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """`n` data: latent variables drawn from the prior, then samples of p(x | z). The same for the same seed."""
        raise self._cannot("sample")

    def evaluate(self, data: DataSet | str | None = None) -> dict[str, dict[str, float]]:
        """The final metrics by domain and name, as a sweep gives them: its own numbers on its own data.

        `data` are a data set, or what `--data` would be; by default what the sweep of a tracked cell was trained on.
        Other data are standardised as the cell's own were. Rates, distortion and ELBO are in nats per datum, drawn with
        the noise that sweeps evaluate with.

        Raises `UserError` where no data are known, or where those that the sweep names are not what they were.
        """
        own = self.standardised(self._own_data() if data is None else self._loaded(data))
        problem = family(self.cell.family).problem(self.config, own, CPU)
        model = problem.build()
        weights = joined([self.cell.weights[name][None] for name, _ in layout_of(model)])
        uses = final_uses(Stack(model, weights), problem, self.config.training.batch_size, World())
        metrics: dict[str, dict[str, float]] = {}
        for name, value in uses.metrics.items():
            domain, _, metric = name.rpartition("/")
            metrics.setdefault(domain, {})[metric] = float(value[0])
        return metrics

    def standardised(self, data: DataSet) -> DataSet:
        """`data` with the standardisation that this model was trained with."""
        return data

    def _loaded(self, data: DataSet | str) -> DataSet:
        return family(self.cell.family).load(data, self.config) if isinstance(data, str) else data

    def _own_data(self) -> DataSet:
        """What the cell's sweep was trained on, which must be what it was."""
        if self.data_name is None:
            raise UserError(
                f"cell {self.cell.cell} was read from a file, which does not name its data; give them, as "
                'evaluate("nhanes:DIR")'
            )
        name = self.data_name()
        data = self._loaded(name)
        loaded = data.fingerprints()
        changed = [domain for domain, print_ in self.cell.domains.items() if loaded.get(domain, print_) != print_]
        if changed:
            raise UserError(
                f"{name}: {', '.join(changed)} is not what cell {self.cell.cell} was evaluated on; to evaluate it on "
                f"these data all the same, name them: evaluate({name!r})"
            )
        return data

    def _cannot(self, what: str) -> UserError:
        return UserError(f"a cell of family {self.cell.family!r} cannot {what}: the family has no code for it")


def read_file(path: Path) -> FinishedCell:
    """The finished cell of a file. Raises `UserError` where it cannot be read, or is none."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name the file of a finished cell") from None
    return finished.from_bytes(content, str(path))


def trained(cell: FinishedCell, data_name: Callable[[], str] | None = None) -> Trained:
    """The trained model of a cell, whatever its family."""
    if cell.diverged is not None:
        raise UserError(f"cell {cell.cell} has diverged ({cell.cause}), so there is no model; name a finished one")
    return replace(family(cell.family).trained(cell), data_name=data_name)


def as_values(x: Any, what: str, shape: str, *lengths: int | None, gaps: bool = False) -> Tensor:
    """`x` as a float32 tensor whose axes have the `lengths`, None where any will do; without a batch, a batch of one.

    Raises `UserError`, with `what` it is and its `shape` in words, of other shapes and of what are no finite numbers;
    where there may be `gaps`, they are NaN.
    """
    try:
        values = (x.detach() if isinstance(x, Tensor) else torch.tensor(np.asarray(x))).to("cpu", torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{what}: numbers {shape} are needed ({error})") from None
    batch = values.unsqueeze(0) if values.dim() == len(lengths) - 1 else values
    fits = batch.dim() == len(lengths) and all(b in (None, a) for a, b in zip(batch.shape, lengths, strict=True))
    if not fits or not values.numel():
        raise UserError(f"{what} of shape {[*values.shape]}: {shape} is needed")
    if values.isinf().any() or (values.isnan().any() and not gaps):
        raise UserError(
            f"{what}: some are not finite; " + ("NaN is what is not observed" if gaps else "take them away")
        )
    return batch


def check_count(n: int) -> None:
    """Refuse a number of samples below one."""
    if n < 1:
        raise UserError(f"{n} samples cannot be drawn; ask for one or more")
