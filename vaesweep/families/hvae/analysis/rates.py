"""The rate of a hierarchy split into the initial value's and the levels': hierarchy_rates.csv and its figure."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vaesweep.analysis.groups import POINT, REGIME
from vaesweep.analysis.intervals import t_interval
from vaesweep.analysis.style import BLACK, BLUE, GREEN, LABEL, ORANGE, PINK, RED, SKY, TICK, page, plain, save
from vaesweep.data.domains import Role
from vaesweep.families.hvae.analysis.cells import Hierarchies
from vaesweep.families.hvae.models.names import INITIAL

OF_RATE = "rate."
COLUMNS = [REGIME, POINT, "domain", "role", "rate", "part", "value", "low", "high", "share", "n_seeds"]
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, RED)
MARKERS = "osD^vP"


def split_rates(cells: Hierarchies) -> pd.DataFrame:
    """Mean and interval over seeds of every single rate at every point of the rate axis, nats an image.

    `rate` is the mean total on the test domain, `share` the part of the total on the domain itself.
    """
    points, records = cells.judged, []
    parts = [name for name in map(str, points) if name.startswith(OF_RATE)]
    for (regime, point, domain, role), rows in points.groupby([REGIME, POINT, "domain", "role"], sort=False):
        total = rows["own_rate"].astype(float).mean()
        for part in parts:
            values = rows.groupby("seed")[part].mean().astype(float)
            if values.notna().any():
                level = t_interval(values.to_numpy())
                share = level.mean / total if total > 0 else float("nan")
                about = (regime, point, domain, role, rows["rate"].mean(), part.removeprefix(OF_RATE))
                records.append((*about, level.mean, level.low, level.high, share, level.n))
    return pd.DataFrame(records, columns=COLUMNS)


def have_curve(table: pd.DataFrame) -> bool:
    """Whether any regime of `split_rates` has more than one rate."""
    return len(table) > 0 and bool(table.groupby(REGIME)[POINT].nunique().max() > 1)


@plain()
def draw_rates(table: pd.DataFrame, title: str, path: Path) -> None:
    """Draw `hierarchy_rates.png`: of the test domain's rows, a column a regime; rates above, their shares below."""
    table = table[table["role"] == Role.TEST]
    regimes = list(dict.fromkeys(table[REGIME]))
    figure = page(2.2 + 5.4 * len(regimes), 9.4, title)
    grid = figure.subplots(2, len(regimes), sharex=True, sharey="row", squeeze=False, height_ratios=(1.2, 1))
    for (above, below), regime in zip(grid.T, regimes, strict=True):
        rows = table[table[REGIME] == regime]
        _draw_parts(above, rows)
        _draw_shares(below, rows)
        above.set_title(regime, fontsize=LABEL + 1)
        below.set_xlabel("Total rate [nats per image]", fontsize=LABEL)
        for panel in (above, below):
            panel.set_xscale("log")
            panel.tick_params(labelsize=TICK)
    grid[0, 0].set_ylabel("Rate [nats per image]", fontsize=LABEL)
    grid[1, 0].set_ylabel("Share of the total rate", fontsize=LABEL)
    handles = {
        label: handle for panel in grid[0] for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=LABEL)
    save(figure, path)


def _draw_parts(panel: Axes, rows: pd.DataFrame) -> None:
    """Draw a line a rate, and their total, dotted; bands are intervals over seeds."""
    for number, (part, part_rows) in enumerate(rows.groupby("part", sort=False)):
        part_rows, colour = part_rows.sort_values("rate"), COLOURS[number % len(COLOURS)]
        low = part_rows["low"].clip(
            lower=part_rows["value"] / 10
        )  # an interval may reach below zero, and the axis cannot
        panel.fill_between(part_rows["rate"], low, part_rows["high"], color=colour, alpha=0.18, linewidth=0)
        look: dict[str, Any] = {"color": colour, "marker": MARKERS[number % len(MARKERS)], "markersize": 6, "lw": 2.2}
        panel.plot(part_rows["rate"], part_rows["value"], label=_label(str(part)), **look)
    total = np.sort(rows["rate"].unique())
    panel.plot(total, total, color=BLACK, linestyle=(0, (1, 2)), lw=1.6, label="total")
    panel.set_yscale("log")
    panel.set_ylim(bottom=max(1e-3, 0.5 * float(rows["value"].clip(lower=1e-3).min())))
    panel.grid(alpha=0.25)


def _draw_shares(panel: Axes, rows: pd.DataFrame) -> None:
    """Draw the shares stacked, the initial value's below."""
    rates = rows.sort_values("rate")["rate"].unique()
    bottom = np.zeros(len(rates))
    for number, (_, part_rows) in enumerate(rows.groupby("part", sort=False)):
        share = part_rows.set_index("rate")["share"].reindex(rates).fillna(0).to_numpy(float)
        colour = COLOURS[number % len(COLOURS)]
        panel.fill_between(rates, bottom, bottom + share, color=colour, alpha=0.75, linewidth=0)
        bottom = bottom + share
        panel.plot(rates, bottom, color="white", lw=1.2)
    panel.set_ylim(0, 1)


def _label(part: str) -> str:
    return "initial value" if part == INITIAL else part.replace("_", " ")
