"""MLflow gets views, the answer and the data sets of a sweep; what a user has changed stays."""

import base64
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from vaesweep.analysis import runs as runs_module
from vaesweep.analysis import workbench
from vaesweep.analysis.contents import answers
from vaesweep.analysis.curves import rd_curve
from vaesweep.analysis.runs import Runs
from vaesweep.analysis.table import cells_table
from vaesweep.analysis.workbench import LONGEST_TAG, VIEW_TAG, publish, views

pytestmark = pytest.mark.skipif(not workbench.supports_views(), reason="this MLflow has no saved views")


@pytest.fixture
def sweep(store: str, tmp_path: Path) -> tuple[Runs, str]:
    """The newest sweep of a copy of the made-up store, and the copy's URI."""
    shutil.copy(store.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return runs_module.read("toy", uri), uri


def answers_of(runs: Runs) -> list[dict[str, Any]]:
    table = cells_table(runs)
    return list(answers(table, rd_curve(table)))


def tags_of(uri: str, runs: Runs) -> dict[str, str]:
    tags = MlflowClient(uri).get_experiment(runs.experiment_id).tags
    return {name: value for name, value in tags.items() if name.startswith(VIEW_TAG)}


def state_of(text: str) -> dict[str, Any]:
    kind, _, packed = json.loads(text)["state"].partition(";")
    assert kind == "deflate"
    return dict(json.loads(zlib.decompress(base64.b64decode(packed))))


def test_the_views_show_cells_with_the_columns_that_there_are(sweep: tuple[Runs, str]) -> None:
    runs, uri = sweep
    publish(runs, answers_of(runs), uri)
    states = {json.loads(text)["name"]: state_of(text) for text in tags_of(uri, runs).values()}
    assert set(states) == {"Rate–distortion", "Learning curves", "By seed"}
    client = MlflowClient(uri)
    known = [client.get_run(run).data for run in runs.run_ids.values()]
    params = {f"params.`{name}`" for data in known for name in data.params}
    metrics = {f"metrics.`{name}`" for data in known for name in data.metrics}
    for state in states.values():
        assert state["searchFilter"] == "tags.`vaesweep.kind` = 'cell'"
        assert set(state["selectedColumns"]) <= params | metrics | {"params.`rates.total.target`", "params.`seed`"}
        sections = {section["uuid"] for section in state["compareRunSections"]}
        assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} <= sections
    scatter = states["Rate–distortion"]["compareRunCharts"][0]
    assert f"metrics.`{scatter['xaxis']['key']}`" in metrics
    assert f"metrics.`{scatter['yaxis']['key']}`" in metrics


def test_a_view_fits_into_a_tag(sweep: tuple[Runs, str]) -> None:
    assert all(len(view.text(10**13)) <= LONGEST_TAG for view in views(sweep[0]))


def test_what_has_not_changed_is_written_once(sweep: tuple[Runs, str]) -> None:
    runs, uri = sweep
    publish(runs, answers_of(runs), uri)
    before = tags_of(uri, runs)
    publish(runs, answers_of(runs), uri)
    client = MlflowClient(uri)
    run = client.get_run(runs.run_id)
    assert tags_of(uri, runs) == before
    optima = [name for name in run.data.metrics if name.startswith("optimum/")]
    assert optima
    assert {len(client.get_metric_history(runs.run_id, name)) for name in optima} == {1}
    assert len(run.inputs.dataset_inputs) == len(runs.record.domains)


def test_a_view_that_a_user_has_changed_is_left_and_others_follow(
    sweep: tuple[Runs, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, uri = sweep
    publish(runs, answers_of(runs), uri)
    client = MlflowClient(uri)
    own, *others = tags_of(uri, runs)
    client.set_experiment_tag(runs.experiment_id, own, "the user's")
    more = [workbench.View(view.name, {**view.state, "columnWidths": {"x": 1}}) for view in views(runs)]
    monkeypatch.setattr(workbench, "views", lambda _: iter(more))
    publish(runs, answers_of(runs), uri)
    after = tags_of(uri, runs)
    assert after[own] == "the user's"
    assert all(state_of(after[name])["columnWidths"] == {"x": 1} for name in others)


def test_the_parent_run_says_the_answer(sweep: tuple[Runs, str]) -> None:
    runs, uri = sweep
    found = answers_of(runs)
    publish(runs, found, uri)
    run = MlflowClient(uri).get_run(runs.run_id)
    for one in found:
        assert run.data.metrics[f"optimum/{one['domain']}/{one['metric']}"] == one["value"]
        assert f"| {one['domain']} | {one['metric']} | {one['value']:.4g} |" in run.data.tags["mlflow.note.content"]
    roles = {one.dataset.name: one.tags[0].value for one in run.inputs.dataset_inputs}
    assert roles == {domain.name: str(domain.role) for domain in runs.record.domains}


def test_the_addresses_of_the_views_are_found_again(sweep: tuple[Runs, str]) -> None:
    runs, uri = sweep
    publish(runs, answers_of(runs), uri)
    expected = {view.name: view.address(runs.experiment_id) for view in views(runs)}
    assert workbench.saved_views(uri) == {"toy": expected}
