"""The thesis' Figures 4 and 5 for one cell: how well its uncertainty predicts its error, and stopping by it.

Figure 4 plots the true error against quantities that may predict it, over all test sequences and m = 1 … M. Figure 5
judges, as `Criteria.judge` does, where each criterion stops these sequences: too early, rightly or too late.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from vaesweep.analysis.style import BLACK, LABEL, NOTE, PINK, RED, SKY, TICK, page, plain, save
from vaesweep.families.pvae.analysis.cell.trained import TrainedCell
from vaesweep.families.pvae.tasks.stopping import Correlations, StopOutcome, StopResult, first_below

OUTCOMES = {  # in the order of the bars; purple where it went on too long, red where it stopped too early: thesis
    StopOutcome.TRUE_NEGATIVE: ("#E6E6E6", "goes on, not done (TN)"),
    StopOutcome.FALSE_POSITIVE: (RED, "stopped, not done (FP)"),
    StopOutcome.FALSE_NEGATIVE: (PINK, "goes on, done (FN)"),
    StopOutcome.TRUE_POSITIVE: (SKY, "stopped, done (TP)"),
}
SHOWN = (0.1, 99.9)  # percentiles that an axis of Figure 4 reaches to; dots beyond are counted in a note


@dataclass(frozen=True)
class ErrorPredictor:
    """One panel of Figure 4: `values` `[state]` of a quantity and its correlation with the error."""

    label: str
    values: np.ndarray
    correlation: float


@dataclass(frozen=True)
class ErrorPredictors:
    """The numbers of Figure 4, over states, which are test sequences by m = 1 … M: errors in dB, and m."""

    rmse: np.ndarray
    measurements: np.ndarray
    predictors: tuple[ErrorPredictor, ...]

    @classmethod
    def of(cls, cell: TrainedCell) -> "ErrorPredictors":
        """The predictors of the cell's test sequences, with the linear model refitted on its validation data."""
        trace, model = cell.test_trace, cell.criteria.uncertainty
        m = torch.arange(trace.rmse.shape[-1]).expand(trace.rmse.shape)
        weighted = cell.config.acquisition.weighted
        bound = "Importance-weighted partial bound [nats]" if weighted else "Partial ELBO [nats]"
        correlations = Correlations.of(trace, model)
        predictors = (
            _predictor("Measurements m", m, correlations.measurements),
            _predictor("Mean acquisition function [dB²]", trace.variance.mean(-1), correlations.variance),
            _predictor(bound, trace.bound, correlations.bound),
            _predictor("Linear estimate of the RMSE [dB]", model.estimate(trace), correlations.estimate),
        )
        return cls(_states(trace.rmse), _states(m), predictors)


def _predictor(label: str, values: torch.Tensor, correlation: torch.Tensor) -> ErrorPredictor:
    return ErrorPredictor(label, _states(values), float(correlation[0]))


def _states(values: torch.Tensor) -> np.ndarray:
    """The states m = 1 … M of one cell's `values` `[1, row, M + 1]`, flattened."""
    return values[0, :, 1:].flatten().numpy()


@plain()
def draw_error_predictors(errors: ErrorPredictors, title: str, path: Path) -> Path:
    """Draw Figure 4."""
    figure = page(17, 5.3, title)
    axes = figure.subplots(1, len(errors.predictors), sharey=True)
    highest = 1.03 * float(np.percentile(errors.rmse, SHOWN[1]))
    for axis, predictor in zip(axes, errors.predictors, strict=True):
        dots = _draw_predictor(axis, errors, predictor, highest)
    axes[-1].plot([0, highest], [0, highest], color=BLACK, lw=1.4, ls="--", label="estimate = error")
    axes[-1].legend(fontsize=TICK, loc="upper left", frameon=False)
    axes[0].set_ylabel("RMSE of the estimate [dB]", fontsize=LABEL)
    bar = figure.colorbar(dots, ax=axes, pad=0.01)
    bar.set_label("Measurements m", fontsize=LABEL)
    return save(figure, path)


def _draw_predictor(axis: Axes, errors: ErrorPredictors, predictor: ErrorPredictor, highest: float) -> Any:
    """Draw the dots and return them, the early measurements on top of the many late ones."""
    order = np.argsort(-errors.measurements, kind="stable")
    style: dict[str, Any] = {"s": 9, "alpha": 0.6, "linewidths": 0, "cmap": "viridis"}
    dots = axis.scatter(
        predictor.values[order], errors.rmse[order], c=errors.measurements[order], rasterized=True, **style
    )
    low, high = np.percentile(predictor.values, SHOWN)
    margin = 0.04 * (high - low)
    axis.set(xlim=(low - margin, high + margin), ylim=(-0.02 * highest, highest))
    hidden = (predictor.values < low - margin) | (predictor.values > high + margin) | (errors.rmse > highest)
    outside = f" ({int(hidden.sum())} dots outside)" if hidden.any() else ""
    axis.set_title(f"Pearson's r = {predictor.correlation:.2f}{outside}".replace("-", "−"), fontsize=LABEL)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axis.set_xlabel(predictor.label, fontsize=LABEL)
    axis.tick_params(labelsize=TICK)
    axis.grid(alpha=0.25)
    return dots


@dataclass(frozen=True)
class Stops:
    """One row of Figure 5: a criterion, and its stops of the test sequences (one cell)."""

    label: str
    result: StopResult


@dataclass(frozen=True)
class Stopping:
    """The numbers of Figure 5: every criterion at one `threshold`, dB."""

    threshold: float
    rows: tuple[Stops, ...]

    @classmethod
    def of(cls, cell: TrainedCell) -> "Stopping":
        """The line of m alone, the best constant index, the uncertainty model and the oracle, as `Criteria` has it."""
        criteria, trace, threshold = cell.criteria, cell.test_trace, cell.config.acquisition.threshold
        by_count = first_below(criteria.measurements.estimate(trace), threshold)
        indices = {
            f"line of m alone:\nalways m = {int(by_count[0, 0])}": by_count,
            f"constant index:\nalways m = {int(criteria.constant[0])}": criteria.constant.unsqueeze(-1),
            "linear model of\nuncertainty": first_below(criteria.uncertainty.estimate(trace), threshold),
            "oracle": first_below(trace.rmse, threshold),
        }
        stops = (Stops(label, StopResult.of(trace.rmse, threshold, index)) for label, index in indices.items())
        return cls(threshold, tuple(stops))


@plain()
def draw_stopping(stopping: Stopping, title: str, path: Path) -> Path:
    """Draw Figure 5."""
    count = len(stopping.rows)
    figure = page(15, 2.6 * count + 1.4, title)
    axes = figure.subplots(count, 3, sharex="col", width_ratios=(1.1, 1.5, 1.5))
    order = _sorted(stopping.rows)
    highest = _highest(stopping.rows)
    for stops, (shares, raster, offsets) in zip(stopping.rows, axes, strict=True):
        _draw_shares(shares, stops)
        _draw_raster(raster, stops, order)
        _draw_offsets(offsets, stops, highest)
        for axis in (shares, raster, offsets):
            axis.tick_params(labelsize=TICK)
    _set_titles(figure, axes, stopping)
    return save(figure, path)


def _set_titles(figure: Figure, axes: np.ndarray, stopping: Stopping) -> None:
    """Set the titles above the columns, the units below them, and the legend."""
    names = ("Outcomes of all sequences and m", "Sequences, sorted by where they are done", "Offsets")
    units = ("Share [%]", "Measurements m", "Measurements too early (−), too late (+)")
    for column, (name, unit) in enumerate(zip(names, units, strict=True)):
        axes[0, column].set_title(name, fontsize=LABEL, loc="left")
        axes[-1, column].set_xlabel(unit, fontsize=LABEL)
    patches = [Patch(facecolor=colour, edgecolor="#999999", label=label) for colour, label in OUTCOMES.values()]
    figure.legend(handles=patches, loc="outside lower center", ncols=4, fontsize=NOTE)


def _sorted(rows: Sequence[Stops]) -> np.ndarray:
    """One order of the sequences for all rows: by the true index, then by the uncertainty model's."""
    true, estimated = rows[-1].result.true_index[0], rows[-2].result.estimated_index[0]
    return np.lexsort((estimated.numpy(), true.numpy()))


def _highest(rows: Sequence[Stops]) -> float:
    """The largest count in a histogram that is not all at one offset, as the oracle's."""
    counts = [np.unique(stops.result.offset[0].numpy(), return_counts=True)[1] for stops in rows]
    spread = [int(count.max()) for count in counts if len(count) > 1]
    return 1.15 * max(spread, default=max(int(count.max()) for count in counts))


def _draw_shares(axis: Axes, stops: Stops) -> None:
    for place, (outcome, (colour, _)) in enumerate(OUTCOMES.items()):
        share = 100 * float(stops.result.share(outcome)[0])
        axis.barh(place, share, color=colour, edgecolor="#999999")
        axis.text(share + 1.5, place, f"{share:.0f} %", va="center", fontsize=NOTE)
    names = ["".join(word[0] for word in outcome.name.split("_")) for outcome in OUTCOMES]
    axis.set_yticks(range(len(OUTCOMES)), names)
    axis.set_ylabel(stops.label, fontsize=LABEL)
    axis.set_xlim(0, 112)
    axis.invert_yaxis()


def _draw_raster(axis: Axes, stops: Stops, order: np.ndarray) -> None:
    outcomes = stops.result.outcomes[0].numpy()[order]
    colours = ListedColormap([OUTCOMES[outcome][0] for outcome in StopOutcome])
    rows, steps = outcomes.shape
    extent = (0.5, steps + 0.5, rows, 0)
    axis.imshow(outcomes, cmap=colours, vmin=0, vmax=3, aspect="auto", interpolation="nearest", extent=extent)
    axis.set_xticks(range(2, steps + 1, 2))
    axis.set_ylabel("sequence", fontsize=LABEL)


def _draw_offsets(axis: Axes, stops: Stops, highest: float) -> None:
    """Draw the histogram; a bar that is cut off has a dashed edge and its count beside it."""
    offsets, counts = np.unique(stops.result.offset[0].numpy(), return_counts=True)
    for offset, count in zip(offsets, counts, strict=True):
        side = (
            StopOutcome.TRUE_POSITIVE
            if offset == 0
            else StopOutcome.FALSE_POSITIVE
            if offset < 0
            else StopOutcome.FALSE_NEGATIVE
        )
        cut = count > highest
        style = {"linestyle": "--", "edgecolor": BLACK, "linewidth": 1.5} if cut else {"edgecolor": "#999999"}
        axis.bar(offset, min(count, 0.94 * highest) if cut else count, 0.9, color=OUTCOMES[side][0], **style)
        if cut:
            axis.text(offset + 0.7, 0.9 * highest, f"{count}", fontsize=NOTE, va="top")
    text = f"mean |offset|\n{float(stops.result.mean_absolute_offset[0]):.2f}"
    axis.text(0.98, 0.95, text, transform=axis.transAxes, ha="right", va="top", fontsize=NOTE)
    last = stops.result.measurements - 1
    axis.set(xlim=(-last - 0.5, last + 0.5), ylim=(0, highest))
    axis.set_ylabel("sequences", fontsize=LABEL)
    axis.grid(alpha=0.25)
