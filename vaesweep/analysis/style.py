"""Style that figures share: pages, colours, font sizes, ellipses and names of a latent plane, legends."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib import rc_context, rcdefaults
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

# Okabe and Ito's palette, as in `figures`; grey for what is behind.
RED, BLUE, GREEN, PINK, ORANGE, SKY = "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
INDIGO, TEAL = "#332288", "#44AA99"  # Tol's muted palette: the thesis' colours of NLL and RMSE
BLACK, GREY, PALE = "#000000", "#777777", "#BBBBBB"
LABEL, TICK, NOTE = 13, 11.5, 12  # font sizes
Box = tuple[tuple[float, float], tuple[float, float]]  # limits in x and in y
CIRCLE = np.linspace(0, 2 * np.pi, 200)


@contextmanager
def plain() -> Iterator[None]:
    """Context, and decorator of what draws, in which figures look alike whatever a user's `matplotlibrc` says."""
    with rc_context():
        rcdefaults()
        yield


def page(width: float, height: float, title: str) -> Figure:
    """A figure of `width` and `height` inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=14, parse_math=False)  # names in it are no mathematics
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write the figure, as PNG."""
    figure.savefig(path, dpi=150, format="png")
    return path


def ellipse(mean: np.ndarray, covariance: np.ndarray, reach: float = 1.0) -> np.ndarray:
    """The line `[2, point]` at `reach` standard deviations around a two-dimensional Gaussian's `mean` `[2]`."""
    factor = np.linalg.cholesky(covariance)
    return mean[:, None] + reach * factor @ np.stack([np.cos(CIRCLE), np.sin(CIRCLE)])


def prior_circles(axis: Axes) -> None:
    """The standard normal prior, at one and two standard deviations."""
    for reach in (1.0, 2.0):
        line = ellipse(np.zeros(2), np.eye(2), reach)
        axis.plot(
            *line,
            color=BLACK,
            linestyle=(0, (1, 2)),
            lw=1.6,
            zorder=3,
            label="prior, 1 and 2 sd" if reach == 1 else None,
        )


def latent_name(dim: int) -> str:
    """The name of a latent dimension, counted from one."""
    return f"$z_{{{dim + 1}}}$"


def latent_labels(axis: Axes, plane: tuple[int, int]) -> None:
    """Names of the two latent dimensions on the axes."""
    axis.set_xlabel(latent_name(plane[0]), fontsize=LABEL + 1)
    axis.set_ylabel(latent_name(plane[1]), fontsize=LABEL + 1)
    axis.tick_params(labelsize=TICK)


def box(points: np.ndarray, tail: float = 0.5) -> Box:
    """Limits in x and y that hold all but `tail` % of `points` `[point, 2]` at either end, with a margin."""
    low, high = np.percentile(points, [tail, 100 - tail], axis=0)
    margin = 0.08 * (high - low)
    ends = np.stack([low - margin, high + margin], axis=1)
    return (float(ends[0, 0]), float(ends[0, 1])), (float(ends[1, 0]), float(ends[1, 1]))


def cells_between(ends: tuple[float, float], count: int) -> np.ndarray:
    """The middles of `count` equal intervals between two ends."""
    edges = np.linspace(*ends, count + 1)
    return np.array([(low + high) / 2 for low, high in pairwise(edges)])


def legend(axis: Axes, *, title: str = "", columns: int = 2, handles: Sequence[Line2D] | None = None) -> None:
    """A legend in one line just above an axis, at its right; `title` stands before its entries."""
    entries = list(handles) if handles is not None else axis.get_legend_handles_labels()[0]
    if title:
        entries = [Line2D([], [], linestyle="none", label=title), *entries]
    place = {"loc": "lower right", "bbox_to_anchor": (1.0, 0.995), "borderaxespad": 0.0, "borderpad": 0.2}
    axis.legend(handles=entries, ncols=columns + bool(title), fontsize=TICK, frameon=False, columnspacing=1.2, **place)
