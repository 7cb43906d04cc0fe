"""The best partial VAE of a sweep against Gaussian mixtures: the same rule, the same listeners, paired differences.

python analysis/acquisition_comparison.py --experiment acquisition_pvae [--samples 400] [--run CELL CELL …]
"""

import argparse
import sys

from vaesweep.cli import analysis_script
from vaesweep.data.numbers import whole
from vaesweep.errors import UserError
from vaesweep.families.pvae.cli import RULES


def main() -> int:
    parser = analysis_script.make_parser(__doc__, out="folder of comparison.csv")
    analysis_script.add_sweep(parser, "acquisition_pvae")
    chosen = "cells that differ in their seed and split only; by default validation's choice"
    parser.add_argument("--run", nargs="+", metavar="CELL", help=chosen)
    parser.add_argument("--samples", type=whole(), default=400, help="posterior samples of a prediction (%(default)s)")
    parser.add_argument("--prior-samples", type=whole(), metavar="N", help="of the prior beside them; as configured")
    parser.add_argument("--rule", choices=RULES, default=RULES[0], help="what is measured next (%(default)s)")
    return analysis_script.run_script(parser, compare)


def compare(options: argparse.Namespace, store: str) -> list[str]:
    from vaesweep.analysis import load, runs  # takes seconds: after the options
    from vaesweep.analysis.groups import grouped_table, named
    from vaesweep.families.pvae.analysis.comparison import choose, rows_of_group
    from vaesweep.families.pvae.analysis.records import split_of
    from vaesweep.families.pvae.analysis.rematch import as_markdown, compared, rematch
    from vaesweep.training.finished import FinishedCell

    found = runs.read(options.experiment, store, options.sweep)
    points = grouped_table(found)
    choice = choose(points)
    if options.run is None and choice is None:
        raise UserError("no cell of this sweep has acquired by largest variance; name cells by --run")
    names = options.run or sorted(set(rows_of_group(points, choice.best)["cell"]))
    cells: dict[str, list[FinishedCell]] = {}
    for cell in (load.load_cell(name, store) for name in names):
        cells.setdefault(split_of(cell.config["data"]), []).append(cell)
    spec = found.record.data or load.data_spec(names[0], store)
    data = {split: load.load_cell_data(own[0], spec) for split, own in cells.items()}
    table = rematch(cells, data, options.samples, options.prior_samples, options.rule)
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "comparison.csv", index=False)
    which = f"cells {' '.join(names)}" if options.run else named(*choice.best)
    return [
        found.title,
        f"{which}, {options.samples} samples, by {options.rule}",
        f"area in measurement·dB ± 95 % over seeds or fits ({compared(table)})",
        as_markdown(table),
    ]


if __name__ == "__main__":
    sys.exit(main())
