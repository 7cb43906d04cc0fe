"""Frozen configurations, and the marker of numbers that may differ between cells that train as one pack.

A field annotated with `Packed()` is a number that enters training as a tensor with one entry a cell; every other field
shapes the computation and must agree over the pack.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict


class Packed:
    """Marks a field as one number a cell: `target: Annotated[float, Packed(), Field(gt=0)]`."""


class Frozen(BaseModel):
    """A frozen configuration that refuses unknown keys, NaN and infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def packed_names(config: BaseModel | type[BaseModel]) -> tuple[str, ...]:
    """Names of the fields of `config` that are one number a cell."""
    kind = config if isinstance(config, type) else type(config)
    return tuple(n for n, f in kind.model_fields.items() if any(isinstance(m, Packed) for m in f.metadata))


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
