"""Workers share a batch among them: every row once, and as evenly as can be."""

import pytest
import torch

from vaesweep.training.world import World, current_world


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("rows", [0, 1, 5, 16, 64, 101])
def test_shares_cover_all_rows_once_and_differ_by_one_at_most(size: int, rows: int) -> None:
    shares = [World(rank, size).share(rows) for rank in range(size)]
    assert [row for share in shares for row in range(rows)[share]] == list(range(rows))
    lengths = [len(range(rows)[share]) for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_a_process_alone_leads_takes_everything_and_sums_nothing() -> None:
    world = current_world()
    assert world == World(0, 1)
    assert world.leads
    value = torch.tensor([1.0, 2.0])
    assert torch.equal(world.sum(value.clone()), value)


def test_one_worker_leads() -> None:
    assert [World(rank, 3).leads for rank in range(3)] == [True, False, False]
