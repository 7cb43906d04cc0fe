"""Draw one trained cell: what it has learnt, how it acquires audiograms, and when it stops (thesis, Figures 1 to 5).

python analysis/acquisition_cell.py --run RUN [--data SPEC] [--out DIR] [--listener N]
"""

import argparse
import sys

from vaesweep.analysis import load
from vaesweep.cli import reading
from vaesweep.families.pvae.analysis.cell import figures
from vaesweep.families.pvae.analysis.cell.acquisition_sequence import MEASUREMENTS
from vaesweep.families.pvae.analysis.cell.trained import rebuild


def main() -> int:
    parser = reading.parser(__doc__, out="folder for the figures")
    reading.add_run(parser)
    add = parser.add_argument
    add("--data", metavar="SPEC", help=reading.DATA)
    add("--listener", type=int, metavar="N", help="test listener of Figures 2 and 3, from 0 (of median area)")
    stages = "number of measurements after which Figure 2 shows the listener"
    add("--measurements", type=int, nargs="+", default=MEASUREMENTS, metavar="M", help=stages)
    return reading.say(parser, draw)


def draw(options: argparse.Namespace, store: str) -> list[str]:
    cell = load.load(options.run, store)
    spec = load.spec_of(options.run, store, options.data)
    written = figures.write(rebuild(cell, spec), options.out, options.listener, options.measurements)
    return reading.lines_of(written.summary, written.paths)


if __name__ == "__main__":
    sys.exit(main())
