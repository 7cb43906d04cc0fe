"""Jobs of packs and what comes of them, for tests of the worker."""

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import pytest
import torch

from vaesweep.sweep.cells import Cell, Pack
from vaesweep.sweep.jobs import PackJob
from vaesweep.sweep.storage import Storage, finished_name
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell
from vaesweep.training.sealed import seal, unseal

CPU = torch.device("cpu")


def job(cells: Sequence[Cell], storage: Storage, checkpoint_seconds: float = 0.0, size: int | None = None) -> PackJob:
    """The cells as one pack that checkpoints and tells at every evaluation."""
    configs = {cell.identity: cell.config.model_dump_json() for cell in cells}
    made = PackJob(Pack(tuple(cells)).identity, "pvae", configs, storage.uri, checkpoint_seconds, size)
    return PackJob.from_json(made.to_json())


def read(storage: Storage, cells: Iterable[Cell]) -> dict[str, FinishedCell]:
    """The finished files of `cells`."""
    return {
        cell.identity: finished.from_bytes(storage.read(finished_name(cell.identity)), cell.identity) for cell in cells
    }


def assert_identical(found: Mapping[str, FinishedCell], expected: Mapping[str, FinishedCell]) -> None:
    """Bit for bit, NaN as NaN: the same cells with the same weights, histories and final metrics."""
    assert found.keys() == expected.keys()
    for name, one in found.items():
        other = expected[name]
        assert one.evaluated == other.evaluated
        assert one.metrics == other.metrics
        assert (one.step, one.diverged, one.saturated) == (other.step, other.diverged, other.saturated)
        for mine, theirs in ((one.weights, other.weights), (one.history, other.history)):
            assert mine.keys() == theirs.keys()
            for key, value in mine.items():
                torch.testing.assert_close(value, theirs[key], rtol=0, atol=0, equal_nan=True)


def assert_close(found: Mapping[str, FinishedCell], expected: Mapping[str, FinishedCell]) -> None:
    """Equal up to float32 rounding: a pack of another size may order a sum in another way.

    A step's relative rounding is about 1e-7 and is not damped over twelve steps of Adam; 1e-4 leaves it room and is far
    below what one step more or less would change (test_sweep_worker checks that).
    """
    assert found.keys() == expected.keys()
    for name, one in found.items():
        assert one.evaluated == expected[name].evaluated
        for key, value in one.weights.items():
            torch.testing.assert_close(value, expected[name].weights[key], rtol=1e-4, atol=1e-5)
        for key, number in one.metrics.items():
            assert number == pytest.approx(expected[name].metrics[key], rel=1e-4, abs=1e-5)


def newer(content: bytes) -> bytes:
    """A file as a newer version of vaesweep might have written it: format 9, with a digest of its own."""
    about, tensors = unseal(content, "here", (1, 2))
    return seal({**about, "format": 9}, tensors)


def fill_disk(monkeypatch: pytest.MonkeyPatch, is_full: Callable[[Storage, str], bool]) -> None:
    """Have a storage refuse to write a name, as a full disk does, wherever `is_full` says so."""
    write = Storage.write

    def full(self: Storage, name: str, data: bytes) -> None:
        if is_full(self, name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, name, data)

    monkeypatch.setattr(Storage, "write", full)
