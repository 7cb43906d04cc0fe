"""The bound and its parts against the step size, one domain a figure (thesis study C, Figures 4 and 5).

The upper panels show the values, the lower ones their difference from training's step within cells. Kinds differ by
many times what steps change, and seeds too: only the lower panels show a change of tenths of a nat and how sure it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vaesweep.analysis.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LABEL,
    NOTE,
    ORANGE,
    PINK,
    RED,
    SKY,
    TICK,
    page,
    plain,
    save,
)
from vaesweep.families.hvae.analysis.cells import GROUP
from vaesweep.families.hvae.analysis.references import TRUE_DENSITY, Reference

COLOURS = (BLUE, RED, GREEN, ORANGE, PINK, SKY)
LINES = {"continuous": ("-", "o"), "ode_like": ((0, (5, 1.5)), "s"), "discrete": ((0, (6, 1.5, 1, 1.5)), "")}
PANELS = {
    "elbo": "−ELBO",
    "distortion": "Distortion",
    "path_rate": "Path rate",
    "initial_rate": "Initial value's rate",
}
ELBO = "elbo"
LINEAR = 0.1  # nats: smaller changes are drawn to scale, larger ones logarithmically


@dataclass(frozen=True)
class ContinuityCurves:
    """Rows of `continuity` of one domain, and the references that negative ELBOs are held against, by name."""

    table: pd.DataFrame
    references: Mapping[str, Reference]

    @property
    def groups(self) -> list[str]:
        """The groups in the table's order."""
        return list(dict.fromkeys(self.table[GROUP]))

    def colour(self, group: str) -> str:
        """The colour of one group."""
        return COLOURS[self.groups.index(group) % len(COLOURS)]

    def kind(self, group: str) -> str:
        """The kind of a group's levels."""
        return str(self.table.loc[self.table[GROUP] == group, "kind"].iloc[0])

    def line(self, group: str, part: str, columns: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Step sizes, and the values of `columns` there, the coarsest step last; of −ELBO for ELBO."""
        rows = self.table[(self.table[GROUP] == group) & (self.table["part"] == part)].sort_values("step_size")
        sign = -1 if part == ELBO else 1
        return rows["step_size"].to_numpy(float), [sign * rows[column].to_numpy(float) for column in columns]


@plain()
def draw_continuity(curves: ContinuityCurves, title: str, path: Path) -> None:
    """Draw `continuity.png` of one domain."""
    figure = page(19, 9.6, title)
    grid = figure.subplots(2, len(PANELS), sharex=True)
    for panel, (part, name) in zip(grid[0], PANELS.items(), strict=True):
        _draw_levels(panel, curves, part)
        panel.set_ylabel(f"{name} [nats per image]", fontsize=LABEL)
        _finish(panel, curves)
    for panel, (part, name) in zip(grid[1, :-1], PANELS.items(), strict=False):
        _draw_changes(panel, curves, part)
        panel.set_ylabel(f"{name}: change from\ntraining's step [nats per image]", fontsize=LABEL)
        _finish(panel, curves)
        panel.set_xlabel("Step size Δs", fontsize=LABEL)
    grid[0, -1].tick_params(labelbottom=True)
    grid[0, -1].set_xlabel("Step size Δs", fontsize=LABEL)
    grid[1, -1].axis("off")
    grid[1, -1].legend(handles=legend_handles(curves), loc="center", fontsize=LABEL, frameon=False, handlelength=3)
    save(figure, path)


def _draw_levels(panel: Axes, curves: ContinuityCurves, part: str) -> None:
    shown: list[float] = []
    bands: list[float] = []
    for group in curves.groups:
        if curves.kind(group) == "discrete" and part != ELBO:
            continue
        sizes, (value, low, high) = curves.line(group, part, ("value", "low", "high"))
        _draw_group(panel, curves, group, sizes, (value, low, high))
        shown += list(value)
        bands += [*low, *high]
    if part == ELBO:
        for name, reference in curves.references.items():
            _draw_reference(panel, name, reference.nats)
            shown.append(reference.nats)
    _limit(panel, shown, bands)


def _draw_group(
    panel: Axes,
    curves: ContinuityCurves,
    group: str,
    sizes: np.ndarray,
    values: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Draw a line against the step, or one across the panel where there are no steps; intervals as bands."""
    value, low, high = values
    colour, (line, marker) = curves.colour(group), LINES[curves.kind(group)]
    if np.isnan(sizes).all():
        panel.axhline(float(value[0]), color=colour, linestyle=line, lw=2.2, zorder=2)
        if np.isfinite(low[0]):
            panel.axhspan(float(low[0]), float(high[0]), color=colour, alpha=0.12, linewidth=0, zorder=0)
        return
    panel.fill_between(sizes, low, high, color=colour, alpha=0.18, linewidth=0, zorder=1)
    panel.plot(sizes, value, color=colour, linestyle=line, marker=marker, markersize=6, lw=2.2, zorder=3)


def _draw_changes(panel: Axes, curves: ContinuityCurves, part: str) -> None:
    panel.axhline(0, color=GREY, lw=1)
    for group in curves.groups:
        sizes, values = curves.line(group, part, ("change", "change_low", "change_high"))
        if not np.isnan(sizes).all():
            _draw_group(panel, curves, group, sizes, (values[0], values[1], values[2]))
    panel.set_yscale("symlog", linthresh=LINEAR)
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:+g}" if value else "0")
    panel.axhspan(-LINEAR, LINEAR, color=GREY, alpha=0.08, linewidth=0, zorder=0)


def _draw_reference(panel: Axes, name: str, level: float) -> None:
    is_true = name == TRUE_DENSITY
    panel.axhline(
        level, color=BLACK if is_true else GREY, linestyle=(0, (4, 2)) if is_true else "-", lw=1.8 if is_true else 1.0
    )
    if not is_true:
        place: dict[str, Any] = {"transform": panel.get_yaxis_transform(), "va": "bottom", "ha": "right"}
        panel.text(0.99, level, f"{name} {level:.2f}", fontsize=NOTE - 2, color="#444444", **place)


def _limit(panel: Axes, shown: list[float], bands: list[float]) -> None:
    """Limit the panel to all means, and to as much of the bands as leaves the means half of the height."""
    values, ends = np.array(shown)[np.isfinite(shown)], np.array(bands)[np.isfinite(bands)]
    if not len(values):
        return
    low, high = values.min(), values.max()
    height = max(high - low, 0.02 * abs(high), 1e-3)
    bottom = max(min(low, ends.min(initial=low)), low - height / 2) - 0.06 * height
    top = min(max(high, ends.max(initial=high)), high + height / 2) + 0.06 * height
    panel.set_ylim(bottom, top)


def _finish(panel: Axes, curves: ContinuityCurves) -> None:
    sizes = sorted({float(size) for size in curves.table["step_size"].dropna()})
    panel.set_xscale("log")
    panel.set_xticks(sizes, [f"1/{round(1 / size)}" for size in sizes])
    panel.minorticks_off()
    for size in curves.table.loc[curves.table["in_training"] == True, "step_size"].dropna().unique():  # noqa: E712
        panel.axvline(size, color=BLACK, linestyle=(0, (1, 2)), lw=1.4, zorder=0)
    panel.grid(alpha=0.25)
    panel.tick_params(labelsize=TICK)


def legend_handles(curves: ContinuityCurves) -> list[Line2D | Patch]:
    """The legend's entries: groups, and what is drawn beside them; published models by what they were computed of."""
    handles: list[Line2D | Patch] = []
    for group in curves.groups:
        line, marker = LINES[curves.kind(group)]
        handles.append(Line2D([], [], color=curves.colour(group), linestyle=line, marker=marker, lw=2.2, label=group))
    if curves.table["low"].notna().any():
        handles.append(Patch(color=GREY, alpha=0.3, label="95 % interval over seeds"))
    handles.append(Line2D([], [], color=BLACK, linestyle=(0, (1, 2)), lw=1.4, label="step in training"))
    if TRUE_DENSITY in curves.references:
        handles.append(Line2D([], [], color=BLACK, linestyle=(0, (4, 2)), lw=1.8, label="true density of the images"))
    published = {name: reference for name, reference in curves.references.items() if name != TRUE_DENSITY}
    for protocol in dict.fromkeys(reference.protocol for reference in published.values()):
        names = ", ".join(name for name, reference in published.items() if reference.protocol == protocol)
        handles.append(Line2D([], [], color=GREY, lw=1.0, label=f"{names}:\n{protocol}"))
    handles.append(Patch(color=GREY, alpha=0.1, label=f"changes within ±{LINEAR:g} nats to scale,\nbeyond logarithmic"))
    return handles
