"""What the scripts of `analysis/` share: options that name a sweep or a cell of the store, and how a script ends.

Exit codes: 0 all is well, 2 bad input (one line on standard error).
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaesweep.errors import UserError
from vaesweep.vocabulary import store_uri

if TYPE_CHECKING:
    from vaesweep.analysis.report import Report
    from vaesweep.analysis.runs import Runs
    from vaesweep.data.domains import DataSet

DATA = "what it was trained on, see docs/data.md; by default as its sweep named it"


def parser(about: str | None, *, out: str) -> argparse.ArgumentParser:
    """The options of every script; `out` says what the folder is for, `about` is the script's own docstring."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help=f"{out} (%(default)s)")
    add_store(made)
    return made


def add_store(made: argparse.ArgumentParser) -> None:
    """Which store is read."""
    store = "MLflow store; MLFLOW_TRACKING_URI or results/mlflow.db by default"
    made.add_argument("--tracking-uri", metavar="URI", help=store)


def add_sweep(made: argparse.ArgumentParser, experiment: str | None = None) -> None:
    """Which sweep is read; `experiment` is the one by default, without which it must be named."""
    about = "name of the MLflow experiment" + (" (%(default)s)" if experiment else "")
    made.add_argument("--experiment", default=experiment, required=experiment is None, metavar="NAME", help=about)
    made.add_argument("--sweep", metavar="ID", help="identity of the sweep; the newest by default")


def add_run(made: argparse.ArgumentParser) -> None:
    """Which trained cell is read."""
    made.add_argument("--run", required=True, help="trained cell: its MLflow run, or its name in cells.csv")


def say(
    made: argparse.ArgumentParser,
    act: Callable[[argparse.Namespace, str], Iterable[object]],
    words: Sequence[str] | None = None,
) -> int:
    """Print the lines of `act(options, store)`; the process's exit code."""
    options = made.parse_args(words)
    try:
        lines = list(act(options, options.tracking_uri or store_uri()))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*lines, sep="\n")
    return 0


def report_again(about: str | None, experiment: str, report: "Callable[[Runs, DataSet, Path, str], Report]") -> int:
    """A whole script: write what a family's `report` says of a tracked sweep, its data loaded again."""
    from vaesweep.analysis import load, runs

    made = parser(about, out="folder for the files")
    add_sweep(made, experiment)
    made.add_argument("--data", metavar="SPEC", help=DATA)

    def redraw(options: argparse.Namespace, store: str) -> list[str]:
        found = runs.read(options.experiment, store, options.sweep)
        written = report(found, load.load_data(found, store, options.data), options.out, store)
        return lines_of(written.summary, written.paths)

    return say(made, redraw)


def lines_of(summary: Iterable[str], paths: Iterable[Path]) -> list[str]:
    """A report in lines: what it found, and where it is."""
    return [*summary, *(f"wrote {path}" for path in paths)]
