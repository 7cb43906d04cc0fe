"""The thesis' Figure 3 for any sweep of separators: what a separator says of its quality against what it is.

A row is one model by one score: the best variational and the best deterministic one by the SI-SDR that they predict,
and by the mixture's ELBO the best with the mixture task, a variational one where there is one. Best is by what they
achieve on validation mixtures. A column is a domain, a dot a mixture, of all seeds.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from vaesweep.analysis.figures import ordinary_range
from vaesweep.analysis.style import BLACK, BLUE, GREEN, LABEL, NOTE, ORANGE, TICK, page, plain, save
from vaesweep.families.emd.analysis.uncertainty import ELBO, SI_SDR, Evidence, Scores

DOMAINS = 4  # columns at most
LABELS = {SI_SDR: "predicted SI-SDR [dB]", ELBO: "ELBO of the mixture [nats per sample]"}
ACHIEVED = {SI_SDR: "achieved SI-SDR [dB]", ELBO: "achieved SI-SDRi [dB]"}
COLOURS = (BLUE, ORANGE, GREEN)
MARGIN = 0.06


@dataclass(frozen=True)
class Row:
    """One row of the figure: a model, a score, and the `evidence` on every domain that is shown."""

    model: str
    score: str
    evidence: dict[str, Evidence]


def rows(scores: Scores, variational: Collection[str], valid: str, domains: Collection[str]) -> list[Row]:
    """The rows that there are data for; `variational` are the models with a rate."""
    quality = {
        model: {score: own[valid].mean("achieved") for score, own in by_score.items() if valid in own}
        for model, by_score in scores.items()
    }
    chosen: list[Row] = []
    for score, groups in ((SI_SDR, (True,)), (SI_SDR, (False,)), (ELBO, (True, False))):
        known = {group: [m for m in scores if score in quality[m] and (m in variational) is group] for group in groups}
        candidates = next((models for models in known.values() if models), [])
        if candidates:
            best = max(candidates, key=lambda model: quality[model][score])
            shown = {domain: scores[best][score][domain] for domain in domains if domain in scores[best][score]}
            chosen += [Row(best, score, shown)] if shown else []
    return chosen


@plain()
def draw_uncertainty(table: list[Row], domains: Collection[str], level: float, title: str, path: Path) -> None:
    """Draw the `rows` on at most four `domains`; `level` is the share that intervals are to hold."""
    shown = list(domains)[:DOMAINS]
    figure = page(2.0 + 3.9 * len(shown), 1.6 + 3.7 * len(table), title)
    grid = figure.subplots(len(table), len(shown), sharex="row", sharey="row", squeeze=False)
    for row, colour, panels in zip(table, COLOURS, grid, strict=False):
        for domain, panel in zip(shown, panels, strict=True):
            if domain in row.evidence:
                _draw(panel, row.evidence[domain], row.score, colour, domain)
        _limit(panels, row)
        panels[0].set_ylabel(f"{row.model}\n{ACHIEVED[row.score]}", fontsize=LABEL)
        for panel in panels:
            panel.set_xlabel(LABELS[row.score], fontsize=LABEL)
            panel.grid(alpha=0.25)
            panel.tick_params(labelsize=TICK)
    if any(row.score == SI_SDR for row in table):
        figure.legend(handles=[*_entries(level)], loc="outside lower center", ncols=4, fontsize=NOTE)
    save(figure, path)


def _draw(panel: Axes, evidence: Evidence, score: str, colour: str, domain: str) -> None:
    for own in evidence.by_seed.values():
        for mask, face in ((~own.unlike, colour), (own.unlike, "none")):
            panel.scatter(own.score[mask], own.achieved[mask], s=16, c=face, edgecolors=colour, alpha=0.6, lw=0.9)
    correlation = evidence.correlation
    text = f"r = {correlation.mean:.2f} ({correlation.low:.2f} to {correlation.high:.2f})"
    if score == SI_SDR:
        half, coverage = evidence.mean("half_width"), evidence.coverage
        panel.axline((0, 0), slope=1, color=BLACK, lw=1.6)
        for sign in (-1, 1):
            panel.axline((0, sign * half), slope=1, color=BLACK, lw=1.1, linestyle=(0, (4, 3)))
        text += f"\n{100 * coverage.mean:.0f} % within ({100 * coverage.low:.0f} to {100 * coverage.high:.0f})"
        text += f", {100 * evidence.mean('unlike'):.0f} % unlike"
    panel.set_title(f"{domain}\n{text}", fontsize=NOTE)


def _limit(panels: np.ndarray, row: Row) -> None:
    for name, limit in (("score", panels[0].set_xlim), ("achieved", panels[0].set_ylim)):
        values = [getattr(seed, name) for own in row.evidence.values() for seed in own.by_seed.values()]
        ends = np.array([ordinary_range(own) for own in values])
        low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
        margin = MARGIN * max(high - low, 1e-3)
        limit(low - margin, high + margin)


def _entries(level: float) -> Iterator[Line2D]:
    yield Line2D([], [], color=BLACK, lw=1.6, label="achieved as predicted")
    yield Line2D([], [], color=BLACK, lw=1.1, linestyle=(0, (4, 3)), label=f"interval for {100 * level:g} %")
    dot: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 6, "markeredgecolor": BLUE}
    yield Line2D([], [], markerfacecolor=BLUE, label="mixture", **dot)
    yield Line2D([], [], markerfacecolor="none", label="mixture unlike those of validation", **dot)
