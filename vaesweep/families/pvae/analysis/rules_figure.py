"""The thesis' Figure 6 for any sweep: information curves of all acquisition rules, as they are and beside one of them.

A line is the mean over the seeds of one group's cells, a band the standard deviation over these seeds (the thesis'
choice, line 766). The right panel divides within each cell by its own greedy single best order, or by its random order
or largest variance where it has no other, so that what makes a seed better under every rule drops out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from vaesweep.analysis.style import BLACK, BLUE, GREEN, LABEL, ORANGE, PINK, RED, SKY, TICK, page, plain, save
from vaesweep.families.pvae.analysis.baselines import Baseline
from vaesweep.families.pvae.analysis.records import AcquisitionRecord

RULES = {  # colours of the thesis' Figure 6, of Okabe and Ito's palette
    "variance": (BLUE, "-", "largest variance"),
    "reduction": (SKY, "-", "expected reduction of the error"),
    "unweighted": (RED, (0, (1, 1)), "largest variance, samples unweighted"),
    "single_best": (ORANGE, "-", "greedy single best order"),
    "information": (PINK, "-.", "expected information"),
    "random": (GREEN, "--", "random order"),
}
REFERENCES = ("single_best", "random", "variance")


@dataclass(frozen=True)
class RuleCurves:
    """Curves `[replicate, M + 1]` in dB by rule, of the cells of one group and of a mixture, on one domain."""

    group: str
    domain: str
    cells: Mapping[str, np.ndarray]
    mixture: Mapping[str, np.ndarray]
    mixture_name: str = ""

    @classmethod
    def of(cls, group: str, domain: str, cells: Sequence[AcquisitionRecord], mixture: Baseline | None) -> "RuleCurves":
        """The curves of those rules that all `cells` have."""
        rules = [rule for rule in RULES if cells and all((domain, rule) in cell.curves for cell in cells)]
        own = {rule: np.stack([cell.curves[domain, rule] for cell in cells]) for rule in rules}
        of_mixture = (
            {rule: curves for (name, rule), curves in mixture.curves.items() if name == domain} if mixture else {}
        )
        return cls(group, domain, own, of_mixture, mixture.name if mixture else "")

    @property
    def reference(self) -> str | None:
        """The rule that the right panel divides by; none where there is no other to be divided."""
        return next((rule for rule in REFERENCES if rule in self.cells and len(self.cells) > 1), None)


@plain()
def draw_rule_curves(rule_curves: RuleCurves, title: str, path: Path) -> None:
    """Draw `information_curves.png`."""
    reference = rule_curves.reference
    figure = page(14.5 if reference else 8, 6.0, f"{title}: {rule_curves.group}, {rule_curves.domain}")
    axes = figure.subplots(1, 2 if reference else 1, squeeze=False)[0]
    _draw_rules(axes[0], rule_curves, None)
    axes[0].set_ylabel("RMSE of the estimate [dB]", fontsize=LABEL)
    if reference:
        _draw_rules(axes[1], rule_curves, reference)
        axes[1].set_ylabel(f"RMSE relative to the {RULES[reference][2]} [%]", fontsize=LABEL)
    for axis in axes:
        axis.set_xlabel("Measurements m", fontsize=LABEL)
        axis.tick_params(labelsize=TICK)
        axis.grid(alpha=0.25)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 * len(axes) - 1, fontsize=12)
    save(figure, path)


def _draw_rules(axis: Axes, rule_curves: RuleCurves, reference: str | None) -> None:
    for rule, curves in rule_curves.cells.items():
        colour, line, label = RULES[rule]
        values = _percent(curves, rule_curves.cells[reference]) if reference else curves
        _draw(axis, values, colour, line, f"{label} (area {_area(curves):.1f})")
    if "variance" in rule_curves.mixture:
        curves = rule_curves.mixture["variance"]
        values = _percent(curves, rule_curves.cells[reference].mean(0)) if reference else curves
        _draw(
            axis, values, BLACK, (0, (5, 2)), f"{rule_curves.mixture_name}, largest variance (area {_area(curves):.1f})"
        )


def _percent(curves: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The percentage by which `curves` lie above the `reference`; NaN where that is zero, as when all is measured."""
    ratio = np.divide(curves, reference, out=np.full(curves.shape, np.nan), where=reference > 0)
    return 100 * (ratio - 1)


def _draw(axis: Axes, values: np.ndarray, colour: str, line: object, label: str) -> None:
    m, mean = np.arange(values.shape[1]), values.mean(0)
    if len(values) > 1:
        spread = values.std(0, ddof=1)
        axis.fill_between(m, mean - spread, mean + spread, color=colour, alpha=0.18, linewidth=0)
    axis.plot(m, mean, color=colour, linestyle=line, lw=2.2, marker="o", markersize=4, label=label)


def _area(curves: np.ndarray) -> float:
    return float(curves[:, 1:].sum(-1).mean())
