"""A trained partial VAE: its users' interface, and its predictor of what is not observed."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from vaesweep.data.domains import DataSet, Standardisation
from vaesweep.errors import UserError
from vaesweep.families.pvae.data.audiograms import COLUMNS, DIMS
from vaesweep.families.pvae.evaluation import Scale, predictor
from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.families.pvae.models.partial import PartialVae
from vaesweep.families.pvae.tasks.latent import LatentPredictor
from vaesweep.family.restore import another_version, restore
from vaesweep.family.trained import Estimate, Trained, Values, as_values, check_count
from vaesweep.training.finished import FinishedCell
from vaesweep.training.stack import Stack


@dataclass(frozen=True)
class TrainedPartialVae(Trained):
    """A trained partial VAE. `scale` is the standardisation that its training data were given.

    Audiograms are `[row, 15]` in the order of `COLUMNS`: fourteen thresholds in dB HL, then the age in years, NaN where
    a number is not observed. Latent variables are `[row, latent]`, without a unit.
    """

    config: PartialVaeCell
    model: PartialVae
    scale: Scale

    @classmethod
    def restore(cls, cell: FinishedCell) -> "TrainedPartialVae":
        """Read `cell`. Raises `UserError` where it is of another family, or of another version of this one."""
        config, model = restore(cell, PartialVaeCell, PartialVae)
        try:
            scale = Scale(cell.kept["standardisation/mean"], cell.kept["standardisation/std"])
        except KeyError:
            raise another_version(cell) from None
        return cls(config, model, scale, cell=cell)

    @cached_property
    def stack(self) -> Stack:
        """The model as a pack of one."""
        flat = torch.cat([parameter.detach().reshape(1, -1) for parameter in self.model.parameters()], dim=1)
        return Stack(PartialVae(DIMS, self.config.model), flat)

    @cached_property
    def predictor(self) -> LatentPredictor:
        """The predictor that its acquisition configuration describes."""
        acquisition = self.config.acquisition
        latents = self.config.model.latents
        return predictor(
            self.stack,
            latents,
            self.scale,
            samples=acquisition.samples,
            weighted=acquisition.weighted,
            prior_samples=acquisition.prior_samples,
        )

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Audiograms to audiograms."""
        return (-1, DIMS), (-1, DIMS)

    def example(self) -> Tensor:
        """Two audiograms of the model's own, every other threshold not observed."""
        x = self.sample(2)
        x[:, 1 : DIMS - 1 : 2] = torch.nan
        return x

    @torch.no_grad()
    def encode(self, x: Values) -> Estimate:
        """q(z | x_O) of audiograms `x` `[row, 15]`, of what is observed of each: `[row, latent]`."""
        values = as_values(x, "audiograms", f"[row, {DIMS}]", None, DIMS, gaps=True)
        observed = ~values.isnan()
        q = self.model.posterior(((values - self.scale.mean) / self.scale.std).nan_to_num(), observed)

        def draw(generator: torch.Generator) -> Tensor:
            return q.draw(torch.randn(q.mean.shape, generator=generator))[0]

        return Estimate(q.mean, q.std, draw)

    @torch.no_grad()
    def decode(self, z: Values) -> Estimate:
        """p(x | z) of `z` `[row, latent]`: all fifteen numbers of an audiogram, `[row, 15]`, dB HL and years.

        `std` is the noise of an audiogram whose latent variables are known. How sure an audiogram is of which only a
        part is observed, `predictor` tells.
        """
        latents = self.config.model.latents
        p = self.model.observation(as_values(z, "latent variables", f"[row, {latents}]", None, latents))
        mean, std = self.scale.mean + self.scale.std * p.mean, self.scale.std * p.std

        def draw(generator: torch.Generator) -> Tensor:
            return mean + std * torch.randn(mean.shape, generator=generator)

        return Estimate(mean, std, draw)

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0) -> Tensor:
        """`n` complete audiograms `[n, 15]`, dB HL and years: z from the prior, then a sample of p(x | z)."""
        check_count(n)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(n, self.config.model.latents, generator=generator)
        z = self.model.prior.sample(noise, torch.rand(n, generator=generator))
        return self.decode(z).drawn(generator)

    def standardised(self, data: DataSet) -> DataSet:
        """`data` with this model's standardisation. Raises `UserError` where they are no audiograms."""
        if data.columns != COLUMNS:
            raise UserError("the data have other columns than audiograms")
        own = Standardisation(self.scale.mean.double().numpy(), self.scale.std.double().numpy())
        return replace(data, standardisation=own)
