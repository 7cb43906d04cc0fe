"""The cluster that a command is pointed at: told by option or variable, refused early, asked within seconds."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray._private.worker import _merge_runtime_env
from rich.console import Console

from vaesweep.cli import script, sweep_run
from vaesweep.errors import UserError
from vaesweep.sweep import cluster
from vaesweep.sweep.backends import worker_environment
from vaesweep.sweep.cells import Sweep
from vaesweep.sweep.cluster import (
    Cluster,
    ClusterSize,
    Resources,
    cluster_size,
    job_environment,
    named_cluster,
    uploaded_copy,
)
from vaesweep.sweep.options import Options
from vaesweep.sweep.runner import connected
from vaesweep.sweep.storage import Storage


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", cluster.JOB_VARIABLE, "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def as_job(monkeypatch: pytest.MonkeyPatch, **runtime_env: object) -> None:
    """This process as Ray starts the command of a job."""
    monkeypatch.setenv(cluster.JOB_VARIABLE, json.dumps({"runtime_env": runtime_env, "metadata": {}}))


def test_the_option_goes_before_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "there:6379")
    assert named_cluster(None) == Cluster("there:6379", "RAY_ADDRESS")
    assert named_cluster("here:6379") == Cluster("here:6379", "--address")
    assert named_cluster("local") is None


@pytest.mark.parametrize("address", ["ray://head:10001", "http://head:8265", "https://head"])
def test_an_address_on_which_no_sweep_runs_is_refused_with_what_would_be_right(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    for option, variable in ((address, ""), (None, address)):
        monkeypatch.setenv("RAY_ADDRESS", variable)
        with pytest.raises(UserError, match="ray job submit") as refused:
            named_cluster(option)
        assert str(refused.value).startswith(f"{'--address' if option else 'RAY_ADDRESS'} {address}: ")


@pytest.mark.parametrize("address", ["ray://head:10001", "http://head:8265"])
def test_it_is_refused_before_the_data_are_read(capsys: pytest.CaptureFixture[str], address: str) -> None:
    sweep = Sweep("none", "pvae", lambda data: {}, default_data="nhanes:nowhere")
    assert script.main(sweep, words=["--address", address]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert address in line
    assert "nowhere" not in line


def test_a_cluster_that_does_not_answer_is_named_within_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(UserError, match=f"RAY_ADDRESS 127.0.0.1:{port}: no Ray cluster answers there"):
        cluster_size(Cluster(f"127.0.0.1:{port}", "RAY_ADDRESS"))
    assert time.monotonic() - started < 2 * cluster.ANSWER_SECONDS


def test_a_port_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match="no Ray cluster answers there"):
            cluster_size(Cluster(address, "--address"))


def test_what_the_job_sets_is_not_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own rule of merging refuses any variable that both name."""
    own = worker_environment()
    job = {"env_vars": {"OMP_NUM_THREADS": "4", "PLACE": "there"}}
    assert _merge_runtime_env(job, {"env_vars": own}) is None
    as_job(monkeypatch, **job)
    theirs = job_environment()
    merged = _merge_runtime_env(job, {"env_vars": {k: v for k, v in own.items() if k not in theirs}})
    assert merged is not None
    assert merged["env_vars"] == own | job["env_vars"]


def test_ray_is_started_without_what_the_job_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    as_job(monkeypatch, env_vars={"OMP_NUM_THREADS": "4", "GLOO_SOCKET_IFNAME": "eth0"})
    for name in ("OMP_NUM_THREADS", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    seen: list[dict[str, str]] = []

    def init(*_: object, **options: dict) -> None:
        seen.append(dict(os.environ))
        raise RuntimeError("as far as this test goes")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(UserError, match="as far as"), connected(Resources()):
        pass
    assert seen[0].keys() >= {"MALLOC_TRIM_THRESHOLD_", "NCCL_SOCKET_IFNAME"}
    assert not seen[0].keys() & {"OMP_NUM_THREADS", "GLOO_SOCKET_IFNAME"}
    assert not os.environ.keys() & {"MALLOC_TRIM_THRESHOLD_", "NCCL_SOCKET_IFNAME"}  # of Ray's processes only


def test_ray_is_left_once_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[float] = []

    def shutdown() -> None:
        time.sleep(0.2)
        ended.append(time.monotonic())

    monkeypatch.setattr("ray.init", lambda *_, **__: None)
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr("ray.shutdown", shutdown)
    with connected(Resources()) as connection:
        connection.leave()
        goes_on = time.monotonic()
        connection.leave()
    assert len(ended) == 1
    assert goes_on < ended[0] < time.monotonic()
    with pytest.raises(UserError, match="refused"), connected(Resources()):
        raise UserError("refused")
    assert len(ended) == 2


def test_a_ray_that_does_not_start_in_time_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(*_: object, **__: object) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray raises it

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(UserError, match=r"Ray does not start .*timed out during startup"), connected(Resources()):
        pass


TERMINATED = """
import os, signal, time
from vaesweep.sweep.runner import Resources, connected

try:
    with connected(Resources()):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_driver_that_is_told_to_end_before_it_trains_is_interrupted(tmp_path: Path) -> None:
    words = [sys.executable, "-c", TERMINATED]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


@pytest.mark.parametrize("value", ["", "{}", "null", "[1]", "no JSON", '{"runtime_env": null}', '{"runtime_env": 3}'])
def test_outside_of_a_job_nothing_is_held(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(cluster.JOB_VARIABLE, value)
    assert job_environment() == {}
    assert uploaded_copy() is None


def session_at(out: Path, storage: Path) -> Any:
    """What the lines on places read of a session."""
    options = Options("smoke", "synthetic", out=out, storage=str(storage))
    return SimpleNamespace(options=options, storage=Storage(str(storage), dry=True))


def test_results_inside_of_an_uploaded_copy_are_noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (copy := tmp_path / "copy").mkdir()
    monkeypatch.chdir(copy)
    session = session_at(Path("results"), kept)
    assert sweep_run.note_of_copy(session) is None
    as_job(monkeypatch, working_dir="gcs://_ray_pkg_1.zip")
    note = sweep_run.note_of_copy(session)
    assert note is not None
    assert "--out, MLFLOW_TRACKING_URI elsewhere" in note
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert sweep_run.note_of_copy(session_at(kept, kept)) is None


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (None, "Ray: one of this command's own, "),
        (ClusterSize(3, {"CPU": 12.0, "GPU": 1.0}), "the cluster of --address head:6379, 3 nodes, 12 CPUs, 1 GPU now"),
        (ClusterSize(1, {"CPU": 0.0, "GPU": 0.0}), "1 node, 0 CPUs now"),
        (UserError("--address head:6379: no Ray cluster answers there (why)"), "answers there (why)"),
    ],
)
def test_a_plan_says_where_it_would_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], size: ClusterSize | UserError | None, said: str
) -> None:
    session = session_at(Path("results"), tmp_path)
    sweep_run.print_places(session, Resources(address="head:6379"), size, Console(width=300))
    ray, cells, runs = capsys.readouterr().out.splitlines()
    assert said in ray
    assert str(tmp_path) in cells
    assert ("all nodes must reach it" in cells) == (isinstance(size, ClusterSize) and size.nodes > 1)
    assert runs == (
        "runs go to sqlite:///results/mlflow.db (MLFLOW_TRACKING_URI is not set), tables and figures to results"
    )
