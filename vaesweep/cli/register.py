"""`vaesweep register`: a trained cell as a model of MLflow's registry."""

import argparse
from typing import Any

from vaesweep.cli.analysis_script import add_store


def register(commands: Any) -> None:
    """Add the command to those of `vaesweep`."""
    parser = commands.add_parser(
        "register",
        help="register a trained cell in MLflow's model registry",
        description="Registers a trained cell, such as the best of a sweep, with signature and example, as the next "
        "version of a model that mlflow.pyfunc loads (docs/models.md). Nothing is pickled.",
    )
    parser.add_argument(
        "name", metavar="NAME", help="a run, a cell, or EXPERIMENT[:SWEEP]:best=METRIC@DOMAIN, as elbo@valid"
    )
    parser.add_argument("--as", dest="model", required=True, metavar="MODEL", help="name of the registered model")
    add_store(parser)
    parser.set_defaults(act=_register)


def _register(arguments: argparse.Namespace) -> int:
    from vaesweep.analysis.register import register as register_model  # MLflow takes seconds to import

    registered = register_model(arguments.name, arguments.model, arguments.tracking_uri)
    what = "is now" if registered.new else "was already"
    print(f"cell {registered.cell} {what} version {registered.version} of {registered.model}")
    print(f"in Python: mlflow.pyfunc.load_model({registered.uri!r}).predict(x)")
    return 0
