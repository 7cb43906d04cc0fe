"""What it costs to read a sweep of many finished cells: its curve again, and its command again with nothing to train.

    git worktree add ../before COMMIT
    python benchmarks/read_back.py --against ../before [--cells 2000 10000] [--store FOLDER] [--repeats 1]

The store is made by `make_store.py`, or is the one that it has left in FOLDER.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

from process_time import ROOT, Cost, cost_of, environment_of, print_costs, python, side_by_side


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, nargs="*", default=[], metavar="DIR", help="other checkouts")
    parser.add_argument("--cells", type=int, nargs="+", default=[2000, 10_000], help="of each store (%(default)s)")
    parser.add_argument("--store", type=Path, metavar="DIR", help="folder with a store of so many cells each, cN")
    parser.add_argument("--repeats", type=int, default=1, help="the best counts (%(default)s)")
    options = parser.parse_args()
    checkouts = [ROOT, *(folder.resolve() for folder in options.against)]
    for cells in options.cells:
        with tempfile.TemporaryDirectory() as made:
            folder = (options.store or Path(made)).resolve() / f"c{cells}"
            if not folder.exists():
                make = python(ROOT / "benchmarks" / "make_store.py", str(folder), "--cells", str(cells))
                cost_of(make, ROOT, environment_of(ROOT))
            print(f"{cells} cells")
            print_costs(side_by_side(checkouts, options.repeats, partial(measure, folder, cells)))
    return 0


def measure(folder: Path, cells: int, checkout: Path) -> dict[str, Cost]:
    from make_store import settings

    environment = environment_of(checkout)
    curve = python(checkout / "analysis" / "rd_curve.py", "--experiment", "rd_curve_pvae")
    again = python(checkout / "sweeps" / "rd_curve_pvae.py", "--set", *settings(cells))
    costs = {"analysis/rd_curve.py": cost_of(curve, folder, environment)[0]}
    costs["the same command again"], output = cost_of(again, folder, environment)
    if f"{cells} cells, {cells} done, none to train" not in output:
        raise SystemExit(f"{checkout}: the cells were not found done: {output[-2000:]}")
    return costs


if __name__ == "__main__":
    raise SystemExit(main())
