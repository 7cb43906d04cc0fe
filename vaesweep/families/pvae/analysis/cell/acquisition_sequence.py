"""The thesis' Figure 2 for one cell: the acquisition of one listener, stage by stage.

The columns are the estimate beside the truth, the acquisition function (eq. 3, as a standard deviation), and the
latent space with the posterior of what is observed beside that of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vaesweep.analysis.style import (
    BLACK,
    GREEN,
    GREY,
    LABEL,
    NOTE,
    ORANGE,
    PALE,
    TICK,
    box,
    ellipse,
    latent_name,
    page,
    plain,
    save,
)
from vaesweep.errors import UserError
from vaesweep.families.pvae.analysis.cell.audiogram_axes import (
    PARTS,
    SIDES,
    AudiogramRange,
    audiogram_axes,
    label_frequencies,
    places,
)
from vaesweep.families.pvae.analysis.cell.trained import TrainedCell
from vaesweep.families.pvae.data.audiograms import COLUMNS, DIMS, EARS, THRESHOLDS
from vaesweep.families.pvae.evaluation import AGE

MEASUREMENTS = (1, 2, 5)  # stages beside nothing known and the age known
BANDS = (0.95, 0.5)  # central shares of the predictive distribution, the wider first
SHADES = ("#E4E4E4", "#BDBDBD")
STAR: dict[str, Any] = {"color": ORANGE, "marker": "*", "markersize": 17, "markeredgecolor": BLACK}


@dataclass(frozen=True)
class PosteriorPoint:
    """A posterior in the plane that is shown: `mean` `[2]`, `covariance` `[2, 2]`."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, cell: TrainedCell, x: torch.Tensor, observed: torch.Tensor) -> "PosteriorPoint":
        """q(z | x_O) of one datum `x` `[dim]`, of which `observed` `[dim]` is known."""
        q, plane = cell.posterior(x[None], observed[None]), list(cell.plane)
        return cls(q.mean[0, plane].numpy(), q.covariance[0][plane][:, plane].numpy())


@dataclass(frozen=True)
class Stage:
    """A cell's prediction of a listener of whom `observed` is known. Arrays are `[dim]`, in dB HL and years.

    `bands` are the ends of each of `BANDS`, `std` is the acquisition function (a standard deviation, of all
    dimensions), and `following` the dimension that is measured next, where one is.
    """

    label: str
    observed: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    bands: tuple[tuple[np.ndarray, np.ndarray], ...]
    following: int | None
    latent: PosteriorPoint


@dataclass(frozen=True)
class Acquisition:
    """The numbers of the figure: the truth `x` `[dim]`, the stages, and the posterior of all.

    `encoded` `[row, 2]` are the test data's posterior means in `plane`, two of the cell's `latents`.
    """

    x: np.ndarray
    stages: tuple[Stage, ...]
    full: PosteriorPoint
    encoded: np.ndarray
    plane: tuple[int, int]
    latents: int

    @classmethod
    def of(cls, cell: TrainedCell, listener: int, measurements: Sequence[int] = MEASUREMENTS) -> "Acquisition":
        """The stages of a listener: nothing known, the age known, then after each of `measurements`."""
        if any(not 0 < m <= THRESHOLDS for m in measurements):
            raise UserError(f"measurements {', '.join(map(str, measurements))}: each must be in 1..{THRESHOLDS}")
        x, order = cell.test.x[listener], cell.test_trace.order[0, listener].tolist()
        stages = [_stage(cell, x, [], None, "nothing known")]
        for m in (0, *sorted(set(measurements))):
            label = f"{m} measured" if m else "age known"
            following = order[m] if m < len(order) else None
            stages.append(_stage(cell, x, [*AGE, *order[:m]], following, label))
        plane = list(cell.plane)
        encoded = cell.posterior(cell.test.x).mean[:, plane].numpy()
        full = PosteriorPoint.of(cell, x, torch.ones(DIMS, dtype=torch.bool))
        return cls(x.numpy(), tuple(stages), full, encoded, cell.plane, cell.config.model.latents)


@torch.no_grad()
def _stage(cell: TrainedCell, x: torch.Tensor, known: Sequence[int], following: int | None, label: str) -> Stage:
    observed = torch.zeros(DIMS, dtype=torch.bool)
    observed[list(known)] = True
    predictive = cell.predictor.predict(x[None], observed[None, None])
    ends = [[predictive.quantile(0.5 + side * band / 2)[0, 0].numpy() for side in (-1, 1)] for band in BANDS]
    return Stage(
        label=label,
        observed=observed.numpy(),
        mean=predictive.expectation[0, 0].numpy(),
        std=predictive.variance[0, 0].sqrt().numpy(),
        bands=tuple((low, high) for low, high in ends),
        following=following,
        latent=PosteriorPoint.of(cell, x, observed),
    )


@plain()
def draw_acquisition(acquisition: Acquisition, title: str, path: Path) -> Path:
    """Draw the figure."""
    count = len(acquisition.stages)
    figure = page(15.5, 2.75 * count + 1.8, title)
    grid = figure.add_gridspec(count, 3, width_ratios=(6, 6, 3.4))
    ends = [*acquisition.stages[0].bands[1], *(end for stage in acquisition.stages[1:] for end in stage.bands[0])]
    limits = AudiogramRange.of(acquisition.x, *ends)
    ellipses = [ellipse(stage.latent.mean, stage.latent.covariance, 2.0).T for stage in acquisition.stages]
    plane = box(np.concatenate([acquisition.encoded, *ellipses]))
    rows = []
    for row, stage in enumerate(acquisition.stages):
        estimate = _draw_estimate(audiogram_axes(figure, grid[row, 0], limits), acquisition.x, stage)
        scores = _draw_scores(audiogram_axes(figure, grid[row, 1], limits), acquisition, stage)
        axis = figure.add_subplot(grid[row, 2])
        axis.set(xlim=plane[0], ylim=plane[1])
        rows.append((estimate, scores, _draw_latent(axis, acquisition, stage)))
    _set_titles(acquisition, *rows[0])
    for axes in rows[-1][:2]:
        label_frequencies(axes)
    rows[-1][2].set_xlabel(latent_name(acquisition.plane[0]), fontsize=LABEL)
    figure.legend(handles=_legend_handles(), loc="outside lower center", ncols=4, fontsize=NOTE)
    return save(figure, path)


def _set_titles(acquisition: Acquisition, estimate: dict[str, Axes], scores: dict[str, Axes], latent: Axes) -> None:
    """Set the titles above the columns."""
    estimate["right"].set_title("Estimate", fontsize=LABEL, loc="left")
    scores["right"].set_title("Acquisition function", fontsize=LABEL, loc="left")
    for axes in (estimate, scores):
        axes["age"].set_title("age\n[years]", fontsize=TICK)
    plane = "Latent space" if acquisition.latents == 2 else f"2 of {acquisition.latents} latents, of highest rate"
    latent.set_title(plane, fontsize=LABEL, loc="left")


def _draw_estimate(axes: dict[str, Axes], x: np.ndarray, stage: Stage) -> dict[str, Axes]:
    for name, dims in PARTS.items():
        positions, axis, observed = places(name), axes[name], stage.observed[dims]
        for (low, high), shade in zip(stage.bands, SHADES, strict=True):
            _band(axis, positions, low[dims], high[dims], shade)
        axis.plot(positions, stage.mean[dims], color=GREEN, lw=2.6, marker="_" if name == "age" else "", ms=22, mew=2.6)
        axis.plot(positions[observed], x[dims][observed], linestyle="none", zorder=2.5, **STAR)
        axis.plot(positions, x[dims], linestyle="none", markersize=9, markeredgewidth=2, **SIDES[name])
    axes["right"].set_ylabel(f"{stage.label}\n[dB HL]", fontsize=LABEL)
    return axes


def _band(axis: Axes, positions: np.ndarray, low: np.ndarray, high: np.ndarray, shade: str) -> None:
    if len(positions) > 1:
        axis.fill_between(positions, low, high, color=shade, linewidth=0)
    else:
        axis.bar(positions, high - low, 0.7, low, color=shade)


def _draw_scores(axes: dict[str, Axes], acquisition: Acquisition, stage: Stage) -> dict[str, Axes]:
    highest = 1.12 * np.stack([shown.std for shown in acquisition.stages]).max(0)
    for name, dims in PARTS.items():
        axis, colour = axes[name], SIDES[name]["color"]
        for position, value, observed in zip(places(name), stage.std[dims], stage.observed[dims], strict=True):
            face = {"facecolor": "white", "hatch": "///"} if observed else {"facecolor": colour}
            axis.bar(position, value, 0.72, edgecolor=colour, **face)
        axis.set_ylim(0, highest[:THRESHOLDS].max() if name in EARS else highest[THRESHOLDS])
    if stage.following is not None:
        ear = COLUMNS[stage.following].partition("_")[0]
        place = stage.following - PARTS[ear].start, stage.std[stage.following]
        axes[ear].plot(*place, marker="v", ms=13, color=BLACK, clip_on=False, zorder=5)
    axes["right"].set_ylabel("std [dB]", fontsize=LABEL)
    return axes


def _draw_latent(axis: Axes, acquisition: Acquisition, stage: Stage) -> Axes:
    axis.scatter(acquisition.encoded[:, 0], acquisition.encoded[:, 1], s=6, color=PALE, linewidths=0, alpha=0.7)
    for latent, colour, width in ((acquisition.full, BLACK, 2.0), (stage.latent, GREEN, 2.6)):
        for reach, line in ((1.0, "-"), (2.0, (0, (3, 1.5)))):
            axis.plot(*ellipse(latent.mean, latent.covariance, reach), color=colour, lw=width, ls=line)
    axis.set_ylabel(latent_name(acquisition.plane[1]), fontsize=LABEL)
    axis.tick_params(labelsize=TICK)
    return axis


def _legend_handles() -> list[Line2D | Patch]:
    """The entries of one legend for all three columns."""
    bare: dict[str, Any] = {"linestyle": "none", "markersize": 10, "markeredgewidth": 2}
    names = {"right": "truth, right ear", "left": "truth, left ear", "age": "truth, age"}
    return [
        *(Line2D([], [], **bare, **SIDES[name], label=label) for name, label in names.items()),
        Line2D([], [], linestyle="none", **STAR, label="observed"),
        Line2D([], [], color=GREEN, lw=2.6, label="estimate: mean"),
        *(Patch(color=shade, label=f"estimate: central {band:.0%}") for band, shade in zip(BANDS, SHADES, strict=True)),
        Patch(facecolor=GREY, label="std of what is not observed"),
        Patch(facecolor="white", edgecolor=GREY, hatch="///", label="std of what is observed"),
        Line2D([], [], linestyle="none", marker="v", ms=12, color=BLACK, label="measured next"),
        Line2D([], [], color=BLACK, lw=2, label="posterior, all known: 1, 2 sd"),
        Line2D([], [], color=GREEN, lw=2.6, label="posterior of what is observed"),
        Line2D([], [], linestyle="none", marker=".", ms=9, color=PALE, label="test listeners, all known"),
    ]
