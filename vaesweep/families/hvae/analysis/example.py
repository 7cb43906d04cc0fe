"""Reconstructions, samples and processes of a trained hierarchy, computed anew from the weights of its cell.

Images' own noise is theirs in the sweep's evaluation; what belongs to no image is drawn by one generator of a fixed
seed. Pixels are given in the data's units.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vaesweep.distributions import Gaussian
from vaesweep.errors import UserError
from vaesweep.families.hvae.analysis.trained import TrainedCell
from vaesweep.families.hvae.models.config import INITIAL_NOISE
from vaesweep.families.hvae.models.continuous import LevelPath, SdeLevel
from vaesweep.families.hvae.models.names import level_name
from vaesweep.families.hvae.models.walk import Adaptive

SEED = 20  # of what belongs to no image: prior samples, pixels' noise


@dataclass(frozen=True)
class Reconstructions:
    """Inputs `[row, 1, size, size]`, observation means, `samples` `[sample, row, …]` and entropies, nats a pixel.

    Entropies are those of standardised pixels; of densities they may be negative. `elbo` `[row]` in nats.
    """

    x: Tensor
    mean: Tensor
    samples: Tensor
    entropy: Tensor
    elbo: Tensor


@dataclass(frozen=True)
class Process:
    """One image's walk down a hierarchy: the posterior and the value of the initial variable, and every level's path.

    `mean`, `std` and `value` are `[latents, height, width]`, or `[top, 1, 1]`; traces have a batch of one.
    """

    mean: Tensor
    std: Tensor
    value: Tensor
    traces: list[LevelPath]


@torch.no_grad()
def reconstruct(cell: TrainedCell, rows: Tensor, samples: int = 3) -> Reconstructions:
    """Reconstructions of images by their own noise, with pixels sampled by noise of a fixed seed."""
    x = cell.images(rows)
    elbo, reconstruction = cell.model(x, **cell.noise(rows))
    noise = torch.randn(samples, *x.shape, generator=_generator())
    sampled = torch.stack([reconstruction.observation.sample(pixel_noise) for pixel_noise in noise])
    mean, entropy = reconstruction.observation.mean, reconstruction.observation.entropy()
    return Reconstructions(cell.physical(x), cell.physical(mean), cell.physical(sampled), entropy, elbo.value())


@torch.no_grad()
def adaptive_estimate(cell: TrainedCell, rows: Tensor, tolerance: float) -> Tensor:
    """-(distortion + rate) `[row]`, in nats, with steps as small as `tolerance` asks for, along paths of their own.

    An estimate of what the ELBO is of ever smaller steps, and no bound itself (`sde/adaptive.py`).

    UserError of a tolerance that is not positive, and of a discrete hierarchy.
    """
    if cell.steps is None:
        raise UserError(f"--tolerance {tolerance:g}: cell {cell.cell} has blocks and no steps; leave it out")
    levels = range(len(cell.model.levels))
    paths = {f"{level_name(level)}_noise": Adaptive(SEED + level, tolerance) for level in levels}
    elbo, _ = cell.model(cell.images(rows), cell.noise(rows)[INITIAL_NOISE], **paths)
    value: Tensor = elbo.value()
    return value


@torch.no_grad()
def from_prior(cell: TrainedCell, count: int) -> tuple[Tensor, Tensor]:
    """Means and samples `[count, 1, size, size]` of the observation, latent variables drawn from the prior."""
    generator = _generator()
    observation = cell.model.generate(*cell.new_noise(count, generator))
    size = cell.config.model.size
    sample = observation.sample(torch.randn(count, 1, size, size, generator=generator))
    return cell.physical(observation.mean), cell.physical(sample)


@torch.no_grad()
def from_top_level(cell: TrainedCell, rows: Tensor, draws: int) -> Tensor:
    """Means `[draw, row, 1, size, size]` where only the initial value and the topmost level see the images.

    These two are drawn anew for each draw as well.
    """
    generator, x = _generator(), cell.images(rows)
    means = [cell.model.generate(*cell.new_noise(len(x), generator), x=x, informed=1).mean for _ in range(draws)]
    return cell.physical(torch.stack(means))


@torch.no_grad()
def process_of(cell: TrainedCell, row: int) -> Process:
    """The latent process of one image. UserError of a discrete hierarchy, which has none."""
    rows = torch.tensor([row])
    noise = cell.noise(rows)
    signals = cell.model.bottom_up(cell.images(rows))
    q = Gaussian(*cell.model.initial(signals[0]).chunk(2, dim=-3))
    value = q.sample(noise[INITIAL_NOISE])
    traces: list[LevelPath] = []
    for number, (level, signal) in enumerate(zip(cell.model.levels, signals, strict=True)):
        if not isinstance(level, SdeLevel):
            raise UserError(f"cell {cell.cell} has blocks and no processes; name one that is continuous in depth")
        start = cell.model.start(number, traces[-1].states[:, -1] if traces else value)
        traces.append(level.trace(start, noise[f"{level_name(number)}_noise"], signal))
    return Process(q.mean[0], q.log_std.exp()[0], value[0], traces)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)
