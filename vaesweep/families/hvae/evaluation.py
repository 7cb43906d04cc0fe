"""Evaluation of hierarchical VAEs, while they train and after training (thesis study C, section 4).

Every evaluation draws latent variables by noise that is keyed by the image. Other steps walk the same Brownian paths:
those of training's step are refined once, to a grid that holds every step asked for, and summed to each.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from vaesweep.data.counters import Stream, normal
from vaesweep.data.domains import Role
from vaesweep.elbo import Elbo
from vaesweep.families.hvae.data import Pixels
from vaesweep.families.hvae.models.config import INITIAL_NOISE, HierarchyConfig
from vaesweep.families.hvae.models.hierarchy import Reconstruction
from vaesweep.families.hvae.models.names import INITIAL
from vaesweep.packing import Frozen
from vaesweep.sde import coarsen, increments, refine
from vaesweep.training.stack import Batch, Stack

METRICS = {
    "rmse": "error of the observation's mean, standard deviations of the training pixels (gaussian), half of the range "
    "of intensities (logistic) or intensity (bernoulli)",
    "bits_per_pixel": "negative ELBO a pixel, bits; of gaussian observations that of a density, and no code length",
}
MEAN, STD = "standardisation/mean", "standardisation/std"  # kept with a cell of real pixels, [1] each
PARTS = ("elbo", "distortion", "initial_rate", "path_rate")  # of the bound at another step, in nats an image
ONE_DRAW = 2**40  # between the keys of an image's draws
NUMBERS = 2**23  # that are held at a time: of noise, or in a widest layer of all cells


class EvaluationConfig(Frozen):
    """The number of images of a domain in evaluation, and the bounds of trained models."""

    rows: int = Field(10_000, ge=1, description="images of a domain, at most; the first ones")
    repeats: int = Field(1, ge=1, description="times that every image is evaluated, each with other noise")
    steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="steps a level that trained models are evaluated at too"
    )
    draws: int = Field(0, ge=0, description="of the importance-weighted bound of trained models; 0 leaves it out")

    @property
    def has_bounds(self) -> bool:
        """Whether trained models are evaluated at other steps or by the importance-weighted bound too."""
        return bool(self.steps or self.draws)


@dataclass(frozen=True)
class EvaluationImages:
    """The images of one domain, of which the first `rows` are evaluated, each `repeats` times."""

    name: str
    role: Role
    pixels: Pixels
    rows: int
    repeats: int = 1

    def evaluation(self, rows: slice, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Tensor, Batch]:
        """Images and noise of evaluation rows: all images with their first noise, then with their second, and so on."""
        position = torch.arange(rows.start, rows.stop)
        image, draw = position % self.rows, position // self.rows
        return self.pixels.batch(image), self.noise(image, shapes, draw)

    def noise(self, rows: Tensor | slice, shapes: Mapping[str, tuple[int, ...]], draw: Tensor | int = 0) -> Batch:
        """Each image's own standard normal noise, by name, `[batch, *shape]`; each `draw` has other noise."""
        indices = self.pixels.indices(rows)
        return _noise_by_index(
            Stream.LATENTS, indices + torch.as_tensor(draw, device=indices.device) * ONE_DRAW, shapes
        )

    def paths(self, rows: slice, model: HierarchyConfig, steps: int, draw: int = 0) -> tuple[Tensor, Batch]:
        """The initial value's noise, and the levels' Brownian paths in `steps` steps, a multiple of training's.

        In training's steps they are those of `noise`; between them goes the bridge, of each image's own too.
        """
        coarse, fine = model.noise_shapes(), model.noise_shapes(steps)
        noise = self.noise(rows, coarse, draw)
        start = noise.pop(INITIAL_NOISE)
        indices = self.pixels.indices(rows) + draw * ONE_DRAW
        bridges = _noise_by_index(Stream.BRIDGES, indices, {name: fine[name] for name in noise})
        factor = steps // model.depth.layers
        return start, {
            name: refine(increments(level_noise), factor, bridges[name]) for name, level_noise in noise.items()
        }


def measure(elbo: Elbo, output: Reconstruction, x: Tensor) -> dict[str, Tensor]:
    """Quantities of each image, `[batch]`, whose means `summarise` reads."""
    error = (output.observation.mean - x).square().flatten(1).mean(-1)
    return {"squared": error, "bits": -elbo.value() / (x[0].numel() * math.log(2))}


def summarise(means: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`METRICS` from the means of a domain, each `[cell]`."""
    return {"rmse": means["squared"].sqrt(), "bits_per_pixel": means["bits"]}


@torch.no_grad()
def bounds(
    stack: Stack,
    model: HierarchyConfig,
    evaluation: EvaluationConfig,
    populations: Sequence[EvaluationImages],
    rows: int | None = None,
) -> dict[str, Tensor]:
    """Bounds of trained models on at most `rows` images of each domain, by `domain/metric`, each `[cell]`, in nats.

    `steps_<n>.<part>` are the `PARTS` of the bound with n steps a level; `importance_<K>.bound` is the
    importance-weighted bound of K draws (Burda et al. 2016), which is never below the ELBO.
    """
    metrics: dict[str, Tensor] = {}
    for population in populations:
        count = min(population.rows, rows or population.rows)
        if evaluation.steps:
            for metric, value in _stepped(stack, model, evaluation.steps, population, count).items():
                metrics[f"{population.name}/{metric}"] = value
        if evaluation.draws:
            name = f"{population.name}/importance_{evaluation.draws}.bound"
            metrics[name] = _importance_weighted(stack, model, evaluation.draws, population, count)
    return metrics


def finest_steps(model: HierarchyConfig, steps: Iterable[int]) -> int:
    """The fewest steps a level of a grid that has every point of training's grid and of those of `steps`."""
    return math.lcm(model.depth.layers, *steps)


def in_steps(paths: Batch, steps: int) -> Batch:
    """The levels' noise that walks the Brownian `paths`, `[batch, finest, *latent]`, in `steps` steps each."""
    return {name: coarsen(path, path.shape[1] // steps) * math.sqrt(steps) for name, path in paths.items()}


def _stepped(
    stack: Stack, model: HierarchyConfig, steps: Sequence[int], population: EvaluationImages, rows: int
) -> dict[str, Tensor]:
    """Means of the bound's parts with each number of steps a level, by metric."""
    finest = finest_steps(model, steps)
    sums = torch.zeros(len(steps), len(stack), len(PARTS), dtype=torch.float64, device=stack.flat.device)
    chunks = _chunks(rows, model.noise_shapes(finest), model, len(stack))
    for part, draw in itertools.product(chunks, range(population.repeats)):
        start, paths = population.paths(part, model, finest, draw)
        x = population.pixels.batch(part)
        for index, number in enumerate(steps):
            batch = {"x": x, INITIAL_NOISE: start} | in_steps(paths, number)
            sums[index] += stack.apply(_parts, batch, shared=True).double().sum(1)
    return {
        f"steps_{number}.{name}": value
        for number, means in zip(steps, sums / (rows * population.repeats), strict=True)
        for name, value in zip(PARTS, means.unbind(-1), strict=True)
    }


def _importance_weighted(
    stack: Stack, model: HierarchyConfig, draws: int, population: EvaluationImages, rows: int
) -> Tensor:
    """Mean over images of log mean exp of the log weights of all draws."""
    shapes = model.noise_shapes()
    total = torch.zeros(len(stack), dtype=torch.float64, device=stack.flat.device)
    for part in _chunks(rows, shapes, model, len(stack)):
        x = population.pixels.batch(part)
        log_weights = [
            stack.apply(_log_weight, {"x": x, **population.noise(part, shapes, draw)}, shared=True).double()
            for draw in range(draws)
        ]
        total += (torch.stack(log_weights).logsumexp(0) - math.log(draws)).sum(-1)
    return total / rows


def _parts(result: tuple[Elbo, Reconstruction], batch: Batch) -> Tensor:
    elbo, _ = result
    initial = elbo.rate(INITIAL)
    return torch.stack([elbo.value(), elbo.distortion, initial, elbo.total_rate() - initial], dim=-1)


def _log_weight(result: tuple[Elbo, Reconstruction], batch: Batch) -> Tensor:
    return result[1].log_weight


def _chunks(rows: int, shapes: Mapping[str, tuple[int, ...]], model: HierarchyConfig, cells: int) -> Iterator[slice]:
    noise = sum(math.prod(shape) for shape in shapes.values())
    layer = max(model.width, model.hidden, 2 * model.depth.hidden) * model.resolution(model.levels - 1) ** 2
    size = max(1, NUMBERS // max(noise, cells * layer))
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def _noise_by_index(stream: Stream, indices: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> Batch:
    sizes = [math.prod(shape) for shape in shapes.values()]
    parts = normal(stream, indices, sum(sizes)).split(sizes, dim=-1)
    return {name: part.unflatten(-1, shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}
