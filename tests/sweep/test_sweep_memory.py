"""Packs that a device has no memory for, or that are asked to be smaller: the same cells, fewer at a time."""

from typing import Any

import pytest
import torch
from packs import CPU, assert_close, job, read

from vaesweep.data.domains import DataSet
from vaesweep.sweep import worker
from vaesweep.sweep.cells import Cell
from vaesweep.sweep.storage import Storage
from vaesweep.sweep.worker import run_job
from vaesweep.training.finished import FinishedCell
from vaesweep.training.state import PackState


def test_a_pack_that_is_too_large_goes_on_in_smaller_ones(
    cells: list[Cell],
    audiograms: DataSet,
    undisturbed: dict[str, FinishedCell],
    storage: Storage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory runs out at the second evaluation of any pack of more than one cell: after a checkpoint."""
    train, sizes, told = worker.train_pack, [], []

    def small_device(problem: Any, configs: Any, state: PackState, listener: Any, *rest: Any, **options: Any) -> None:
        sizes.append((len(configs), state.step))

        class Short:
            def progress(self, state: PackState, latest: Any) -> None:
                if len(configs) > 1 and len(state.evaluated) > 1:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
                listener.progress(state, latest)

            def __getattr__(self, name: str) -> Any:
                return getattr(listener, name)

        train(problem, configs, state, Short(), *rest, **options)

    monkeypatch.setattr(worker, "train_pack", small_device)
    run_job(job(cells, storage), audiograms, told.append, CPU)
    assert [size for size, _ in sizes] == [4, 2, 1, 1, 1, 1]
    assert all(step > 0 for _, step in sizes[1:]), "nothing that a checkpoint held was trained again"
    assert_close(read(storage, cells), undisturbed)
    assert [note for event in told for note in event.notes] == [
        f"out of memory: going on with {size} cells at a time" for size in (2, 1)
    ]


def test_one_cell_that_does_not_fit_says_so(
    cells: list[Cell], audiograms: DataSet, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(worker, "train_pack", no_room)
    with pytest.raises(torch.OutOfMemoryError):
        run_job(job(cells, storage), audiograms, lambda event: None, CPU)


def test_a_size_that_was_asked_for_splits_the_pack(
    cells: list[Cell],
    audiograms: DataSet,
    storage: Storage,
    undisturbed: dict[str, FinishedCell],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train, sizes = worker.train_pack, []

    def counted(problem: Any, configs: Any, *rest: Any, **options: Any) -> None:
        sizes.append(len(configs))
        train(problem, configs, *rest, **options)

    monkeypatch.setattr(worker, "train_pack", counted)
    run_job(job(cells, storage, size=3), audiograms, lambda event: None, CPU)
    assert sizes == [3, 1]
    assert_close(read(storage, cells), undisturbed)
