"""`vaesweep status` as a user calls it: text, JSON, watching, exit codes; it reads and changes nothing."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from tracked_sweeps import TrackedSweep, grid

from vaesweep.cli import main, status
from vaesweep.errors import UserError
from vaesweep.sweep import ray_jobs
from vaesweep.sweep.ray_jobs import SweepJob
from vaesweep.vocabulary import Outcome


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", *status.RAY_VARIABLES):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def sweep(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackedSweep:
    """A sweep that has just begun, in the store that MLFLOW_TRACKING_URI names."""
    uri = f"sqlite:///{shutil.copy(empty, tmp_path)}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    now = int(time.time())
    return TrackedSweep(MlflowClient(uri), "toy", grid([1.0, 2.0], 1), began=now - 100).open(tmp_path / "artifacts")


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command, and gives its code, what it printed, and what it printed on standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main.main(["status", *words])
        out, errors = capsys.readouterr()
        return code, out, errors

    return run


Said = Callable[..., tuple[int, str, str]]


def test_a_running_sweep_in_words(sweep: TrackedSweep, said: Said) -> None:
    for cell in sweep.cells:
        sweep.train(cell, [(10, 100), (90, 900)])
    sweep.end("1-0", 95, rate=1.01)
    code, out, errors = said()
    assert (code, errors) == (0, "")
    assert "toy small: running, time left about " in out
    assert "  command  sweeps/toy.py --preset small\n" in out
    assert "  cells    2: 1 done, 1 running\n" in out
    assert "  steps    1900 of 2000 (95%)\n" in out
    assert "  target   1        reached 1.01 nats (1 cell)\n" in out


def test_failed_cells_are_told_with_their_causes_and_give_code_1(sweep: TrackedSweep, said: Said) -> None:
    sweep.train("1-0", [(10, 100)])
    sweep.end("1-0", 20, 100, Outcome.FAILED, cause="ValueError: why")
    sweep.close(30, "FAILED")
    code, out, _ = said()
    assert code == 1
    assert "  failed   1 × ValueError: why\n" in out
    assert "; the same command goes on" in out


def test_a_sweep_whose_driver_has_died_says_since_when(sweep: TrackedSweep, said: Said) -> None:
    sweep.began -= 100_000
    sweep.client.set_tag(sweep.run_id, "vaesweep.began", "2023-01-01T00:00:00+00:00")
    silent = TrackedSweep(sweep.client, "old", sweep.cells, sweep="bbbb", began=sweep.began).open()
    silent.train("1-0", [(10, 100), (20, 200)])
    assert "old small: silent since " in said("old")[1]


KEYS = {
    *("name", "sweep", "run_id", "preset", "family", "command", "state", "began", "command_began", "ended"),
    *("last_sign", "cells", "failed", "diverged", "off_target", "unsettled", "saturated", "target_of", "targets"),
    *("steps_done", "steps_all", "seconds_left", "note"),
}


def test_json_is_one_object_with_the_documented_keys(sweep: TrackedSweep, said: Said) -> None:
    sweep.train("1-0", [(10, 100)])
    _, out, _ = said("--json")
    view = json.loads(out)
    assert view.keys() == {"store", "time", "sweeps", "ray"}
    (one,) = view["sweeps"]
    assert one.keys() == KEYS
    assert one["cells"].keys() == {"done", "diverged", "running", "waiting", "failed"}
    assert view["ray"] is None
    page = (Path(__file__).parents[2] / "docs" / "status.md").read_text()
    assert all(f"`{key}`" in page for key in KEYS | view.keys())


# Watching


def test_watching_ends_when_all_have_ended_and_keeps_showing_what_it_has_shown(
    sweep: TrackedSweep, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            other = TrackedSweep(sweep.client, "later", grid([1.0], 1), sweep="bbbb", began=sweep.began + 50).open()
            sweep.close(60)
            other.close(70)

    monkeypatch.setattr(time, "sleep", sleep)
    code, out, _ = said("--watch", "2", "--json")
    looks = [[(one["name"], one["state"]) for one in json.loads(line)["sweeps"]] for line in out.splitlines()]
    assert code == 0
    assert looks[:2] == [[("toy", "running")]] * 2
    assert ("toy", "finished") in looks[2]
    assert len(pauses) == 2
    assert min(pauses) >= 2


def test_watching_goes_on_when_the_store_is_away_for_a_while(
    sweep: TrackedSweep, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, count = status._Look.__call__, iter(range(3))

    def failing(self: Any) -> Any:
        if next(count) == 1:
            sweep.close(60)
            raise UserError("tracking store: no server answers")
        return look(self)

    monkeypatch.setattr(status._Look, "__call__", failing)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    code, out, errors = said("--watch")
    assert code == 0
    assert "no server answers" in errors
    assert "toy small: finished" in out


def test_watching_does_not_keep_a_slow_store_busy(
    sweep: TrackedSweep, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        sweep.close(60)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(status, "LARGEST_LOAD", 1e-6)
    said("--watch", "0.001")
    assert pauses[0] > 100


def test_ctrl_c_ends_watching_with_130_and_no_traceback(
    sweep: TrackedSweep, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    code, _, errors = said("--watch")
    assert (code, errors) == (130, "interrupted\n")


# Bad input


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["toi"], "did you mean 'toy'"),
        (["--watch", "0"], "--watch 0: must be above 0"),
        (["--tracking-uri", "sqlite:///nowhere.db"], "there is no tracking store nowhere.db"),
        (["--tracking-uri", "http://127.0.0.1:1"], "no server answers"),
        (["--ray", "http://127.0.0.1:1"], "no job list comes from there"),
    ],
)
def test_bad_input_is_one_line_and_code_2(sweep: TrackedSweep, said: Said, words: list[str], line: str) -> None:
    code, _, errors = said(*words)
    assert code == 2
    assert line in errors
    assert len(errors.splitlines()) == 1


def test_looking_makes_no_store_and_needs_neither_torch_nor_ray(tmp_path: Path, sweep: TrackedSweep) -> None:
    code = "import sys; from vaesweep.cli.main import main; code = main(['status', *sys.argv[1:]]); "
    code += "print(code, *sorted({'torch', 'ray'} & set(sys.modules)))"
    (elsewhere := tmp_path / "elsewhere").mkdir()
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for words, end in ((["--tracking-uri", uri], "0"), (["--tracking-uri", "sqlite:///results/none.db"], "2")):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=elsewhere, capture_output=True, text=True, timeout=300
        )
        assert done.stdout.splitlines()[-1] == end, done.stderr
    assert list(elsewhere.iterdir()) == []


# Ray


def jobs_of(monkeypatch: pytest.MonkeyPatch, *jobs: SweepJob) -> None:
    monkeypatch.setattr(ray_jobs, "sweep_jobs", lambda address: list(jobs))


def a_job(words: tuple[str, ...], status: str = "RUNNING", message: str = "") -> SweepJob:
    return SweepJob("raysubmit_1", status, "toy", words, None, None, message)


def test_a_job_stands_with_the_sweep_of_its_command(
    sweep: TrackedSweep, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs_of(monkeypatch, a_job(("--preset", "small"), "FAILED", "the cause"), a_job(("--preset", "large")))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    _, out, _ = said()
    own, others = out.split("jobs of other sweeps:")
    assert "  Ray job  raysubmit_1 FAILED: the cause\n" in own
    assert "raysubmit_1 RUNNING\n    sweeps/toy.py --preset large\n" in others
    ray = json.loads(said("--json")[1])["ray"]
    assert ray["address"] == "10.0.0.1:6379"
    assert [job["sweep"] for job in ray["jobs"]] == [sweep.run_id, None]


def test_a_cluster_that_was_not_asked_for_may_be_away(
    sweep: TrackedSweep, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    code, out, errors = said()
    assert (code, errors) == (0, "")
    assert "Ray at http://127.0.0.1:1: no job list comes from there" in out


def test_jobs_are_shown_where_there_is_no_store(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs_of(monkeypatch, a_job(("--preset", "small")))
    code, out, _ = said("--ray", "head:8265")
    assert code == 0
    assert "sweeps/toy.py --preset small" in out
    assert said("toy", "--ray", "head:8265")[0] == 2, "a sweep that is named is looked for"
