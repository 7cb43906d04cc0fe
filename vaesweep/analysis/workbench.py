"""What a sweep leaves in MLflow for its users: saved views of the runs page, and the answer on the parent run.

Views are tags of the experiment, as MLflow's own page writes them since 3.15. One that a user has changed is left as it
is: it is no longer what was written last, whose digest stands in a tag beside it.
"""

import base64
import hashlib
import json
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunTag
from mlflow.version import VERSION

from vaesweep.analysis.runs import BETA, Runs, client_of
from vaesweep.analysis.table import other_axes, target_axis
from vaesweep.data.domains import Role
from vaesweep.store_access import all_pages
from vaesweep.vocabulary import SETTLED, RunKind, Tag, final

SINCE = (3, 15)  # MLflow, whose page knows saved views
VIEW_TAG, OWN_TAG = "mlflow.sharedViewState.", "vaesweep.view."
LONGEST_TAG = 5000  # characters that MLflow keeps of a tag of an experiment
DATASET_CONTEXT = "mlflow.data.context"
NAMESPACE = uuid.UUID("0b4c4d59-5f0f-4a0e-9c0e-7d5f6a3b2c11")  # of the names of our views
CELLS = f"tags.`{Tag.KIND}` = '{RunKind.CELL}'"


@dataclass(frozen=True)
class View:
    """A saved view: its name and the state of MLflow's runs page."""

    name: str
    state: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The name of its tag after `VIEW_TAG`, the same at every time."""
        return hashlib.sha256(f"vaesweep {self.name}".encode()).hexdigest()[:32]

    def text(self, moment: int) -> str:
        """The tag's value, written at `moment`, in milliseconds since 1970."""
        packed = base64.b64encode(zlib.compress(json.dumps(self.state, separators=(",", ":")).encode(), 9)).decode()
        return json.dumps({"name": self.name, "createdAt": moment, "updatedAt": moment, "state": f"deflate;{packed}"})

    def address(self, experiment: str) -> str:
        """Where it opens, after the server's address."""
        return _address(experiment, self.key)


def publish(runs: Runs, answers: Sequence[Mapping[str, Any]], tracking_uri: str | None = None) -> None:
    """Write views, description, optima and data sets of a sweep into MLflow; what has not changed is left alone.

    The step of an optimum is the number of cells that it is of, so that it has a history where later commands add some.
    """
    client = client_of(tracking_uri)
    if supports_views():
        write_views(client, runs)
    run = client.get_run(runs.run_id)
    note = describe(runs, answers)
    if run.data.tags.get("mlflow.note.content") != note:
        client.log_batch(runs.run_id, tags=[RunTag("mlflow.note.content", note)])
    now, step = int(1000 * time.time()), int(runs.cells["outcome"].isin(SETTLED).sum())
    optima = {name: value for name, value in optimum_metrics(answers).items() if run.data.metrics.get(name) != value}
    for start in range(0, len(items := list(optima.items())), 1000):
        client.log_batch(
            runs.run_id, metrics=[Metric(name, value, now, step) for name, value in items[start : start + 1000]]
        )
    if not run.inputs.dataset_inputs:
        client.log_inputs(runs.run_id, datasets=list(datasets(runs)))


def supports_views() -> bool:
    """Whether the MLflow that is installed has saved views."""
    return tuple(int(part) for part in VERSION.split(".")[:2]) >= SINCE


def write_views(client: MlflowClient, runs: Runs) -> None:
    """Write the views of a sweep's experiment that are not there, or are as they were written last."""
    tags = client.get_experiment(runs.experiment_id).tags
    moment = int(1000 * time.time())
    for view in views(runs):
        there = tags.get(VIEW_TAG + view.key)
        if there is not None and tags.get(OWN_TAG + view.key) != _digest(there):
            continue  # a user has changed it
        if there is not None and json.loads(there)["state"] == json.loads(view.text(moment))["state"]:
            continue
        if len(text := view.text(moment)) <= LONGEST_TAG:
            client.set_experiment_tag(runs.experiment_id, VIEW_TAG + view.key, text)
            client.set_experiment_tag(runs.experiment_id, OWN_TAG + view.key, _digest(text))


def saved_views(tracking_uri: str) -> dict[str, dict[str, str]]:
    """Where our views of each experiment open, after the server's address, by their names and the experiments'."""
    found: dict[str, dict[str, str]] = {}
    client = client_of(tracking_uri)
    for experiment in all_pages(lambda token: client.search_experiments(page_token=token)):
        for name in experiment.tags:
            key = name.removeprefix(OWN_TAG)
            if key != name and (text := experiment.tags.get(VIEW_TAG + key)):
                title = str(json.loads(text)["name"])
                found.setdefault(experiment.name, {})[title] = _address(experiment.experiment_id, key)
    return found


def _address(experiment: str, key: str) -> str:
    return f"/#/experiments/{experiment}/runs?viewStateShareKey={key}&compareRunsMode=CHART"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def views(runs: Runs) -> Iterator[View]:
    """Rate–distortion, learning curves, by seed: of the cells only, each with the columns that it needs."""
    judged = [d.name for d in runs.record.domains if d.role in (Role.TEST, Role.UNSEEN)]
    judged = judged or [d.name for d in runs.record.domains]
    target, betas = target_axis(runs), [name for name in runs.cells.columns if name.startswith(BETA)]
    params = [*([target] if target else []), "seed", *other_axes(runs)]
    shown = [f"train/{name}" for name in betas]
    shown += [final(domain, metric) for domain in judged for metric in ("rate", "distortion", "elbo")]
    columns = [*(f"params.`{name}`" for name in params), *(f"metrics.`{name}`" for name in shown)]
    by_rate = final(judged[0], "rate")
    scatters = [
        _scatter(f"{metric} against rate, {domain}", final(domain, "rate"), final(domain, metric))
        for domain in judged
        for metric in ("distortion", "elbo")
    ]
    outcomes = [final(judged[0], metric) for metric in ("rate", "distortion", "elbo")]
    parallel = {"type": "PARALLEL", "selectedParams": params, "selectedMetrics": outcomes, "showAllRuns": False}
    yield View(
        "Rate–distortion",
        _state(by_rate, columns, {"Rate–distortion": scatters, "Settings and outcomes": [parallel]}),
    )
    learning = ["valid/rate", "valid/distortion", "valid/elbo", *(f"train/{name}" for name in betas)]
    lines = [_line(name) for name in learning]
    yield View("Learning curves", _state(by_rate, columns, {"Learning curves": lines}))
    grouped = {"aggregateFunction": "average", "groupByKeys": [{"mode": "param", "groupByData": "seed"}]}
    yield View("By seed", _state(by_rate, columns, {"Rate–distortion": scatters}, groupBy=grouped))


def _state(
    sorted_by: str, columns: Sequence[str], charts: Mapping[str, Sequence[Mapping[str, Any]]], **more: Any
) -> dict[str, Any]:
    """The state of the page with all cells, which it would fold under their parent if they were sorted by time."""
    sections, placed = [], []
    for title, of_section in charts.items():
        section = _uuid(title)
        common = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
        sections.append({"uuid": section, "name": title, **common})
        for number, chart in enumerate(of_section):
            own = {"uuid": _uuid(f"{title} {number}"), "metricSectionId": section, "runsCountToCompare": 500}
            placed.append({**own, "deleted": False, "isGenerated": False, **chart})
    return {
        "searchFilter": CELLS,
        "orderByKey": f"metrics.`{sorted_by}`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": list(columns),
        "columnWidths": {},
        "runsHiddenMode": "SHOW_ALL",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
        "useGroupedValuesInCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "compareRunSections": sections,
        "compareRunCharts": placed,
        **more,
    }


def _uuid(name: str) -> str:
    return str(uuid.uuid5(NAMESPACE, name))


def _scatter(title: str, x: str, y: str) -> dict[str, Any]:
    axes = {"xaxis": {"key": x, "type": "METRIC"}, "yaxis": {"key": y, "type": "METRIC"}}
    return {"type": "SCATTER", "displayName": title, **axes}


def _line(metric: str) -> dict[str, Any]:
    return {
        "type": "LINE",
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "lineSmoothness": 0,
        "scaleType": "linear",
        "xAxisScaleType": "linear",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": {},
    }


def describe(runs: Runs, answers: Sequence[Mapping[str, Any]]) -> str:
    """The answers in Markdown, for the description of the parent run."""
    lines = [f"**{runs.record.name}**, preset {runs.record.preset}, data `{runs.record.data}`", ""]
    lines += ["| domain | metric | value | 95 % over seeds | at rate | chosen on |", "|---|---|---|---|---|---|"]
    for one in answers:
        interval = "one seed" if one["low"] is None else f"{one['low']:.4g} to {one['high']:.4g}, {one['seeds']} seeds"
        where = one["chosen_on"] or "this domain itself"
        where += ", at the edge of the rates trained" if one["at_edge"] else ""
        lines.append(
            f"| {one['domain']} | {one['metric']} | {one['value']:.4g} | {interval} | {one['rate']:.3g} | {where} |"
        )
    return "\n".join([*lines, "", "Nats per datum. The page is the artifact `report.html`."])


def optimum_metrics(answers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The answers as metrics of the parent run: `optimum/<domain>/<metric>`, and the rate at which it is."""
    named = {f"optimum/{one['domain']}/{one['metric']}": one for one in answers}
    values = {name: one["value"] for name, one in named.items()}
    values |= {f"{name}.rate": one["rate"] for name, one in named.items()}
    return {name: float(value) for name, value in values.items() if value is not None}


def datasets(runs: Runs) -> Iterator[DatasetInput]:
    """The domains of a sweep as MLflow's data sets, each with its role, rows and fingerprint."""
    for domain in runs.record.domains:
        source = json.dumps({"data": runs.record.data, "domain": domain.name})
        digest = hashlib.sha256(f"{runs.record.fingerprint} {domain.name}".encode()).hexdigest()[:8]
        data = Dataset(domain.name, digest, "vaesweep", source, profile=json.dumps({"rows": domain.rows}))
        yield DatasetInput(data, [InputTag(DATASET_CONTEXT, str(domain.role))])
