"""A separated mixture as files to listen to: 16-bit WAV, each scaled to the same peak, and a table of the scales."""

from functools import partial
from pathlib import Path

import pandas as pd
import soundfile
from torch import Tensor

from vaesweep.data.writing import replace_file
from vaesweep.families.emd.analysis.example import Example

PEAK = 0.95  # of full scale
TABLE = "audio.csv"


def write_audio(example: Example, out: Path) -> tuple[Path, ...]:
    """Write mixture.wav, source_1.wav, … and estimate_1.wav, … into `out`, then audio.csv.

    audio.csv has a row a file: `scale`, by which the signal was multiplied to reach the peak (a silent one is left as
    it is), and of an estimate its SI-SDR in dB.
    """
    signals = {"mixture": example.mixture}
    signals |= {f"source_{number}": signal for number, signal in enumerate(example.sources, 1)}
    signals |= {f"estimate_{number}": signal for number, signal in enumerate(example.estimates, 1)}
    quality = {f"estimate_{number}": value for number, value in enumerate(example.si_sdr.tolist(), 1)}
    paths, rows = [], []
    for name, signal in signals.items():
        file = f"{name}.wav"
        scale = scale_of(signal)
        paths.append(replace_file(out / file, partial(_write, scale * signal, example.sample_rate)))
        rows.append({"file": file, "scale": scale, "si_sdr_db": quality.get(name)})
    table = pd.DataFrame(rows)
    return (*paths, replace_file(out / TABLE, partial(table.to_csv, index=False)))


def scale_of(signal: Tensor) -> float:
    """The factor that brings the largest sample of `signal` `[time]` to `PEAK`; 1 for silence."""
    largest = float(signal.abs().max())
    return PEAK / largest if largest > 0 else 1.0


def _write(signal: Tensor, sample_rate: int, path: Path) -> None:
    soundfile.write(path, signal.numpy(), sample_rate, subtype="PCM_16", format="WAV")
