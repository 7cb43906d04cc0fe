"""Redraw what a sweep says of acquisition against the rate (thesis, Figures 6 and 8 to 10) from MLflow.

python analysis/acquisition_rates.py [--experiment NAME] [--sweep ID] [--data SPEC] [--out DIR]
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from vaesweep.analysis import runs
from vaesweep.analysis.acquisition import kept
from vaesweep.analysis.acquisition.report import report
from vaesweep.errors import UserError
from vaesweep.sweep.vocabulary import store_uri


def main() -> int:
    parser = argparse.ArgumentParser(description="Redraw a sweep's curves, table and figures of acquisition.")
    add = parser.add_argument
    add("--experiment", default="acquisition_pvae", help="name of the MLflow experiment (%(default)s)")
    add("--sweep", help="identity of the sweep; the newest by default")
    add("--data", metavar="SPEC", help="what it was trained on, see docs/data.md; by default as its record names it")
    add("--out", type=Path, default=Path("results"), metavar="DIR", help="folder for the files (%(default)s)")
    add("--tracking-uri", metavar="URI", help="MLflow store; MLFLOW_TRACKING_URI or results/mlflow.db by default")
    options = parser.parse_args()
    store = options.tracking_uri or store_uri()
    try:
        found = runs.read(options.experiment, store, options.sweep)
        if options.data:
            found = replace(found, record=replace(found.record, data=options.data))
        written = report(found, kept.load_data(found, store), options.out, store)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*written.summary, *(f"wrote {path}" for path in written.paths), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
