"""Draw one trained cell: what it has learnt, how it acquires audiograms, and when it stops (thesis, Figures 1 to 5).

python analysis/acquisition_cell.py --run RUN [--data SPEC] [--out DIR] [--listener N]
"""

import argparse
import sys

from vaesweep.cli import analysis_script
from vaesweep.data.numbers import whole


def main() -> int:
    parser = analysis_script.make_parser(__doc__, out="folder for the figures")
    analysis_script.add_run(parser)
    add = parser.add_argument
    add("--data", metavar="SPEC", help=analysis_script.DATA)
    add("--listener", type=whole(), metavar="N", help="test listener of Figures 2 and 3, from 0 (of median area)")
    stages = "number of measurements after which Figure 2 shows the listener"
    add("--measurements", type=whole(), nargs="+", metavar="M", help=stages)
    return analysis_script.run_script(parser, draw)


def draw(options: argparse.Namespace, store: str) -> list[str]:
    from vaesweep.analysis import load  # takes seconds: after the options
    from vaesweep.families.pvae.analysis.cell import figures
    from vaesweep.families.pvae.analysis.cell.acquisition_sequence import MEASUREMENTS
    from vaesweep.families.pvae.analysis.cell.trained import restore_cell

    cell = load.load_cell(options.run, store)
    spec = load.data_spec(options.run, store, options.data)
    written = figures.write(
        restore_cell(cell, spec), options.out, options.listener, options.measurements or MEASUREMENTS
    )
    return analysis_script.lines_of(written.summary, written.paths)


if __name__ == "__main__":
    sys.exit(main())
