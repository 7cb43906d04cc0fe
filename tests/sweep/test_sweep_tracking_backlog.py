"""Points that wait for the store: in memory up to a bound, beyond it in a file, and none is lost or changes."""

import math
import tempfile
import tracemalloc
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaesweep.sweep.backlog import Backlog, FileShelf, Point, Record, Spill

CELLS = ("a", "b", "c")
values = st.floats(allow_nan=False)
records = st.builds(
    Record, st.integers(0, 10**9), st.integers(0, 2**43), st.dictionaries(st.text(max_size=4), values, max_size=5)
)
adding = st.tuples(st.sampled_from(CELLS), st.lists(records, max_size=4))
acts = st.lists(st.one_of(adding, st.sampled_from(CELLS)), max_size=40)  # records are added to a cell, or one is taken


@given(acts, st.integers(0, 12))
def test_records_come_out_as_they_went_in_whatever_the_bound(acts: list[Any], bound: int) -> None:
    backlog, expected = Backlog(bound), defaultdict(list)
    for act in acts:
        if isinstance(act, tuple):
            backlog.add([(act[0], record) for record in act[1]])
            expected[act[0]] += act[1]
        else:
            first = expected[act].pop(0) if expected[act] else None
            assert backlog.pop(act, 2**62) == first
        assert all(backlog.has(cell) for cell in CELLS if expected[cell])
    for cell in CELLS:
        while expected[cell]:
            assert backlog.pop(cell, 2**62) == expected[cell].pop(0)
        assert backlog.pop(cell, 2**62) is None
        assert not backlog.has(cell)
    assert backlog.points_in_memory == 0


def test_what_is_not_finite_comes_back_from_the_file() -> None:
    backlog = Backlog(0)
    backlog.add([("a", Record(1, 2, {"x": math.nan, "y": math.inf, "z": -math.inf}))])
    assert backlog.points_in_memory == 0
    record = backlog.pop("a", 3)
    assert record is not None
    nan, *infinities = record.points()
    assert math.isnan(nan.value)
    assert infinities == [Point("y", 1, math.inf, 2), Point("z", 1, -math.inf, 2)]


def test_a_record_that_is_larger_than_asked_for_stays() -> None:
    backlog = Backlog()
    backlog.add([("a", Record(1, 2, {"x": 1.0, "y": 2.0}))])
    assert backlog.pop("a", 1) is None
    assert backlog.has("a")
    assert backlog.pop("a", 2) is not None


def test_a_night_of_points_takes_little_memory() -> None:
    """200 000 points of 50 cells, which would take 14 MB otherwise."""
    backlog, names = Backlog(20_000), [f"train/metric_{i}" for i in range(100)]
    tracemalloc.start()
    for step in range(40):
        for cell in range(50):
            values = {name: step + cell / 7 + i for i, name in enumerate(names)}
            backlog.add([(str(cell), Record(step, 0, values))])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert backlog.points_in_memory <= 20_000
    assert peak < 6e6
    steps = [record.step for record in iter(lambda: backlog.pop("7", 100), None)]
    assert steps == list(range(40))


def test_points_stay_in_memory_where_no_file_takes_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Spill, "write", full)
    backlog = Backlog(3)
    for step in range(20):
        backlog.add([("a", Record(step, 0, {"x": 1.0}))])
    assert [record.step for record in iter(lambda: backlog.pop("a", 1), None)] == list(range(20))
    assert "No space left" in caplog.text
    assert len(caplog.records) < 5


def test_the_file_is_emptied_once_all_of_it_is_taken() -> None:
    spill = Spill()
    first, second = spill.write(b"one"), spill.write(b"second")
    spill.free(first)
    assert spill.read(second) == b"second"
    spill.free(second)
    assert spill._file.seek(0, 2) == 0


def test_a_write_that_is_cut_off_leaves_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        """A file on a disk that is full in the middle of a write."""

        def __init__(self, file: Any) -> None:
            self._file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def write(self, data: bytes) -> None:
            self._file.write(data[:2])
            raise OSError(28, "No space left on device")

    spill = Spill()
    slot = spill.write(b"one")
    own, spill._file = spill._file, Full(spill._file)  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space"):
        spill.write(b"second")
    spill._file = own
    third = spill.write(b"third")
    assert (spill.read(slot), spill.read(third)) == (b"one", b"third")


@given(st.lists(st.tuples(st.sampled_from(CELLS), st.binary(max_size=20)), max_size=20), st.integers(0, 40))
def test_files_come_back_as_they_were_put_whatever_the_bound(puts: list[tuple[str, bytes]], bound: int) -> None:
    shelf, expected = FileShelf(bound), {}
    for name, data in puts:
        shelf.put(name, data)
        expected[name] = data
        assert {key: shelf.get(key) for key in expected} == expected
    for name in CELLS:
        shelf.drop(name)
    assert shelf._left == bound


def test_a_file_that_no_disk_takes_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    shelf = FileShelf(1)
    shelf.put("a", b"weights")
    assert shelf.get("a") == b"weights"
