"""Families of models: their base class, their registry by name, and models restored from finished cells."""

from vaesweep.family.base import CellConfig, Family
from vaesweep.family.registry import family, family_names

__all__ = ["CellConfig", "Family", "family", "family_names"]
