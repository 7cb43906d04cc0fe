"""A finished cell's model, built again from its file: the same refusals whatever the family."""

from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError
from torch import nn

from vaesweep.errors import UserError
from vaesweep.family.base import CellConfig
from vaesweep.training.finished import FinishedCell

Config = TypeVar("Config", bound=CellConfig)
Model = TypeVar("Model", bound=nn.Module)


def rebuilt(
    cell: FinishedCell, name: str, lack: str, kind: type[Config], build: Callable[[Config], Model]
) -> tuple[Config, Model]:
    """The configuration and the trained model of a cell of family `name`.

    Raises `UserError` where the cell is of another family, which `lack` says the use of, or of another version.
    """
    if cell.family != name:
        raise UserError(f"cell {cell.cell} is of family {cell.family!r}, which {lack}; name a cell of {name!r}")
    try:
        config = kind.model_validate(cell.config)
        model = build(config)
        model.load_state_dict(cell.weights)
    except (ValidationError, RuntimeError):
        raise another_version(cell) from None
    return config, model


def another_version(cell: FinishedCell) -> UserError:
    """What to say of a cell whose file is not as this version would have written it."""
    return UserError(f"cell {cell.cell} was trained by another version of vaesweep; use that one, or train it again")
