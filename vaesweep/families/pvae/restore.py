"""Restore a finished partial VAE from the file of its cell: configuration, model and predictor."""

from dataclasses import dataclass
from functools import cached_property

import torch

from vaesweep.families.pvae.data.audiograms import DIMS
from vaesweep.families.pvae.evaluation import Scale, predictor
from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.families.pvae.models.partial import PartialVae
from vaesweep.families.pvae.tasks.latent import LatentPredictor
from vaesweep.family.restore import another_version, restore
from vaesweep.training.finished import FinishedCell
from vaesweep.training.stack import Stack


@dataclass(frozen=True)
class TrainedPartialVae:
    """A trained cell. `scale` is the standardisation that its training data were given."""

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
        return cls(config, model, scale)

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
