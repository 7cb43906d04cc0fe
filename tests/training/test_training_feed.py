"""Batches that are read ahead are those of their steps; parts, shares and threads change no number."""

import threading
from typing import Any

import pytest
import torch

from vaesweep.family import family
from vaesweep.training.batch_order import BatchOrder, Draws
from vaesweep.training.feed import AHEAD, MOST_THREADS, Feed
from vaesweep.training.problem import Problem
from vaesweep.training.world import World

CPU = torch.device("cpu")
ROWS, BATCH = 20, 6
ALONE = World()


class Files(Problem):
    """A problem whose rows are read by threads; every read is noted."""

    device, train_rows, reads = CPU, ROWS, True

    def __init__(self, fails_at: int | None = None) -> None:
        self.read_steps: list[int] = []
        self.threads: set[str] = set()
        self._fails_at = fails_at

    def read(self, draws: Draws) -> Any:
        self.threads.add(threading.current_thread().name)
        self.read_steps.append(draws.step)
        if draws.step == self._fails_at:
            raise OSError("the file is gone")
        return torch.tensor([draws.number_of_row(place) for place in draws.places], dtype=torch.long)

    def train_share(self, draws: Draws, read: Any = None) -> dict[str, torch.Tensor]:
        noise = [torch.randn(1, 3, generator=draws.of_row(place)) for place in draws.places]
        return {"rows": draws.rows[draws.share], "read": read, "noise": torch.cat([torch.empty(0, 3), *noise])}


def feed(problem: Problem, world: World = ALONE, parts: int = 1, seeds: tuple[int, ...] = (5, 9)) -> Feed:
    of_cell = torch.tensor([1, 0, 1] if len(seeds) > 1 else [0, 0])
    return Feed(problem, seeds, of_cell, BATCH, world, parts)


def whole(feed: Feed, step: int, last: int = 100) -> dict[str, torch.Tensor]:
    parts = list(feed.batches(step, last))
    return {name: torch.cat([part[name] for part in parts], dim=1) for name in parts[0]}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_batches_read_ahead_are_those_of_their_steps_in_any_order() -> None:
    ahead, fresh = feed(Files()), [feed(Files()) for _ in range(8)]
    for step in (0, 1, 2, 3, 7, 8, 2, 3):
        assert equal(whole(ahead, step), whole(fresh.pop(), step)), step
    ahead.close()


def test_cells_get_the_batch_of_their_seed() -> None:
    batch = whole(feed(Files()), 4)
    for cell, seed in enumerate((9, 5, 9)):
        assert torch.equal(batch["rows"][cell], BatchOrder(seed, ROWS, BATCH, CPU).rows(4))
    assert torch.equal(batch["noise"][0], batch["noise"][2])
    assert not torch.equal(batch["noise"][0], batch["noise"][1])


@pytest.mark.parametrize("parts", [1, 2, 4, 6, 50])
@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_parts_and_workers_have_the_rows_of_one_batch_between_them(parts: int, size: int) -> None:
    expected = whole(feed(Files()), 3)
    shares = [whole(feed(Files(), World(rank, size), parts), 3) for rank in range(size)]
    assert equal({name: torch.cat([share[name] for share in shares], dim=1) for name in expected}, expected)


def test_a_worker_reads_its_own_rows_only() -> None:
    seen: list[range] = []

    class Noting(Files):
        def read(self, draws: Draws) -> Any:
            seen.append(draws.places)
            return super().read(draws)

    whole(feed(Noting(), World(1, 3)), 0, last=1)
    assert seen == [range(2, 4)] * 2, "of two seeds"


def test_files_are_read_by_threads_within_a_bound_and_not_beyond_the_last_step() -> None:
    problem = Files()
    source = feed(problem, seeds=(5,))
    whole(source, 0, last=3)
    whole(source, 1, last=3)
    whole(source, 2, last=3)
    assert sorted(problem.read_steps) == [0, 1, 2]
    assert all(name.startswith("feed") for name in problem.threads)
    whole(source, 10, last=1000)
    source.close()
    assert len(problem.read_steps) <= 3 + 1 + AHEAD * MOST_THREADS


def test_a_file_that_cannot_be_read_fails_its_own_step() -> None:
    source = feed(Files(fails_at=2))
    for step in (0, 1):
        whole(source, step)
    with pytest.raises(OSError, match="the file is gone"):
        whole(source, 2)
    source.close()


def test_what_is_read_and_what_is_drawn_are_unrelated() -> None:
    """One key for both would have a row's crop tell its noise."""
    draws = [Draws(0, step, torch.arange(1), slice(0, 1), CPU) for step in range(4000)]
    numbers = torch.tensor([d.number_of_row(0) / 2**62 for d in draws])
    noise = torch.cat([torch.randn(1, generator=d.of_row(0)) for d in draws])
    assert 0 <= float(numbers.min()) < float(numbers.max()) < 1
    assert float(numbers.mean()) == pytest.approx(0.5, abs=0.02)
    assert abs(float(torch.corrcoef(torch.stack([numbers, noise]))[0, 1])) < 0.06


@pytest.mark.parametrize("accumulation", [2, 5])
def test_a_step_in_parts_is_the_step(accumulation: int, recorder: type) -> None:
    """Gradients, rates and objectives are sums over rows, whatever parts those come in."""
    from vaesweep.training.loop import start_state, train_pack

    pvae = family("pvae")
    results = []
    for parts in (1, accumulation):
        rates = {"total": {"kind": "target", "target": 1.0}}
        numbers = {"steps": 30, "evaluate_every": 10, "batch_size": 12, "accumulation": parts}
        model = {"hidden": 8, "features": 8, "latents": 2}
        cell = pvae.config.model_validate({"model": model, "training": numbers, "rates": rates})
        problem, kept = pvae.problem(cell, pvae.example(), CPU), recorder()
        train_pack(problem, [cell], start_state(problem, [cell], ["a"]), kept)
        results.append(kept.results["a"])
    torch.testing.assert_close(results[0].state.flat, results[1].state.flat, rtol=1e-4, atol=1e-5)
    for name, values in results[0].state.history.items():
        torch.testing.assert_close(values, results[1].state.history[name], rtol=1e-3, atol=1e-4, msg=name)
