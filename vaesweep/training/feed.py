"""The batches of a pack's steps. What takes reading is read while the steps before run.

    seed, step ──► draws ──► Problem.read, in threads ──► Problem.train_share ──► one part after the other ──► step

A batch is a function of (seed, step), so one that was read ahead is the one that would have been read in its turn.
Noise and whatever else a device draws is drawn where its part is used: no more than one part of it is held.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from vaesweep.training.batch_order import BatchOrder, Draws
from vaesweep.training.problem import Problem
from vaesweep.training.stack import Batch
from vaesweep.training.world import World

MOST_THREADS = 4
AHEAD = 2  # batches a thread that are read, or being read, before their steps

CPU = torch.device("cpu")
Parts = list[list[Draws]]  # of a step: the draws of every seed, part by part


class Feed:
    """The batches of a pack's steps, with an axis of cells, in the parts whose gradients are summed.

    `seeds` are those of the cells, each once; `of_cell` `[cell]` are the places of the cells' own among them. `rows`
    are those of the batch that all workers share, `waited` the seconds that steps have waited for files.
    """

    def __init__(
        self, problem: Problem, seeds: Sequence[int], of_cell: Tensor, batch_size: int, world: World, parts: int = 1
    ) -> None:
        self._problem, self._of_cell, self._world, self._parts = problem, of_cell, world, parts
        self._plain = of_cell.tolist() == list(range(len(seeds)))
        device = CPU if problem.reads else problem.device  # who reads needs row numbers where files are
        self._orders = {seed: BatchOrder(seed, problem.train_rows, batch_size, device) for seed in seeds}
        self.rows = min(batch_size, problem.train_rows)
        self.waited = 0.0
        self._threads: ThreadPoolExecutor | None = None
        self._ahead: deque[tuple[int, Parts, Future[list[list[Any]]]]] = deque()

    def batches(self, step: int, last: int) -> Iterator[Batch]:
        """The parts of the batch of `step`, `[cell, batch, ...]`; of steps from `last` on nothing is read ahead."""
        if not self._problem.reads:
            for draws in self._draws(step):
                yield self._stacked([self._problem.train_share(each) for each in draws])
            return
        parts, reading = self._reading(step, last)
        began = time.perf_counter()
        read = reading.result()
        self.waited += time.perf_counter() - began
        for draws, own in zip(parts, read, strict=True):
            yield self._stacked([self._problem.train_share(*each) for each in zip(draws, own, strict=True)])

    def close(self) -> None:
        """End the threads; what they have read is dropped."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
        self._ahead.clear()

    def _reading(self, step: int, last: int) -> tuple[Parts, "Future[list[list[Any]]]"]:
        """The draws of `step` and what is read for them; the steps after it are on their way."""
        threads = max(1, min(MOST_THREADS, torch.get_num_threads()))
        if self._threads is None:
            self._threads = ThreadPoolExecutor(threads, "feed")
        while self._ahead and self._ahead[0][0] != step:
            self._ahead.popleft()[2].cancel()
        begun = self._ahead[-1][0] + 1 if self._ahead else step
        for number in range(begun, max(min(step + 1 + AHEAD * threads, last), step + 1)):
            parts = self._draws(number)
            self._ahead.append((number, parts, self._threads.submit(self._read, parts)))
        return self._ahead.popleft()[1:]

    def _read(self, parts: Parts) -> list[list[Any]]:
        return [[self._problem.read(each) for each in draws] for draws in parts]

    def _draws(self, step: int) -> Parts:
        rows = {seed: order.rows(step) for seed, order in self._orders.items()}
        pieces = _pieces(self._world.share(self.rows), self._parts)
        return [[Draws(seed, step, rows[seed], piece, self._problem.device) for seed in rows] for piece in pieces]

    def _stacked(self, shares: Sequence[Batch]) -> Batch:
        stacked = {name: torch.stack([share[name] for share in shares]) for name in shares[0]}
        if self._plain:
            return stacked
        return {name: value.index_select(0, self._of_cell) for name, value in stacked.items()}


def _pieces(share: slice, parts: int) -> list[slice]:
    """A worker's share of a batch in as many `parts`, of at least a row each; one where it has no row."""
    rows = share.stop - share.start
    parts = max(1, min(parts, rows))
    pieces = [World(number, parts).share(rows) for number in range(parts)]
    return [slice(share.start + piece.start, share.start + piece.stop) for piece in pieces]
