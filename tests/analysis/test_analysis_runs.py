"""What is read back from MLflow is the sweep that was tracked, no more and no less."""

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from vaesweep.analysis import report, runs
from vaesweep.analysis.table import cells_table
from vaesweep.errors import UserError

SCRIPT = Path(__file__).parents[2] / "analysis" / "rd_curve.py"


def test_the_newest_sweep_is_read_unless_one_is_named(store: str) -> None:
    assert runs.read("toy", store).record.sweep == "bbbb"
    assert runs.read("toy", store, "aaaa").record.sweep == "aaaa"


def test_only_cells_of_the_record_count_even_where_sweeps_share_them(store: str) -> None:
    assert list(runs.read("toy", store, "aaaa").cells["cell"]) == ["0.5-0"]
    assert "of another sweep" not in set(runs.read("toy", store).cells["cell"])


def test_every_listed_cell_has_its_outcome_and_a_finished_run_outranks_a_failed_one(store: str) -> None:
    cells = runs.read("toy", store).cells.set_index("cell")
    assert cells["outcome"].to_dict() == {
        "0.5-0": "finished",
        "0.5-1": "missing",
        "4.0-0": "finished",
        "4.0-1": "finished",
        "8.0-0": "finished",
        "8.0-1": "diverged",
    }
    assert cells.loc["8.0-0", "saturated"] == "total"


def test_pages_are_followed_to_the_last(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = runs.read("toy", store)
    monkeypatch.setattr(runs, "PAGE", 2)
    assert runs.read("toy", store).cells.equals(whole.cells)


def test_runs_that_have_been_read_are_not_read_again(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that has nothing to train hands over what it has read to see that."""
    from vaesweep.sweep.store import Store

    expected = runs.read("toy", store)
    driver = Store(store, "toy")
    driver.cells()
    kinds: list[str] = []
    searched = MlflowClient.search_runs

    def search_runs(client: MlflowClient, *args: Any, **options: Any) -> Any:
        kinds.append(options["filter_string"])
        return searched(client, *args, **options)

    monkeypatch.setattr(MlflowClient, "search_runs", search_runs)
    found = runs.read("toy", store, known=driver.take_read())
    assert not [kind for kind in kinds if "'cell'" in kind]
    assert (found.run_ids, found.params) == (expected.run_ids, expected.params)
    pd.testing.assert_frame_equal(found.cells, expected.cells)
    order = ["cell", "domain", "metric"]
    mine, theirs = (one.finals.sort_values(order, ignore_index=True) for one in (found, expected))
    pd.testing.assert_frame_equal(mine, theirs)
    assert driver.take_read() is None


def test_reading_leaves_the_collector_as_it_was(store: str) -> None:
    assert gc.isenabled()
    runs.read("toy", store)
    assert gc.isenabled()


def test_final_numbers_land_in_the_table_under_their_names(store: str) -> None:
    table = cells_table(runs.read("toy", store)).set_index(["cell", "domain"])
    row = table.loc[("4.0-1", "elsewhere")]
    assert (row["rate"], row["distortion"], row["elbo"], row["rmse_db"]) == (4.0, 27.0, -31.0, 8.0)
    assert (row["target_rate"], row["seed"], row["role"]) == (4.0, 1, "unseen")


@pytest.mark.parametrize(
    ("experiment", "sweep", "message"),
    [
        ("toi", None, "did you mean 'toy'"),
        ("nothing like it", None, "it has Default, toy"),
        ("toy", "bbb", "did you mean 'bbbb'"),
        ("Default", None, "holds no sweep"),
        ("toy", "cccc", "none of the 1 cells"),
    ],
)
def test_what_is_missing_is_named_in_one_line(store: str, experiment: str, sweep: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        runs.read(experiment, store, sweep)
    assert "\n" not in str(error.value)


def test_a_store_that_is_not_there_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tracking store"):
        runs.read("toy", f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert not list(tmp_path.iterdir())


def test_a_record_that_is_not_one_is_refused() -> None:
    with pytest.raises(UserError, match=r"sweep\.json"):
        runs.SweepRecord.from_json('{"sweep": "x"}')


def test_the_report_is_logged_to_the_sweeps_own_run(store: str, tmp_path: Path) -> None:
    found = runs.read("toy", store)
    runs.log_files(found.run_id, report.write(found, tmp_path).paths, store)
    logged = {artifact.path for artifact in MlflowClient(store).list_artifacts(found.run_id)}
    assert logged == {"sweep.json", "cells.csv", "curve.csv", "gap.csv", "rd_curve.png"}


def test_the_script_redraws_from_mlflow_alone(store: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, str(SCRIPT), "--experiment", "toy", "--tracking-uri", store, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "cells: 4 finished, 1 diverged, 0 failed, 1 missing" in done.stdout
    assert {path.name for path in out.iterdir()} == {"cells.csv", "curve.csv", "gap.csv", "rd_curve.png"}


def test_the_script_says_a_users_error_in_one_line_and_ends_with_2(store: str, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--experiment", "toi", "--tracking-uri", store]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "did you mean 'toy'?" in done.stderr


@pytest.mark.parametrize("text", ["", "1", "null", "[]", '"sweep"', '{"sweep": 1}', '{"axes": 2, "cells": {}}'])
def test_a_record_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"sweep\.json is not a sweep's record"):
        runs.SweepRecord.from_json(text)
    whole = {"sweep": "a", "name": "b", "family": "pvae", "preset": "c", "command": "d"}
    whole |= {"axes": {}, "cells": [], "domains": []}
    assert runs.SweepRecord.from_json(json.dumps(whole)).name == "b"
    with pytest.raises(UserError, match=r"sweep\.json is not a sweep's record"):
        runs.SweepRecord.from_json(json.dumps(whole | {"data": None}))
