"""A trained hierarchy: its users' interface."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from vaesweep.data.domains import DataSet, Standardisation
from vaesweep.distributions import Gaussian
from vaesweep.errors import UserError
from vaesweep.families.hvae.evaluation import MEAN, STD
from vaesweep.families.hvae.family import HierarchyCell
from vaesweep.families.hvae.models.hierarchy import Hierarchy
from vaesweep.families.hvae.models.observation import Observation
from vaesweep.family.restore import restore
from vaesweep.family.trained import Estimate, Trained, Values, as_values, check_count
from vaesweep.training.finished import FinishedCell

ROUNDING = 1e-3  # of intensities that have been through a model's units, in float32


@dataclass(frozen=True)
class TrainedHierarchy(Trained):
    """A trained hierarchy of levels, each with latent variables of its own.

    Images are `[batch, 1, size, size]` in the units of the data: 0 and 1 of a model that observes binary pixels, whole
    numbers from 0 to 255 of one that observes grey ones. The initial value, which is the topmost latent variable, is
    `[batch, latents, height, width]`, or `[batch, top, 1, 1]`, without a unit. Those of the levels below are drawn:
    each level's posterior and prior depend on what was drawn above it.

    `given` is the standardisation of the pixels, where the cell's file does not hold it.
    """

    config: HierarchyCell
    model: Hierarchy
    given: Standardisation | None = None

    @classmethod
    def restore(cls, cell: FinishedCell) -> "TrainedHierarchy":
        """Read `cell`. Raises `UserError` where it is of another family, or of another version of this one."""
        config, model = restore(cell, HierarchyCell, Hierarchy)
        return cls(config, model.eval(), cell=cell)

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Standard deviation and mean of the training pixels, in the units of the data; 1 and 0 of binary pixels.

        Raises `UserError` where they are not known: of a cell of an earlier version that was read from a file.
        """
        kept = self.cell.kept
        if self.config.model.observation == "bernoulli":
            return 1.0, 0.0
        if STD in kept:
            return float(kept[STD]), float(kept[MEAN])
        if self.given is None and self.data_name is None:
            raise UserError(
                f"cell {self.cell.cell} is of an earlier version, which kept no standardisation of pixels; name its "
                'data once, as model = model.on("poisson")'
            )
        found = self._own_data().standardisation if self.given is None else self.given
        return float(found.std[0]), float(found.mean[0])

    def on(self, data: DataSet | str) -> "TrainedHierarchy":
        """The same model with the standardisation of `data`, what it was trained on: of cells that do not keep it."""
        return replace(self, given=self._loaded(data).standardisation)

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Images to images."""
        size = self.config.model.size
        return (-1, 1, size, size), (-1, 1, size, size)

    def example(self) -> Tensor:
        """Two images of the model's own."""
        return self.sample(2)

    @torch.no_grad()
    def encode(self, x: Values) -> Estimate:
        """The posterior of the initial value for images `x`: `[batch, latents, height, width]`."""
        signals = self.model.bottom_up(self._pixels(x))
        q = Gaussian(*self.model.initial(signals[0]).chunk(2, dim=-3))
        return Estimate(q.mean, q.std, lambda generator: q.sample(torch.randn(q.mean.shape, generator=generator)))

    @torch.no_grad()
    def decode(self, z: Values, seed: int = 0) -> Estimate:
        """p(x | z, levels) of initial values `z`, the levels below drawn from their prior: `[batch, 1, size, size]`.

        `mean` and `std` are the pixels' for these draws: another seed gives other images of the same initial value.
        """
        latents, *edge = self.config.model.initial_shape
        values = as_values(z, "initial values", f"[batch, {latents}, {edge[0]}, {edge[1]}]", None, latents, *edge)
        _, levels = self._noise(len(values), torch.Generator().manual_seed(seed))
        return self._estimate(self.model.generate(values, levels))

    @torch.no_grad()
    def reconstruct(self, x: Values, seed: int = 0) -> Tensor:
        """The pixels' mean `[batch, 1, size, size]` given one sample of the posterior, drawn at every level."""
        pixels = self._pixels(x)
        initial, levels = self._noise(len(pixels), torch.Generator().manual_seed(seed))
        observation = self.model.generate(initial, levels, x=pixels, informed=self.config.model.levels)
        return self._estimate(observation).mean

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Tensor:
        """`n` images `[n, 1, size, size]`: samples of the prior, at every level, and of the pixels' distribution.

        Pixels so have their noise. `decode` gives means, of initial values such as standard normal ones.
        """
        check_count(n)
        generator = torch.Generator().manual_seed(seed)
        return self._estimate(self.model.generate(*self._noise(n, generator))).drawn(generator)

    def physical(self, x: Tensor) -> Tensor:
        """Pixels as the model has them, in the units of the data."""
        std, mean = self.scale
        return x * std + mean

    def standardised(self, data: DataSet) -> DataSet:
        """`data` with this model's standardisation, where its file holds it."""
        if STD not in self.cell.kept:
            return data
        mean, std = (self.cell.kept[name].double().numpy() for name in (MEAN, STD))
        return replace(data, standardisation=Standardisation(mean, std))

    def _noise(self, count: int, generator: torch.Generator) -> tuple[Tensor, list[Tensor]]:
        """Noise of `count` images: of the initial value, and of each level from the top."""
        initial, *levels = (
            torch.randn(count, *shape, generator=generator) for shape in self.config.model.noise_shapes().values()
        )
        return initial, levels

    def _estimate(self, observation: Observation) -> Estimate:
        mean, scale = observation.mean, self.scale[0]

        def draw(generator: torch.Generator) -> Tensor:
            return self.physical(observation.sample(torch.randn(mean.shape, generator=generator)))

        return Estimate(self.physical(mean), scale * observation.std, draw)

    def _pixels(self, x: Values) -> Tensor:
        """Images as the model takes them."""
        size = self.config.model.size
        values = as_values(x, "images", f"[batch, 1, {size}, {size}]", None, 1, size, size)
        if self.config.model.observation == "bernoulli" and not ((values == 0) | (values == 1)).all():
            raise UserError("images: the model observes binary pixels; give each as 0 or 1")
        if self.config.model.observation == "logistic":
            whole = values.round()
            if ((values - whole).abs() > ROUNDING).any() or not ((whole >= 0) & (whole <= 255)).all():
                raise UserError("images: the model observes grey pixels of 8 bits; give whole numbers from 0 to 255")
            values = whole
        std, mean = self.scale
        return (values - mean) / std
