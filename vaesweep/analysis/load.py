"""Trained cells read back from MLflow: weights, history, and what their users need beside them."""

import tempfile
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from vaesweep.analysis.runs import Runs, client_of, read
from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.family import family
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell
from vaesweep.vocabulary import MODEL_FILE, Kind, Outcome, Tag

MANY = 100  # experiments looked through for a cell


def load(run: str, tracking_uri: str | None = None) -> FinishedCell:
    """The trained cell of a run, named by its MLflow run id or by its cell's identity (`cells.csv`).

    Raises `UserError` where there is no such run, or its cell has not finished.
    """
    client = client_of(tracking_uri)
    found = _found(client, run)
    outcome = found.data.tags.get(Tag.OUTCOME, "not ended")
    if outcome != Outcome.FINISHED:
        raise UserError(f"run {run}: its cell has {outcome}, so there is no model; name a finished one")
    return model_of(client, found.info.run_id)


def data_of(run: str, tracking_uri: str | None = None) -> str:
    """What `--data` named in the sweep that first trained the cell of `run` (as of `load`); empty where unrecorded."""
    client = client_of(tracking_uri)
    found = _found(client, run)
    experiment = client.get_experiment(found.info.experiment_id).name
    return read(experiment, tracking_uri, found.data.tags.get(Tag.SWEEP)).record.data


def spec_of(run: str, tracking_uri: str | None = None, given: str | None = None) -> str:
    """`given`, else `data_of`. Raises `UserError` where neither says anything."""
    spec = given or data_of(run, tracking_uri)
    if not spec:
        raise UserError(f"the sweep of cell {run} does not say what it read; give it as --data SPEC")
    return spec


def load_data(runs: Runs, tracking_uri: str, spec: str | None = None) -> DataSet:
    """The data that a sweep was trained on, loaded again as `spec`, or its record, and one of its cells name them."""
    ended = runs.cells.loc[runs.cells["outcome"] == Outcome.FINISHED, "cell"]
    cell = next((cell for cell in ended if cell in runs.run_ids), None)
    named = spec or runs.record.data
    if cell is None or not named:
        lack = "has no finished cell" if cell is None else "does not say what it was trained on"
        raise UserError(f"sweep {runs.record.sweep} {lack}: its data cannot be loaded again")
    return reload(model_of(client_of(tracking_uri), runs.run_ids[cell]), named)


def reload(cell: FinishedCell, spec: str) -> DataSet:
    """The data that `spec` names, as `cell` is configured to read them.

    Raises `UserError` where another version of vaesweep wrote that configuration.
    """
    owner = family(cell.family)
    try:
        config = owner.config.model_validate(cell.config)
    except ValidationError:
        raise UserError(f"cell {cell.cell} was trained by another version of vaesweep; use that one") from None
    return owner.load(spec, config)


def model_of(client: MlflowClient, run_id: str) -> FinishedCell:
    """The model artifact of a finished cell's run."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            data = Path(client.download_artifacts(run_id, MODEL_FILE, folder)).read_bytes()
        except (OSError, MlflowException) as error:
            raise UserError(
                f"run {run_id} has no readable {MODEL_FILE} ({' '.join(str(error).split())[:200]})"
            ) from error
    return finished.from_bytes(data, f"{MODEL_FILE} of run {run_id}")


def _found(client: MlflowClient, run: str) -> Run:
    found = _by_id(client, run) or _by_cell(client, run)
    if found is None:
        raise UserError(f"run {run}: this tracking store has no run and no cell of that name; `vaesweep ui` shows them")
    return found


def _by_id(client: MlflowClient, run: str) -> Run | None:
    try:
        found = client.get_run(run)
    except MlflowException:
        return None
    return found if found.data.tags.get(Tag.KIND) == Kind.CELL else None


def _by_cell(client: MlflowClient, cell: str) -> Run | None:
    """The newest run of a cell that has finished, else the newest."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments(max_results=MANY)]
    wanted = f"tags.`{Tag.KIND}` = '{Kind.CELL}' and tags.`{Tag.CELL}` = '{cell}'"
    runs = client.search_runs(experiments, wanted, order_by=["attributes.start_time DESC"]) if cell.isalnum() else []
    return next((run for run in runs if run.data.tags.get(Tag.OUTCOME) == Outcome.FINISHED), next(iter(runs), None))
