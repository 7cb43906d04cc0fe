"""A tracking store of many finished cells, as a sweep would have left it, in the time of a few.

    python benchmarks/make_store.py FOLDER --cells 10000

One cell is trained, without Ray; its points, under the names that it has, are written for all cells with other values,
straight into the tables of MLflow's own store. In FOLDER the command that is printed then finds all cells done. The
store has no artifacts but the sweep's record.
"""

import argparse
import json
import os
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mlflow.store.db.utils import create_sqlalchemy_engine
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
from sqlalchemy import insert

from vaesweep.sweep.cells import Cell, Pack, Preset, Sweep, parameters
from vaesweep.sweep.jobs import PackJob
from vaesweep.sweep.options import Options
from vaesweep.sweep.session import Session
from vaesweep.sweep.settings import parse
from vaesweep.sweep.storage import Storage, finished_name
from vaesweep.sweep.tracking import _records_of
from vaesweep.sweep.worker import run_job
from vaesweep.training import finished
from vaesweep.vocabulary import Outcome, RunKind, Tag, store_uri

TINY = [
    *("model.hidden=8", "model.features=8", "model.latents=2", "data.draws=1"),
    *("training.steps=30", "training.evaluate_every=15", "training.batch_size=16"),
]
SEEDS = 50  # of each target rate, but where there are fewer cells
AT_ONCE = 500  # cells that are inserted together


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells", type=int, default=10_000, help="finished cells (%(default)s)")
    options = parser.parse_args()
    print(make_store(options.folder, options.cells))
    return 0


def settings(cells: int) -> list[str]:
    """The words of `--set` that make so many cells: target rates times seeds."""
    targets = max(1, cells // SEEDS)
    rates = ",".join(f"{0.05 * (i + 1):g}" for i in range(targets))
    seeds = ",".join(map(str, range(cells // targets)))
    return [*TINY, f"rates.total.target=[{rates}]", f"seed=[{seeds}]"]


def make_store(folder: Path, cells: int) -> str:
    """Fill `folder`/results with so many finished cells of `rd_curve_pvae`, and return the words of its `--set`."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    Path("results").mkdir(exist_ok=True)
    words = settings(cells)
    preset = Preset({"rates.total.kind": "target"})
    sweep = Sweep("rd_curve_pvae", "pvae", lambda data: {"smoke": preset})
    session = Session(sweep, Options("smoke", "synthetic", parse(words), Path("results/rd_curve_pvae")))
    points = trained_points(session)
    tracker, parent = session.tracker(session.plan(2))
    engine = create_sqlalchemy_engine(store_uri())
    draw, now = random.Random(0), int(time.time() * 1000)
    for start in range(0, len(session.cells), AT_ONCE):
        group = session.cells[start : start + AT_ONCE]
        rows: dict[Any, list[dict[str, Any]]] = {k: [] for k in (SqlRun, SqlTag, SqlParam, SqlMetric, SqlLatestMetric)}
        for cell in group:
            domains = session.data.domains(cell.config)
            tags = {**tracker._cells[cell.identity].tags, Tag.KIND: RunKind.CELL, Tag.CELL: cell.identity}
            tags |= {Tag.PARENT: parent, Tag.OUTCOME: Outcome.FINISHED, Tag.DOMAINS: json.dumps(domains)}
            add_run(rows, session, cell, tags, now, jittered(points, draw))
        with engine.begin() as connection:
            for table, values in rows.items():
                connection.execute(insert(table), values)
    session.store.end(parent, "FINISHED")
    return " ".join(words)


def trained_points(session: Session) -> list[tuple[str, int, float, int]]:
    """All points of one cell that is trained here, as tracking writes them: name, step, value, milliseconds."""
    cell = session.cells[0]
    storage = Storage(str(Path("results/template").resolve()))
    configs = {cell.identity: cell.config.model_dump_json()}
    data = session.data.of(cell.config)
    job = PackJob(Pack((cell,)).identity, cell.family, configs, storage.uri, domains=session.data.domains(cell.config))
    run_job(job, data, lambda event: None, torch.device("cpu"))
    name = finished_name(cell.identity)
    records = _records_of(finished.from_bytes(storage.read(name), name))
    return [(p.name, p.step, p.value, p.time) for record in records for p in record.points()]


def jittered(points: list[tuple[str, int, float, int]], draw: random.Random) -> Iterator[tuple[str, int, float, int]]:
    """The points with other values, a few per cent off."""
    for name, step, value, moment in points:
        settled = name == "train/settled"
        yield name, step, value if settled else value * draw.gauss(1.0, 0.05), moment


def add_run(
    rows: dict[Any, list[dict[str, Any]]],
    session: Session,
    cell: Cell,
    tags: dict[str, str],
    now: int,
    points: Iterator[tuple[str, int, float, int]],
) -> None:
    run = uuid.uuid4().hex
    name = " ".join(f"{key.split('.')[-1]}={value}" for key, value in cell.values.items())
    rows[SqlRun].append(
        {
            "run_uuid": run,
            "name": name,
            "source_type": "UNKNOWN",
            "source_name": "",
            "entry_point_name": "",
            "user_id": "unknown",
            "status": "FINISHED",
            "start_time": now,
            "end_time": now,
            "source_version": "",
            "lifecycle_stage": "active",
            "artifact_uri": f"{Path('results/mlruns').resolve()}/{run}/artifacts",
            "experiment_id": int(session.store.id),
        }
    )
    tags = tags | {"mlflow.runName": name}
    rows[SqlTag] += [{"run_uuid": run, "key": str(key), "value": str(value)} for key, value in tags.items()]
    rows[SqlParam] += [
        {"run_uuid": run, "key": key, "value": str(value)} for key, value in parameters(cell.config).items()
    ]
    latest: dict[str, dict[str, Any]] = {}
    for key, step, value, moment in points:
        row = {"run_uuid": run, "key": key, "value": value, "timestamp": moment, "step": step, "is_nan": False}
        if value != value:
            row |= {"value": 0.0, "is_nan": True}
        rows[SqlMetric].append(row)
        latest[key] = row
    rows[SqlLatestMetric] += latest.values()


if __name__ == "__main__":
    raise SystemExit(main())
