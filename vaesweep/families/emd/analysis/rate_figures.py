"""The thesis' Figures 2 (top), 7, 8 and 10 for any sweep of separators; the rate is on the horizontal axis here.

Curves are those of `separation_curve.csv`, with 95 % intervals over seeds. A dot is a cell, hollow where its target was
out of reach; a star is the optimum; a horizontal line, with its interval, is the deterministic twin.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from vaesweep.analysis.curves import CURVE
from vaesweep.analysis.figures import REFERENCE, Style, draw_dots, draw_line, marked, open_label, ordinary_range
from vaesweep.analysis.groups import REGIME
from vaesweep.analysis.intervals import Interval
from vaesweep.analysis.metric_curves import OPTIMUM, VALUE, Metric, part
from vaesweep.analysis.style import BLACK, GREEN, LABEL, RED, TICK, page, plain, save
from vaesweep.analysis.table import is_open
from vaesweep.data.domains import Role
from vaesweep.families.emd.analysis.curves import (
    AXIS,
    METRICS,
    NEGATIVE_SI_SDR,
    TOTAL,
    RateAxis,
    Separators,
    on_axis,
    twin_levels,
)
from vaesweep.families.emd.data.pulses import SHIFTS

NOISE = "noise_amplitude"
SEEN = Style(BLACK, "-")
SHIFTED = Style(RED, "-")
OVERVIEW = (Style(BLACK, "--"), Style(GREEN, "-"), Style(RED, ":"))  # the test domain, less noise, more noise
LABELS = {
    "blr": "BLR distortion\n[nats per sample]",
    NEGATIVE_SI_SDR: "−SI-SDR [dB]",
    "si_sdri": "SI-SDR improvement [dB]",
}
TWIN_LINES: tuple[Any, ...] = (REFERENCE, (0, (6, 2, 1, 2)), (0, (1, 3)))  # of the first twin, the second, the others
COLUMNS = 4  # panels beside each other in Figure 10


@dataclass(frozen=True)
class SeparationCurves:
    """The data of the figures: the cells, and the `curve` of `separation_curve`, of one `regime`."""

    cells: Separators
    curve: pd.DataFrame
    regime: str
    title: str

    @property
    def test(self) -> str:
        """The test domain."""
        return self.cells.domains(Role.TEST)[0]

    def rows(self, axis: RateAxis, domain: str) -> pd.DataFrame:
        """The cells on one domain, with their rate on one axis."""
        rows = on_axis(self.cells.variational, axis)
        return rows[(rows[REGIME] == self.regime) & (rows["domain"] == domain)]

    def line(self, axis: RateAxis, metric: Metric, domain: str, kind: str) -> pd.DataFrame:
        """A curve, or its optimum."""
        return part(self.curve[self.curve[AXIS] == axis.column], self.regime, metric.name, domain, kind)


@plain()
def draw_rates(curves: SeparationCurves, path: Path) -> None:
    """Draw Figures 2, 7 and 8: every metric against every rate, on the test domain and two shifted ones."""
    shown = dict(zip([curves.test, *extremes(curves.cells.domains(Role.UNSEEN))], OVERVIEW, strict=False))
    axes = curves.cells.axes
    figure = page(1.6 + 4.6 * len(axes), 1.2 + 3.6 * len(METRICS), curves.title)
    grid = figure.subplots(len(METRICS), len(axes), sharex="col", sharey="row", squeeze=False)
    for metric, panels in zip(METRICS, grid, strict=True):
        levels = twin_levels(curves.cells.deterministic, metric)
        ranges: list[float] = []
        for axis, panel in zip(axes, panels, strict=True):
            for domain, style in shown.items():
                ranges += _draw_domain(panel, curves, axis, metric, domain, style)
                ranges += _draw_twins(panel, levels, domain, style.colour)
            _finish(panel)
        panels[0].set_ylabel(LABELS[metric.name], fontsize=LABEL)
        _set_limits(panels[0], ranges)
    for axis, panel in zip(axes, grid[-1], strict=True):
        panel.set_xlabel(axis.label, fontsize=LABEL)
    handles = [_handle(style, domain) for domain, style in shown.items()]
    figure.legend(handles=[*handles, *_notes(curves)], loc="outside lower center", ncols=3, fontsize=12)
    save(figure, path)


@plain()
def draw_conditions(curves: SeparationCurves, metric: Metric, path: Path) -> None:
    """Draw Figure 10: a panel a shifted condition, the condition trained on behind it in black; axes are shared.

    All rates are those on the test domain.
    """
    domains = [curves.test, *curves.cells.domains(Role.UNSEEN)]
    rows = math.ceil(len(domains) / COLUMNS)
    columns = min(COLUMNS, len(domains))
    figure = page(1.2 + 3.6 * columns, 1.6 + 2.7 * rows, curves.title)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    levels, ranges = twin_levels(curves.cells.deterministic, metric), list[float]()
    for panel, domain in zip(grid.flat, domains, strict=False):
        for name, style in {curves.test: SEEN, domain: SEEN if domain == curves.test else SHIFTED}.items():
            ranges += _draw_domain(panel, curves, TOTAL, metric, name, style)
            ranges += _draw_twins(panel, levels, name, style.colour)
        panel.set_title(domain, fontsize=LABEL)
        _finish(panel)
    for number, panel in enumerate(grid.flat):
        panel.set_visible(number < len(domains))
        if number % columns == 0:
            panel.set_ylabel(LABELS[metric.name], fontsize=LABEL)
        if len(domains) - columns <= number < len(domains):
            panel.tick_params(labelbottom=True)
            panel.set_xlabel(TOTAL.label, fontsize=LABEL)
    _set_limits(grid[0, 0], ranges)
    handles = [_handle(SEEN, f"{curves.test} (condition trained on)"), _handle(SHIFTED, "shifted condition")]
    figure.legend(handles=[*handles, *_notes(curves)], loc="outside lower center", ncols=3, fontsize=12)
    save(figure, path)


def extremes(unseen: list[str]) -> list[str]:
    """The conditions of least and of most noise; of other data the first two."""
    noise = {name: float(SHIFTS[name][NOISE]) for name in unseen if NOISE in SHIFTS.get(name, {})}
    ordered = sorted(noise, key=lambda name: noise[name])
    return list(dict.fromkeys([ordered[0], ordered[-1]])) if ordered else unseen[:2]


def _draw_domain(
    panel: Axes, curves: SeparationCurves, axis: RateAxis, metric: Metric, domain: str, style: Style
) -> Iterable[float]:
    """Draw dots, band, line and star of one domain and return the range of its dots."""
    cells = metric.points(curves.rows(axis, domain))
    if cells.empty:
        return ()
    draw_dots(panel, cells, cells[VALUE].to_numpy(float), style.colour)
    line = curves.line(axis, metric, domain, CURVE)
    draw_line(panel, line["rate"], [line[name].to_numpy(float) for name in (VALUE, "low", "high")], style)
    best = curves.line(axis, metric, domain, OPTIMUM)
    panel.plot(best["rate"], best[VALUE], "*", zorder=5, **marked(style.colour, 14))
    return ordinary_range(cells[VALUE].to_numpy(float))


def _draw_twins(panel: Axes, levels: Mapping[tuple[str, str], Interval], domain: str, colour: str) -> Iterable[float]:
    """Draw the twins as lines across the panel, with their intervals, and return their means."""
    means = []
    lines = twin_lines(regime for regime, _ in levels)
    for (regime, where), level in levels.items():
        if where == domain:
            panel.axhline(level.mean, color=colour, linestyle=lines[regime], lw=1.8, zorder=2)
            if level.n > 1:
                panel.axhspan(level.low, level.high, color=colour, alpha=0.08, linewidth=0, zorder=0)
            means.append(level.mean)
    return means


def _set_limits(panel: Axes, ranges: list[float]) -> None:
    if ranges:
        margin = 0.06 * max(max(ranges) - min(ranges), 1e-6)
        panel.set_ylim(min(ranges) - margin, max(ranges) + margin)


def _finish(panel: Axes) -> None:
    panel.set_xscale("log")
    panel.grid(alpha=0.25)
    panel.tick_params(labelsize=TICK)


def _handle(style: Style, label: str) -> Line2D:
    return Line2D([], [], color=style.colour, linestyle=style.line, lw=2.4, label=label)


def _notes(curves: SeparationCurves) -> Iterable[Line2D]:
    """Legend entries for stars, bands, hollow dots and dotted lines, where there are any."""
    yield Line2D([], [], marker="*", label="optimum", **marked("#999999", 13))
    if curves.curve["low"].notna().any():
        yield Line2D([], [], color="#999999", alpha=0.4, lw=9, label="95 % interval over seeds")
    if is_open(curves.cells.variational).any():
        hollow: dict[str, Any] = {
            "linestyle": "none",
            "markerfacecolor": "none",
            "markeredgecolor": "#666666",
            "marker": "o",
        }
        yield Line2D([], [], markersize=6, label=open_label(curves.cells.variational), **hollow)
    for regime, line in twin_lines(curves.cells.deterministic[REGIME]).items():
        yield Line2D([], [], color="#666666", linestyle=line, lw=1.8, label=f"{regime or 'deterministic'} twin")


def twin_lines(regimes: Iterable[str]) -> dict[str, Any]:
    """The line style of each twin, in their order."""
    names = list(dict.fromkeys(regimes))
    return {name: TWIN_LINES[min(number, len(TWIN_LINES) - 1)] for number, name in enumerate(names)}
