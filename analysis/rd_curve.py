"""Redraw a sweep's rate-distortion curve (thesis, Figure 7) and its tables from MLflow alone.

python analysis/rd_curve.py --experiment NAME [--sweep ID] [--out DIR]
"""

import argparse
import sys
from pathlib import Path

from vaesweep.analysis import report, runs
from vaesweep.errors import UserError
from vaesweep.sweep.vocabulary import store_uri


def main() -> int:
    parser = argparse.ArgumentParser(description="Redraw a sweep's curve, gaps and figure from its tracked runs.")
    parser.add_argument("--experiment", required=True, help="name of the MLflow experiment")
    parser.add_argument("--sweep", help="identity of the sweep; the newest by default")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for the files (default: results)")
    parser.add_argument("--tracking-uri", help="MLflow store; MLFLOW_TRACKING_URI or results/mlflow.db by default")
    parser.add_argument("--window", type=int, help="neighbouring cells of one seed in a moving average")
    options = parser.parse_args()
    try:
        found = runs.read(options.experiment, options.tracking_uri or store_uri(), options.sweep)
        written = report.write(found, options.out, options.window)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*written.summary, *(f"wrote {path}" for path in written.paths), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
