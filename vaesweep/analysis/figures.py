"""The thesis' Figure 7 for any sweep: distortion and negative ELBO against rate, one curve a domain.

Domains can differ by orders of magnitude. Where one would squash the others, both panels are cut in two:
below, the scale of the training population's domains; above, the rest (logarithmic when it spans more than
a decade).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D

from vaesweep.analysis.curves import CURVE, HIGHEST_ELBO, LOWEST_DISTORTION
from vaesweep.analysis.style import plain
from vaesweep.analysis.table import is_open, is_unsettled, on_curve
from vaesweep.data.domains import Role

# Okabe and Ito's palette, distinct under every common colour blindness.
GREEN, BLUE, SKY, BLACK = "#009E73", "#0072B2", "#56B4E9", "#000000"
UNSEEN = ("#D55E00", "#CC79A7", "#E69F00", BLACK)
GREY = "#888888"
HOME = {Role.TRAIN: (GREEN, "--"), Role.VALID: (SKY, ":"), Role.TEST: (BLUE, "-")}
SQUASH = 2.5  # cut the panel when the rest makes it this many times taller than home alone
OUTLIER = 10  # a dot this many times farther out than the next is left out of the range, and counted
MANY_DECADES = 200  # rates are on a logarithmic axis where the highest is so many times the lowest
RATE = "Rate [nats per datum]"
REFERENCE = (0, (1, 2.2))  # dots


@dataclass(frozen=True)
class Style:
    """The style of one domain; a `faint` one is a thin line alone, which does not count for the axes' limits."""

    colour: str
    line: str
    faint: bool = False


@dataclass(frozen=True)
class Quantity:
    """One panel: a column of the tables, `sign` that makes lower better, and the optimum marked in it."""

    column: str
    sign: int
    label: str
    optimum: str
    marker: str

    def values(self, frame: pd.DataFrame, suffix: str = "") -> np.ndarray:
        return self.sign * frame[self.column + suffix].to_numpy(float)


DISTORTION = Quantity("distortion", 1, "Distortion [nats per datum]", LOWEST_DISTORTION, "o")
NEGATIVE_ELBO = Quantity("elbo", -1, "−ELBO [nats per datum]", HIGHEST_ELBO, "D")


@dataclass(frozen=True)
class Limits:
    """Range of the panel, and of the part above the cut where there is one."""

    low: float
    high: float
    above: tuple[float, float] | None = None


@plain()
def draw_rd_curve(table: pd.DataFrame, curve: pd.DataFrame, title: str, path: Path) -> None:
    """Draw `rd_curve.png` from the tables of `cells_table` and `rd_curve`.

    A dot is a cell on a domain (hollow where its target was out of reach), a line the moving average, a
    band its 95 % interval over seeds, a large marker the optimum.
    """
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=14)
    points = on_curve(table)
    styles = domain_styles(table)
    grid = figure.add_gridspec(1, 2, wspace=0.06)
    for place, quantity in ((grid[0], DISTORTION), (grid[1], NEGATIVE_ELBO)):
        draw_panel(figure, place, quantity, points, curve, styles)
    marks = {"lowest distortion": DISTORTION, "lowest −ELBO": NEGATIVE_ELBO}
    handles = list(legend_entries(points, curve, styles, marks))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), fontsize=12.5)
    figure.savefig(path, dpi=150, format="png")


def domain_styles(table: pd.DataFrame) -> dict[str, Style]:
    """Colour and line of every domain, in the table's order; unseen ones are faint where there are many."""
    domains = table.drop_duplicates("domain")
    unseen = domains.loc[~domains["role"].isin(HOME), "domain"]
    many = len(unseen) > len(UNSEEN)
    colours = dict(zip(unseen, UNSEEN, strict=False))
    return {
        name: Style(*HOME[Role(role)]) if role in HOME else Style(GREY if many else colours[name], "-", faint=many)
        for name, role in zip(domains["domain"], domains["role"], strict=True)
    }


def panel_limits(points: pd.DataFrame, quantity: Quantity) -> Limits:
    """Range of one panel, cut where the domains outside the training population would squash the others."""
    groups = points.groupby("domain", sort=False)
    ranges = pd.DataFrame(
        [(*ordinary_range(quantity.values(cells)), cells["role"].iloc[0] in HOME) for _, cells in groups],
        columns=["low", "high", "home"],
    )
    home = ranges[ranges["home"]] if ranges["home"].any() else ranges
    low, high = home["low"].min(), home["high"].max()
    height = max(high - low, 0.1 * abs(high), 1e-9)
    lowest, highest = ranges["low"].min(), ranges["high"].max()
    if highest - lowest <= SQUASH * height:
        margin = 0.05 * max(highest - lowest, height)
        return Limits(lowest - margin, highest + margin)
    top, bottom = high + 0.05 * height, max(lowest, low - height) - 0.05 * height
    start = ranges.loc[ranges["high"] > top, "low"].min()
    margin = 0.06 * (highest - max(start, top)) + 0.01 * height
    return Limits(bottom, top, (max(top, start - margin), highest + margin))


def ordinary_range(values: np.ndarray) -> tuple[float, float]:
    """Lowest and highest of one domain's dots, without outliers: at most 5 %, beyond an `OUTLIER`-fold jump.

    A jump, not a quantile, decides: a curve may well rise over decades, but it does so step by step.
    """
    quartiles = np.quantile(values, [0.25, 0.75])
    distance = np.abs(values - np.median(values)) / max(quartiles[1] - quartiles[0], 1e-9)
    order = np.argsort(distance)
    jumps = np.flatnonzero(distance[order][1:] > OUTLIER * np.maximum(distance[order][:-1], 1)) + 1
    late = jumps[jumps >= 0.95 * len(values)]
    kept = values[order][: late[0] if len(late) else None]
    return float(kept.min()), float(kept.max())


def draw_panel(
    figure: Figure,
    place: SubplotSpec,
    quantity: Quantity,
    points: pd.DataFrame,
    curve: pd.DataFrame,
    styles: Mapping[str, Style],
    references: Mapping[str, float] | None = None,
) -> list[Axes]:
    """One quantity against rate, on one axis or, cut, on two, the upper one first.

    `references` are horizontal lines by domain: values of other models there, whatever the rate.
    """
    references = references or {}
    faint = [domain for domain, style in styles.items() if style.faint]
    ruling = points[~points["domain"].isin(faint)]
    if points.empty:
        axes = [figure.add_subplot(place)]
        axes[0].text(0.5, 0.5, "no finished cell yet", ha="center", transform=axes[0].transAxes, fontsize=13)
    else:
        roles = points.drop_duplicates("domain").set_index("domain")["role"]
        lines = [{"domain": d, "role": roles[d], quantity.column: v} for d, v in references.items() if d in roles]
        limits = panel_limits(pd.concat([ruling, pd.DataFrame(lines)]) if lines else ruling, quantity)
        axes = _cut_axes(figure, place, limits) if limits.above else [figure.add_subplot(place)]
        axes[-1].set_ylim(limits.low, limits.high)
        _note_outside(axes[0], quantity.values(ruling), limits)
    for axis in axes:
        for domain, style in styles.items() if len(points) else ():
            _draw_domain(axis, quantity, points, curve, domain, style)
            if domain in references:
                axis.axhline(references[domain], color=style.colour, linestyle=REFERENCE, lw=1.6, zorder=2)
        axis.grid(alpha=0.25)
        axis.tick_params(labelsize=12)
    if len(points) and (rates := points["rate"]).min() > 0 and rates.max() > MANY_DECADES * rates.min():
        axes[-1].set_xscale("log")
    axes[-1].set_xlabel(RATE, fontsize=13)
    axes[-1].set_ylabel(quantity.label, fontsize=13)
    return axes


def _cut_axes(figure: Figure, place: SubplotSpec, limits: Limits) -> list[Axes]:
    """Two axes, one above the other, with the usual slanted strokes at the cut."""
    assert limits.above is not None
    grid = place.subgridspec(2, 1, height_ratios=(1, 1.6), hspace=0.03)
    lower = figure.add_subplot(grid[1])
    upper = figure.add_subplot(grid[0], sharex=lower)
    start, stop = limits.above
    if start > 0 and stop / start > 10:
        upper.set_yscale("log")
    upper.set_ylim(start, stop)
    upper.tick_params(labelbottom=False, bottom=False)
    upper.spines["bottom"].set_visible(False)
    lower.spines["top"].set_visible(False)
    stroke: dict[str, Any] = {
        "marker": [(-1, -0.6), (1, 0.6)],
        "markersize": 11,
        "linestyle": "none",
        "color": BLACK,
    }
    upper.plot([0, 1], [0, 0], transform=upper.transAxes, clip_on=False, **stroke)
    lower.plot([0, 1], [1, 1], transform=lower.transAxes, clip_on=False, **stroke)
    return [upper, lower]


def _note_outside(axis: Axes, values: np.ndarray, limits: Limits) -> None:
    top = limits.above[1] if limits.above else limits.high
    outside = int(((values < limits.low) | (values > top)).sum())
    if outside:
        text = f"{outside} dot{'s' if outside > 1 else ''} outside"
        note = axis.text(0.5, 0.96, text, ha="center", va="top", transform=axis.transAxes, fontsize=11, zorder=6)
        note.set_bbox({"facecolor": "white", "edgecolor": "none"})


def draw_dots(axis: Axes, cells: pd.DataFrame, values: np.ndarray, colour: str) -> None:
    """A dot a cell at its `rate`, hollow where its rate control did not get what it asked for."""
    for hollow in (False, True):
        shown = is_open(cells).to_numpy() == hollow
        face = "none" if hollow else colour
        dots = axis.scatter(cells["rate"][shown], values[shown], s=26, facecolors=face, edgecolors=colour)
        dots.set(alpha=0.75 if hollow else 0.35, linewidths=1.1 if hollow else 0, zorder=1)


def draw_line(axis: Axes, rates: pd.Series, values: Sequence[np.ndarray], style: Style) -> None:
    """A moving average with its interval: `values` are the average and the interval's ends."""
    middle, low, high = values
    axis.fill_between(rates, low, high, color=style.colour, alpha=0.18, linewidth=0, zorder=2)
    axis.plot(rates, middle, color=style.colour, linestyle=style.line, lw=2.4, zorder=3)


def _draw_domain(
    axis: Axes, quantity: Quantity, points: pd.DataFrame, curve: pd.DataFrame, domain: str, style: Style
) -> None:
    """Dots, band, line and optimum of one domain; what lies outside the axis's limits is clipped."""
    line = curve[(curve["domain"] == domain) & (curve["kind"] == CURVE)]
    if style.faint:
        axis.plot(line["rate"], quantity.values(line), color=style.colour, lw=0.9, alpha=0.7, zorder=1)
        return
    cells = points[points["domain"] == domain]
    draw_dots(axis, cells, quantity.values(cells), style.colour)
    draw_line(axis, line["rate"], [quantity.values(line, suffix) for suffix in ("", "_low", "_high")], style)
    best = curve[(curve["domain"] == domain) & (curve["kind"] == quantity.optimum)]
    bottom, top = axis.get_ylim()
    best = best[(quantity.values(best) >= bottom) & (quantity.values(best) <= top)]
    axis.plot(best["rate"], quantity.values(best), quantity.marker, zorder=5, **marked(style.colour))


def marked(colour: str, size: float = 13) -> dict[str, Any]:
    """Keyword arguments of the marker of an optimum."""
    return {
        "linestyle": "none",
        "color": colour,
        "markeredgecolor": BLACK,
        "markeredgewidth": 1.4,
        "markersize": size,
    }


def legend_entries(
    points: pd.DataFrame, curve: pd.DataFrame, styles: Mapping[str, Style], marks: Mapping[str, Quantity]
) -> Iterator[Line2D]:
    """Entries of domains, of the `marks` by their labels, and of hollow dots and bands where there are any."""
    roles = dict(zip(points["domain"], points["role"], strict=True))
    for domain, style in styles.items():
        if domain in roles and not style.faint:
            yield Line2D([], [], color=style.colour, linestyle=style.line, lw=2.4, label=_label(domain, roles))
    if faint := [domain for domain, style in styles.items() if style.faint and domain in roles]:
        yield Line2D([], [], color=GREY, lw=0.9, label=f"{len(faint)} unseen domains, by name in curve.csv")
    for label, quantity in marks.items():
        yield Line2D([], [], marker=quantity.marker, label=label, **marked("#999999", 11))
    if is_open(points).any():
        hollow: dict[str, Any] = {
            "linestyle": "none",
            "markerfacecolor": "none",
            "markeredgecolor": "#666666",
        }
        yield Line2D([], [], marker="o", markersize=6, label=open_label(points), **hollow)
    if any(curve[f"{quantity.column}_low"].notna().any() for quantity in marks.values()):
        yield Line2D([], [], color="#999999", alpha=0.4, lw=9, label="95 % interval over seeds")


def open_label(points: pd.DataFrame) -> str:
    """What hollow dots say."""
    reasons = {"target out of reach": points["saturated"] != "", "control not settled": is_unsettled(points)}
    return " or ".join(reason for reason, rows in reasons.items() if rows.any())


def _label(domain: str, roles: dict[str, str]) -> str:
    return domain if domain.endswith(roles[domain]) else f"{domain} ({roles[domain]})"
