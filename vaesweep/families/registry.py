"""The families by name."""

from vaesweep.errors import UserError
from vaesweep.families.base import Family
from vaesweep.families.emd import SeparatorFamily
from vaesweep.families.hvae import HierarchyFamily
from vaesweep.families.pvae import PartialVaeFamily

_FAMILIES: dict[str, Family] = {
    found.name: found for found in (PartialVaeFamily(), SeparatorFamily(), HierarchyFamily())
}


def family_names() -> tuple[str, ...]:
    """Names of all registered families."""
    return tuple(_FAMILIES)


def family(name: str) -> Family:
    """The family called `name`."""
    if name not in _FAMILIES:
        raise UserError(f"there is no family {name!r}; there are {', '.join(_FAMILIES)}")
    return _FAMILIES[name]
