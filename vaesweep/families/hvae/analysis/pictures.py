"""Images of one trained hierarchy: reconstructions, prior samples, and means by the topmost level (Figures 6 and 8).

Real pixels have a scale of colours an image: the second of the Poisson equation's solutions is nine times smaller than
the first.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vaesweep.analysis.style import LABEL, TICK, page, plain, save
from vaesweep.families.hvae.analysis.example import from_prior, from_top_level, reconstruct
from vaesweep.families.hvae.analysis.trained import TrainedCell
from vaesweep.families.hvae.data import PixelKind

SIDE = 1.7  # inches of an image
SAMPLES, DRAWS = 3, 5
PRIOR_ROWS, PRIOR_COLUMNS = 4, 8
MANY = 100  # images, whose colours prior samples have
FILLED = 0.995  # of the pixels are within the colours of an image
UNITS = {PixelKind.REAL: "pixel [the data's units]", PixelKind.BINARY: "probability of a one"}


@plain()
def draw_reconstructions(cell: TrainedCell, rows: Tensor, title: str, path: Path) -> Path:
    """Draw a row an image: input, mean of the observation, samples, and entropy of the observation."""
    reconstructions = reconstruct(cell, rows, SAMPLES)
    columns = ["input", "mean", *(f"sample {number + 1}" for number in range(SAMPLES)), "entropy"]
    figure, grid = _sheet(len(rows), len(columns), title, extra=3.4)
    for name, panel in zip(columns, grid[0], strict=True):
        panel.set_title(name, fontsize=LABEL)
    entropies = {
        "cmap": "magma",
        "vmin": float(reconstructions.entropy.min()),
        "vmax": float(reconstructions.entropy.max()),
    }
    for number, (row, panels) in enumerate(zip(rows.tolist(), grid, strict=True)):
        look = _look(cell.kind, reconstructions.x[number])
        for panel, pixels in zip(
            panels,
            [reconstructions.x[number], reconstructions.mean[number], *reconstructions.samples[:, number]],
            strict=False,
        ):
            image = _show(panel, pixels, look)
        _bar(figure, image, panels[-2])
        _bar(figure, _show(panels[-1], reconstructions.entropy[number], entropies), panels[-1])
        panels[0].set_ylabel(f"image {row}\nELBO {float(reconstructions.elbo[number]):.1f}", fontsize=TICK)
    standardised = ",\nstandardised" if cell.config.model.observation == "gaussian" else ""
    grid[-1, -2].set_xlabel(UNITS[cell.kind].replace(" [", "\n["), fontsize=TICK)
    grid[-1, -1].set_xlabel(f"nats per pixel{standardised}", fontsize=TICK)
    return save(figure, path)


@plain()
def draw_prior_samples(cell: TrainedCell, title: str, path: Path) -> Path:
    """Draw means of the observation above, samples of it below, latent variables drawn from the prior."""
    images = from_prior(cell, PRIOR_ROWS * PRIOR_COLUMNS)
    figure = page(10.6, 10.2, title)
    panels = figure.subplots(2, 1)
    look = _look(cell.kind, cell.physical(cell.images(torch.arange(min(MANY, cell.population.rows)))))
    for panel, pixels, name in zip(panels, images, ("means", "samples of the same distributions"), strict=True):
        image = panel.imshow(montage(pixels, PRIOR_ROWS), interpolation="nearest", **look)
        panel.set_title(name, fontsize=LABEL)
        panel.axis("off")
    _bar(figure, image, panels, aspect=40).set_label(UNITS[cell.kind], fontsize=LABEL)
    return save(figure, path)


def montage(pixels: Tensor, rows: int) -> np.ndarray:
    """Images `[image, 1, size, size]` in `rows` rows as one, with a pixel of NaN between them."""
    framed = torch.nn.functional.pad(pixels[:, 0], (0, 1, 0, 1), value=float("nan"))
    grid = framed.unflatten(0, (rows, -1)).transpose(1, 2)  # [row, height, column, width]
    return grid.flatten(2).flatten(0, 1)[:-1, :-1].numpy()


@plain()
def draw_top_level(cell: TrainedCell, rows: Tensor, title: str, path: Path) -> Path:
    """Draw a column an image: input, then observation means where only initial value and topmost level see it."""
    x = cell.physical(cell.images(rows))
    shown = [x, *from_top_level(cell, rows, DRAWS)]
    figure, grid = _sheet(len(shown), len(rows), title, extra=1.2)
    for number, (row, panels) in enumerate(zip(rows.tolist(), grid.T, strict=True)):
        look = _look(cell.kind, x[number])
        for panel, pixels in zip(panels, shown, strict=True):
            image = _show(panel, pixels[number], look)
        _bar(figure, image, panels, location="bottom")
        panels[0].set_title(f"image {row}", fontsize=TICK)
    for number, panel in enumerate(grid[:, 0]):
        panel.set_ylabel(f"draw {number}" if number else "input", fontsize=LABEL)
    figure.supxlabel(UNITS[cell.kind], fontsize=LABEL)
    return save(figure, path)


def _sheet(rows: int, columns: int, title: str, extra: float) -> tuple[Figure, np.ndarray]:
    """A page of `rows` by `columns` images, and `extra` inches of width for labels and colour bars."""
    figure = page(max(columns * SIDE + extra, 8), rows * SIDE + 0.9, title)
    grid = figure.subplots(rows, columns, squeeze=False)
    for panel in grid.flat:
        panel.set_xticks([])
        panel.set_yticks([])
    return figure, grid


def _look(kind: PixelKind, pixels: Tensor) -> dict[str, Any]:
    """A scale of colours that holds `pixels`, but for the few brightest and darkest."""
    if kind is PixelKind.BINARY:
        return {"cmap": "gray", "vmin": 0, "vmax": 1}
    low, high = np.quantile(pixels.numpy(), [1 - FILLED, FILLED])
    return {"cmap": "cividis", "vmin": float(low), "vmax": float(max(high, low + 1e-9))}


def _show(panel: Axes, pixels: Tensor, look: dict[str, Any]) -> Any:
    return panel.imshow(pixels[0].numpy(), interpolation="nearest", **look)


def _bar(figure: Figure, image: Any, panels: Any, **place: Any) -> Any:
    """A colour bar beside `panels`."""
    bar = figure.colorbar(image, ax=panels, **({"pad": 0.02, "aspect": 14} | place))
    bar.ax.tick_params(labelsize=TICK - 2)
    bar.ax.locator_params(nbins=4)
    return bar
