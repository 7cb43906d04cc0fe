"""Trained cells and their data, loaded from MLflow; `family.restore` makes models of the cells."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from vaesweep.analysis.runs import Runs, client_of, read
from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.family import family
from vaesweep.family.restore import another_version
from vaesweep.store_access import one_line
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell
from vaesweep.vocabulary import MODEL_FILE, Outcome, RunKind, Tag, runs_by_cell

MANY = 100  # experiments that are searched for a cell


def load_cell(run: str, tracking_uri: str | None = None) -> FinishedCell:
    """The trained cell of a run, named by its MLflow run id or by its cell's identity (`cells.csv`).

    Raises `UserError` where there is no such run, or its cell has not finished.
    """
    client = client_of(tracking_uri)
    tracked = finished_run(client, run)
    return download_cell(client, tracked.info.run_id, tracked.data.tags[Tag.CELL])


def finished_run(client: MlflowClient, name: str) -> Run:
    """The run of a finished cell, by its id or its cell's identity. Raises `UserError` as `load_cell` does."""
    run = _run(client, name)
    outcome = run.data.tags.get(Tag.OUTCOME, "not ended")
    if outcome != Outcome.FINISHED:
        raise UserError(f"run {name}: its cell has {outcome}, so there is no model; name a finished one")
    return run


def load_cells(runs: Runs, tracking_uri: str | None = None) -> Iterator[FinishedCell]:
    """The finished cells of a sweep, one at a time, without those whose model cannot be read."""
    cells = [cell for cell in finished_cells(runs) if cell in runs.run_ids]
    client = client_of(tracking_uri) if cells else None
    for cell in cells if client else ():
        try:
            yield download_cell(client, runs.run_ids[cell], cell)
        except UserError:
            continue


def finished_cells(runs: Runs) -> list[str]:
    """The identities of a sweep's finished cells."""
    return list(runs.cells.loc[runs.cells["outcome"] == Outcome.FINISHED, "cell"])


def download_cell(client: MlflowClient, run_id: str, cell: str | None = None) -> FinishedCell:
    """The model artifact of a finished cell's run, which is that of `cell`, where that is said."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            data = Path(client.download_artifacts(run_id, MODEL_FILE, folder)).read_bytes()
        except (OSError, MlflowException) as error:
            raise UserError(f"run {run_id} has no readable {MODEL_FILE} ({one_line(error)})") from error
    return finished.from_bytes(data, f"{MODEL_FILE} of run {run_id}", cell)


def load_data(runs: Runs, tracking_uri: str, spec: str | None = None) -> DataSet:
    """The data that a sweep was trained on, loaded again as `spec`, or its record, and one of its cells name them."""
    cell = next((cell for cell in finished_cells(runs) if cell in runs.run_ids), None)
    data_name = spec or runs.record.data
    if cell is None or not data_name:
        lack = "has no finished cell" if cell is None else "does not say what it was trained on"
        raise UserError(f"sweep {runs.record.sweep} {lack}: its data cannot be loaded again")
    return load_cell_data(download_cell(client_of(tracking_uri), runs.run_ids[cell]), data_name)


def load_cell_data(cell: FinishedCell, spec: str) -> DataSet:
    """The data that `spec` names, as `cell` is configured to read them.

    Raises `UserError` where another version of vaesweep wrote that configuration.
    """
    owner = family(cell.family)
    try:
        config = owner.config.model_validate(cell.config)
    except ValidationError:
        raise another_version(cell) from None
    return owner.load(spec, config)


def data_spec(run: str, tracking_uri: str | None = None, given: str | None = None) -> str:
    """The name of the data of the cell of `run` (as of `load_cell`): `given`, else that of its first sweep.

    Raises `UserError` where there is neither.
    """
    spec = given or _recorded_spec(run, tracking_uri)
    if not spec:
        raise UserError(f"the sweep of cell {run} does not say what it read; give it as --data SPEC")
    return spec


def _recorded_spec(run: str, tracking_uri: str | None) -> str:
    client = client_of(tracking_uri)
    tracked = _run(client, run)
    experiment = client.get_experiment(tracked.info.experiment_id).name
    return read(experiment, tracking_uri, tracked.data.tags.get(Tag.SWEEP)).record.data


def _run(client: MlflowClient, name: str) -> Run:
    run = _run_by_id(client, name) or _run_by_cell(client, name)
    if run is None:
        raise UserError(
            f"run {name}: this tracking store has no run and no cell of that name; `vaesweep ui` shows them"
        )
    return run


def _run_by_id(client: MlflowClient, run_id: str) -> Run | None:
    try:
        run = client.get_run(run_id)
    except MlflowException:
        return None
    return run if run.data.tags.get(Tag.KIND) == RunKind.CELL else None


def _run_by_cell(client: MlflowClient, cell: str) -> Run | None:
    experiments = [experiment.experiment_id for experiment in client.search_experiments(max_results=MANY)]
    query = f"tags.`{Tag.KIND}` = '{RunKind.CELL}' and tags.`{Tag.CELL}` = '{cell}'"
    runs = client.search_runs(experiments, query) if cell.replace("-", "").isalnum() else []
    return runs_by_cell(runs).get(cell)
