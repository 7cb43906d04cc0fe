"""Axes of an audiogram: one for each ear, hearing loss downwards as audiologists draw it, a narrow one for the age."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from vaesweep.analysis.style import BLUE, LABEL, PINK, RED, TICK
from vaesweep.families.pvae.data.audiograms import EARS, FREQUENCIES, THRESHOLDS

SIDES: dict[str, dict[str, Any]] = {
    "right": {"color": RED, "marker": "o", "fillstyle": "none"},
    "left": {"color": BLUE, "marker": "x"},
    "age": {"color": PINK, "marker": "*"},
}
PARTS = {  # dimensions of a datum by axis
    EARS[0]: slice(0, len(FREQUENCIES)),
    EARS[1]: slice(len(FREQUENCIES), THRESHOLDS),
    "age": slice(THRESHOLDS, THRESHOLDS + 1),
}
PLACES = np.arange(len(FREQUENCIES))
KILOHERTZ = [f"{frequency / 1000:g}" for frequency in FREQUENCIES]


@dataclass(frozen=True)
class AudiogramRange:
    """Lowest and highest hearing level (dB HL) and age (years) that a figure's audiograms need."""

    level: tuple[float, float]
    age: tuple[float, float]

    @classmethod
    def of(cls, *x: np.ndarray) -> "AudiogramRange":
        """The range of data `[..., dim]`, rounded outwards to tens."""
        rows = np.concatenate([values.reshape(-1, values.shape[-1]) for values in x])
        return cls(_tens(rows[:, :THRESHOLDS]), _tens(rows[:, THRESHOLDS:]))


def _tens(values: np.ndarray) -> tuple[float, float]:
    return 10 * np.floor(values.min() / 10) - 2, 10 * np.ceil(values.max() / 10) + 2


def audiogram_axes(figure: Figure, place: SubplotSpec, limits: AudiogramRange) -> dict[str, Axes]:
    """Axes called `right`, `left` and `age` side by side, the age's scale on its right."""
    grid = place.subgridspec(1, 3, width_ratios=(7, 7, 1.1), wspace=0.06)
    axes = {name: figure.add_subplot(grid[number]) for number, name in enumerate(PARTS)}
    for name in EARS:
        axes[name].set_xticks(PLACES, KILOHERTZ)
        axes[name].set_xlim(-0.5, len(FREQUENCIES) - 0.5)
        axes[name].set_ylim(*reversed(limits.level))
    axes["left"].tick_params(labelleft=False)
    axes["age"].set_ylim(*limits.age)
    axes["age"].set_xlim(-0.5, 0.5)
    axes["age"].set_xticks([])
    axes["age"].yaxis.tick_right()
    for axis in axes.values():
        axis.grid(alpha=0.25)
        axis.tick_params(labelsize=TICK)
    return axes


def label_audiogram(axes: dict[str, Axes], *, level: str = "Hearing level [dB HL]", age: str = "Age [years]") -> None:
    """Label the axes of `audiogram_axes` with their units."""
    axes["right"].set_ylabel(level, fontsize=LABEL)
    axes["age"].set_ylabel(age, fontsize=LABEL)
    axes["age"].yaxis.set_label_position("right")


def label_frequencies(axes: dict[str, Axes]) -> None:
    """Label the ears' frequency axes."""
    for ear in EARS:
        axes[ear].set_xlabel(f"{ear} ear [kHz]", fontsize=LABEL)


def places(part: str) -> np.ndarray:
    """The positions of the dimensions of `part` on its axis."""
    return PLACES if part in EARS else np.zeros(1)
