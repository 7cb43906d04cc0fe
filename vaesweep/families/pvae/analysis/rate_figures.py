"""The thesis' Figures 8 to 10 for any sweep: areas, stopping offsets and indices against the rate, one row a regime.

Curves are those of `metric_curve.csv`: moving averages with 95 % intervals over seeds, at the rate on the test domain.
A dot is a cell, hollow where its target was out of reach.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D

from vaesweep.analysis.curves import CURVE
from vaesweep.analysis.figures import (
    RATE,
    REFERENCE,
    Quantity,
    Style,
    domain_styles,
    draw_dots,
    draw_line,
    draw_panel,
    legend_entries,
    marked,
    ordinary_range,
)
from vaesweep.analysis.gaps import NEGATIVE_ELBO
from vaesweep.analysis.groups import POINT, REGIME
from vaesweep.analysis.metric_curves import OPTIMUM, VALUE, part
from vaesweep.analysis.style import BLACK, BLUE, GREEN, GREY, LABEL, ORANGE, PINK, RED, TICK, page, plain, save
from vaesweep.data.domains import Role
from vaesweep.families.pvae.analysis.baselines import Baseline
from vaesweep.families.pvae.analysis.comparison import JUDGE

AREA = Quantity(JUDGE, 1, "Area [measurement·dB]", OPTIMUM, "o")
AREA_LABEL = "Area under the RMSE curve\n[measurement·dB]"
OFFSET_LABEL = "Absolute stopping offset O\n[measurements]"
INDEX_LABEL = "Stopping index Ŝ\n[measurements]"


@dataclass(frozen=True)
class Mark:
    """The optimum of one metric on the test domain, as the thesis' Figure 9 marks it."""

    metric: str
    symbol: str
    marker: str
    colour: str
    label: str


MARKS = (
    Mark("distortion", "$D^*$", "o", BLUE, "lowest distortion"),
    Mark(NEGATIVE_ELBO, "$\\mathcal{L}^*$", ">", RED, "highest ELBO"),
    Mark(JUDGE, "$A^*$", "<", GREEN, "smallest area"),
    Mark("stop_offset.uncertainty", "$O^*$", "*", ORANGE, "smallest offset"),
    Mark("stop_index.uncertainty", "$\\hat{S}^*$", "D", PINK, "smallest stopping index"),
)


@dataclass(frozen=True)
class Line:
    """One curve of a panel; a `bare` one is without the dots of its cells and the band of its interval."""

    metric: str
    domain: str
    style: Style
    bare: bool = False


CRITERIA = {
    "uncertainty": (Style(BLUE, "-"), "uncertainty"),
    "measurements": (Style(ORANGE, "--"), "line of m alone"),
    "constant": (Style(PINK, ":"), "best constant index"),
    "oracle": (Style(GREY, "-."), "oracle"),
}
PANELS = {
    "distortion": "Distortion\n[nats per datum]",
    JUDGE: AREA_LABEL,
    "stop_offset.uncertainty": OFFSET_LABEL,
    "stop_index.uncertainty": INDEX_LABEL,
}
BAND = Line2D([], [], color="#999999", alpha=0.4, lw=9, label="95 % interval over seeds")
STOPS = (
    ("stop_offset", OFFSET_LABEL, ("uncertainty", "measurements", "constant")),
    ("stop_index", INDEX_LABEL, tuple(CRITERIA)),
    ("stop_rmse", "RMSE at the stop [dB]", tuple(CRITERIA)),
)


@dataclass(frozen=True)
class AcquisitionCurves:
    """The data of the figures: `points` of `grouped_table` and the `curve` of `metric_curve`."""

    points: pd.DataFrame
    curve: pd.DataFrame
    title: str

    @property
    def regimes(self) -> list[str]:
        """The regimes with more than one point, which make a curve."""
        counts = self.points.groupby(REGIME, sort=False)[POINT].nunique()
        return [str(regime) for regime in counts.index[counts > 1]]

    def domain(self, role: Role) -> str:
        """The one domain of a role, empty where no cell was evaluated on it."""
        return next(iter(self.points.loc[self.points["role"] == role, "domain"]), "")

    def cells(self, regime: str, domain: str, metric: str) -> pd.DataFrame:
        """The cells of one curve, without those whose value is not finite."""
        rows = self.points[(self.points[REGIME] == regime) & (self.points["domain"] == domain)]
        return rows[np.isfinite(rows[metric].astype(float))] if metric in rows else rows[:0]


@plain()
def draw_areas(curves: AcquisitionCurves, mixture: Baseline | None, path: Path) -> None:
    """Figure 8: the area by largest variance against the rate, on the test domain and beside it on each unseen one."""
    shown = curves.points[curves.points["role"].isin([Role.TEST, Role.UNSEEN])]
    styles = domain_styles(shown)
    test = curves.domain(Role.TEST)
    panel_domains = [domain for domain in styles if domain != test] or [test]
    figure = page(
        max(8.5, 1.0 + 6.2 * len(panel_domains)), 1.2 + 4.8 * len(curves.regimes), f"{curves.title}: largest variance"
    )
    grid = figure.add_gridspec(len(curves.regimes), len(panel_domains))
    lines = {d: float(mixture.metrics[d, JUDGE].mean()) for d in styles if mixture and (d, JUDGE) in mixture.metrics}
    curve = curves.curve[curves.curve["metric"] == JUDGE]
    curve = curve.rename(columns={VALUE: AREA.column, "low": f"{AREA.column}_low", "high": f"{AREA.column}_high"})
    for row, regime in enumerate(curves.regimes):
        for column, panel_domain in enumerate(panel_domains):
            pair = {name: style for name, style in styles.items() if name in (test, panel_domain)}
            cells = pd.concat([curves.cells(regime, name, JUDGE) for name in pair])
            axes = draw_panel(figure, grid[row, column], AREA, cells, curve[curve[REGIME] == regime], pair, lines)
            axes[0].set_title("" if column else regime, fontsize=LABEL, loc="left", fontweight="bold")
    handles = list(legend_entries(shown, curve, styles, {"smallest area": AREA}))
    if mixture and lines:
        handles.append(Line2D([], [], color=GREY, linestyle=REFERENCE, lw=1.6, label=f"{mixture.name}, same data"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2 if len(panel_domains) == 1 else 3, fontsize=12)
    save(figure, path)


@plain()
def draw_metrics(curves: AcquisitionCurves, path: Path) -> None:
    """Figure 9: distortion, area, offset and index against the rate, and all optima below."""
    test, train = curves.domain(Role.TEST), curves.domain(Role.TRAIN)
    domain_lines = ((train, Style(GREEN, "--")), (test, Style(BLUE, "-")))
    columns = [(metric, label) for metric, label in PANELS.items() if metric in curves.points]
    figure = page(1.0 + 4.6 * len(columns), 0.8 + 4.7 * len(curves.regimes), curves.title)
    grid = figure.add_gridspec(len(curves.regimes), len(columns))
    for row, regime in enumerate(curves.regimes):
        for column, (metric, label) in enumerate(columns):
            axis, strip = _with_strip(figure, grid[row, column])
            domains = domain_lines if metric == "distortion" else domain_lines[1:]
            _draw_curves(axis, curves, regime, [Line(metric, domain, style) for domain, style in domains])
            _mark_own(axis, curves, regime, metric, test)
            _draw_strip(strip, curves, regime, test, named=column == 0)
            axis.set_ylabel(label, fontsize=LABEL)
            axis.set_title("" if column else regime, fontsize=LABEL, loc="left", fontweight="bold")
    handles = [
        Line2D([], [], color=style.colour, linestyle=style.line, lw=2.4, label=name) for name, style in domain_lines
    ]
    handles += [
        Line2D([], [], marker=mark.marker, label=f"{mark.symbol} {mark.label}", **marked(mark.colour, 11))
        for mark in MARKS
        if mark.metric in curves.points
    ]
    handles += [BAND, Line2D([], [], color=GREY, lw=3, alpha=0.6, label="span of the seeds' own optima")]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=12.5)
    save(figure, path)


@plain()
def draw_stops(curves: AcquisitionCurves, threshold: float | None, path: Path) -> None:
    """Figure 10: the stop by uncertainty beside that of m alone, the constant index and the oracle, test domain.

    Of all but the first the lines alone: bands of four would hide each other, and `findings` compares within cells.
    """
    test = curves.domain(Role.TEST)
    figure = page(16.5, 1.2 + 4.4 * len(curves.regimes), f"{curves.title}: stopping on {test}")
    grid = figure.add_gridspec(len(curves.regimes), len(STOPS))
    for row, regime in enumerate(curves.regimes):
        for column, (metric, label, criteria) in enumerate(STOPS):
            axis = figure.add_subplot(grid[row, column])
            target = threshold if metric == "stop_rmse" else None
            lines = [Line(f"{metric}.{name}", test, CRITERIA[name][0], bare=name != criteria[0]) for name in criteria]
            _draw_curves(axis, curves, regime, lines, () if target is None else (target,))
            if target is not None:
                axis.axhline(target, color=BLACK, lw=1.2)
            axis.set_ylabel(label, fontsize=LABEL)
            axis.set_xlabel(RATE, fontsize=LABEL)
            axis.set_title("" if column else regime, fontsize=LABEL, loc="left", fontweight="bold")
    handles = [
        Line2D([], [], color=style.colour, linestyle=style.line, lw=2.4, label=label)
        for style, label in CRITERIA.values()
    ]
    handles.append(BAND)
    if threshold is not None:
        handles.append(Line2D([], [], color=BLACK, lw=1.2, label=f"threshold {threshold:g} dB"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=12.5)
    save(figure, path)


def _with_strip(figure: Figure, place: SubplotSpec) -> tuple[Axes, Axes]:
    """A panel, and below it a strip with the same rates."""
    grid = place.subgridspec(2, 1, height_ratios=(3.2, 1), hspace=0.02)
    axis = figure.add_subplot(grid[0])
    strip = figure.add_subplot(grid[1], sharex=axis)
    axis.tick_params(labelbottom=False)
    return axis, strip


def _draw_curves(
    axis: Axes, curves: AcquisitionCurves, regime: str, lines: Iterable[Line], inside: Sequence[float] = ()
) -> None:
    """Curves on one axis, whose scale holds them and `inside`; a few dots far outside do not set it."""
    ranges = list(inside)
    for line in lines:
        cells = curves.cells(regime, line.domain, line.metric)
        if cells.empty:
            continue
        values = cells[line.metric].to_numpy(float)
        if not line.bare:
            draw_dots(axis, cells, values, line.style.colour)
        curve = part(curves.curve, regime, line.metric, line.domain, CURVE)
        middle, low, high = (curve[name].to_numpy(float) for name in (VALUE, "low", "high"))
        if line.bare:
            low, high = middle, middle
        draw_line(axis, curve["rate"], [middle, low, high], line.style)
        ranges += ordinary_range(middle if line.bare else values)
    if ranges:
        margin = 0.06 * max(max(ranges) - min(ranges), 0.01 * abs(max(ranges)), 1e-6)
        axis.set_ylim(min(ranges) - margin, max(ranges) + margin)
    axis.grid(alpha=0.25)
    axis.tick_params(labelsize=TICK)


def _mark_own(axis: Axes, curves: AcquisitionCurves, regime: str, metric: str, domain: str) -> None:
    """The metric's own optimum on its curve."""
    best = part(curves.curve, regime, metric, domain, OPTIMUM)
    for mark in MARKS:
        if mark.metric == metric:
            axis.plot(best["rate"], best["value"], mark.marker, zorder=5, **marked(mark.colour))


def _draw_strip(strip: Axes, curves: AcquisitionCurves, regime: str, domain: str, *, named: bool) -> None:
    """Every metric's optimum at its rate, one below the other, with the span of the seeds' own optima."""
    marks = [mark for mark in MARKS if mark.metric in curves.points]
    for level, mark in enumerate(marks):
        for _, best in part(curves.curve, regime, mark.metric, domain, OPTIMUM).iterrows():
            strip.plot([best["rate_low"], best["rate_high"]], [level, level], color=mark.colour, lw=3, alpha=0.6)
            strip.plot([best["rate"]], [level], mark.marker, zorder=5, clip_on=False, **marked(mark.colour, 9))
    strip.set_ylim(len(marks) - 0.4, -0.6)
    strip.set_yticks(range(len(marks)), [mark.symbol for mark in marks] if named else [""] * len(marks))
    strip.tick_params(labelsize=TICK)
    strip.grid(alpha=0.25)
    strip.set_xlabel(RATE, fontsize=LABEL)
