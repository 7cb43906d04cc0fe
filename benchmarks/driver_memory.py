"""Memory of the driver by the number of cells that wait, and by the size of the data. Nothing is trained.

    python benchmarks/driver_memory.py [--cells 100 1000 4000] [--data 100 400]

Each number in a process of its own: MiB of resident memory beyond what it has before, after each of its steps: cells
planned, tracker and jobs made, and every cell finished while the tracking store does not answer. Then for images of so
many MiB the most that it had, and what it holds once workers have the data, by who reads them (`--data-by`).
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
import torch

from vaesweep.family import family
from vaesweep.sweep.cells import Cell, Preset, Sweep
from vaesweep.sweep.data_sets import DataSets
from vaesweep.sweep.options import Options
from vaesweep.sweep.runner import job_of
from vaesweep.sweep.session import Session
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell

MIB = 2**20
EVALUATIONS, METRICS, DOMAINS = 80, 15, ("train", "valid", "test", "near", "far")
SIDE = 28  # pixels of an image of MNIST
SIZE = 256  # to which they are padded
SETTINGS = {"rates.total.kind": "target"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="*", default=[100, 1000, 4000], help="that wait (%(default)s)")
    parser.add_argument("--data", type=int, nargs="*", default=[100, 400], help="MiB of images (%(default)s)")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        what, *rest = options.child
        print(json.dumps(of_cells(int(rest[0])) if what == "cells" else of_data(Path(rest[0]), rest[1])))
        return 0
    if options.cells:
        print(f"{'cells':>8}{'planned':>12}{'jobs':>12}{'waiting':>12}{'KiB a waiting cell':>22}")
    for count in options.cells:
        planned, jobs, waiting = in_a_process("cells", str(count))
        each = 1024 * waiting / count
        print(f"{count:>8}{planned:>12.1f}{jobs:>12.1f}{waiting:>12.1f}{each:>22.1f}", flush=True)
    if options.data:
        print(f"{'MiB':>8}{'read by':>12}{'at most':>12}{'held':>12}")
    for size in options.data:
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder), size)
            for by in ("driver", "workers"):
                most, held = in_a_process("data", folder, by)
                print(f"{size:>8}{by:>12}{most:>12.1f}{held:>12.1f}", flush=True)
    return 0


def in_a_process(*words: str) -> list[float]:
    """What a process of its own has measured: what another one freed would count as free."""
    command = [sys.executable, __file__, "--child", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    values: list[float] = json.loads(done.stdout.splitlines()[-1])
    return values


def of_cells(count: int, first: bool = True) -> tuple[float, float, float]:
    """MiB that `count` cells take once they are planned, as jobs, and where all have ended and none is tracked."""
    if first:
        of_cells(2, first=False)  # whatever is imported or cached once
    with tempfile.TemporaryDirectory() as name:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{name}/mlflow.db"
        axes = {"rates.total.target": [0.5, 2.0], "seed": list(range(count // 2))}
        sweep = Sweep("memory", "pvae", lambda data: {"smoke": Preset(SETTINGS, axes)})
        before = resident()
        session = Session(sweep, Options("smoke", "synthetic", out=Path(name)))
        plan = session.plan(2)
        planned = resident() - before
        tracker, _ = session.tracker(plan)  # its thread is not started, as if the store never answered
        jobs = [job_of(pack, session.data, session.storage, session.options) for pack in plan.packs]
        made = resident() - before
        model = family("pvae").model(session.cells[0].config)
        weights = {key: value.detach() for key, value in model.named_parameters()}
        for cell in session.cells:
            one = ended(cell, weights, session.data.domains(cell.config))
            tracker.ended(one, finished.to_bytes(one))
        waiting = resident() - before
        del jobs
        return planned, made, waiting


def ended(cell: Cell, weights: dict[str, torch.Tensor], domains: object) -> FinishedCell:
    """A finished cell with a history and metrics as a sweep of the partial VAE has them."""
    return FinishedCell(
        cell=cell.identity,
        family="pvae",
        config=cell.config.model_dump(mode="json"),
        step=100 * EVALUATIONS,
        metrics={f"{domain}/metric_{i}": float(i) for domain in DOMAINS for i in range(METRICS)},
        diverged=None,
        saturated=(),
        evaluated=tuple(range(0, 100 * EVALUATIONS, 100)),
        history={f"valid/metric_{i}": torch.rand(EVALUATIONS, dtype=torch.float64) for i in range(METRICS)},
        weights=weights,
        kept={},
        domains=dict(domains),  # type: ignore[call-overload]
    )


def write_images(folder: Path, size: int) -> None:
    """MNIST's files, with as many images as are `size` MiB once padded."""
    random, images = np.random.default_rng(0), size * MIB // SIZE**2
    for name, count in (("train-images-idx3-ubyte", images * 6 // 7), ("t10k-images-idx3-ubyte", images // 7)):
        header = np.array([0x803, count, SIDE, SIDE], dtype=">u4").tobytes()
        pixels = random.integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8)
        (folder / name).write_bytes(header + pixels.tobytes())


def of_data(folder: Path, by: str) -> tuple[float, float]:
    """MiB that the data sets of images take at most, and once workers have them."""
    owner = family("hvae")
    config = owner.config.model_validate(
        {
            "data": {"size": SIZE, "binarisation": "threshold"},
            "model": {"size": SIZE, "observation": "bernoulli", "levels": 2, "finest": 16},
        }
    )
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    sets = DataSets(owner, f"mnist:{folder}", [config], by)  # type: ignore[arg-type]
    (mark,) = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    sets.let_go()
    return int(mark) / 1024 - before, resident() - before


def resident() -> float:
    """MiB of this process that are in memory, less what is free within it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return float(psutil.Process().memory_info().rss) / MIB


if __name__ == "__main__":
    raise SystemExit(main())
