"""vaesweep: rate sweeps of variational autoencoders, from a short script to a rate-distortion curve."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vaesweep.family.trained import Trained

__version__ = "0.2.0"

# MLflow would send who uses what of it, and reads this when it is imported. Ray's reports are off too.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def load(name: "str | os.PathLike[str]", *, tracking_uri: str | None = None) -> "Trained":
    """The trained model called `name`, ready to encode, decode, sample, reconstruct and evaluate (docs/models.md).

    `name` is the path of a finished file, for which no MLflow is needed; the id of a run; the identity of a cell;
    `EXPERIMENT:best=METRIC@DOMAIN`, the best cell of an experiment's newest sweep, DOMAIN a domain's name or its role,
    as valid; or `EXPERIMENT:SWEEP:best=METRIC@DOMAIN`. The store is `tracking_uri`, else MLFLOW_TRACKING_URI, else
    results/mlflow.db below the working directory. Nothing is unpickled.

    Raises `UserError` (`vaesweep.errors`) where there is no such cell, or no one best.
    """
    import pkgutil

    model: Trained = pkgutil.resolve_name("vaesweep.analysis.models:load")(name, tracking_uri)  # brings torch
    return model
