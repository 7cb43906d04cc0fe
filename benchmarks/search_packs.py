"""A search in packs against one trial after the other: the same trials, by the same command, in one run, as a ratio.

Trials are asked by chance, so that both ways ask the same, and differ in packed numbers only. Ray's start, evaluation,
MLflow, tables and figures are included in both.

    python benchmarks/search_packs.py [--data nhanes:DIR] [--trials 16] [--set training.steps=1500]
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

SCRIPT = Path(__file__).resolve().parents[1] / "sweeps" / "tune_pvae.py"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
PACKED = ["model.latents=5", "training.batch_size=64"]  # what is left of the space differs within a pack


def search(words: list[str]) -> tuple[float, pd.DataFrame]:
    """Seconds of a whole command, and its trials."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | ONE_THREAD | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        command = [
            sys.executable,
            str(SCRIPT),
            *words,
            "--sampler",
            "random",
            "--confirm",
            "0",
            "--out",
            f"{folder}/out",
        ]
        start = time.perf_counter()
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        took = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(f"{shlex.join(command)} failed:\n{done.stdout}{done.stderr}")
        return took, pd.read_csv(f"{folder}/out/trials.csv")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--set", nargs="+", default=[], dest="settings", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    words = ["--data", arguments.data, "--trials", str(arguments.trials), "--set", *PACKED, *arguments.settings]
    print(f"{arguments.trials} trials, {len(os.sched_getaffinity(0))} cores")
    packs, together = search([*words, "--batch", str(arguments.trials)])
    sequence, single = search([*words, "--batch", "1", "--pack-size", "1"])
    if list(together["cell"]) != list(single["cell"]):
        raise SystemExit("the two ways have asked different trials")
    apart = (together["valid/elbo"] - single["valid/elbo"]).abs().max()
    print(f"{'':>24}  seconds  times faster by packs")
    for name, seconds in (("one after the other", sequence), ("packs", packs)):
        print(f"{name:>24}  {seconds:7.0f}  {seconds / packs:20.1f}")
    print(f"values of the objective differ by at most {apart:.2g} nats")


if __name__ == "__main__":
    main()
