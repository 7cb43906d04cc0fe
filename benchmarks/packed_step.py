"""Step time of the packed loop against one model at a time, side by side in one run, as ratios; with memory.

Compares, with one thread: a plain PyTorch loop (`plain.py`) over one cell, and the packed loop at several pack sizes,
as it is and compiled. What counts is the time a cell and step. Memory is what a step of the pack takes beside the data.

    python benchmarks/packed_step.py [--sizes 1 8 64] [--compile] [--device cuda] [--figure packed_step.png]
"""

import argparse
import csv
import ctypes
import sys
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from plain import plain_step

from vaesweep.family import CellConfig, Family, family, family_names
from vaesweep.rates import TargetRate
from vaesweep.training.memory import Meter
from vaesweep.training.problem import Problem
from vaesweep.training.timing import Clock, clock, step_seconds

SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
MIB = 2**20
DATA = {"pvae": "synthetic", "emd": "pulses:conditions=none"}
SETTINGS: dict[str, dict[str, Any]] = {"pvae": {}, "emd": {"training": {"batch_size": 4}}}  # over the defaults
COLUMNS = ["family", "way", "cells", "ms_a_step", "ms_a_cell_and_step", "times_faster", "mib"]


def cells(owner: Family, count: int, settings: dict[str, Any]) -> list[CellConfig]:
    """As in a sweep: targets and seeds differ."""
    plain = owner.config.model_validate(settings)
    targets = [0.125 + 15 * i / count for i in range(count)]
    return [
        plain.model_copy(update={"seed": i % 3, "rates": {"total": TargetRate(target=target)}})
        for i, target in enumerate(targets)
    ]


def plain_seconds(problem: Problem, config: CellConfig, now: Clock, steps: int) -> float:
    """Seconds of a plain step, the best of a few blocks of `steps`."""
    _, step = plain_step(problem, config)
    marks = []
    for block in range(5):
        marks.append(now())
        for number in range(steps):
            step(block * steps + number)
    return min(b - a for a, b in pairwise(marks[1:])) / steps


def measured(owner: Family, sizes: list[int], device: torch.device, *, compiled: bool) -> Iterator[dict[str, Any]]:
    """The rows of the table, as they come."""
    of = partial(cells, owner, settings=SETTINGS[owner.name])
    config = of(1)[0]
    problem, now = owner.problem(config, owner.load(DATA[owner.name], config), device), clock(device)
    plain = plain_seconds(problem, config, now, 10)
    yield row(owner, "plain PyTorch", 1, plain, plain, 0)
    step_seconds(problem, of(1), now)  # what is allocated once is not the first size's
    for way in (False, True) if compiled else (False,):
        for size in sizes:
            if way:
                step_seconds(problem, of(size), now, compiled=True)  # compiles
            meter = fresh_meter(device)
            seconds = step_seconds(problem, of(size), now, compiled=way)
            yield row(owner, "compiled" if way else "as it is", size, seconds, plain, meter.peak())


def fresh_meter(device: torch.device) -> Meter:
    """A meter that counts from now: what earlier sizes have left in the allocator's hands goes back first."""
    if device.type == "cpu" and sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    meter = Meter(device)
    meter.restart()
    return meter


def row(owner: Family, way: str, size: int, seconds: float, plain: float, taken: int) -> dict[str, Any]:
    """One row of the table."""
    numbers = [1e3 * seconds, 1e3 * seconds / size, plain * size / seconds, taken / MIB]
    return dict(zip(COLUMNS, [owner.name, way, size, *numbers], strict=True))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Cells and steps a second, and memory, against the size of the pack."""
    import matplotlib.pyplot as plt

    figure, (speed, memory) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in rows:
        groups.setdefault(f"{one['family']}, {one['way']}", []).append(one)
    for name, group in groups.items():
        sizes = [one["cells"] for one in group]
        rates = [1e3 / one["ms_a_cell_and_step"] for one in group]
        if len(group) == 1:
            speed.axhline(rates[0], color="0.4", linestyle="--", label=name)
            continue
        speed.plot(sizes, rates, marker="o", label=name)
        memory.plot(sizes, [one["mib"] for one in group], marker="o", label=name)
    speed.set(xscale="log", yscale="log", xlabel="cells in the pack", ylabel="cells × steps a second")
    memory.set(xscale="log", yscale="log", xlabel="cells in the pack", ylabel="memory of a step (MiB)")
    speed.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print the table, and draw it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="pvae", choices=family_names())
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--compile", action="store_true", help="measure compiled steps too")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--figure", type=Path, help="PNG to draw; the table goes beside it as CSV")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("  ".join(f"{name:>18}" for name in COLUMNS))
    rows = []
    for one in measured(
        family(arguments.family), arguments.sizes, torch.device(arguments.device), compiled=arguments.compile
    ):
        rows.append(one)
        print("  ".join(f"{value:>18.3f}" if isinstance(value, float) else f"{value:>18}" for value in one.values()))
    if arguments.figure:
        draw(rows, arguments.figure)
        with arguments.figure.with_suffix(".csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
