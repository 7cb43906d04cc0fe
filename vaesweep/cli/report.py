"""`vaesweep report`: the page of a sweep, or of two side by side, drawn from what MLflow has now."""

import argparse
from pathlib import Path
from typing import Any

from vaesweep.cli.analysis_script import add_store
from vaesweep.vocabulary import store_uri


def register(commands: Any) -> None:
    """Add the command to those of `vaesweep`."""
    parser = commands.add_parser(
        "report",
        help="draw the page of a sweep (report.html) from its tracked runs",
        description="Draws report.html, one file to read and to pass on, and report.json with the same numbers. "
        "A sweep that still runs is drawn from the cells that have finished.",
    )
    parser.add_argument("experiment", nargs="?", metavar="EXPERIMENT", help="the sweep's experiment, as rd_curve_pvae")
    parser.add_argument("--sweep", metavar="ID", help="identity of the sweep; the one that was used last by default")
    parser.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="two sweeps on one page: each EXPERIMENT or EXPERIMENT:ID"
    )
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="folder (%(default)s)")
    add_store(parser)
    parser.set_defaults(act=lambda arguments: _report(parser, arguments))


def _report(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if (arguments.experiment is None) == (arguments.compare is None):
        parser.error("name one experiment, or two sweeps by --compare A B")
    from vaesweep.analysis import page, runs  # MLflow and pandas take seconds to import

    store = store_uri(arguments.tracking_uri)
    if arguments.compare:
        first, second = (
            runs.read(name.partition(":")[0], store, name.partition(":")[2] or None) for name in arguments.compare
        )
        paths = page.compare(first, second, arguments.out)
    else:
        sweep = runs.read(arguments.experiment, store, arguments.sweep)
        paths = page.write(sweep, arguments.out, sorted(arguments.out.glob("*.png")))
    for path in paths:
        print(f"wrote {path}")
    return 0
