"""Look at one trained separator, and listen to it: one mixture, truth, estimates, encoding, masks (Figures 4, 5 and 9).

python analysis/separation_cell.py --run RUN [--data SPEC] [--domain NAME] [--row N] [--out DIR]
"""

import argparse
import sys

from vaesweep.cli import analysis_script
from vaesweep.data.numbers import whole


def main() -> int:
    parser = analysis_script.make_parser(__doc__, out="folder for the picture and the audio files")
    analysis_script.add_run(parser)
    add = parser.add_argument
    add("--data", metavar="SPEC", help=analysis_script.DATA)
    add("--domain", metavar="NAME", help="where the mixture is from, such as noise_1; the test domain by default")
    add("--row", type=whole(), default=0, metavar="N", help="which mixture of the domain, from 0 (%(default)s)")
    return analysis_script.run_script(parser, draw)


def draw(options: argparse.Namespace, store: str) -> list[str]:
    from vaesweep.analysis import load  # takes seconds: after the options
    from vaesweep.families.emd.analysis.example import separate
    from vaesweep.families.emd.analysis.report import write_example

    cell = load.load_cell(options.run, store)
    data = load.load_cell_data(cell, load.data_spec(options.run, store, options.data))
    example = separate(cell, data, options.domain, options.row)
    written = write_example(example, f"cell {cell.cell}, {example.domain} {example.row}", options.out)
    quality = ", ".join(f"{value:.1f}" for value in example.si_sdr.tolist())
    return analysis_script.lines_of([f"SI-SDR {quality} dB"], written)


if __name__ == "__main__":
    sys.exit(main())
