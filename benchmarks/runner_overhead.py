"""CPU seconds that surround training, a tiny cell, of this checkout and of others side by side.

    git worktree add ../before COMMIT
    python benchmarks/runner_overhead.py --against ../before [--cells 60] [--repeats 3]

The same sweep of tiny cells runs from each checkout in turn, each time in a new folder: user and system time of the
whole process tree, Ray's processes among them, and the wall clock. Printed are the best of the repeats, and ratios to
the first of the other checkouts.
"""

import argparse
import ctypes
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
BECOME_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: processes whose parent has died become this one's children
SETTINGS = [
    *("model.hidden=8", "model.features=8", "model.latents=2", "data.draws=1"),
    *("training.steps=30", "training.evaluate_every=15", "training.batch_size=16", "rates.total.target=[0.5,2.0]"),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, nargs="*", default=[], metavar="DIR", help="other checkouts")
    parser.add_argument("--cells", type=int, default=60, help="of each sweep, in two packs (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="the best counts (%(default)s)")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(BECOME_SUBREAPER, 1)
    checkouts = [ROOT, *(folder.resolve() for folder in options.against)]
    times: dict[Path, list[tuple[float, float]]] = {checkout: [] for checkout in checkouts}
    for _ in range(options.repeats):
        for checkout in checkouts:
            times[checkout].append(run(checkout, options.cells))
    best = {checkout: tuple(min(part) for part in zip(*taken, strict=True)) for checkout, taken in times.items()}
    reference = best[checkouts[1] if len(checkouts) > 1 else checkouts[0]]
    print(f"{'checkout':<40}{'ms CPU a cell':>15}{'seconds':>10}{'ratio CPU':>12}{'ratio wall':>12}")
    for checkout, (cpu, wall) in best.items():
        ratios = cpu / reference[0], wall / reference[1]
        print(f"{checkout!s:<40}{1000 * cpu / options.cells:>15.1f}{wall:>10.1f}{ratios[0]:>12.2f}{ratios[1]:>12.2f}")
    return 0


def run(checkout: Path, cells: int) -> tuple[float, float]:
    """CPU seconds of the process tree, and wall-clock seconds, of one sweep."""
    seeds = f"seed=[{','.join(map(str, range(cells // 2)))}]"
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "PYTHONPATH": str(checkout),
            "RAY_TMPDIR": tempfile.mkdtemp(prefix="vs", dir="/tmp"),
        }
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [sys.executable, str(checkout / "sweeps" / "rd_curve_pvae.py"), "--set", *SETTINGS, seeds]
        before, started = _cpu(), time.monotonic()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        wall = time.monotonic() - started
        if done.returncode:
            raise SystemExit(f"{checkout}: {done.stderr[-2000:]}")
        _reap()
        return _cpu() - before, wall


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reap() -> None:
    """Wait for what has outlived the command, so that its time counts."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.1)
        except ChildProcessError:
            return


if __name__ == "__main__":
    raise SystemExit(main())
