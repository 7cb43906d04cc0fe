"""Workers that share a pack report together: what one of them has alone waits for what all of them have."""

import pytest

from vaesweep.sweep.backends import together
from vaesweep.sweep.jobs import Event

POINT = [(50, ["a"], {"valid/elbo": [-1.0]})]


def test_a_note_waits_for_the_next_event_that_all_have() -> None:
    told: list[Event] = []
    report = together(told.append)
    report(Event("pack", 0, 100, notes=["compiled"]))
    report(Event("pack", 0, 100, notes=["a file is damaged"]))
    assert told == []
    report(Event("pack", 50, 100, points=POINT, notes=["a checkpoint is left out"]))
    report(Event("pack", 100, 100, finished=["a"]))
    assert [event.notes for event in told] == [["compiled", "a file is damaged", "a checkpoint is left out"], []]
    assert told[0].points == POINT


@pytest.mark.parametrize("notes", [[[], []], [["only here"], []], [[], ["only there"]], [["here"], ["there", "too"]]])
def test_workers_report_equally_often_whatever_each_has_noted(notes: list[list[str]]) -> None:
    counts = []
    for own in notes:
        told: list[Event] = []
        report = together(told.append)
        for note in own:
            report(Event("pack", 0, 100, notes=[note]))
        report(Event("pack", 50, 100, points=POINT))
        report(Event("pack", 100, 100, finished=["a"], notes=own))
        counts.append(len(told))
    assert counts == [2, 2]
