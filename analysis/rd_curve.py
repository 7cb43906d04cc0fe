"""Redraw a sweep's rate-distortion curve (thesis, Figure 7) and its tables from MLflow alone.

python analysis/rd_curve.py --experiment NAME [--sweep ID] [--out DIR]
"""

import argparse
import sys

from vaesweep.cli import analysis_script
from vaesweep.data.numbers import whole


def main() -> int:
    parser = analysis_script.make_parser(__doc__, out="folder for the files")
    analysis_script.add_sweep(parser)
    parser.add_argument(
        "--window", type=whole(), metavar="N", help="neighbouring cells of one seed in a moving average"
    )
    return analysis_script.run_script(parser, redraw)


def redraw(options: argparse.Namespace, store: str) -> list[str]:
    from vaesweep.analysis import report, runs  # takes seconds: after the options

    found = runs.read(options.experiment, store, options.sweep)
    written = report.write(found, options.out, options.window)
    return analysis_script.lines_of([found.title, *written.summary], written.paths)


if __name__ == "__main__":
    sys.exit(main())
