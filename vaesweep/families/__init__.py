"""Families: one file each ties configuration, model, data and evaluation together. A new family is one file here."""

from vaesweep.families.base import CellConfig, Family
from vaesweep.families.registry import family, family_names

__all__ = ["CellConfig", "Family", "family", "family_names"]
