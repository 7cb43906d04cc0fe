"""Runs of an SQLite file are read from its tables: those that MLflow gives, in its order; elsewhere it is asked."""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from vaesweep.analysis.runs import search_runs
from vaesweep.store_access import ReadRun, read_runs, runs_of_kind
from vaesweep.vocabulary import RunKind, Tag

QUERY = f"tags.`{Tag.KIND}` = '{RunKind.CELL}'"


@pytest.fixture(scope="module")
def filled(store_file: Path) -> tuple[MlflowClient, list[str]]:
    """A store with cells of two experiments, a parent, a deleted run, and values that are no plain numbers."""
    client = MlflowClient(f"sqlite:///{store_file}")
    experiments = [client.create_experiment(name, (store_file.parent / name).as_uri()) for name in ("one", "other")]
    for experiment in experiments:
        for number in range(5):
            kind = RunKind.SWEEP if number == 4 else RunKind.CELL
            tags = {str(Tag.KIND): str(kind), str(Tag.CELL): f"cell{number}", "empty": ""}
            run = client.create_run(experiment, start_time=(3, 1, 4, 1, 5)[number], tags=tags).info.run_id
            values = (1.5, math.nan, math.inf, -math.inf, 0.0)
            metrics = [Metric(f"m{i}", value, 1000 + i, step) for i, value in enumerate(values) for step in (3, i)]
            params = [Param(f"p{i}", str(i)) for i in range(3)]
            client.log_batch(run, metrics=metrics[: 2 * number], params=params, tags=[RunTag("later", "a")])
            if number != 3:
                client.set_terminated(run, "FAILED" if number else "FINISHED")
            if number == 2:
                client.delete_run(run)
    return client, experiments


def by_mlflow(client: MlflowClient, experiment: str) -> list[ReadRun]:
    return read_runs(lambda token: client.search_runs([experiment], QUERY, max_results=2, page_token=token))


def unpacked(runs: list[ReadRun]) -> Iterator[tuple[Any, ...]]:
    """What runs are, with the order of their names; NaN equals itself here."""
    for run in runs:
        parts = [list(values.items()) for values in (run.data.tags, run.data.params, run.data.metrics)]
        yield run.info, repr(parts), run.data.last_step, run.data.last_time


def never(token: str | None) -> Any:
    raise AssertionError("MLflow was asked")


def test_runs_are_those_that_mlflow_gives(filled: tuple[MlflowClient, list[str]]) -> None:
    client, (experiment, _) = filled
    expected = list(unpacked(by_mlflow(client, experiment)))
    assert len(expected) == 3
    assert list(unpacked(runs_of_kind(client.tracking_uri, [experiment], RunKind.CELL, never))) == expected
    assert list(unpacked(search_runs(client, [experiment], RunKind.CELL))) == expected


def test_several_experiments_are_read_together(filled: tuple[MlflowClient, list[str]]) -> None:
    client, ids = filled
    runs = runs_of_kind(client.tracking_uri, ids, RunKind.CELL, never)
    assert len(runs) == 6
    assert [run.info.start_time for run in runs] == sorted((run.info.start_time for run in runs), reverse=True)
    assert runs_of_kind(client.tracking_uri, [], RunKind.CELL, never) == []


def test_mlflow_is_asked_where_tables_are_others(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("create table runs (id integer)")
    asked: list[str | None] = []

    class Empty(list[Any]):
        token = None

    def search(token: str | None) -> Empty:
        asked.append(token)
        return Empty()

    assert runs_of_kind(f"sqlite:///{file}", ["1"], RunKind.CELL, search) == []
    assert runs_of_kind("http://127.0.0.1:1", ["1"], RunKind.CELL, search) == []
    assert asked == [None, None]
