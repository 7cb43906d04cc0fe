"""What ran when: laps follow each other, a pack sends its own, lines are in the order of their beginnings."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from packs import CPU, job

from vaesweep.data.domains import DataSet
from vaesweep.sweep.cells import Cell
from vaesweep.sweep.storage import Storage
from vaesweep.sweep.timeline import Laps, Timeline, process_began
from vaesweep.sweep.worker import run_job


def test_laps_follow_each_other_without_a_gap() -> None:
    laps = Laps(began=1.0)
    laps.lap("first", until=3.0)
    laps.lap("second", until=4.5)
    assert laps.take() == [("first", 1.0, 3.0), ("second", 3.0, 4.5)]
    assert laps.take() == []


def test_a_lap_never_goes_back() -> None:
    laps = Laps(began=1.0)
    laps.lap("first", until=3.0)
    laps.lap("second", until=2.0)
    laps.lap("third", until=4.0)
    assert laps.take() == [("first", 1.0, 3.0), ("third", 3.0, 4.0)]


def test_what_a_pack_goes_on_with_is_one_span() -> None:
    timeline = Timeline()
    timeline.add("pack 1", [("first step", 1.0, 2.0), ("training", 2.0, 3.0)])
    timeline.add("pack 2", [("training", 2.5, 3.5)])
    timeline.add("pack 1", [("training", 3.0, 4.0)])
    timeline.add("pack 1", [("training", 9.0, 9.5)])  # of another process
    spans = [(span.where, span.began, span.ended) for span in timeline.spans if span.what == "training"]
    assert spans == [("pack 1", 2.0, 4.0), ("pack 2", 2.5, 3.5), ("pack 1", 9.0, 9.5)]


def test_lines_are_seconds_since_the_process_began_in_the_order_of_beginnings() -> None:
    timeline = Timeline()
    began = timeline.began
    timeline.lap("imports")
    timeline.add("pack 1", [("training", began + 7.0, began + 8.25)])
    with timeline.span("store", "opened"):
        pass
    timeline.lap("end")
    lines = timeline.lines()
    moments = [float(line.split()[0]) for line in lines]
    assert moments == sorted(moments)
    assert moments[0] == 0.0
    (pack,) = (line.split() for line in lines if "pack 1" in line)
    assert pack == ["7.00", "8.25", "pack", "1", "training"]


def test_a_process_began_when_it_was_started() -> None:
    """To the hundredth on Linux, where what the boot's time in whole seconds gives may be a second too early."""
    code = "from vaesweep.sweep.timeline import process_began; print(repr(process_began()))"
    before = time.time()
    began = float(subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE).stdout)
    assert before - 0.05 < began < time.time()
    assert time.time() - 24 * 3600 < process_began() < before


@pytest.mark.parametrize("size", [None, 2])
def test_a_pack_tells_what_its_process_has_done(
    cells: Sequence[Cell], audiograms: DataSet, storage: Storage, driver: Callable[..., Any], size: int | None
) -> None:
    """Its spans cover its time from first to last, however many groups of cells it trains one after the other."""
    listener, began = driver(), time.time()
    run_job(job(cells, storage, size=size), audiograms, listener, CPU, Laps(began))
    timeline = Timeline()
    for event in listener.events:
        timeline.add("pack 1", event.spans)
    spans = [(span.what, span.began, span.ended) for span in timeline.spans]
    assert [what for what, _, _ in spans] == [
        "choice of size, compiling",
        *["first step", "training", "final evaluation", "finished files"] * (1 if size is None else 2),
    ]
    moments = [began, *(ended for _, _, ended in spans)]
    assert [start for _, start, _ in spans] == moments[:-1]
    assert moments == sorted(moments)
