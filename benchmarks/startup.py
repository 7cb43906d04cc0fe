"""What it costs to be helped or refused: help pages, a wrong option, a wrong preset, a wrong setting.

    git worktree add ../before COMMIT
    python benchmarks/startup.py --against ../before [--repeats 5]

Each command runs from this checkout and from the others in turn; the least of the repeats counts.
"""

import argparse
import tempfile
from pathlib import Path

from process_time import ROOT, Cost, cost_of, environment_of, print_costs, python, side_by_side

COMMANDS = {
    "rd_curve_pvae --help": ("sweeps/rd_curve_pvae.py", "--help"),
    "rd_curve_vitasnet --help": ("sweeps/rd_curve_vitasnet.py", "--help"),
    "tune_pvae --help": ("sweeps/tune_pvae.py", "--help"),
    "analysis/rd_curve --help": ("analysis/rd_curve.py", "--help"),
    "rd_curve_pvae, wrong option": ("sweeps/rd_curve_pvae.py", "--no-such-option"),
    "rd_curve_pvae, wrong preset": ("sweeps/rd_curve_pvae.py", "--preset", "no"),
    "rd_curve_pvae, wrong setting": ("sweeps/rd_curve_pvae.py", "--set", "training.no=1"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, nargs="*", default=[], metavar="DIR", help="other checkouts")
    parser.add_argument("--repeats", type=int, default=5, help="the best counts (%(default)s)")
    options = parser.parse_args()
    print_costs(side_by_side([ROOT, *(folder.resolve() for folder in options.against)], options.repeats, measure))
    return 0


def measure(checkout: Path) -> dict[str, Cost]:
    with tempfile.TemporaryDirectory() as folder:
        return {
            name: cost_of(python(checkout / script, *words), Path(folder), environment_of(checkout), codes=(0, 2))[0]
            for name, (script, *words) in COMMANDS.items()
        }


if __name__ == "__main__":
    raise SystemExit(main())
