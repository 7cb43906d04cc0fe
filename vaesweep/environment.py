"""Variables of this process's environment: those that hold for a while, and the home that everybody has."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

NO_HOME = "/nonexistent"  # what systems give users who have none


def give_home() -> None:
    """Give a user without a home, as of a container with any user's number, one that is not there.

    MLflow raises when it is imported by a user without any.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = NO_HOME


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Context in which these variables are set, for this process and those that it starts; then they are as before."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
