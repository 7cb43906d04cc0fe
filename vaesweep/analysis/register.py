"""Trained cells as models of MLflow's registry: folders that `mlflow.pyfunc` loads, without a pickle.

    model/  MLmodel (signature, loader), input_example.json, requirements.txt, data/<cell>.safetensors

What is stored is the cell's finished file; the loader is this module, which reads it as `vaesweep.load` does.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

import vaesweep
from vaesweep.analysis.models import SUFFIX, find
from vaesweep.analysis.runs import client_of
from vaesweep.errors import UserError
from vaesweep.family.trained import Trained, read_file, trained
from vaesweep.store_access import all_pages, one_line, refuse_local_artifacts
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell
from vaesweep.vocabulary import Tag, store_uri

FOLDER = "model"  # of the artifacts of a cell's run
LOADER = "vaesweep.analysis.register"  # this module, which MLflow imports


@dataclass(frozen=True)
class Registered:
    """A version of a registered model; `new` where it was not there before."""

    model: str
    version: str
    cell: str
    new: bool

    @property
    def uri(self) -> str:
        """The URI that MLflow loads it by."""
        return f"models:/{self.model}/{self.version}"


class Predictor:
    """The model that `mlflow.pyfunc` gives its users: `predict` reconstructs."""

    def __init__(self, model: Trained) -> None:
        self.model = model

    def predict(self, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """`Trained.reconstruct` of `model_input`, float32, in the shapes and units of the model's family."""
        return self.model.reconstruct(model_input).numpy()


def _load_pyfunc(path: str) -> Predictor:
    """The model of the finished file at `path`, as MLflow asks for it."""
    return Predictor(trained(read_file(Path(path))))


def register(name: str, model: str, tracking_uri: str | None = None) -> Registered:
    """Register the cell called `name`, as of `vaesweep.load`, as the next version of `model`.

    A cell that is a version already is left as it is. Raises `UserError` where there is no such run, where the cell
    cannot reconstruct by its file alone, and where the registry refuses.
    """
    named = find(name, tracking_uri)
    if named.run_id is None:
        raise UserError(f"{name}: a file has no run that its registration could name; name a run, a cell or the best")
    client, cell = client_of(tracking_uri or store_uri()), named.cell
    artifacts = client.get_run(named.run_id).info.artifact_uri
    refuse_local_artifacts(client.tracking_uri, artifacts, f"run {named.run_id}")
    try:
        if version := _version_of(client, model, cell):
            return Registered(model, version, cell.cell, new=False)
        with tempfile.TemporaryDirectory() as folder:
            save(cell, Path(folder, FOLDER))
            _make_model(client, model)
            client.log_artifacts(named.run_id, str(Path(folder, FOLDER)), FOLDER)
        created = client.create_model_version(
            model,
            f"{artifacts}/{FOLDER}",
            named.run_id,
            tags={str(Tag.CELL): cell.cell, str(Tag.FAMILY): cell.family},
            description=f"Cell {cell.cell} of family {cell.family}, registered by its name {name}.",
        )
    except MlflowException as error:
        raise UserError(f"{name} cannot be registered as {model!r}: {one_line(error)}") from None
    return Registered(model, str(created.version), cell.cell, new=True)


def save(cell: FinishedCell, folder: Path) -> None:
    """Write a cell as a model of `mlflow.pyfunc` into a new `folder`, with signature and example."""
    model = trained(cell)
    example = model.example().numpy()
    taken, given = model.shapes
    signature = ModelSignature(_schema(taken), _schema(given))
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, f"{cell.cell}{SUFFIX}")
        file.write_bytes(finished.to_bytes(cell))
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=LOADER,
            data_path=str(file),
            signature=signature,
            input_example=example,
            pip_requirements=[f"vaesweep=={vaesweep.__version__}", f"torch=={torch.__version__.partition('+')[0]}"],
        )


def _schema(shape: tuple[int, ...]) -> Schema:
    return Schema([TensorSpec(np.dtype(np.float32), shape)])


def _version_of(client: MlflowClient, model: str, cell: FinishedCell) -> str | None:
    """The newest version of `model` that is this cell."""
    query = f"name = '{model}'"
    found = all_pages(lambda token: client.search_model_versions(query, page_token=token))
    return max((str(v.version) for v in found if v.tags.get(Tag.CELL) == cell.cell), key=int, default=None)


def _make_model(client: MlflowClient, model: str) -> None:
    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
