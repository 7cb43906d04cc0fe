"""Look at one trained separator, and listen to it: one mixture, truth, estimates, encoding, masks (Figures 4, 5 and 9).

python analysis/separation_cell.py --run RUN [--data SPEC] [--domain NAME] [--row N] [--out DIR]
"""

import argparse
import sys

from vaesweep.analysis import trained
from vaesweep.analysis.separation.example import separate
from vaesweep.analysis.separation.report import write_example
from vaesweep.cli import reading


def main() -> int:
    parser = reading.parser(__doc__, out="folder for the picture and the audio files")
    reading.add_run(parser)
    add = parser.add_argument
    add("--data", metavar="SPEC", help=reading.DATA)
    add("--domain", metavar="NAME", help="where the mixture is from, such as noise_1; the test domain by default")
    add("--row", type=int, default=0, metavar="N", help="which mixture of the domain, from 0 (%(default)s)")
    return reading.say(parser, draw)


def draw(options: argparse.Namespace, store: str) -> list[str]:
    cell = trained.load(options.run, store)
    data = trained.reload(cell, trained.spec_of(options.run, store, options.data))
    example = separate(cell, data, options.domain, options.row)
    written = write_example(example, f"cell {cell.cell}, {example.domain} {example.row}", options.out)
    quality = ", ".join(f"{value:.1f}" for value in example.si_sdr.tolist())
    return reading.lines_of([f"SI-SDR {quality} dB"], written)


if __name__ == "__main__":
    sys.exit(main())
