"""Sweeps as a driver leaves them in an MLflow store while it runs, with points at times that a test chooses."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from vaesweep.vocabulary import SWEEP_FILE, Outcome, RunKind, Tag, final

BEGAN = 1_700_000_000  # seconds since 1970, when the commands of these sweeps begin
DOMAINS = {"toy.train": "train", "toy.valid": "valid", "toy.test": "test"}
TARGET = "rates.total.target"


@dataclass
class TrackedSweep:
    """A sweep of cells, each with its values on the axes; every cell takes `steps` steps, which the record says."""

    client: MlflowClient
    name: str
    cells: Mapping[str, Mapping[str, Any]]
    steps: int | None = 1000
    sweep: str = "aaaa"
    began: float = BEGAN
    command: str = "sweeps/toy.py --preset small"
    run_id: str = ""
    runs: dict[str, str] = field(default_factory=dict)

    def open(self, folder: Path | None = None) -> "TrackedSweep":
        """The same, with its parent run, whose record lies among the artifacts."""
        found = self.client.get_experiment_by_name(self.name)
        place = folder.as_uri() if folder else None
        self.experiment = found.experiment_id if found else self.client.create_experiment(self.name, place)
        tags = {Tag.KIND: RunKind.SWEEP, Tag.SWEEP: self.sweep, Tag.FAMILY: "pvae", Tag.BEGAN: moment(self.began)}
        run = self.client.create_run(
            self.experiment, start_time=int(1000 * self.began), tags={str(k): str(v) for k, v in tags.items()}
        )
        self.run_id = run.info.run_id
        self.client.log_batch(self.run_id, params=[Param("preset", "small")])
        self.log_record()
        return self

    def log_record(self) -> None:
        more = {} if self.steps is None else {"steps": self.steps}
        record = {
            "sweep": self.sweep,
            "name": self.name,
            "family": "pvae",
            "preset": "small",
            "command": self.command,
            "axes": {TARGET: [1.0, 2.0]},
            "cells": [{"cell": cell, "values": values, **more} for cell, values in self.cells.items()],
            "domains": [{"name": name, "role": role, "rows": 10} for name, role in DOMAINS.items()],
        }
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, SWEEP_FILE)
            path.write_text(json.dumps(record))
            self.client.log_artifact(self.run_id, str(path))

    def train(self, cell: str, points: Sequence[tuple[float, int]], pack: str = "pack", **params: object) -> str:
        """Log points of a cell, as (seconds since the sweep began, step), in a run that is made if need be."""
        if cell not in self.runs:
            tags = {Tag.KIND: RunKind.CELL, Tag.CELL: cell, Tag.SWEEP: self.sweep, Tag.PACK: pack}
            start = int(1000 * (self.began + points[0][0]))
            run = self.client.create_run(
                self.experiment, start_time=start, tags={str(k): str(v) for k, v in tags.items()}
            )
            self.runs[cell] = run.info.run_id
            own = {"training.steps": 1000, "training.evaluate_every": 100} | params
            self.client.log_batch(self.runs[cell], params=[Param(key, str(value)) for key, value in own.items()])
        at = [(int(1000 * (self.began + second)), step) for second, step in points]
        metrics = [Metric(name, 1.0, t, step) for t, step in at for name in ("train/elbo", "valid/rate")]
        self.client.log_batch(self.runs[cell], metrics=metrics)
        return self.runs[cell]

    def end(
        self,
        cell: str,
        second: float,
        step: int = 1000,
        outcome: Outcome = Outcome.FINISHED,
        rate: float = 1.0,
        cause: str = "",
        settled: float = 1.0,
        saturated: str = "",
    ) -> None:
        """End a cell that trains."""
        run, at = self.runs[cell], int(1000 * (self.began + second))
        metrics = [Metric("train/settled", settled, at, step)]
        if outcome is Outcome.FINISHED:
            parts = {"rate": rate, "distortion": 20.0, "elbo": -20.0 - rate}
            metrics += [Metric(final(d, part), value, at, step) for d in DOMAINS for part, value in parts.items()]
        tags = {Tag.OUTCOME: outcome, Tag.CAUSE: cause, Tag.SATURATED: saturated}
        self.client.log_batch(run, metrics=metrics, tags=[RunTag(str(k), str(v)) for k, v in tags.items() if v])
        self.client.set_terminated(run, "FINISHED" if outcome is Outcome.FINISHED else "FAILED", at)

    def close(self, second: float, status: str = "FINISHED") -> None:
        """End the sweep's command."""
        self.client.set_terminated(self.run_id, status, int(1000 * (self.began + second)))

    def now(self, second: float) -> datetime:
        """The time so many seconds after the command began."""
        return datetime.fromtimestamp(self.began + second, UTC)


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def grid(targets: Sequence[float], seeds: int) -> dict[str, dict[str, Any]]:
    """Cells of every target and seed, by name."""
    return {f"{target:g}-{seed}": {TARGET: target, "seed": seed} for target in targets for seed in range(seeds)}
