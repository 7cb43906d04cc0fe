"""Every name that MLflow shows, in one place: tags, metrics, artifacts (docs/tracking.md lists them with units).

The writer (`tracking`) and the reader (`vaesweep.analysis`) share this page and nothing else.
"""

import os
from enum import StrEnum


class Tag(StrEnum):
    """Tags of parent and cell runs. Runs are found again by them, never by name."""

    KIND = "vaesweep.kind"  # Kind
    SWEEP = "vaesweep.sweep"  # identity of the sweep (parent) or of the sweep that first ran the cell
    CELL = "vaesweep.cell"  # hashed configuration of the cell
    PACK = "vaesweep.pack"  # the pack in which it last trained
    FAMILY = "vaesweep.family"
    CODE = "vaesweep.code"  # package version and git commit
    DATA = "vaesweep.data"  # fingerprint of the data
    OUTCOME = "vaesweep.outcome"  # Outcome, set when the cell ends
    CAUSE = "vaesweep.cause"  # why a cell diverged or failed, with its step
    SATURATED = "vaesweep.saturated"  # names of rates whose target could not be reached
    PARENT = "mlflow.parentRunId"


class Kind(StrEnum):
    """A run is the sweep as a whole or one of its cells."""

    SWEEP = "sweep"
    CELL = "cell"


class Outcome(StrEnum):
    """How a cell ended. Finished and diverged cells are not run again; a failed one is."""

    FINISHED = "finished"
    DIVERGED = "diverged"
    FAILED = "failed"


SETTLED = (Outcome.FINISHED, Outcome.DIVERGED)  # cells that are not run again

SWEEP_FILE = "sweep.json"  # artifact of the parent run: name, preset, command, axes, cells, domains (SweepRecord)
MODEL_FILE = "model.safetensors"  # artifact of a cell run: the trained weights
CONFIG_FILE = "config.json"  # artifact of a cell run: its canonical configuration


def store_uri() -> str:
    """Where runs are tracked: `MLFLOW_TRACKING_URI`, or an SQLite file below the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///results/mlflow.db"


def final(domain: str, metric: str) -> str:
    """Name of a final number of one domain: `test/nhanes.test/distortion`."""
    return f"test/{domain}/{metric}"


def split_final(name: str) -> tuple[str, str] | None:
    """`(domain, metric)` of a final number's name, `None` for any other metric."""
    room, _, rest = name.partition("/")
    domain, _, metric = rest.rpartition("/")
    return (domain, metric) if room == "test" and domain and metric else None
