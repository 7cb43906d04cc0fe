"""The latent process of one image, level by level: state, drifts, diffusion and path rate (thesis, Figure 7).

A colour is a latent number, one channel of one latent pixel, and keeps it from left to right: of each level the
`SHOWN` of most path rate, or where none has any, evenly spaced ones. A global initial value has numbers of its own.
"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor

from vaesweep.analysis.style import BLACK, BLUE, GREEN, LABEL, NOTE, ORANGE, PINK, TICK, legend, page, plain, save
from vaesweep.families.hvae.analysis.example import Process
from vaesweep.families.hvae.models.continuous import LevelPath

COLOURS = (BLUE, ORANGE, GREEN, PINK)
SHOWN = len(COLOURS)
COLUMNS = ("Posterior drift", "Prior drift", "Diffusion", "Path rate")
REACH = 3.5  # standard deviations of densities


@plain()
def draw_processes(process: Process, title: str, path: Path) -> Path:
    """Draw `processes.png`: a row a level, the topmost first."""
    levels = len(process.traces)
    figure = page(21, 1.6 + 3.5 * levels, title)
    grid = figure.subplots(levels, 2 + len(COLUMNS), squeeze=False, sharex="col", width_ratios=(0.5, *[1.0] * 5))
    for number, (panels, trace) in enumerate(zip(grid, process.traces, strict=True)):
        shown = numbers_to_show(trace)
        _draw_level(panels[1:], trace, shown)
        panels[1].set_ylabel(f"Level {number}\nState z", fontsize=LABEL)
        if number == 0:
            panels[1].sharey(panels[0])
            _draw_initial(panels[0], process, initial_to_show(process, shown))
        else:
            panels[0].axis("off")
    for panel in grid[-1, 1:]:
        panel.set_xlabel("Depth s", fontsize=LABEL)
    for panel, name in zip(grid[0, 1:], ("State", *COLUMNS), strict=True):
        panel.set_title(name, fontsize=LABEL + 1)
    for panel in grid.flat:
        panel.tick_params(labelsize=TICK)
        panel.grid(alpha=0.25)
    return save(figure, path)


def numbers_to_show(trace: LevelPath) -> list[int]:
    """The latent numbers of a level that are drawn, as indices into its flattened state."""
    rate = trace.rate[0].mean(0).flatten()
    count = min(SHOWN, len(rate))
    if float(rate.max()) > 0:
        return sorted(rate.topk(count).indices.tolist())
    return np.linspace(0, len(rate) - 1, count).round().astype(int).tolist()


def initial_to_show(process: Process, shown: list[int]) -> list[int]:
    """The numbers of the initial value that are drawn: those `shown` of level 0; of a global one those of most rate."""
    if process.value.shape == process.traces[0].states.shape[2:]:
        return shown
    rate = 0.5 * (process.mean.square() + process.std.square() - 1) - process.std.log()
    return sorted(rate.flatten().topk(min(SHOWN, rate.numel())).indices.tolist())


def rate_along(trace: LevelPath) -> tuple[np.ndarray, np.ndarray]:
    """The whole level's path rate `[step + 1]`, nats per unit of depth, and its integral so far, nats.

    The integral is the sum over steps of the rate where each begins, as Euler's solvers have it.
    """
    rate = trace.rate[0].flatten(1).sum(-1).double()
    steps = len(rate) - 1
    along = torch.cat([rate.new_zeros(1), rate[:-1].cumsum(0) / steps])
    return rate.numpy(), along.numpy()


def _draw_level(panels: np.ndarray, trace: LevelPath, shown: list[int]) -> None:
    depth = np.linspace(0, 1, trace.states.shape[1])
    sigma = trace.sigma.expand_as(trace.states)
    for panel, values in zip(panels, (trace.states, trace.posterior, trace.prior, sigma), strict=False):
        for line, colour in zip(_lines(values, shown), COLOURS, strict=False):
            panel.plot(depth, line, color=colour, lw=1.6)
    drifts = _lines(torch.cat([trace.posterior, trace.prior]).flatten(0, 1)[None], shown)
    margin = 0.06 * max(float(np.ptp(drifts)), 1e-3)
    for panel in panels[1:3]:  # one scale, to be compared
        panel.set_ylim(float(drifts.min()) - margin, float(drifts.max()) + margin)
    value = float(trace.sigma)
    panels[3].set_ylim(0, 1.5 * value)
    panels[3].text(0.5, value * 1.05, f"σ = {value:.3g}, of all", ha="center", va="bottom", fontsize=NOTE)
    _draw_rate(panels[4], depth, trace)


def _draw_rate(panel: Axes, depth: np.ndarray, trace: LevelPath) -> None:
    rate, along = rate_along(trace)
    panel.plot(depth, rate, color=BLACK, lw=1.8, label="rate [nats/depth]")
    panel.plot(depth, along, color=BLACK, lw=1.8, linestyle=(0, (4, 2)), label="integral [nats]")
    panel.set_ylim(0, 1.35 * max(float(rate.max()), float(along.max()), 1e-3))
    panel.legend(fontsize=TICK, loc="upper left", frameon=False, borderaxespad=0.2)
    panel.text(0.98, 0.04, f"{along[-1]:.3g} nats", ha="right", fontsize=NOTE, transform=panel.transAxes)


def _draw_initial(panel: Axes, process: Process, shown: list[int]) -> None:
    """Draw densities of the initial value, sideways: its prior, each number's posterior, and the value."""
    mean, std, value = (tensor.flatten().numpy()[shown] for tensor in (process.mean, process.std, process.value))
    low, high = min(-REACH, (mean - REACH * std).min()), max(REACH, (mean + REACH * std).max())
    z = np.linspace(low, high, 1000)
    panel.plot(_density(z, 0.0, 1.0), z, color=BLACK, lw=1.8)
    for number, (m, s, v, colour) in enumerate(zip(mean, std, value, COLOURS, strict=False)):
        density = _density(z, m, s)
        panel.plot(density, z, color=colour, lw=1.6, zorder=2 + number)
        panel.plot([0], [v], marker=">", color=colour, markersize=9, clip_on=False, zorder=6)
    panel.invert_xaxis()
    panel.set_ylabel("Initial value z", fontsize=LABEL)
    panel.set_xlabel("Density", fontsize=LABEL)
    named = {"prior": BLACK, "posterior, in colour": BLUE}
    handles = [Line2D([], [], color=colour, lw=1.8, label=name) for name, colour in named.items()]
    panel.xaxis.set_tick_params(labelbottom=True)
    legend(panel, columns=1, handles=handles)


def _density(z: np.ndarray, mean: float, std: float) -> np.ndarray:
    return np.exp(-0.5 * ((z - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))


def _lines(values: Tensor, shown: list[int]) -> np.ndarray:
    """The `shown` numbers `[shown, step + 1]` of the first of `values` `[batch, step + 1, latents, height, width]`."""
    return values[0].flatten(1)[:, shown].T.numpy()
