"""Which rows a step sees, and which noise, is a function of seed and step alone."""

import numpy as np
import pytest
import torch

from vaesweep.training.batch_order import NOISE, ORDER, BatchOrder, generator

CPU = torch.device("cpu")


def rows(seed: int, steps: range, total: int = 50, batch: int = 8) -> list[list[int]]:
    order = BatchOrder(seed, total, batch, CPU)
    return [order.rows(step).tolist() for step in steps]


def test_an_epoch_sees_no_row_twice_and_leaves_out_only_a_last_short_batch() -> None:
    for epoch in range(5):
        seen = [row for batch in rows(0, range(6 * epoch, 6 * epoch + 6)) for row in batch]
        assert len(seen) == len(set(seen)) == 48
        assert set(seen) <= set(range(50))


def test_where_batches_divide_the_rows_an_epoch_sees_all_of_them() -> None:
    assert sorted(row for batch in rows(0, range(5), total=40) for row in batch) == list(range(40))


def test_every_epoch_is_another_permutation() -> None:
    first, second = rows(0, range(6)), rows(0, range(6, 12))
    assert first != second


def test_over_many_epochs_every_row_is_seen_alike() -> None:
    epochs = 400
    counts = np.bincount(np.concatenate(rows(0, range(6 * epochs))), minlength=50)
    # Each row is in an epoch with probability 48 / 50: binomial, within five standard deviations.
    assert np.abs(counts - epochs * 0.96).max() < 5 * np.sqrt(epochs * 0.96 * 0.04)


def test_the_order_is_the_same_from_wherever_one_starts() -> None:
    whole = rows(3, range(40))
    assert rows(3, range(17, 40)) == whole[17:]
    order = BatchOrder(3, 50, 8, CPU)
    backwards = [order.rows(step).tolist() for step in reversed(range(40))]
    assert backwards[::-1] == whole


def test_seeds_have_orders_of_their_own() -> None:
    assert rows(0, range(6)) != rows(1, range(6))


def test_a_batch_larger_than_the_data_is_all_of_the_data() -> None:
    assert [sorted(batch) for batch in rows(0, range(3), total=5, batch=64)] == [[0, 1, 2, 3, 4]] * 3


def test_neighbouring_streams_are_unrelated() -> None:
    """No two streams correlate: 4 streams of 20 000 normals, |r| below five standard errors."""
    places = [(0, NOISE, 0), (0, NOISE, 1), (1, NOISE, 0), (0, ORDER, 0)]
    draws = torch.stack([torch.randn(20_000, generator=generator(*place, CPU)) for place in places])
    correlation = torch.corrcoef(draws) - torch.eye(len(places))
    assert float(correlation.abs().max()) < 5 / np.sqrt(20_000)


@pytest.mark.parametrize("place", [(0, ORDER, 0), (2**31, NOISE, 10**9), (2**62, NOISE, 1)])
def test_a_generator_depends_on_its_place_only(place: tuple[int, int, int]) -> None:
    one = torch.rand(9, generator=generator(*place, CPU))
    torch.rand(5)  # the global state is nobody's business
    assert torch.equal(one, torch.rand(9, generator=generator(*place, CPU)))
