"""Look at one trained hierarchy: reconstructions, prior samples, top level, latent processes (thesis, Figures 6 to 8).

python analysis/hierarchy_cell.py --run RUN [--domain NAME] [--rows 4] [--steps N] [--tolerance T] [--out DIR]
"""

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vaesweep.cli import analysis_script
from vaesweep.data.numbers import real, whole

if TYPE_CHECKING:
    from vaesweep.families.hvae.analysis.trained import TrainedCell


def main() -> int:
    parser = analysis_script.make_parser(__doc__, out="folder for the pictures")
    analysis_script.add_run(parser)
    add = parser.add_argument
    add("--data", metavar="SPEC", help=analysis_script.DATA)
    add("--domain", metavar="NAME", help="where the images are from; the test domain by default")
    add("--rows", type=whole(), default=4, metavar="N", help="how many images are shown (%(default)s)")
    add("--steps", type=whole(), metavar="N", help="steps a level; as in training by default")
    add("--tolerance", type=real, metavar="T", help="also estimate it with adaptive steps of this tolerance")
    return analysis_script.run_script(parser, draw)


def draw(options: argparse.Namespace, store: str) -> list[str]:
    from vaesweep.analysis import load  # takes seconds: after the options
    from vaesweep.families.hvae.analysis.report import write_pictures
    from vaesweep.families.hvae.analysis.trained import restore_hierarchy

    cell = load.load_cell(options.run, store)
    data = load.load_cell_data(cell, load.data_spec(options.run, store, options.data))
    found = restore_hierarchy(cell, data, options.domain, options.steps)
    written = write_pictures(found, options.rows, f"cell {cell.cell}", options.out)
    return analysis_script.lines_of(bounds(found, options.rows, options.tolerance), written)


def bounds(cell: "TrainedCell", count: int, tolerance: float | None) -> Iterator[str]:
    from vaesweep.families.hvae.analysis.example import adaptive_estimate, reconstruct
    from vaesweep.families.hvae.analysis.trained import rows_to_show

    rows = rows_to_show(cell, count)
    how = f"{cell.steps} steps a level" if cell.steps else "its blocks"
    yield f"mean ELBO of the images shown: {reconstruct(cell, rows).elbo.mean():.2f} nats, {how}"
    if tolerance is not None:
        found = adaptive_estimate(cell, rows, tolerance).mean()
        yield f"by adaptive steps of tolerance {tolerance:g} about {found:.2f} nats: an estimate, and no bound"


if __name__ == "__main__":
    sys.exit(main())
