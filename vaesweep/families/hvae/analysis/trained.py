"""A trained hierarchy and evaluation images, at any number of steps, which pictures of single cells are drawn from.

The noise of an image's latent variables is its own, as in the sweep's evaluation: at other steps the Brownian paths are
the same, so pictures and tracked numbers agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vaesweep.data.domains import DataSet, Domain, Role
from vaesweep.data.spelling import did_you_mean
from vaesweep.errors import UserError
from vaesweep.families.hvae.data import PixelKind, Pixels
from vaesweep.families.hvae.evaluation import EvaluationImages, finest_steps, in_steps
from vaesweep.families.hvae.family import HierarchyCell, check_images
from vaesweep.families.hvae.models.config import INITIAL_NOISE, DiscreteDepth
from vaesweep.families.hvae.models.hierarchy import Hierarchy
from vaesweep.families.hvae.trained import TrainedHierarchy
from vaesweep.training.finished import FinishedCell
from vaesweep.training.stack import Batch

CANDIDATES = 500  # images among which those to show are looked for


@dataclass(frozen=True)
class TrainedCell:
    """A trained hierarchy with the images of one domain, and the number of steps a level; None where there are none."""

    trained: TrainedHierarchy
    population: EvaluationImages
    steps: int | None

    @property
    def cell(self) -> str:
        """The cell's identity."""
        return self.trained.cell.cell

    @property
    def config(self) -> HierarchyCell:
        """Its configuration."""
        return self.trained.config

    @property
    def model(self) -> Hierarchy:
        """Its model."""
        return self.trained.model

    @property
    def domain(self) -> str:
        """The name of the images' domain."""
        return self.population.name

    @property
    def kind(self) -> PixelKind:
        """The kind of the pixels."""
        return self.population.pixels.condition.kind

    def physical(self, x: Tensor) -> Tensor:
        """Pixels in the data's units."""
        return self.trained.physical(x)

    def images(self, rows: Tensor) -> Tensor:
        """The images `[row, 1, size, size]`, as the model takes them."""
        return self.population.pixels.batch(rows)

    def noise(self, rows: Tensor) -> Batch:
        """The images' own noise, their Brownian paths at the steps that are asked for."""
        shapes = self.config.model.noise_shapes()
        noises = [self._noise_of(slice(row, row + 1), shapes) for row in rows.tolist()]
        return {name: torch.cat([noise[name] for noise in noises]) for name in noises[0]}

    def _noise_of(self, row: slice, shapes: Mapping[str, tuple[int, ...]]) -> Batch:
        model, evaluation = self.config.model, self.config.evaluation
        if self.steps in (None, model.depth.layers):
            return self.population.noise(row, shapes)
        assert self.steps is not None
        start, paths = self.population.paths(row, model, finest_steps(model, [*evaluation.steps, self.steps]))
        return {INITIAL_NOISE: start} | in_steps(paths, self.steps)

    def new_noise(self, count: int, generator: torch.Generator) -> tuple[Tensor, list[Tensor]]:
        """Noise that belongs to no image, `count` times: of the initial value, and of each level from the top."""
        shapes = self.config.model.noise_shapes(self.steps)
        initial, *levels = (torch.randn(count, *shape, generator=generator) for shape in shapes.values())
        return initial, levels


def restore_hierarchy(
    cell: FinishedCell, data: DataSet, domain: str | None = None, steps: int | None = None
) -> TrainedCell:
    """The cell's model beside the images of `domain` (the test domain by default), `steps` a level (training's).

    Raises `UserError` where the cell is no hierarchy or is of another version, where the images do not fit it or there
    is no such domain, of steps below one, and of any steps where levels have none.
    """
    trained = TrainedHierarchy.restore(cell).on(data)
    config, data = trained.config, trained.standardised(data)
    check_images(config.model, data)
    if steps is not None and steps < 1:
        raise UserError(f"--steps {steps}: a level takes at least 1 step")
    discrete = isinstance(config.model.depth, DiscreteDepth)
    if steps is not None and discrete:
        raise UserError(f"--steps {steps}: cell {cell.cell} has blocks and no steps; leave it out")
    images = _domain(data, domain)
    pixels = Pixels(images, data.standardisation, torch.device("cpu"))
    population = EvaluationImages(images.name, images.role, pixels, min(len(pixels), config.evaluation.rows))
    level_steps = None if discrete else steps or config.model.depth.layers
    return TrainedCell(trained, population, level_steps)


def rows_to_show(cell: TrainedCell, count: int) -> Tensor:
    """Row numbers of `count` different evaluation images that represent the first `CANDIDATES` of them best.

    Each makes the sum of all images' distances to the nearest of those chosen as small as it gets. UserError of a count
    below one, or of more than there are.
    """
    if not 1 <= count <= cell.population.rows:
        raise UserError(f"--rows {count}: {cell.domain} has 1 to {cell.population.rows} images to show")
    x = cell.images(torch.arange(min(cell.population.rows, max(count, CANDIDATES)))).flatten(1)
    distances = torch.cdist(x, x)
    nearest, chosen = torch.full((len(x),), float("inf")), list[int]()
    for _ in range(count):
        cost = torch.minimum(nearest, distances).sum(-1)
        cost[chosen] = float("inf")
        chosen.append(int(cost.argmin()))
        nearest = torch.minimum(nearest, distances[chosen[-1]])
    return torch.tensor(chosen)


def _domain(data: DataSet, name: str | None) -> Domain:
    by_name = {domain.name: domain for domain in data.domains}
    chosen = name or data.domain(Role.TEST).name
    if chosen not in by_name:
        hint = did_you_mean(chosen, by_name) or f"; there are {', '.join(by_name)}"
        raise UserError(f"--domain {chosen}: there is no such domain{hint}")
    return by_name[chosen]
