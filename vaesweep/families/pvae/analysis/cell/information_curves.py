"""The thesis' Figure 3 for one cell: information curves (eqs. 4 to 6) of one listener, and of all test listeners."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes

from vaesweep.analysis.style import INDIGO, LABEL, NOTE, TEAL, TICK, page, plain, save
from vaesweep.families.pvae.analysis.cell.trained import TrainedCell
from vaesweep.families.pvae.tasks.acquisition import area


def typical_listener(cell: TrainedCell) -> int:
    """The test listener whose area under the RMSE curve is the median one."""
    areas = area(cell.test_trace.rmse[0])
    return int((areas == areas.median()).nonzero()[0, 0])


@dataclass(frozen=True)
class Curve:
    """The information curves of one error: a listener's `one`, and `mean` and `std` over listeners, `[M + 1]`.

    `area` is the listener's, `mean_area` and `std_area` the listeners'; the sum over m = 1 … M, in units of `unit`.
    """

    name: str
    unit: str
    colour: str
    one: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    area: float
    mean_area: float
    std_area: float


@dataclass(frozen=True)
class InformationCurves:
    """The numbers of the figure: curves of NLL and RMSE, over so many `listeners`."""

    curves: tuple[Curve, ...]
    listeners: int

    @classmethod
    def of(cls, cell: TrainedCell, listener: int) -> "InformationCurves":
        """The curves of the cell's test listeners, acquired by the largest variance."""
        trace = cell.test_trace
        kinds = (("NLL", "nats", INDIGO, trace.nll[0]), ("RMSE", "dB", TEAL, trace.rmse[0]))
        return cls(tuple(_curve(*kind, listener) for kind in kinds), len(cell.test.x))


def _curve(name: str, unit: str, colour: str, errors: torch.Tensor, listener: int) -> Curve:
    areas = area(errors)
    return Curve(
        name,
        unit,
        colour,
        errors[listener].numpy(),
        errors.mean(0).numpy(),
        errors.std(0).numpy(),
        float(areas[listener]),
        float(areas.mean()),
        float(areas.std()),
    )


@plain()
def draw_information_curves(information: InformationCurves, title: str, path: Path) -> Path:
    """Draw the figure: a) one listener's curves with their areas, b) mean and standard deviation over listeners."""
    figure = page(12, 8.4, title)
    axes = figure.subplots(2, 2, sharex=True)
    for column, curve in enumerate(information.curves):
        upper, lower = axes[0, column], axes[1, column]
        _draw_area(upper, curve)
        _draw_spread(lower, curve)
        upper.set_title(f"a) one listener, {curve.name}", fontsize=LABEL, loc="left")
        lower.set_title(
            f"b) {information.listeners} test listeners, {curve.name}: mean and sd", fontsize=LABEL, loc="left"
        )
        lower.set_xlabel("Measurements m, beside the age", fontsize=LABEL)
        for axis in (upper, lower):
            axis.set_ylabel(f"{curve.name} [{curve.unit}]", fontsize=LABEL)
            axis.set_xticks(range(0, len(curve.one), 2))
            if min(curve.one.min(), curve.mean.min()) >= 0:
                axis.set_ylim(bottom=0.0)
            axis.tick_params(labelsize=TICK)
            axis.grid(alpha=0.25)
    return save(figure, path)


def _draw_area(axis: Axes, curve: Curve) -> None:
    m = np.arange(len(curve.one))
    axis.bar(m[1:], curve.one[1:], 1.0, color=curve.colour, alpha=0.3, linewidth=0)
    axis.plot(m, curve.one, color=curve.colour, lw=2.4, marker="o", ms=6)
    _annotate(axis, f"area {curve.area:.0f} measurement·{curve.unit}")


def _draw_spread(axis: Axes, curve: Curve) -> None:
    m = np.arange(len(curve.mean))
    axis.fill_between(m, curve.mean - curve.std, curve.mean + curve.std, color=curve.colour, alpha=0.3, linewidth=0)
    axis.plot(m, curve.mean, color=curve.colour, lw=2.4, marker="o", ms=6)
    _annotate(axis, f"area {curve.mean_area:.0f} ± {curve.std_area:.0f} measurement·{curve.unit}")


def _annotate(axis: Axes, text: str) -> None:
    axis.text(0.97, 0.95, text, transform=axis.transAxes, ha="right", va="top", fontsize=NOTE)
