"""People are on one side of a split, and rows that are on both are counted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaesweep.data.domains import Domain, Role, partition, partition_by
from vaesweep.data.repeats import repeats
from vaesweep.errors import UserError


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), min_size=30, max_size=200), st.integers(0, 99))
def test_nobody_is_on_two_sides_and_every_row_on_one(people: list[int], seed: int) -> None:
    if len(set(people)) < 10:
        with pytest.raises(UserError, match="at least 10"):
            partition_by(people, seed)
        return
    parts = partition_by(people, seed)
    sides = [{people[row] for row in rows} for rows in parts.values()]
    assert sum(map(len, sides)) == len(set(people))
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(people)))


@settings(deadline=None)
@given(st.integers(10, 300), st.integers(0, 2**63))
def test_without_repeats_the_split_is_what_it_was(rows: int, seed: int) -> None:
    for mine, others in zip(
        partition_by([f"P{row}" for row in range(rows)], seed).values(), partition(rows, seed).values(), strict=True
    ):
        np.testing.assert_array_equal(mine, others)


def test_equal_rows_of_two_domains_are_counted_by_both_names() -> None:
    x = np.arange(12.0, dtype=np.float32).reshape(6, 2)
    one, two = Domain("one", Role.TRAIN, {"x": x[:4]}), Domain("two", Role.TEST, {"x": x[2:]})
    other = Domain("other", Role.UNSEEN, {"x": -np.zeros((1, 2), np.float32)})
    assert repeats([one, two, other], "x") == ("two: of 4 rows some are equal to others: 2 to rows of one",)
    zero = Domain("zero", Role.UNSEEN, {"x": np.zeros((3, 2), np.float32)})
    assert "3 to rows of other" in repeats([one, other, zero], "x")[0]
