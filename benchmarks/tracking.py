"""What tracking costs the driver: CPU milliseconds a tiny cell, in an SQLite store, without Ray and without training.

    git worktree add ../before COMMIT
    python benchmarks/tracking.py --against ../before [--cells 300] [--repeats 3]

Each cell has 55 parameters, 60 points and a file, as a partial VAE of 30 steps has; the tracker of each checkout in
turn writes all of them into a new store. What an empty sweep costs, imports and all, is taken off.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

from process_time import ROOT, Cost, cost_of, environment_of, print_costs, python, side_by_side

WRITE = """
import sys, torch
from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.sweep.cells import Cell
from vaesweep.sweep.tracking import Store, Tracker
from vaesweep.training.finished import FinishedCell

count = int(sys.argv[1])
cells = [Cell(PartialVaeCell(seed=seed), "pvae", "data", {"seed": seed}) for seed in range(count)]
store = Store("sqlite:///mlflow.db", "tracking")
record = {"sweep": "s", "name": "tracking", "family": "pvae", "preset": "tiny", "cells": []}
parent = store.open_sweep(record, {})
tags = {cell.identity: {"vaesweep.sweep": "s", "vaesweep.pack": "p", "vaesweep.code": "c"} for cell in cells}
history = {f"valid/m{i}": torch.tensor([1.0, 2.0], dtype=torch.float64) for i in range(15)}
metrics = {f"{domain}/m{i}": 1.0 for domain in ("a", "b", "c", "d", "e") for i in range(6)}
config = PartialVaeCell().model_dump(mode="json")
with Tracker(store, parent, cells, {}, tags) as tracker:
    for cell in cells:
        ended = FinishedCell(cell.identity, "pvae", config, 30, metrics, None, (), (15, 30), history, {}, {})
        tracker.ended(ended, b"x" * 20_000)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, nargs="*", default=[], metavar="DIR", help="other checkouts")
    parser.add_argument("--cells", type=int, default=300, help="that are written (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="the best counts (%(default)s)")
    options = parser.parse_args()
    checkouts = [ROOT, *(folder.resolve() for folder in options.against)]
    costs = side_by_side(checkouts, options.repeats, partial(measure, options.cells))
    print_costs(costs)
    for checkout, taken in costs.items():
        empty, full = taken["no cell"], taken[f"{options.cells} cells"]
        print(f"{checkout}: {1000 * (full.cpu - empty.cpu) / options.cells:.1f} ms CPU a cell")
    return 0


def measure(cells: int, checkout: Path) -> dict[str, Cost]:
    costs = {}
    for name, count in (("no cell", 0), (f"{cells} cells", cells)):
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder, "write.py")
            script.write_text(WRITE)
            costs[name] = cost_of(python(script, str(count)), Path(folder), environment_of(checkout))[0]
    return costs


if __name__ == "__main__":
    raise SystemExit(main())
