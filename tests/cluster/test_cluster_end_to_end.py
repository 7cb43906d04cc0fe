"""Sweeps on the real parts of a cluster: Ray's head, nodes, jobs and autoscaler, an MLflow server over PostgreSQL."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from counted_sweep import CountedSweep
from local_cluster import (
    FAKE_HEAD,
    MlflowServer,
    Postgres,
    RayCluster,
    mlflow_server,
    postgres,
    postgres_folder,
    ray_cluster,
    scaled_cluster,
    wait_for,
)

from vaesweep.sweep.storage import CHECKPOINTS, FINISHED, SUFFIX

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        postgres_folder() is None or importlib.util.find_spec("psycopg2") is None,
        reason="PostgreSQL and psycopg2 are not installed",
    ),
]
SECONDS = 900.0  # within which anything that is waited for happens, on a busy machine too
TRIAL = "ImplicitFunc"
AT_ONCE = 2  # packs that a sweep runs at once, on nodes that come for them


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    """A PostgreSQL server."""
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def server(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """An MLflow server over it."""
    with mlflow_server(database.uri, tmp_path_factory.mktemp("server")) as one:
        yield one


def submit(cluster: RayCluster, server: MlflowServer, sweep: CountedSweep, name: str, *options: str) -> None:
    """Hand in a sweep called `name`, whose storage is a folder that all nodes see."""
    words = (
        sys.executable,
        str(sweep.script),
        name,
        "--data",
        "synthetic",
        "--pack-size",
        "1",
        "--compile",
        "never",
        *options,
    )
    storage = ("--storage", str(sweep.folder / "storage" / name))
    environment = {"MLFLOW_TRACKING_URI": server.uri, "COLUMNS": "200"}
    cluster.submit(name, [*words, *storage], environment, cluster.folder)


def files(sweep: CountedSweep, name: str, folder: str) -> list[Path]:
    """Files of a sweep's storage."""
    return sorted((sweep.folder / "storage" / name / folder).glob(f"*{SUFFIX}"))


def assert_tracked(database: Postgres, name: str, sweep: CountedSweep) -> None:
    """The experiment `name` has one finished run of each cell and of the sweep, and every point once."""
    runs = """
        select kind.value, status, coalesce(cell.value, '') from runs join experiments using (experiment_id)
        join tags kind on kind.run_uuid = runs.run_uuid and kind.key = 'vaesweep.kind'
        left join tags cell on cell.run_uuid = runs.run_uuid and cell.key = 'vaesweep.cell' where experiments.name = %s
    """
    rows = database.rows(runs, name)
    assert {status for _, status, _ in rows} == {"FINISHED"}
    assert [kind for kind, *_ in rows].count("sweep") == 1
    cells = [cell for kind, _, cell in rows if kind == "cell"]
    assert len(cells) == len(set(cells)) == len(sweep.seeds)
    points = """
        select run_uuid, key, step, count(*) from metrics join runs using (run_uuid) join experiments
        using (experiment_id) where experiments.name = %s group by 1, 2, 3
    """
    rows = database.rows(points, name)
    assert {count for *_, count in rows} == {1}
    steps = [step for _, key, step, _ in rows if key == "valid/elbo"]
    assert sorted(steps) == sorted(
        step for step in range(sweep.interval, sweep.steps + 1, sweep.interval) for _ in sweep.seeds
    )


def packs(cluster: RayCluster, *states: str) -> list[dict[str, Any]]:
    """The processes of packs, as Ray's state has them."""
    rows = cluster.api("/api/v0/actors?detail=1&limit=1000")["data"]["result"]["result"]
    return [row for row in rows if row["class_name"].endswith(TRIAL) and (not states or row["state"] in states)]


def test_two_sweeps_at_once_by_jobs_on_two_nodes(
    database: Postgres, server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = CountedSweep(tmp_path / "sweep", 200, 50, (0, 1, 2, 3))
    first.write()
    sweeps = {"first": first, "second": replace(first, steps=300, seeds=(4, 5, 6, 7))}
    settings = {"first": (), "second": ("--set", "training.steps=300", "seed=[4,5,6,7]")}
    monkeypatch.setenv("PYTHONPATH", f"{first.folder}:{os.environ.get('PYTHONPATH', '')}")
    with ray_cluster(tmp_path, head_cpus=0, nodes=2) as cluster:
        for name, sweep in sweeps.items():
            submit(cluster, server, sweep, name, *settings[name])
        for name, sweep in sweeps.items():
            status = cluster.wait_for_job(name, SECONDS)
            output = cluster.job_output(name)
            assert status == "SUCCEEDED", output
            assert "cells: 4 finished, 0 diverged, 0 failed" in output
            assert len(files(sweep, name, FINISHED)) == 4
            assert files(sweep, name, CHECKPOINTS) == []
            assert_tracked(database, name, sweep)
        nodes = {row["node_id"] for row in packs(cluster)}
        workers = {row["node_id"] for row in cluster.alive_nodes() if not row["is_head_node"]}
        assert nodes == workers, "packs ran on both nodes and on no other"
    assert first.repeated() == set()


def test_the_autoscaler_brings_nodes_for_packs_and_takes_idle_ones_and_a_killed_one_costs_steps_since_its_checkpoint(
    database: Postgres, server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = CountedSweep(tmp_path / "sweep", 600, 100, (0, 1))
    sweep.write()
    monkeypatch.setenv("PYTHONPATH", f"{sweep.folder}:{os.environ.get('PYTHONPATH', '')}")
    with scaled_cluster(tmp_path, head_cpus=0, most=2, COUNTED_PAUSE="0.01") as cluster:
        cluster.wait_for_nodes(1)
        submit(cluster, server, sweep, "scaled", "--checkpoint-every", "0", "--scale-to", str(AT_ONCE))
        wait_for(lambda: len(packs(cluster, "ALIVE")) == AT_ONCE, "packs under way", SECONDS, 0.2)
        under_way = packs(cluster, "ALIVE")
        assert FAKE_HEAD not in {row["node_id"] for row in under_way}
        assert len({row["node_id"] for row in under_way}) == AT_ONCE
        assert len(cluster.alive_nodes()) == 1 + AT_ONCE

        wait_for(lambda: len(files(sweep, "scaled", CHECKPOINTS)) >= AT_ONCE, "checkpoints", SECONDS)
        victim = under_way[0]
        raylet = psutil.Process(victim["pid"]).parent()
        assert raylet is not None
        for process in (raylet, *raylet.children(recursive=True)):
            process.kill()
        killed = {(seed, step) for life in sweep.lives() for seed, step in life}

        status = cluster.wait_for_job("scaled", SECONDS)
        output = cluster.job_output("scaled")
        assert status == "SUCCEEDED", output
        assert "cells: 2 finished, 0 diverged, 0 failed" in output
        assert output.count("goes on from its last checkpoint") == 1
        assert_tracked(database, "scaled", sweep)
        again = sorted(step for seed, step in sweep.repeated())
        assert len({seed for seed, _ in sweep.repeated()}) <= 1, "others went on"
        assert len(again) <= sweep.interval + 1, "the steps since the last checkpoint, at most"
        assert set(sweep.repeated()) <= killed
        assert not again or again[0] % sweep.interval == 0, "it went on where a checkpoint was"
        wait_for(lambda: len(cluster.alive_nodes()) == 1, "idle nodes to go", SECONDS, 0.5)
