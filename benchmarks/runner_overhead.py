"""CPU seconds that surround training, a tiny cell, of this checkout and of others side by side.

    git worktree add ../before COMMIT
    python benchmarks/runner_overhead.py --against ../before [--cells 60] [--repeats 3]

The same sweep of tiny cells runs from each checkout in turn, each time in a new folder: user and system time of the
whole process tree, Ray's processes among them, that of its workers alone, and the wall clock. Printed are the best of
the repeats, and ratios to the first of the other checkouts.
"""

import argparse
import tempfile
from pathlib import Path

from process_time import ROOT, Cost, cost_of, environment_of, python, side_by_side

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
    checkouts = [ROOT, *(folder.resolve() for folder in options.against)]
    taken = side_by_side(checkouts, options.repeats, lambda checkout: run(checkout, options.cells))
    costs = {checkout: of_sweep[""] for checkout, of_sweep in taken.items()}
    reference = costs[checkouts[1] if len(checkouts) > 1 else checkouts[0]]
    print(f"{'checkout':<34}{'ms CPU a cell':>15}{'workers':>9}{'seconds':>9}{'ratio CPU':>11}{'ratio wall':>12}")
    for checkout, cost in costs.items():
        ratios = cost.cpu / reference.cpu, cost.wall / reference.wall
        of_cell, of_workers = (1000 * seconds / options.cells for seconds in (cost.cpu, cost.workers))
        numbers = f"{of_cell:>15.1f}{of_workers:>9.1f}{cost.wall:>9.1f}{ratios[0]:>11.2f}{ratios[1]:>12.2f}"
        print(f"{checkout!s:<34}{numbers}")
    return 0


def run(checkout: Path, cells: int) -> dict[str, Cost]:
    """The cost of one sweep."""
    seeds = f"seed=[{','.join(map(str, range(cells // 2)))}]"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(prefix="vs", dir="/tmp") as of_ray:
        command = python(checkout / "sweeps" / "rd_curve_pvae.py", "--set", *SETTINGS, seeds)
        return {"": cost_of(command, Path(folder), environment_of(checkout, RAY_TMPDIR=of_ray))[0]}


if __name__ == "__main__":
    raise SystemExit(main())
