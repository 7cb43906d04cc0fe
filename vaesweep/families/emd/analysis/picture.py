"""A page about one separated mixture: spectrograms, latent variables and signals (thesis, Figures 4, 5 and 9).

From top to bottom spectrograms of truth and estimates, the encoding and what the masks leave of it, the masks, and some
milliseconds of the signals; from left to right the mixture and its sources.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.signal import stft

from vaesweep.analysis.style import BLACK, BLUE, LABEL, ORANGE, PINK, RED, TICK, legend, page, plain, save
from vaesweep.families.emd.analysis.example import Example

WINDOW, HOP = 0.032, 0.004  # s, of the spectrograms
RANGE = 60.0  # dB, below the loudest of the mixture
DETAIL = 0.05  # s, as in Figure 4
DECADES = 3.0  # of an encoding's size
COLOURS = (RED, BLUE, ORANGE, PINK)
TRUTH, ESTIMATES, ENCODINGS, MASKS, SIGNALS = range(5)
_FLAT: dict[str, Any] = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
ROWS = ("Truth\nfrequency [kHz]", "Estimate\nfrequency [kHz]", "Encoding\nchannel", "Mask\nchannel", "Signal")


@plain()
def draw_example(example: Example, title: str, path: Path) -> None:
    """Draw the page of one mixture."""
    speakers = len(example.sources)
    figure = page(2.0 + 4.4 * (1 + speakers), 13.5, title)
    grid = figure.subplots(len(ROWS), 1 + speakers, squeeze=False, height_ratios=(1, 1, 1, 1, 0.9))
    for number, name in enumerate(["mixture", *(f"source {speaker + 1}" for speaker in range(speakers))]):
        grid[0, number].set_title(name, fontsize=LABEL)
    _draw_spectrograms(figure, grid, example)
    _draw_latents(figure, grid, example)
    _draw_signals(grid[SIGNALS], example)
    _write_numbers(grid[ESTIMATES, 0], example)
    for row, label in enumerate(ROWS):
        grid[row, 1 if row in (ESTIMATES, MASKS) else 0].set_ylabel(label, fontsize=LABEL)
    for axis in grid.flat:
        axis.tick_params(labelsize=TICK)
    save(figure, path)


def spectrogram(signal: np.ndarray, sample_rate: int) -> np.ndarray:
    """Power in dB `[frequency, time]` of a signal `[time]`, from 0 Hz to half the sample rate."""
    length = min(round(WINDOW * sample_rate), len(signal))
    hop = min(round(HOP * sample_rate), length)
    _, _, coefficients = stft(signal, sample_rate, nperseg=length, noverlap=length - hop, boundary="even")
    return 20 * np.log10(np.abs(coefficients) + 1e-10)


def order_of_channels(encoding: np.ndarray) -> np.ndarray:
    """Channels of `encoding` `[K, frames]` in an order that has alike ones together, by clustering (Ward's)."""
    return leaves_list(linkage(encoding, "ward")) if len(encoding) > 1 else np.arange(len(encoding))


def detail_of(sources: np.ndarray, length: int) -> slice:
    """The `length` samples in which the quietest of `sources` `[speaker, time]` is loudest."""
    energy = np.cumsum(np.pad(sources**2, ((0, 0), (1, 0))), axis=1)
    length = min(length, sources.shape[1])
    start = int(np.argmax((energy[:, length:] - energy[:, :-length]).min(0)))
    return slice(start, start + length)


def _draw_spectrograms(figure: Figure, grid: np.ndarray, example: Example) -> None:
    truth = [example.mixture, *example.sources]
    powers = [spectrogram(signal.numpy(), example.sample_rate) for signal in [*truth, *example.fitted]]
    top = float(powers[0].max())
    extent = (0.0, example.seconds, 0.0, example.sample_rate / 2000)
    panels = [*grid[TRUTH], *grid[ESTIMATES][1:]]
    for axis, power in zip(panels, powers, strict=True):
        image = axis.imshow(power - top, vmin=-RANGE, vmax=0, cmap="magma", extent=extent, **_FLAT)
    _bar(figure, image, grid[TRUTH], "dB re loudest of mixture")
    _bar(figure, image, grid[ESTIMATES], "dB re loudest of mixture")


def _draw_latents(figure: Figure, grid: np.ndarray, example: Example) -> None:
    """Draw sizes of encodings on a logarithmic scale, masks on a linear one, channels in one order."""
    encodings = np.stack([example.encoding.numpy(), *(example.masks * example.encoding).numpy()])
    top = max(float(np.quantile(np.abs(encodings), 0.999)), 1e-12)
    sizes = np.log10(np.clip(np.abs(encodings) / top, 10**-DECADES, 1)) + np.log10(top)
    order = order_of_channels(sizes[0])
    extent = (0.0, example.seconds, 0.5, len(order) + 0.5)
    for axis, size in zip(grid[ENCODINGS], sizes, strict=True):
        image = axis.imshow(size[order], vmin=np.log10(top) - DECADES, vmax=np.log10(top), extent=extent, **_FLAT)
    _bar(figure, image, grid[ENCODINGS], "log₁₀ |z|, and times mask")
    masks = example.masks.numpy()
    for axis, mask in zip(grid[MASKS][1:], masks, strict=True):
        highest = max(float(np.quantile(masks, 0.99)), 1e-6)
        image = axis.imshow(mask[order], vmin=0, vmax=highest, cmap="cividis", extent=extent, **_FLAT)
    _bar(figure, image, grid[MASKS][1:], "mask")
    _draw_encoding_rate(figure, grid[MASKS, 0], example, order, extent)
    for axis in grid[MASKS]:
        axis.set_xlabel("time [s]", fontsize=LABEL)


def _draw_encoding_rate(
    figure: Figure, axis: Axes, example: Example, order: np.ndarray, extent: tuple[float, float, float, float]
) -> None:
    """Draw the rate of every element of the encoding."""
    if example.encoding_rate is None:
        axis.axis("off")
        axis.text(0.5, 0.5, "deterministic encoding:\nno rate", ha="center", va="center", fontsize=LABEL)
        return
    rate = example.encoding_rate.numpy()[order]
    highest = max(float(np.quantile(rate, 0.99)), 1e-6)
    image = axis.imshow(rate, vmin=0, vmax=highest, cmap="magma", extent=extent, **_FLAT)
    axis.set_ylabel("Encoding rate\nchannel", fontsize=LABEL)
    _bar(figure, image, axis, "nats")


def _draw_signals(axes: np.ndarray, example: Example) -> None:
    """Draw the mixture, and every source in black under its estimate."""
    sources, fitted = example.sources.numpy(), example.fitted.numpy()
    shown = detail_of(sources, round(DETAIL * example.sample_rate))
    time = np.arange(shown.start, shown.stop) / example.sample_rate
    axes[0].plot(time, example.mixture.numpy()[shown], color=BLACK, lw=0.9)
    for number, axis in enumerate(axes[1:]):
        axis.plot(time, sources[number, shown], color=BLACK, lw=2.2, alpha=0.45, label="truth")
        colour = COLOURS[number % len(COLOURS)]
        axis.plot(time, fitted[number, shown], color=colour, lw=1.2, label="estimate, best gain")
        legend(axis)
    for axis in axes:
        axis.set_xlabel(f"time [s], {1000 * DETAIL:g} ms", fontsize=LABEL)
        axis.set_xlim(time[0], time[-1])
        axis.grid(alpha=0.25)


def _write_numbers(axis: Axes, example: Example) -> None:
    """Write SI-SDRs and rates where an estimate of the mixture would be."""
    after, before = example.si_sdr.tolist(), example.si_sdr_before.tolist()
    lines = [
        f"source {n + 1}: SI-SDR {a:.1f} dB, was {b:.1f}" for n, (a, b) in enumerate(zip(after, before, strict=True))
    ]
    lines += [f"rate of {name}: {nats / example.seconds:.3g} nats per second" for name, nats in example.rates.items()]
    axis.axis("off")
    axis.text(0.5, 0.5, "\n".join(lines), ha="center", va="center", fontsize=LABEL, transform=axis.transAxes)


def _bar(figure: Figure, image: AxesImage, axes: Any, label: str) -> None:
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=14)
    bar.set_label(label, fontsize=TICK)
