"""The thesis' Figure 1 for one cell: the latent space that it has learnt.

a) the archetypes that synthetic audiograms are mixed from, b) the posterior means of all data and of the archetypes,
c) audiograms decoded from a grid in latent space. Real data have no archetypes: their encodings are coloured by mean
hearing level. With more than two latents, b) shows the two of highest rate, and a plane cannot be decoded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D

from vaesweep.analysis.style import (
    BLACK,
    BLUE,
    GREEN,
    LABEL,
    NOTE,
    ORANGE,
    PALE,
    PINK,
    RED,
    SKY,
    Box,
    box,
    cells_between,
    latent_labels,
    legend,
    page,
    plain,
    prior_circles,
    save,
)
from vaesweep.data.domains import Role
from vaesweep.families.pvae.analysis.cell.audiogram_axes import (
    PARTS,
    SIDES,
    AudiogramRange,
    audiogram_axes,
    label_audiogram,
    label_frequencies,
    places,
)
from vaesweep.families.pvae.analysis.cell.trained import TrainedCell
from vaesweep.families.pvae.data.audiograms import EARS, FREQUENCIES, THRESHOLDS

TITLE_PAD = 26  # points above a plane, room for its legend
GRID = 7  # audiograms along each side of the decoded grid
OFF_FRAME = 0.06  # of a plane's width and height, kept between an archetype and its frame
ARCHETYPE_COLOURS = (RED, GREEN, BLUE, PINK, ORANGE, SKY, BLACK)


@dataclass(frozen=True)
class Representation:
    """The numbers of the figure.

    `x` `[row, dim]` are all data of the training population and `encoded` `[row, 2]` their posterior means in `plane`,
    `archetypes` likewise. `grid` `[side, side, dim]` is decoded from `z1` and `z2` `[side]`, the first along z2; absent
    where the cell has more than two latents. Data are in dB HL and years.
    """

    plane: tuple[int, int]
    x: np.ndarray
    encoded: np.ndarray
    archetypes: np.ndarray | None
    archetypes_encoded: np.ndarray | None
    limits: Box
    z1: np.ndarray
    z2: np.ndarray
    grid: np.ndarray | None
    latents: int
    standard_prior: bool

    @classmethod
    def of(cls, cell: TrainedCell) -> "Representation":
        """The representation that `cell` has learnt of its training population (all three partitions)."""
        roles = (Role.TRAIN, Role.VALID, Role.TEST)
        x = np.concatenate([cell.data.domain(role).arrays["x"] for role in roles])
        encoded = _encoded(cell, x)
        archetypes = cell.archetypes
        archetypes_encoded = _encoded(cell, archetypes) if archetypes is not None else None
        limits = box(encoded) if archetypes_encoded is None else _around(box(encoded), archetypes_encoded)
        z1, z2 = (cells_between(ends, GRID) for ends in limits)
        model = cell.config.model
        grid = _decoded(cell, z1, z2) if model.latents == 2 else None
        standard = model.prior == "standard"
        return cls(
            cell.plane, x, encoded, archetypes, archetypes_encoded, limits, z1, z2, grid, model.latents, standard
        )


def _encoded(cell: TrainedCell, x: np.ndarray) -> np.ndarray:
    return cell.posterior(torch.tensor(x, dtype=torch.float32)).mean[:, list(cell.plane)].numpy()


def _around(limits: Box, points: np.ndarray) -> Box:
    """`limits` widened to hold all `points` `[point, 2]`, off the frame."""
    (left, right), (bottom, top) = limits
    (x_low, y_low), (x_high, y_high) = points.min(0).tolist(), points.max(0).tolist()
    x_margin, y_margin = OFF_FRAME * (right - left), OFF_FRAME * (top - bottom)
    return (
        (min(left, x_low - x_margin), max(right, x_high + x_margin)),
        (min(bottom, y_low - y_margin), max(top, y_high + y_margin)),
    )


def _decoded(cell: TrainedCell, z1: np.ndarray, z2: np.ndarray) -> np.ndarray:
    across, up = np.meshgrid(z1, z2)
    return cell.decode(torch.tensor(np.stack([across, up], axis=-1), dtype=torch.float32)).numpy()


@plain()
def draw_representation(representation: Representation, title: str, path: Path) -> Path:
    """Draw the figure."""
    panels = 1 if representation.grid is None else 2
    heights = (6.6,) if representation.archetypes is None else (3.6, 6.6)  # inches
    figure = page(6.7 * panels, sum(heights) + 0.5, title)
    rows = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    letters = iter("abc")
    if representation.archetypes is not None:
        _draw_archetypes(figure, rows[0], representation.archetypes, next(letters))
    planes = rows[len(heights) - 1].subgridspec(1, panels)
    _draw_encodings(figure.add_subplot(planes[0]), representation, next(letters))
    if representation.grid is not None:
        _draw_grid(figure.add_subplot(planes[1]), representation, representation.grid, next(letters))
    return save(figure, path)


def _draw_archetypes(figure: Figure, place: SubplotSpec, archetypes: np.ndarray, letter: str) -> None:
    axes = audiogram_axes(figure, place, AudiogramRange.of(archetypes))
    for number, (archetype, colour) in enumerate(zip(archetypes, ARCHETYPE_COLOURS, strict=False), 1):
        for name, dims in PARTS.items():
            mark = SIDES[name] | {"color": colour, "markersize": 8, "markeredgewidth": 1.8}
            axes[name].plot(places(name), archetype[dims], lw=2, **mark, label=str(number))
    legend(axes["left"], title="archetype", columns=len(archetypes))
    axes["right"].set_title(f"{letter}) archetypes", fontsize=LABEL, loc="left")
    label_audiogram(axes)
    label_frequencies(axes)


def _draw_encodings(axis: Axes, representation: Representation, letter: str) -> None:
    style: dict[str, Any] = {"linewidths": 0, "alpha": 0.7, "zorder": 1}
    if representation.standard_prior:
        prior_circles(axis)
    if representation.archetypes_encoded is None:
        levels = representation.x[:, :THRESHOLDS].mean(1)
        low, high = np.percentile(levels, [0.5, 99.5])
        dots = axis.scatter(
            representation.encoded[:, 0],
            representation.encoded[:, 1],
            s=7,
            c=levels,
            cmap="viridis",
            vmin=low,
            vmax=high,
            **style,
        )
        bar = axis.figure.colorbar(dots, ax=axis, location="bottom", shrink=0.8, extend="both", aspect=35)
        bar.set_label("Mean hearing level of both ears [dB HL]", fontsize=LABEL)
        content = "posterior means of all data"
    else:
        axis.scatter(
            representation.encoded[:, 0], representation.encoded[:, 1], s=9, color=PALE, label="all data", **style
        )
        _number_archetypes(axis, representation.archetypes_encoded)
        content = "posterior means of all data and archetypes"
    note = (
        ""
        if representation.latents == 2
        else f":\nthe 2 of {representation.latents} latents of highest rate (so no decoded grid)"
    )
    axis.set_title(f"{letter}) {content}{note}", fontsize=LABEL, loc="left", pad=TITLE_PAD)
    axis.set(xlim=representation.limits[0], ylim=representation.limits[1])
    legend(axis)
    latent_labels(axis, representation.plane)


def _number_archetypes(axis: Axes, points: np.ndarray) -> None:
    for number, (point, colour) in enumerate(zip(points, ARCHETYPE_COLOURS, strict=False), 1):
        axis.scatter(point[0], point[1], s=280, color=colour, edgecolors=BLACK, zorder=4)
        style: dict[str, Any] = {"ha": "center", "va": "center_baseline", "color": "white", "weight": "bold"}
        axis.text(point[0], point[1], str(number), fontsize=NOTE, zorder=5, **style)


def _draw_grid(axis: Axes, representation: Representation, grid: np.ndarray, letter: str) -> None:
    """Each decoded audiogram in its own small box, around the latent point that it is decoded from."""
    levels = grid[..., :THRESHOLDS]
    low, high = min(0.0, float(levels.min())), float(levels.max())
    wide, tall = float(np.diff(representation.z1[:2])[0]), float(np.diff(representation.z2[:2])[0])
    along = np.linspace(-0.4, 0.4, len(FREQUENCIES)) * wide
    for (row, column), up, across in _boxes(representation):
        datum = grid[row, column]
        for ear in EARS:
            height = up + tall * (0.42 - 0.84 * (datum[PARTS[ear]] - low) / (high - low))
            line = "-" if ear == "right" else (0, (2.5, 1.5))
            axis.plot(across + along, height, color=SIDES[ear]["color"], lw=2, ls=line)
        place = across - 0.44 * wide, up - 0.44 * tall
        axis.text(*place, f"{datum[THRESHOLDS]:.0f}", fontsize=10, color="#555555")
    for edges, draw in (
        (representation.z1[1:] - wide / 2, axis.axvline),
        (representation.z2[1:] - tall / 2, axis.axhline),
    ):
        for edge in edges:
            draw(edge, color=PALE, lw=0.8)
    axis.set(xlim=representation.limits[0], ylim=representation.limits[1])
    down = f"{low:.0f} to {high:.0f} dB HL down".replace("-", "−")
    text = f"{letter}) decoded grid, each box 0.5 to 8 kHz across,\n{down}, age in years"
    axis.set_title(text, fontsize=LABEL, loc="left", pad=TITLE_PAD)
    lines = [Line2D([], [], color=RED, label="right ear"), Line2D([], [], color=BLUE, ls="--", label="left ear")]
    legend(axis, handles=lines)
    latent_labels(axis, representation.plane)


def _boxes(representation: Representation) -> Iterator[tuple[tuple[int, int], float, float]]:
    for row, up in enumerate(representation.z2):
        for column, across in enumerate(representation.z1):
            yield (row, column), float(up), float(across)
