"""The command line of searches: what is refused, what is trained and tracked, what is written, and how it goes on.

But for the last test packs train in this process, as a worker would train them, without Ray.
"""

import json
import os
import re
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from vaesweep.analysis import runs
from vaesweep.cli import search_script
from vaesweep.search import rounds
from vaesweep.search.objectives import maximise
from vaesweep.search.rounds import Trainer
from vaesweep.search.search import Search, SearchPreset
from vaesweep.search.space import choice, integers, loguniform
from vaesweep.sweep import runner
from vaesweep.sweep.lease import CellsHeld
from vaesweep.sweep.plan import Plan
from vaesweep.sweep.session import Session
from vaesweep.sweep.storage import Storage, finished_name
from vaesweep.sweep.store import Store
from vaesweep.sweep.tracking import Tracker
from vaesweep.sweep.worker import run_job
from vaesweep.training import finished
from vaesweep.vocabulary import RunKind, store_uri

TINY = {
    "training.steps": 6,
    "training.evaluate_every": 3,
    "training.batch_size": 16,
    "model.hidden": 4,
    "model.features": 4,
    "model.latents": 2,
    "data.draws": 1,
    "rates.total.kind": "target",
    "rates.total.target": 1.0,
}
SPACE = {
    "training.learning_rate": loguniform(1e-3, 1e-1),
    "model.latents": integers(2, 3),
    "training.batch_size": choice([16, 32]),
}
SEARCH = Search(
    "tune_tiny",
    "pvae",
    lambda data: {"tiny": SearchPreset(TINY, trials=6, batch=3, confirm=2)},
    SPACE,
    [maximise("valid/elbo")],
    "tiny",
)
FILES = [
    *("search_confirmation.csv", "search_history.png", "search_importance.png", "search_parallel.png"),
    "trials.csv",
]


class Killed(BaseException):
    """The end of the process."""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/results/mlflow.db")


@pytest.fixture(scope="module")
def store_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty tracking store, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("tracking")
    Store(f"sqlite:///{folder}/mlflow.db", "none").check()
    return folder / "mlflow.db"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, store_file: Path) -> list[str]:
    """The cells that were trained, in their order, by this process in the place of Ray's."""
    cells: list[str] = []
    Path("results").mkdir()
    for name in ("mlflow.db", "other.db"):
        shutil.copy(store_file, Path("results", name))

    def train_plan(session: Session, plan: Plan, *more: Any) -> Mapping[str, str]:
        tracker: Tracker = more[2]
        for pack in plan.packs:
            job = runner.job_of(pack, session.data, session.storage, session.options)
            run_job(job, session.data[job.data], lambda event: None, torch.device("cpu"))
            for cell in pack.cells:
                cells.append(cell.identity)
                data = session.storage.read(finished_name(cell.identity))
                tracker.ended(finished.from_bytes(data, "a file", cell.identity), data)
        return {}

    monkeypatch.setattr(runner, "train_plan", train_plan)
    monkeypatch.setattr(Trainer, "_connected", lambda self: 2)
    return cells


def run(*words: str) -> int:
    return search_script.main(SEARCH, "about", words)


def rows(query: str) -> list[tuple]:
    with closing(sqlite3.connect("results/mlflow.db")) as connection:
        return connection.execute(query).fetchall()


def parent_runs() -> list[str]:
    return [
        name
        for (name,) in rows(f"select name from runs join tags using (run_uuid) where tags.value = '{RunKind.SWEEP}'")
    ]


def test_a_search_trains_tracks_confirms_and_reports(trained: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    said = capsys.readouterr().out
    out = Path("results/tune_tiny")
    assert sorted(file.name for file in out.iterdir() if file.is_file()) == sorted([*FILES, "study.journal"])

    table = pd.read_csv(out / "trials.csv")
    assert list(table["trial"]) == list(range(6))
    assert list(table["round"]) == [0, 0, 0, 1, 1, 1]
    assert set(table["state"]) == {"complete"}
    assert table["best"].sum() == 1
    assert len(trained) == len(set(trained)) == table["cell"].nunique() + 4

    confirmed = pd.read_csv(out / "search_confirmation.csv")
    row = confirmed[confirmed["objective"] == "valid/elbo"].iloc[0]
    assert row["trial"] == table.loc[table["best"], "valid/elbo"].item()
    assert row["seeds"] == 2
    assert row["difference"] == pytest.approx(row["chosen"] - row["default"])
    assert {"synthetic.test", "small_corruption"} <= set(confirmed["domain"])
    assert "on 2 fresh seeds" in said
    assert "standard deviation between seeds" in said
    assert "optuna-dashboard results/tune_tiny/study.journal" in said

    (name,) = parent_runs()
    assert re.fullmatch(r"tune_tiny tiny [0-9a-f]{8}", name)
    study = runs.read("tune_tiny", store_uri())
    assert set(table["cell"]) < set(study.record.cells)
    assert set(study.cells["outcome"]) == {"finished"}
    assert len(study.cells) == len(trained)
    assert {"trial", "confirmation", "seed", *SPACE} == set(study.record.axes)
    values = study.record.cells[table["cell"][1]]
    assert values["training.learning_rate"] == pytest.approx(table["training.learning_rate"][1])
    artifacts = {file.name for file in Path("results/mlflow-artifacts").rglob("*") if file.is_file()}
    assert {*FILES, "sweep.json"} <= artifacts


def test_each_trials_run_has_its_value_and_its_settings(trained: list[str]) -> None:
    assert run("--confirm", "0") == 0
    table = pd.read_csv("results/tune_tiny/trials.csv")
    study = runs.read("tune_tiny", store_uri())
    elbos = study.finals[(study.finals["domain"] == "synthetic.valid") & (study.finals["metric"] == "elbo")]
    by_cell = elbos.set_index("cell")["value"]
    for _, trial in table.iterrows():
        assert trial["valid/elbo"] == pytest.approx(by_cell[trial["cell"]])
        assert float(study.params[trial["cell"]]["training.batch_size"]) == trial["training.batch_size"]
    assert not Path("results/tune_tiny/search_confirmation.csv").exists()


def test_the_same_command_trains_and_logs_nothing_again(trained: list[str]) -> None:
    assert run() == 0
    cells, points, all_runs = list(trained), rows("select * from metrics"), rows("select run_uuid from runs")
    table = Path("results/tune_tiny/trials.csv").read_bytes()
    assert run() == 0
    assert trained == cells
    assert rows("select * from metrics") == points
    assert rows("select run_uuid from runs") == all_runs
    assert Path("results/tune_tiny/trials.csv").read_bytes() == table


def test_a_killed_command_goes_on_and_comes_to_the_same_trials(
    trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--out", "undisturbed") == 0
    undisturbed = pd.read_csv("undisturbed/trials.csv")
    trained.clear()
    train_plan: Callable[..., Any] = runner.train_plan

    def dies(session: Session, plan: Plan, *more: Any) -> Any:
        if len(trained) >= 3:
            first = Plan(plan.cells, plan.done, plan.packs[:1])
            train_plan(session, first, *more)
            raise Killed
        return train_plan(session, plan, *more)

    monkeypatch.setattr(runner, "train_plan", dies)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd()}/results/other.db")
    with pytest.raises(Killed):
        run("--out", "killed")
    monkeypatch.setattr(runner, "train_plan", train_plan)
    assert run("--out", "killed") == 0
    pd.testing.assert_frame_equal(pd.read_csv("killed/trials.csv"), undisturbed)
    assert len(trained) == len(set(trained))


def test_more_trials_go_on_under_the_same_parent(trained: list[str]) -> None:
    assert run("--confirm", "0") == 0
    assert run("--confirm", "0", "--trials", "8") == 0
    assert len(pd.read_csv("results/tune_tiny/trials.csv")) == 8
    assert len(parent_runs()) == 1
    assert rows("select count(*) from metrics") == rows(
        "select count(*) from (select distinct run_uuid, key, step from metrics)"
    )


def test_a_key_that_is_set_is_fixed_and_makes_another_study(trained: list[str]) -> None:
    assert run("--confirm", "0", "--trials", "3", "--set", "model.latents=2", "training.batch_size=16") == 0
    table = pd.read_csv("results/tune_tiny/trials.csv")
    assert "model.latents" not in table
    assert table["cell"].nunique() == 3
    assert run("--confirm", "0", "--trials", "3") == 0
    assert len(parent_runs()) == 2


def test_two_objectives_make_a_front_beside_a_curve(trained: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    curve = {"kind": ["curve"] * 2, "domain": ["synthetic.valid"] * 2, "rate": [0.1, 1.0], "distortion": [9.0, 8.0]}
    pd.DataFrame(curve | {"elbo": [-9.1, -9.0]}).to_csv("curve.csv")
    words = ["--objective", "minimise=valid/rate", "minimise=valid/distortion", "--curve", "curve.csv"]
    assert run(*words, "--confirm", "1") == 0
    out = Path("results/tune_tiny")
    assert (out / "search_front.png").stat().st_size > 10_000
    table = pd.read_csv(out / "trials.csv")
    assert {"valid/rate", "valid/distortion"} <= set(table.columns)
    assert table["front"].any()
    assert "on the front" in capsys.readouterr().out


def test_trials_are_pruned_where_they_train_and_their_neighbours_go_on(trained: list[str]) -> None:
    words = ["--prune", "--trials", "16", "--batch", "8", "--set", "training.batch_size=16", "model.latents=2"]
    assert run(*words, "training.evaluate_every=1", "--confirm", "2") == 0
    table = pd.read_csv("results/tune_tiny/trials.csv")
    assert set(table["state"][:8]) == {"complete"}
    assert set(table["state"][8:]) == {"complete", "pruned"}
    assert table.loc[table["state"] == "pruned", "valid/elbo"].isna().all()
    storage = Storage("results/tune_tiny/cells")
    for _, row in table[8:].iterrows():
        cell = finished.from_bytes(storage.read(finished_name(row["cell"])), "a file", row["cell"])
        rule = cell.config["training"]["pruning"]
        worse = [
            cell.history["valid/elbo"][cell.evaluated.index(s)] < b
            for s, b in zip(rule["steps"], rule["bounds"], strict=True)
            if s in cell.evaluated
        ]
        assert (row["state"] == "pruned") == any(worse) == (cell.step < 6)
    confirmed = runs.read("tune_tiny", store_uri())
    unpruned = [c for c, values in confirmed.record.cells.items() if "confirmation" in values]
    assert len(unpruned) == 4
    assert all(confirmed.params[cell]["training.pruning"] == "None" for cell in unpruned)


def test_an_objective_on_the_test_domain_is_said_to_be_one(
    trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--objective", "maximise=test/elbo", "--trials", "2", "--confirm", "0") == 0
    assert "was optimised on synthetic.test" in capsys.readouterr().out


def test_a_plan_says_what_would_run_and_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--plan") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "0 trials told, 0 open, 6 to ask by tpe in rounds of 3; maximise valid/elbo" in said
    assert "space, within packs: training.learning_rate" in said
    assert "space, packs of their own: model.latents, training.batch_size" in said
    assert "2 rounds and 4 cells that confirm" in said
    assert "a round: about" in said
    assert "core-hours; measured on one CPU thread of this machine" in said
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--preset", "huge"], "there is no such preset"),
        (["--set", "training.step=5"], "did you mean training.steps?"),
        (["--set", "training.steps=[5,6]"], "a search has no axes"),
        (["--objective", "maximise=valid/elbow"], "did you mean 'elbo'?"),
        (["--objective", "maximize=valid/elbo"], "write minimise=DOMAIN/METRIC"),
        (["--trials", "0"], "must be at least 1"),
        (["--batch", "0"], "must be at least 1"),
        (["--confirm", "-1"], "must be at least 0"),
        (["--search-seed", "-1"], "must be 0 or more"),
        (["--curve", "none.csv"], "cannot be read"),
        (["--study", "nonsense://x"], "--study nonsense://x"),
    ],
)
def test_bad_input_is_one_line_and_code_2_before_ray_starts(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Trainer, "train", lambda *_: pytest.fail("something was trained"))
    assert run(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"training.learning_rat": loguniform(1e-4, 1e-2)}, "did you mean training.learning_rate?"),
        ({"model.latents": integers(4, 2)}, "is empty"),
        ({"model.latents": integers(0, 2)}, "space model.latents=0"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_before_data_are_read(
    space: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    search = Search("tune_tiny", "pvae", SEARCH.presets, space, SEARCH.objectives, "tiny")
    assert search_script.main(search, "about", ["--data", "nhanes:/nowhere"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_second_command_on_a_study_shares_it(
    trained: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = []
    train = Trainer.train
    words = ["--trials", "6", "--batch", "2", "--confirm", "1"]

    def meanwhile(self: Trainer, places: Any) -> Any:
        if not codes:
            codes.append(None)
            codes[0] = run(*words)
            assert "other commands still train" in capsys.readouterr().out
        return train(self, places)

    monkeypatch.setattr(Trainer, "train", meanwhile)
    assert run(*words) == 0
    assert codes == [0]
    table = pd.read_csv("results/tune_tiny/trials.csv")
    assert list(table["state"]) == ["complete"] * 6
    assert len(trained) == len(set(trained)) == table["cell"].nunique() + 2
    assert len(parent_runs()) == 1
    assert rows("select count(*) from metrics") == rows(
        "select count(*) from (select distinct run_uuid, key, step from metrics)"
    )


def test_a_cell_that_another_command_trains_is_waited_for(trained: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--trials", "2", "--batch", "2", "--confirm", "0"]
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path.cwd()}/results/other.db")
        assert run(*words, "--out", "other") == 0
    monkeypatch.setattr(rounds, "HELD_SECONDS", 0.01)
    real, asked = rounds.lease, list[int]()

    def lease(storage: Storage, sweep: str, cells: Any) -> Any:
        asked.append(len(cells))
        if len(asked) == 1:
            raise CellsHeld("2 cells are being trained")
        if len(asked) == 2:  # the other command has finished them meanwhile
            shutil.copytree("other/cells/finished", "results/tune_tiny/cells/finished")
            raise CellsHeld("2 cells are being trained")
        return real(storage, sweep, cells)

    monkeypatch.setattr(rounds, "lease", lease)
    assert run(*words) == 0
    assert asked == [2, 2, 2]
    assert len(trained) == 2
    assert list(pd.read_csv("results/tune_tiny/trials.csv")["state"]) == ["complete"] * 2


def test_what_a_driver_that_died_has_left_open_is_taken_on(trained: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--trials", "6", "--batch", "2", "--confirm", "0"]
    train = Trainer.train
    begun = []

    def dies(self: Trainer, places: Any) -> Any:
        begun.append(None)
        if len(begun) == 1:
            with pytest.raises(Killed):
                run(*words)  # the second driver, whose first round is asked
        elif len(begun) == 2:
            raise Killed
        return train(self, places)

    monkeypatch.setattr(Trainer, "train", dies)
    assert run(*words) == 0
    table = pd.read_csv("results/tune_tiny/trials.csv")
    assert list(table["state"]) == ["complete"] * 6
    assert len(trained) == len(set(trained))


def test_a_round_that_fails_as_a_whole_is_code_1_and_the_same_command_trains_it(
    trained: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        causes = lambda session, plan, *more: dict.fromkeys([c.identity for c in session.cells], "no memory")  # noqa: E731
        patch.setattr(runner, "train_plan", causes)
        assert run("--trials", "2", "--confirm", "0") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "all 2 trials of a round failed: no memory" in line
    assert run("--trials", "2", "--confirm", "0") == 0
    assert list(pd.read_csv("results/tune_tiny/trials.csv")["state"]) == ["complete"] * 2


def test_trials_of_one_configuration_share_their_cell(trained: list[str]) -> None:
    space = {"model.latents": integers(2, 3)}
    search = Search("tune_tiny", "pvae", SEARCH.presets, space, SEARCH.objectives, "tiny")
    assert search_script.main(search, "about", ["--confirm", "0"]) == 0
    table = pd.read_csv("results/tune_tiny/trials.csv")
    assert table["cell"].nunique() == 2 == len(trained)
    assert table.groupby("cell")["valid/elbo"].nunique().eq(1).all()
    assert rows("select count(*) from metrics") == rows(
        "select count(*) from (select distinct run_uuid, key, step from metrics)"
    )


def test_a_trial_whose_file_was_lost_is_read_from_mlflow(trained: list[str]) -> None:
    assert run("--confirm", "0") == 0
    values = pd.read_csv("results/tune_tiny/trials.csv")["valid/elbo"]
    for file in Path("results/tune_tiny/cells/finished").iterdir():
        file.unlink()
    Path("results/tune_tiny/study.journal").unlink()
    count = len(trained)
    assert run("--confirm", "0") == 0
    assert len(trained) == count
    assert list(pd.read_csv("results/tune_tiny/trials.csv")["valid/elbo"]) == list(values)


@pytest.mark.slow
def test_a_search_on_ray_that_is_killed_goes_on(command: Any) -> None:
    options = ("--trials", "4", "--batch", "2", "--confirm", "2")
    settings = ("model.latents=2", "training.batch_size=16", "seed=0", "rates.total.target=1.0")
    process = command.start(*options, settings=settings, script="sweeps/tune_pvae.py")
    storage = "results/tune_pvae/cells"
    deadline = time.monotonic() + 120
    while not command.finished(storage) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = {file: file.stat().st_mtime_ns for file in command.finished(storage)}
    assert before
    done = command.run(*options, settings=settings, script="sweeps/tune_pvae.py")
    assert done.returncode == 0, done.stderr
    assert "4 trials: " in done.stdout
    assert all(file.stat().st_mtime_ns == moment for file, moment in before.items())
    assert len(command.points()) == len(set(command.points()))
    assert len(command.runs("sweep")) == 1
    journal = (command.folder / "results/tune_pvae/study.journal").read_text().splitlines()
    told = [entry["trial_id"] for entry in map(json.loads, journal) if entry["op_code"] == 6]
    assert sorted(told) == [0, 1, 2, 3]
