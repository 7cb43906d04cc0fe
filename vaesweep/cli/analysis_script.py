"""Shared parts of the scripts of `analysis/`: options that name a sweep or a cell of the store, and the run.

Exit codes: 0 all is well, 2 bad input (one line on standard error).
"""

import argparse
import atexit
import gc
import pkgutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaesweep.errors import UserError
from vaesweep.uris import masked
from vaesweep.vocabulary import store_uri

if TYPE_CHECKING:
    from vaesweep.analysis.report import Report
    from vaesweep.analysis.runs import Runs
    from vaesweep.data.domains import DataSet

DATA = "what it was trained on, see docs/data.md; by default as its sweep named it"


def make_parser(about: str | None, *, out: str) -> argparse.ArgumentParser:
    """A parser of the options of every script; `out` describes the output folder, `about` is the script's docstring."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help=f"{out} (%(default)s)")
    add_store(parser)
    return parser


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the store."""
    store = "MLflow store; MLFLOW_TRACKING_URI or results/mlflow.db by default"
    parser.add_argument("--tracking-uri", metavar="URI", help=store)


def add_sweep(parser: argparse.ArgumentParser, experiment: str | None = None) -> None:
    """Add the options that name a sweep; without a default `experiment` it must be named."""
    about = "name of the MLflow experiment" + (" (%(default)s)" if experiment else "")
    parser.add_argument("--experiment", default=experiment, required=experiment is None, metavar="NAME", help=about)
    parser.add_argument("--sweep", metavar="ID", help="identity of the sweep; the newest by default")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the option that names a trained cell."""
    parser.add_argument("--run", required=True, help="trained cell: its MLflow run, or its name in cells.csv")


def run_script(
    parser: argparse.ArgumentParser,
    act: Callable[[argparse.Namespace, str], Iterable[object]],
    words: Sequence[str] | None = None,
) -> int:
    """Print the lines of `act(options, store)` and return the process's exit code."""
    options = parser.parse_args(words)
    atexit.register(gc.freeze)  # as in `script.exit_code`
    try:
        lines = list(act(options, options.tracking_uri or store_uri()))
    except UserError as error:
        print(f"error: {masked(str(error))}", file=sys.stderr)
        return 2
    print(*lines, sep="\n")
    return 0


def redraw_report(about: str | None, experiment: str, reference: str) -> int:
    """Run a whole script that writes a family's report of a tracked sweep, whose data are loaded again.

    `reference` is where the report is imported from, `module:function`: a help page does without it.
    """
    parser = make_parser(about, out="folder for the files")
    add_sweep(parser, experiment)
    parser.add_argument("--data", metavar="SPEC", help=DATA)

    def redraw(options: argparse.Namespace, store: str) -> list[str]:
        from vaesweep.analysis import load, runs

        report: Callable[[Runs, DataSet, Path, str], Report] = pkgutil.resolve_name(reference)
        sweep_runs = runs.read(options.experiment, store, options.sweep)
        written = report(sweep_runs, load.load_data(sweep_runs, store, options.data), options.out, store)
        return lines_of(written.summary, written.paths)

    return run_script(parser, redraw)


def lines_of(summary: Iterable[str], paths: Iterable[Path]) -> list[str]:
    """The lines of a report: its summary, and the paths of its files."""
    return [*summary, *(f"wrote {path}" for path in paths)]
