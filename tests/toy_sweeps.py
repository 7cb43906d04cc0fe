"""Made-up sweeps with known answers: as frames, and as runs in a temporary MLflow store."""

import itertools
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from vaesweep.analysis.runs import DomainRecord, Runs, SweepRecord
from vaesweep.data.domains import Role
from vaesweep.vocabulary import SWEEP_FILE, Outcome, RunKind, Tag, final

DOMAINS = {"toy.train": Role.TRAIN, "toy.valid": Role.VALID, "toy.test": Role.TEST, "elsewhere": Role.UNSEEN}
SHIFT = {"toy.train": 0.0, "toy.valid": 0.5, "toy.test": 1.0, "elsewhere": 6.0}  # nats of distortion
TARGET = "rates.total.target"


def distortion(rate: float, domain: str) -> float:
    """A parabola with its least distortion at 6 nats: planted so that both optima are known."""
    return (rate - 6.0) ** 2 / 4 + 20 + SHIFT[domain]


def numbers(rate: float, domain: str, noise: float = 0.0) -> dict[str, float]:
    value = distortion(rate, domain) + noise
    return {"rate": rate, "distortion": value, "elbo": -value - rate, "rmse_db": 5 + SHIFT[domain] / 2}


def record(cells: dict[str, dict[str, Any]], sweep: str = "aaaa") -> SweepRecord:
    axes = list(next(iter(cells.values())))
    values = {axis: list(dict.fromkeys(cell[axis] for cell in cells.values())) for axis in axes}
    domains = tuple(DomainRecord(name, role) for name, role in DOMAINS.items())
    return SweepRecord(sweep, "toy sweep", "toy", "small", "vaesweep run toy", values, cells, domains)


def made_up(
    targets: list[float],
    seeds: int,
    outcomes: dict[str, Outcome] | None = None,
    noise: float = 0.05,
    extra: dict[str, list[Any]] | None = None,
) -> Runs:
    """A sweep as frames: every target, seed and `extra` value; one draw of noise a seed, alike on all domains."""
    shift = np.random.default_rng(7).normal(scale=noise, size=seeds)
    axes = {TARGET: targets, "seed": list(range(seeds)), **(extra or {})}
    cells = {
        "-".join(map(str, values)): dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
    }
    outcome = {cell: (outcomes or {}).get(cell, Outcome.FINISHED) for cell in cells}
    rows = [
        {"cell": cell, "outcome": str(outcome[cell]), "cause": "", "saturated": "", **values}
        for cell, values in cells.items()
    ]
    finals = [
        (cell, domain, metric, value)
        for cell, values in cells.items()
        for domain in DOMAINS
        for metric, value in numbers(values[TARGET], domain, shift[values["seed"]]).items()
        if outcome[cell] != Outcome.FAILED
    ]
    frame = pd.DataFrame(finals, columns=["cell", "domain", "metric", "value"])
    return Runs(record(cells), "parent", pd.DataFrame(rows), frame)


def of_variants(variants: Collection[str], seeds: int, domains: Mapping[str, Role], rows: int) -> Runs:
    """A sweep of separators in which every variant has every seed, `<variant>-<seed>`, and all numbers are one."""
    listed = {f"{v}-{s}": {"variant": v, "seed": s} for v, s in itertools.product(variants, range(seeds))}
    cells = [
        {"cell": cell, "outcome": "finished", "cause": "", "saturated": "", **place} for cell, place in listed.items()
    ]
    finals = [(*place, 1.0) for place in itertools.product(listed, domains, ("rate", "distortion", "elbo"))]
    records = tuple(DomainRecord(name, role, rows) for name, role in domains.items())
    axes = {"variant": list(variants), "seed": list(range(seeds))}
    frame = pd.DataFrame(finals, columns=["cell", "domain", "metric", "value"])
    own = SweepRecord("aaaa", "toy", "emd", "small", "command", axes, listed, records)
    return Runs(own, "parent", pd.DataFrame(cells), frame)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """URI of a fresh SQLite store that holds one experiment, `toy`, with three sweeps.

    `aaaa` (older) and `bbbb` (newest) share cell `0.5-0`; of `bbbb`, one cell diverged, one was never
    started, and one has an older failed run beside its finished one. `cccc`, the oldest, has no cells.
    """
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("toy", artifact_location=(folder / "artifacts").as_uri())
    log_parent(client, experiment, record({"lost": {TARGET: 9.0, "seed": 0}}, "cccc"), 1, folder)
    older = {"0.5-0": {TARGET: 0.5, "seed": 0}}
    log_parent(client, experiment, record(older, "aaaa"), 2, folder)
    newer = {f"{target}-{seed}": {TARGET: target, "seed": seed} for target in (0.5, 4.0, 8.0) for seed in (0, 1)}
    log_parent(client, experiment, record(newer, "bbbb"), 3, folder)
    log_cell(client, experiment, "4.0-0", None, Outcome.FAILED, 4)
    for order, (cell, values) in enumerate(newer.items()):
        if cell == "0.5-1":
            continue
        ended = Outcome.DIVERGED if cell == "8.0-1" else Outcome.FINISHED
        rate = values[TARGET] if ended is Outcome.FINISHED else None
        log_cell(client, experiment, cell, rate, ended, 5 + order, "total" if cell == "8.0-0" else "")
    log_cell(client, experiment, "of another sweep", 1.0, Outcome.FINISHED, 99)
    return uri


def log_parent(client: MlflowClient, experiment: str, sweep: SweepRecord, start: int, folder: Path) -> None:
    run = client.create_run(experiment, start_time=start, tags={Tag.KIND: RunKind.SWEEP, Tag.SWEEP: sweep.sweep})
    content = {
        **{key: getattr(sweep, key) for key in ("sweep", "name", "family", "preset", "command", "axes")},
        "cells": [{"cell": cell, "values": values} for cell, values in sweep.cells.items()],
        "domains": [{"name": domain.name, "role": domain.role} for domain in sweep.domains],
    }
    path = folder / SWEEP_FILE
    path.write_text(json.dumps(content))
    client.log_artifact(run.info.run_id, str(path))


def log_cell(
    client: MlflowClient,
    experiment: str,
    cell: str,
    rate: float | None,
    outcome: Outcome,
    start: int,
    saturated: str = "",
) -> None:
    tags = {Tag.KIND: RunKind.CELL, Tag.CELL: cell, Tag.OUTCOME: outcome, Tag.SATURATED: saturated}
    run = client.create_run(experiment, start_time=start, tags=tags)
    client.log_metric(run.info.run_id, "train/distortion", 1.0)
    for domain in DOMAINS if rate is not None else ():
        for metric, value in numbers(rate or 0.0, domain).items():
            client.log_metric(run.info.run_id, final(domain, metric), value)


@pytest.fixture
def sweep_of() -> Callable[..., Runs]:
    return made_up


def acquisition_numbers(rate: float, domain: str, noise: float, lowered: float) -> dict[str, float]:
    """Planted: the smallest area at 3 nats, the smallest offset at 2, an error of 7 dB at the stop at 3."""
    area = (rate - 3.0) ** 2 + 60 + SHIFT[domain] + noise - lowered
    offset = (rate - 2.0) ** 2 / 10 + 1.5 + noise / 10
    return {
        "area_rmse.variance": area,
        "area_rmse.single_best": area + 1 + noise / 10,
        "area_rmse.random": area + 6 - noise / 10,
        "area_unexplained.variance": 500 + area,
        "stop_offset.uncertainty": offset,
        "stop_offset.measurements": offset + 0.5 + noise / 10,
        "stop_offset.constant": offset + noise,
        "stop_offset.oracle": 0.0,
        "stop_index.uncertainty": 3 + offset,
        "stop_rmse.uncertainty": 4 + rate,
    }


def that_acquire(runs: Runs, lowered: dict[str, float] | None = None) -> Runs:
    """The same sweep with the numbers of acquisition; the areas of variants are `lowered` by so much."""
    rates = runs.finals[runs.finals["metric"] == "rate"]
    values = runs.cells.set_index("cell")
    noise = np.random.default_rng(8).normal(scale=0.05, size=int(values["seed"].max()) + 1)
    noise -= noise.mean()  # what is planted in it alone has no sign
    rows = []
    for _, row in rates.iterrows():
        less = (lowered or {}).get(str(values.loc[row["cell"]].get("variant")), 0.0)
        found = acquisition_numbers(row["value"], row["domain"], noise[values.loc[row["cell"], "seed"]], less)
        rows += [(row["cell"], row["domain"], metric, value) for metric, value in found.items()]
    more = pd.DataFrame(rows, columns=runs.finals.columns)
    return replace(runs, finals=pd.concat([runs.finals, more], ignore_index=True))


@pytest.fixture
def acquiring() -> Callable[..., Runs]:
    """`sweep_of`, with the numbers of acquisition."""

    def make(*arguments: Any, lowered: dict[str, float] | None = None, **more: Any) -> Runs:
        return that_acquire(made_up(*arguments, **more), lowered)

    return make
