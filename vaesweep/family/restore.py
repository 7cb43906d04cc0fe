"""Restoring of a finished cell of any family: its configuration and its trained model, from its file."""

from typing import TypeVar

from pydantic import ValidationError
from torch import nn

from vaesweep.errors import UserError
from vaesweep.family.base import CellConfig
from vaesweep.family.registry import family
from vaesweep.training.finished import FinishedCell

Config = TypeVar("Config", bound=CellConfig)
Model = TypeVar("Model", bound=nn.Module)


def restore(cell: FinishedCell, config_type: type[Config], model_type: type[Model]) -> tuple[Config, Model]:
    """The configuration and the trained model of a cell of the family whose configuration is `config_type`.

    Raises `UserError` where the cell is of another family, or where another version of vaesweep trained it.
    """
    name = config_type.model_fields["family"].default
    if cell.family != name:
        raise UserError(f"cell {cell.cell} is of family {cell.family!r}; name a cell of {name!r}")
    config, model = restore_any(cell)
    assert isinstance(config, config_type)
    assert isinstance(model, model_type)
    return config, model


def restore_any(cell: FinishedCell) -> tuple[CellConfig, nn.Module]:
    """The configuration and the trained model of a cell of any family; `UserError` as of `restore`."""
    owner = family(cell.family)
    try:
        config = owner.config.model_validate(cell.config)
        model = owner.model(config)
        model.load_state_dict(cell.weights)
    except (ValidationError, RuntimeError):
        raise another_version(cell) from None
    return config, model


def another_version(cell: FinishedCell) -> UserError:
    """The error of a cell whose file is not as this version would have written it."""
    return UserError(f"cell {cell.cell} was trained by another version of vaesweep; use that one, or train it again")
