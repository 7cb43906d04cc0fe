"""Numbers that users write are decimal, or no numbers."""

import argparse
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaesweep.data.numbers import decimal, real, whole

OTHERS = [
    "1_0",
    "010",
    "0x10",
    "0b1",
    "1:30",
    ".inf",
    "inf",
    "nan",
    "1e",
    "e5",
    ".",
    "",
    " 1",
    "1 ",
    "١٢",
    "1²",
    "1,5",
    "--1",
    "1j",
]


@pytest.mark.parametrize("text", OTHERS)
def test_what_other_notations_read_as_a_number_is_none(text: str) -> None:
    assert decimal(text) is None
    if text.strip() != "1":
        for read in (real, whole()):
            with pytest.raises(argparse.ArgumentTypeError, match="not a number"):
                read(text)


@settings(deadline=None)
@given(st.integers(-(10**30), 10**30))
def test_whole_numbers_come_back(value: int) -> None:
    assert decimal(str(value)) == value


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_come_back_to_the_last_bit(value: float) -> None:
    found = decimal(repr(value))
    assert isinstance(found, float)
    assert math.copysign(1, found) * found == math.copysign(1, value) * value


@pytest.mark.parametrize("text", ["1e999", "-1e400", "1e-999", "0." + "0" * 30 + "1e-400", "9" * 50])
def test_what_a_number_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(OverflowError):
        decimal(text)


@pytest.mark.parametrize("text", ["1.5", "1e3", "1.0", "99999999999", "-99999999999"])
def test_a_whole_number_has_no_fraction_and_a_bound(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        whole()(text)


def test_a_least_number_is_held() -> None:
    assert whole(least=1)("1") == 1
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 to"):
        whole(least=1)("0")
