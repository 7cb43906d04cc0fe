"""What a family of models is, where families are found by name, and how a finished cell becomes a model again."""

from vaesweep.family.base import CellConfig, Family
from vaesweep.family.registry import family, family_names

__all__ = ["CellConfig", "Family", "family", "family_names"]
