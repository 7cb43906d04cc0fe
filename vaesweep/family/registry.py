"""The families by name, each imported on first use.

A family is registered by an entry point of the group `vaesweep.families`, `name = "package.family:FAMILY"`, of this
package or any other. The built-in ones are found in `vaesweep/families/` too, since the package has no entry points
where it only lies on the path, as in a job's working directory.
"""

import importlib
import importlib.util
import logging
import pkgutil
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING

from vaesweep.data.spelling import did_you_mean
from vaesweep.errors import UserError

if TYPE_CHECKING:
    from vaesweep.family.base import Family

GROUP = "vaesweep.families"  # of entry points, and the package of the built-in families
OBJECT = "FAMILY"  # what a built-in family's module `family` calls it


@cache
def _references() -> dict[str, str]:
    """References `module:object` of the families by name; two packages may not have different families of one name."""
    package = importlib.import_module(GROUP)
    references = {
        module.name: f"{GROUP}.{module.name}.family:{OBJECT}" for module in pkgutil.iter_modules(package.__path__)
    }
    for point in entry_points(group=GROUP):
        reference = references.setdefault(point.name, point.value)
        if reference != point.value:
            raise UserError(
                f"two families are called {point.name!r}: {reference} and {point.value}; uninstall one of them"
            )
    return references


def family_names() -> tuple[str, ...]:
    """Names of all families that can be found; none is imported."""
    return tuple(_references())


@cache
def family(name: str) -> "Family":
    """The family called `name`. Raises `UserError` where there is none, or where it cannot be imported."""
    from vaesweep.family.base import Family  # with torch, which a help page does without

    reference = _reference(name)
    module, _, attribute = reference.partition(":")
    try:
        family_object = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"family {name!r} cannot be imported from {reference}: {error}") from error
    if not isinstance(family_object, Family) or family_object.name != name:
        raise UserError(f"family {name!r}: {reference} is not a Family of that name")
    return family_object


def data_forms(name: str) -> tuple[str, ...]:
    """The kinds of `--data` of a family, as they are typed; without its models where a module `forms` has them."""
    package = _reference(name).partition(":")[0].rpartition(".")[0]
    if not package:  # a family that is one module
        return family(name).data_forms
    try:
        return tuple(importlib.import_module(f"{package}.forms").DATA_FORMS)
    except (ImportError, AttributeError, ValueError):  # there is no such module beside the family's, or another one
        return family(name).data_forms


def _reference(name: str) -> str:
    references = _references()
    if name not in references:
        hint = did_you_mean(name, references) or f"; there are {', '.join(references)}"
        raise UserError(f"there is no family {name!r}{hint}")
    return references[name]


def command_modules() -> Iterator[ModuleType]:
    """The modules `cli` beside families, each with `register(commands)` that adds subcommands of `vaesweep`.

    They are imported to print a help page, so they import slow modules within their functions. One that cannot be
    imported is named in a warning and left out.
    """
    for reference in _references().values():
        package = reference.partition(":")[0].rpartition(".")[0]
        try:
            if package and importlib.util.find_spec(f"{package}.cli") is not None:
                yield importlib.import_module(f"{package}.cli")
        except ImportError as error:
            logging.getLogger(__name__).warning("commands of %s.cli: %s", package, error)
