"""Frozen configurations, and the marker of numbers that may differ between cells that train as one pack.

A field annotated with `Packed()` is a number that enters training as a tensor with one entry a cell; every other field
shapes the computation and must agree over the pack.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

ModelT = TypeVar("ModelT", bound=BaseModel)


class Packed:
    """Marks a field as one number a cell: `target: Annotated[float, Packed(), Field(gt=0)]`."""


class Since:
    """Marks a field that came with a release: `share: Annotated[float, Since("0.2")] = 0.0`. It needs a default.

    Cells of earlier releases have the default; they are found by an identity in which the field is not.
    """

    def __init__(self, release: str) -> None:
        self.release = release


class Frozen(BaseModel):
    """A frozen configuration that refuses unknown keys, NaN and infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class SharedParts:
    """Makes equal parts of configurations one object, such as the model of all cells: thousands take little memory."""

    def __init__(self) -> None:
        self._parts: dict[tuple[type, str], BaseModel] = {}

    def of(self, config: ModelT) -> ModelT:
        """`config` with the parts of equal ones before it."""
        parts = {name: value for name, value in config if isinstance(value, BaseModel)}
        return config.model_copy(update={name: self._shared(part) for name, part in parts.items()})

    def _shared(self, part: BaseModel) -> BaseModel:
        return self._parts.setdefault((type(part), part.model_dump_json()), part)


def packed_names(config: BaseModel | type[BaseModel]) -> tuple[str, ...]:
    """Names of the fields of `config` that are one number a cell."""
    kind = config if isinstance(config, type) else type(config)
    return tuple(n for n, f in kind.model_fields.items() if any(isinstance(m, Packed) for m in f.metadata))


def since(field: FieldInfo) -> str | None:
    """The release that a field came with; None for fields of the first one."""
    return next((mark.release for mark in field.metadata if isinstance(mark, Since)), None)


def additions(config: BaseModel) -> dict[str, Any]:
    """The fields of `config` that came with a later release and have their defaults, as pydantic's `exclude`."""
    left_out: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if since(field) is not None and value == field.get_default(call_default_factory=True):
            left_out[name] = True
        elif isinstance(value, BaseModel) and (below := additions(value)):
            left_out[name] = below
    return left_out


def structure(config: Any) -> Any:
    """`config` as plain JSON values without its packed numbers: equal for cells that can share a pack."""
    if isinstance(config, BaseModel):
        packed = packed_names(config)
        return {name: structure(getattr(config, name)) for name in type(config).model_fields if name not in packed}
    if isinstance(config, dict):
        return {key: structure(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [structure(value) for value in config]
    return config


def leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested dictionaries, which MLflow shows as parameters."""
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, f"{prefix}{key}.")
    else:
        yield prefix.removesuffix("."), values
