"""The door through which data come: whatever a loader meets, its caller gets data or one line."""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from vaesweep.errors import UserError, cause_of
from vaesweep.uris import masked

P = ParamSpec("P")
T = TypeVar("T")


def guarded(load: Callable[Concatenate[str, P], T]) -> Callable[Concatenate[str, P], T]:
    """`load`, of a `--data` word and more, with every fault that it does not foresee as a `UserError`."""

    @functools.wraps(load)
    def guarded_load(spec: str, *arguments: P.args, **named: P.kwargs) -> T:
        try:
            return load(spec, *arguments, **named)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"--data {masked(spec)}: cannot be read: {_cause(error)}; name other data") from error

    return guarded_load


def _cause(error: Exception) -> str:
    return "there is not enough memory" if isinstance(error, MemoryError) else cause_of(error)
