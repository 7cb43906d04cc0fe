"""Look at one trained hierarchy: reconstructions, prior samples, top level, latent processes (thesis, Figures 6 to 8).

python analysis/hierarchy_cell.py --run RUN [--data SPEC] [--domain NAME] [--rows 4] [--steps N] [--out DIR]
"""

import argparse
import sys

from vaesweep.analysis import trained
from vaesweep.analysis.hierarchy.opened import opened
from vaesweep.analysis.hierarchy.report import write_pictures
from vaesweep.cli import reading
from vaesweep.families import family


def main() -> int:
    parser = reading.parser(__doc__, out="folder for the pictures")
    reading.add_run(parser)
    add = parser.add_argument
    add("--data", metavar="SPEC", help=reading.DATA)
    add("--domain", metavar="NAME", help="where the images are from; the test domain by default")
    add("--rows", type=int, default=4, metavar="N", help="how many images are shown (%(default)s)")
    add("--steps", type=int, metavar="N", help="steps a level; as in training by default")
    return reading.say(parser, draw)


def draw(options: argparse.Namespace, store: str) -> list[str]:
    cell = trained.load(options.run, store)
    owner = family(cell.family)
    data = owner.load(trained.spec_of(options.run, store, options.data), owner.config.model_validate(cell.config))
    found = opened(cell, data, options.domain, options.steps)
    return reading.lines_of([], write_pictures(found, options.rows, f"cell {cell.cell}", options.out))


if __name__ == "__main__":
    sys.exit(main())
