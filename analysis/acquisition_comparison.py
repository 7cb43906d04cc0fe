"""The best partial VAE of a sweep against Gaussian mixtures: the same rule, the same listeners, paired differences.

python analysis/acquisition_comparison.py --experiment acquisition_pvae [--samples 400] [--run CELL CELL …]
"""

import argparse
import sys
from pathlib import Path

from vaesweep.analysis import runs, trained
from vaesweep.analysis.acquisition.comparison import choose, of_group
from vaesweep.analysis.acquisition.groups import grouped_table, named
from vaesweep.analysis.acquisition.kept import load_data
from vaesweep.analysis.acquisition.rematch import as_markdown, rematch
from vaesweep.errors import UserError
from vaesweep.sweep.vocabulary import store_uri


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--experiment", default="acquisition_pvae", help="name of the MLflow experiment (%(default)s)")
    add("--sweep", help="identity of the sweep; the newest by default")
    add("--run", nargs="+", metavar="CELL", help="cells that differ in their seed; by default validation's choice")
    add("--samples", type=int, default=400, help="posterior samples of a prediction (%(default)s)")
    add("--out", type=Path, default=Path("results"), metavar="DIR", help="folder of comparison.csv (%(default)s)")
    add("--tracking-uri", metavar="URI", help="MLflow store; MLFLOW_TRACKING_URI or results/mlflow.db by default")
    options = parser.parse_args()
    store = options.tracking_uri or store_uri()
    try:
        found = runs.read(options.experiment, store, options.sweep)
        points = grouped_table(found)
        choice = choose(points)
        if options.run is None and choice is None:
            raise UserError("no cell of this sweep has acquired by largest variance; name cells by --run")
        names = options.run or sorted(set(of_group(points, choice.best)["cell"]))
        table = rematch([trained.load(name, store) for name in names], load_data(found, store), options.samples)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / "comparison.csv", index=False)
    print(f"{'cells ' + ' '.join(names) if options.run else named(*choice.best)}, {options.samples} samples")
    print("area in measurement·dB ± 95 % over seeds or fits (difference to the mixture of 20: 95 % over listeners)")
    print(as_markdown(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
