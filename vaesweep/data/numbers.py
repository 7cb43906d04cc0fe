"""Numbers that users write: decimal, in ASCII, without signs that other languages give a meaning to.

`1_0`, `010`, `0x10`, `1:30`, `.inf` and digits of other scripts are none, though Python or YAML read some.
"""

import argparse
import math
import re
from collections.abc import Callable

NUMBER = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]*)")
DIGITS = 40  # characters of a number; no option takes more


def decimal(text: str) -> int | float | None:
    """The number that `text` is in decimal, `None` where it is none: whole ones are integers.

    Raises `OverflowError` for one that a float cannot hold: too large, too near zero, or of too many characters.
    """
    if not NUMBER.fullmatch(text):
        return None
    if len(text) > DIGITS:
        raise OverflowError(f"a number of {len(text)} characters")
    if WHOLE.fullmatch(text):
        return int(text)
    value = float(text)
    if math.isinf(value) or (value == 0 and re.search("[1-9]", re.split("[eE]", text)[0])):
        raise OverflowError("beyond what a number holds")
    return value


def whole(least: int | None = None, most: int = 10**9) -> Callable[[str], int]:
    """A type of `argparse` for whole numbers from `least`, where one is given here and not later, to `most`."""

    def read(text: str) -> int:
        value = _option(text, "a whole number, such as 2")
        if isinstance(value, float):
            raise argparse.ArgumentTypeError(f"{text[:DIGITS]!r} is not a whole number; write one, such as 2")
        if abs(value) > most or (least is not None and value < least):
            low = -most if least is None else least
            raise argparse.ArgumentTypeError(f"{text[:DIGITS]} is out of range; write a number from {low} to {most}")
        return value

    return read


def real(text: str) -> float:
    """A type of `argparse` for finite numbers."""
    return float(_option(text, "a number in decimal, such as 0.5"))


def _option(text: str, right: str) -> int | float:
    try:
        value = decimal(text.strip())
    except OverflowError as error:
        raise argparse.ArgumentTypeError(f"{text[:DIGITS]!r} is {error}; write {right}") from None
    if value is None:
        raise argparse.ArgumentTypeError(f"{text[:DIGITS]!r} is not a number; write {right}")
    return value
