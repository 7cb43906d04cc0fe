"""Families of models: their base class, their registry by name, and models restored from finished cells.

The base class is imported when it is asked for, since it brings torch; names and forms of data do not need it.
"""

from typing import TYPE_CHECKING

from vaesweep.family.registry import family, family_names

if TYPE_CHECKING:
    from vaesweep.family.base import CellConfig, Family

__all__ = ["CellConfig", "Family", "family", "family_names"]


def __getattr__(name: str) -> object:
    if name not in ("CellConfig", "Family"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vaesweep.family import base

    return getattr(base, name)
