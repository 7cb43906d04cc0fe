"""What a log says of a running sweep: how much is done, and how long the rest takes at the pace of this command."""

import io

import pytest
from rich.console import Console

from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.sweep import progress
from vaesweep.sweep.cells import Cell, Pack
from vaesweep.sweep.jobs import Event
from vaesweep.sweep.progress import ProgressDisplay, duration

STEPS, INTERVAL = 1000, 100


def said(events: list[tuple[float, Event]], pack: Pack, monkeypatch: pytest.MonkeyPatch) -> str:
    """The last line of a log in which the events come at some seconds after the start."""
    return log(events, pack, monkeypatch)[-1]


def log(events: list[tuple[float, Event]], pack: Pack, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    text = io.StringIO()
    with ProgressDisplay(Console(file=text, width=200), [pack], done=0, total=1) as watcher:
        for seconds, event in events:
            now[0] = seconds
            watcher.event(event)
    return text.getvalue().splitlines()


@pytest.fixture
def pack() -> Pack:
    config = PartialVaeCell.model_validate({"training": {"steps": STEPS, "evaluate_every": INTERVAL}})
    return Pack((Cell(config, "pvae", "data", {}),))


def event(pack: Pack, *steps: int) -> Event:
    points = [(step, ["cell"], {"valid/rate": [1.0], "valid/elbo": [-2.0]}) for step in steps]
    return Event(pack.identity, steps[-1], STEPS, points)


def test_the_time_left_is_that_of_the_steps_left(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    line = said([(30.0, event(pack, 100, 200)), (60.0, event(pack, 300, 400))], pack, monkeypatch)
    assert "40% of the steps, about 2 min left" in line


def test_steps_that_a_checkpoint_held_say_nothing_of_the_pace(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed at 800: the two hundred steps left take as long as the hundred done since, twice."""
    line = said([(40.0, event(pack, 900))], pack, monkeypatch)
    assert "90% of the steps, about 40 s left" in line


def test_what_a_worker_has_to_say_is_said_once_and_by_the_number_of_its_pack(
    pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = Event(pack.identity, 0, STEPS, notes=["16 of 64 cells at a time", "compiled"])
    lines = log([(1.0, noted), (60.0, event(pack, 100))], pack, monkeypatch)
    assert [line for line in lines if line.startswith("pack 1:")] == [
        "pack 1: 16 of 64 cells at a time",
        "pack 1: compiled",
    ]


def test_durations_are_written_as_people_say_them() -> None:
    assert [duration(s) for s in (45, 12 * 60, 3 * 3600 + 5 * 60)] == ["45 s", "12 min", "3 h 05 min"]
