"""A whole rate grid, three ways in one run on one machine: the same cells, steps and evaluations, as ratios.

    (a) plain Ray Tune: a trial a cell, one process each, as many at a time as there are cores
    (b) one process, one cell after the other
    (c) packs, by the project's own command: start, training, evaluation, MLflow, tables and figure included

(a) and (b) are timed on some cells and scaled: every cell takes the same number of steps. Ray's own start is left out
of (a). Neither steers a rate nor tracks anything, which is in their favour (`plain.py`).

    python benchmarks/end_to_end.py [--data nhanes:DIR] [--preset paper] [--trials 8] [--in-sequence 2]
"""

import argparse
import os
import runpy
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from plain import plain_training

from vaesweep.data.domains import DataSet
from vaesweep.family import CellConfig, family
from vaesweep.sweep.cells import expand
from vaesweep.sweep.settings import parse

CPU = torch.device("cpu")
HERE = Path(__file__).resolve().parent
SCRIPT = HERE.parent / "sweeps" / "rd_curve_pvae.py"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
Cells = list[CellConfig]


def by_ray_tune(cells: Cells, data: DataSet, trials: int) -> float:
    """Seconds of (a) for all cells, from `trials` of them."""
    import ray
    from ray import tune

    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    environment = {"env_vars": ONE_THREAD | {"PYTHONPATH": path}}
    ray.init("local", include_dashboard=False, log_to_driver=False, runtime_env=environment)

    def trial(config: dict[str, Any], data: DataSet) -> None:
        torch.set_num_threads(1)
        problem = family("pvae").problem(config["cell"], data, CPU)
        plain_training(problem, config["cell"], lambda elbo: tune.report({"elbo": elbo}))

    with tempfile.TemporaryDirectory() as notes:
        tuner = tune.Tuner(
            tune.with_parameters(trial, data=data),
            param_space={"cell": tune.grid_search(spread(cells, trials))},
            run_config=tune.RunConfig(storage_path=notes, verbose=0),
        )
        start = time.perf_counter()
        results = tuner.fit()
        took = time.perf_counter() - start
    ray.shutdown()
    if results.errors:
        raise SystemExit(f"a trial failed: {results.errors[0]}")
    return took * len(cells) / trials


def in_sequence(cells: Cells, data: DataSet, count: int) -> float:
    """Seconds of (b) for all cells, from `count` of them."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    for cell in spread(cells, count):
        plain_training(family("pvae").problem(cell, data, CPU), cell, lambda elbo: None)
    return (time.perf_counter() - start) * len(cells) / count


def by_packs(words: list[str]) -> float:
    """Seconds of (c)."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | ONE_THREAD | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        command = [sys.executable, str(SCRIPT), *words, "--out", f"{folder}/out"]
        start = time.perf_counter()
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        took = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{done.stdout}{done.stderr}")
    print("\n".join(f"    {line}" for line in done.stdout.splitlines() if line.strip()))
    return took


def spread(cells: Cells, count: int) -> Cells:
    """`count` of the cells, evenly."""
    return [cells[i * len(cells) // count] for i in range(count)]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--set", nargs="+", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--trials", type=int, default=8, help="cells that (a) is timed on")
    parser.add_argument("--in-sequence", type=int, default=2, help="cells that (b) is timed on")
    arguments = parser.parse_args()
    sweep, owner = runpy.run_path(str(SCRIPT))["SWEEP"], family("pvae")
    preset = sweep.preset(arguments.preset, arguments.data)
    cells = [cell for cell, _ in expand(owner, preset, parse(arguments.settings))]
    data = owner.load(arguments.data, cells[0])
    print(f"{len(cells)} cells of {cells[0].training.steps} steps, {len(os.sched_getaffinity(0))} cores")
    words = ["--preset", arguments.preset, "--data", arguments.data]
    packs = by_packs([*words, *(["--set", *arguments.settings] if arguments.settings else [])])
    sequence = in_sequence(cells, data, min(arguments.in_sequence, len(cells)))
    tune = by_ray_tune(cells, data, min(arguments.trials, len(cells)))
    print(f"{'':>26}  seconds  times faster by packs")
    for name, seconds in (("(a) plain Ray Tune", tune), ("(b) one after the other", sequence), ("(c) packs", packs)):
        print(f"{name:>26}  {seconds:7.0f}  {seconds / packs:20.1f}")


if __name__ == "__main__":
    main()
