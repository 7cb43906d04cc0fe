"""The door through which data come: whatever a loader meets, its caller gets data or one line."""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from vaesweep.errors import UserError
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
            raise UserError(f"--data {masked(spec)}: cannot be read: {cause(error)}; name other data") from error

    return guarded_load


def cause(error: Exception) -> str:
    """What an error says, with the kind of error where that alone would not be understood."""
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return f"{type(error).__name__} ({error})" if str(error) else type(error).__name__
