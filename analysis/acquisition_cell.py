"""Draw one trained cell: what it has learnt, how it acquires audiograms, and when it stops (thesis, Figures 1 to 5).

python analysis/acquisition_cell.py --run RUN [--data SPEC] [--out DIR] [--listener N]
"""

import argparse
import sys
from pathlib import Path

from vaesweep.analysis import trained
from vaesweep.analysis.cell import figures
from vaesweep.analysis.cell.acquisition_sequence import MEASUREMENTS
from vaesweep.analysis.cell.rebuilt import rebuild
from vaesweep.errors import UserError
from vaesweep.sweep.vocabulary import store_uri


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the figures of one trained cell of a sweep of partial VAEs.")
    add = parser.add_argument
    add("--run", required=True, help="trained cell: its MLflow run, or its name in cells.csv")
    add("--data", metavar="SPEC", help="what it was trained on, see docs/data.md; by default as its sweep named it")
    add("--out", type=Path, default=Path("results"), metavar="DIR", help="folder for the figures (%(default)s)")
    add("--listener", type=int, metavar="N", help="test listener of Figures 2 and 3, from 0 (of median area)")
    stages = "number of measurements after which Figure 2 shows the listener"
    add("--measurements", type=int, nargs="+", default=MEASUREMENTS, metavar="M", help=stages)
    add("--tracking-uri", metavar="URI", help="MLflow store; MLFLOW_TRACKING_URI or results/mlflow.db by default")
    options = parser.parse_args()
    store = options.tracking_uri or store_uri()
    try:
        cell = trained.load(options.run, store)
        spec = options.data or trained.data_of(options.run, store)
        if not spec:
            raise UserError(f"the sweep of cell {cell.cell} does not say what it read; give it as --data SPEC")
        written = figures.write(rebuild(cell, spec), options.out, options.listener, options.measurements)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*written.summary, *(f"wrote {path}" for path in written.paths), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
