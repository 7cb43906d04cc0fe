"""The best cells of a sweep as models of MLflow: in the Models tab of the experiment, ready for `mlflow.pyfunc`.

A model is linked to its cell's run both ways, and has its final numbers on the data sets that MLflow knows. What was
logged before is left as it is; the tag `vaesweep.best` says of which models a sweep's best cells are now.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, Metric
from mlflow.exceptions import MlflowException

from vaesweep.analysis.load import download_cell
from vaesweep.analysis.models import best_cells
from vaesweep.analysis.register import FOLDER, save
from vaesweep.analysis.runs import Runs, client_of
from vaesweep.analysis.table import ELBO_PARTS
from vaesweep.analysis.workbench import datasets
from vaesweep.data.domains import Role
from vaesweep.errors import UserError
from vaesweep.family import family
from vaesweep.store_access import all_pages, one_line
from vaesweep.vocabulary import Tag, final

READY = "READY"


def log_best(runs: Runs, tracking_uri: str | None = None) -> Iterator[str]:
    """Log the best finished cell of a sweep by each of its family's `best_by`, chosen on validation data.

    Of several that share the best value it is the first, by their identities.

    Yields a line where a best cell cannot be a model, or where there is none, or a server has no place for models.
    """
    try:
        yield from _log_best(client_of(tracking_uri), runs)
    except (MlflowException, OSError) as error:
        yield f"the best cells are not logged as models: {one_line(error)}"


def _log_best(client: MlflowClient, runs: Runs) -> Iterator[str]:
    known = {model.tags.get(Tag.CELL): model for model in logged_models(client, runs)}
    chosen: dict[str, list[str]] = {}
    for metric in family(runs.record.family).best_by:
        name = f"{metric}@{Role.VALID}"
        try:
            chosen.setdefault(next(iter(best_cells(runs, metric, Role.VALID))), []).append(name)
        except UserError as error:
            yield f"no model is logged of the best cell: {error}"
    for cell, names in chosen.items():
        try:
            if cell not in known:
                known[cell] = _log(client, runs, cell)
        except UserError as error:
            yield f"cell {cell}, the best by {names[0]}, is not logged as a model: {error}"
    for cell, model in known.items():
        best = " ".join(chosen.get(str(cell), ()))
        if model.tags.get(Tag.BEST, "") != best:
            client.set_logged_model_tags(model.model_id, {str(Tag.BEST): best})


def logged_models(client: MlflowClient, runs: Runs) -> list[LoggedModel]:
    """The models of a sweep that are whole."""
    query = f"tags.`{Tag.SWEEP}` = '{runs.record.sweep}'"
    found = all_pages(lambda token: client.search_logged_models([runs.experiment_id], query, page_token=token))
    return [model for model in found if str(model.status) == READY]


def _log(client: MlflowClient, runs: Runs, cell: str) -> LoggedModel:
    run_id = runs.run_ids[cell]
    own = runs.cells.set_index("cell").loc[cell]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, FOLDER)
        save(download_cell(client, run_id, cell), folder)
        model = client.create_logged_model(
            runs.experiment_id,
            name=f"{runs.record.family}-{cell[:8]}",
            source_run_id=run_id,
            tags={str(Tag.CELL): cell, str(Tag.FAMILY): runs.record.family, str(Tag.SWEEP): runs.record.sweep},
            params={axis: str(own[axis]) for axis in runs.record.axes},
            model_type="vaesweep",
        )
        try:
            client.log_model_artifacts(model.model_id, str(folder))
        except BaseException:
            client.finalize_logged_model(model.model_id, "FAILED")
            raise
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, runs.record.steps.get(cell, 0))])
    client.log_batch(run_id, metrics=list(_numbers(client, runs, run_id, model)))
    return client.finalize_logged_model(model.model_id, READY)


def _numbers(client: MlflowClient, runs: Runs, run_id: str, model: LoggedModel) -> Iterator[Metric]:
    """The run's final ELBOs, distortions and rates again, to the millisecond, so that only the model gets them."""
    for data in (entry.dataset for entry in datasets(runs)):
        for metric in ELBO_PARTS:
            for point in client.get_metric_history(run_id, final(data.name, metric))[-1:]:
                yield Metric(
                    *(point.key, point.value, point.timestamp, point.step, model.model_id),
                    dataset_name=data.name,
                    dataset_digest=data.digest,
                )
