"""Redraw what a sweep says of acquisition against the rate (thesis, Figures 6 and 8 to 10) from MLflow.

python analysis/acquisition_rates.py [--experiment NAME] [--sweep ID] [--data SPEC] [--out DIR]
"""

import argparse
import sys

from vaesweep.analysis import runs, trained
from vaesweep.analysis.acquisition.report import report
from vaesweep.cli import reading


def main() -> int:
    parser = reading.parser(__doc__, out="folder for the files")
    reading.add_sweep(parser, "acquisition_pvae")
    parser.add_argument("--data", metavar="SPEC", help=reading.DATA)
    return reading.say(parser, redraw)


def redraw(options: argparse.Namespace, store: str) -> list[str]:
    found = runs.read(options.experiment, store, options.sweep)
    written = report(found, trained.load_data(found, store, options.data), options.out, store)
    return reading.lines_of(written.summary, written.paths)


if __name__ == "__main__":
    sys.exit(main())
