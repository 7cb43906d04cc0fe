"""A finished cell restored with its data: its weights as a pack of one, and the traces of its acquisitions.

The numbers in the figures of a single cell (`figures`) are computed again from the weights, with the cell's own
acquisition configuration, on the same rows as its metrics in use. So the figures and the tracked numbers agree.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vaesweep.data.domains import DataSet, Domain, Role
from vaesweep.distributions import TriangularGaussian
from vaesweep.elbo import Elbo
from vaesweep.errors import UserError
from vaesweep.families.pvae.data.archetypes import NARROW, WIDE, archetypes_of
from vaesweep.families.pvae.data.audiograms import CLEAN, COLUMNS
from vaesweep.families.pvae.evaluation import AGE, Criteria, Population, Scale, select_populations
from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.families.pvae.models.partial import RATE, PartialVae
from vaesweep.families.pvae.tasks.acquisition import LargestVariance, Trace, acquire
from vaesweep.families.pvae.tasks.latent import LatentPredictor
from vaesweep.families.pvae.trained import TrainedPartialVae
from vaesweep.family import family
from vaesweep.training.finished import FinishedCell
from vaesweep.training.stack import Batch, Stack

WIDTHS = {"synthetic": NARROW, "synthetic_wide": WIDE}  # the kinds of data of which archetypes are known
NOISE = 0  # seed of the noise behind a rate that has no closed form


@dataclass(frozen=True)
class Latents:
    """Approximate posteriors q(z | x_O) of some data: `mean` `[row, latent]` and `factor` L `[row, latent, latent]`."""

    mean: Tensor
    factor: Tensor

    @property
    def covariance(self) -> Tensor:
        """L Lᵀ."""
        return self.factor @ self.factor.mT


@dataclass(frozen=True)
class TrainedCell:
    """A trained partial VAE with its data.

    `valid` and `test` are the data that it acquires, evenly spread over their domains as those of its metrics.
    `archetypes` `[k, 15]` (dB HL, years) are known of synthetic data only.
    """

    name: str
    trained: TrainedPartialVae
    data: DataSet
    valid: Population
    test: Population
    archetypes: np.ndarray | None = None

    @property
    def config(self) -> PartialVaeCell:
        """Its configuration."""
        return self.trained.config

    @property
    def scale(self) -> Scale:
        """The standardisation."""
        return self.trained.scale

    @property
    def stack(self) -> Stack:
        """The model as a pack of one."""
        return self.trained.stack

    @property
    def predictor(self) -> LatentPredictor:
        """The predictor that its acquisition configuration describes."""
        return self.trained.predictor

    @cached_property
    def valid_trace(self) -> Trace:
        """The validation data, acquired by the largest variance; one cell."""
        return self._acquired(self.valid)

    @cached_property
    def test_trace(self) -> Trace:
        """The test data, acquired by the largest variance; one cell."""
        return self._acquired(self.test)

    def _acquired(self, population: Population) -> Trace:
        """Errors are against the audiograms before noise, where they are known, as the thesis has it."""
        trace = acquire(self.predictor, population.x, AGE, LargestVariance(), population.clean)
        return trace if population.clean is None else trace.against_clean

    @cached_property
    def criteria(self) -> Criteria:
        """Its stopping criteria, fitted to the validation data again."""
        return Criteria.fit(self.valid_trace, self.config.acquisition)

    @cached_property
    def rates(self) -> Tensor:
        """Mean rate of every latent dimension on fully observed test data: `[latent]`, nats."""
        x = self._standardised(self.test.x)
        noise = torch.randn(len(x), self.config.model.latents, generator=torch.Generator().manual_seed(NOISE))
        batch = {"x": x, "observed": torch.ones_like(x, dtype=torch.bool), "noise": noise}
        with torch.no_grad():
            return self.stack.apply(_rate, batch, shared=True)[0].mean(0)

    @property
    def plane(self) -> tuple[int, int]:
        """The two latent dimensions that figures show: those of highest rate, in their own order."""
        first, second = sorted(self.rates.topk(2).indices.tolist())
        return first, second

    @torch.no_grad()
    def posterior(self, x: Tensor, observed: Tensor | None = None) -> Latents:
        """q(z | x_O) of `x` `[row, dim]` in physical units, known where `observed` `[row, dim]`, all by default."""
        mask = torch.ones_like(x, dtype=torch.bool) if observed is None else observed
        standardised = self._standardised(x).masked_fill(~mask, 0.0)
        mean, factor = self.stack.call(_posterior, standardised[None], mask[None])
        return Latents(mean[0], factor[0])

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """The mean observation of `z` `[..., latent]`: `[..., dim]`, dB HL and years."""
        return self.scale.mean + self.scale.std * self.stack.call(_decoded, z[None])[0]

    def _standardised(self, x: Tensor) -> Tensor:
        return (x - self.scale.mean) / self.scale.std


def restore_cell(cell: FinishedCell, spec: str) -> TrainedCell:
    """The cell with the data that `spec` names as after `--data`, which must be what it was trained on.

    Raises `UserError` where the family is another, the data are others, or the weights are of another version.
    """
    config = TrainedPartialVae.restore(cell).config
    if config.model.latents < 2:
        raise UserError(f"cell {cell.cell} has one latent dimension; these figures need a cell of two or more")
    data = family("pvae").load(spec, config)
    _check_data(cell, data, spec)
    width = WIDTHS.get(spec.partition(",")[0].strip())
    return with_data(cell, data, None if width is None else archetypes_of(config.data.seed, width))


def with_data(cell: FinishedCell, data: DataSet, archetypes: np.ndarray | None = None) -> TrainedCell:
    """The cell with data that are loaded already."""
    trained = TrainedPartialVae.restore(cell)
    populations = [_population(domain) for domain in data.domains]
    by_role = {
        population.role: population for population in select_populations(populations, trained.config.acquisition.rows)
    }
    valid, test = by_role[Role.VALID], by_role[Role.TEST]
    return TrainedCell(cell.cell, trained, data, valid, test, archetypes)


def _population(domain: Domain) -> Population:
    arrays = {name: torch.tensor(array, dtype=torch.float32) for name, array in domain.arrays.items()}
    return Population(domain.name, arrays["x"], domain.role, arrays.get(CLEAN))


def _check_data(cell: FinishedCell, data: DataSet, spec: str) -> None:
    """Refuse data whose standardisation is not the one kept with the weights: other data than it was trained on."""
    if data.columns != COLUMNS:
        raise UserError(f"--data {spec} has other columns than audiograms")
    for name in ("mean", "std"):
        trained_on, loaded = cell.kept.get(f"standardisation/{name}"), getattr(data.standardisation, name)
        if trained_on is not None and not np.allclose(trained_on.numpy(), loaded, rtol=1e-4):
            raise UserError(f"--data {spec} is not what cell {cell.cell} was trained on: name the data of its sweep")


def _posterior(model: PartialVae, x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    q = model.posterior(x, observed)
    return q.mean, q.factor if isinstance(q, TriangularGaussian) else torch.diag_embed(q.log_std.exp())


def _decoded(model: PartialVae, z: Tensor) -> Tensor:
    return model.observation(z).mean


def _rate(result: tuple[Elbo, object], batch: Batch) -> Tensor:
    return result[0].rates[RATE]
