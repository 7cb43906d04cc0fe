"""A pack on a device, without Ray: whatever happens on the way, the finished files are those of an undisturbed run."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from packs import CPU, assert_close, assert_identical, fill_disk, job, newer, read

from vaesweep.data.domains import DataSet
from vaesweep.sweep import notice, worker
from vaesweep.sweep.cells import Cell
from vaesweep.sweep.jobs import Event
from vaesweep.sweep.resume import (
    cells_of_newer_checkpoints,
    checkpoint_header,
    drop_spent_checkpoints,
    latest_states,
)
from vaesweep.sweep.storage import CHECKPOINTS, FINISHED, Storage, finished_name
from vaesweep.sweep.worker import run_job
from vaesweep.training.finished import FinishedCell

STEPS = (3, 6, 9, 12)


def steps_of_checkpoints(storage: Storage) -> list[int]:
    return sorted(checkpoint_header(storage, name, [])["step"] for name in storage.names(CHECKPOINTS))


# An undisturbed run


def test_every_cell_of_the_order_gets_its_finished_file(
    cells: list[Cell], audiograms: DataSet, storage: Storage, undisturbed: dict[str, FinishedCell]
) -> None:
    for cell in cells:
        found = undisturbed[cell.identity]
        assert found.cell == cell.identity
        assert found.config == cell.config.model_dump(mode="json")
        assert (found.step, found.evaluated, found.diverged) == (12, STEPS, None)
        assert {name.rsplit("/", 1)[0] for name in found.metrics} == {domain.name for domain in audiograms.domains}
        assert all(history.shape == (4,) for history in found.history.values())


def test_events_carry_every_point_and_every_ending_once(
    cells: list[Cell], audiograms: DataSet, storage: Storage, driver: Any
) -> None:
    heard = driver()
    run_job(job(cells, storage), audiograms, heard, CPU)
    names = [cell.identity for cell in cells]
    assert sorted(heard.points()) == sorted((name, step) for name in names for step in STEPS)
    assert sorted(heard.finished()) == sorted(names)
    ended = read(storage, cells)
    for event in heard.events:
        assert event.steps == 12
        for step, who, metrics in event.points:
            for i, name in enumerate(who):
                at = STEPS.index(step)
                assert {key: values[i] for key, values in metrics.items()} == {
                    key: float(history[at]) for key, history in ended[name].history.items()
                }


def test_a_patient_worker_tells_all_points_in_fewer_events(
    cells: list[Cell], audiograms: DataSet, storage: Storage, driver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = driver()
    monkeypatch.setattr(worker, "REPORT_SECONDS", 3600)
    run_job(job(cells, storage), audiograms, heard, CPU)
    assert len(heard.events) == 1
    assert len(heard.points()) == len(cells) * len(STEPS)


def test_a_finished_run_leaves_no_checkpoint(cells: list[Cell], audiograms: DataSet, storage: Storage) -> None:
    run_job(job(cells, storage), audiograms, lambda event: None, CPU)
    assert storage.names(CHECKPOINTS) == []


def test_the_two_newest_checkpoints_are_kept(
    cells: list[Cell], audiograms: DataSet, storage: Storage, driver: Any, killed: type[Exception]
) -> None:
    with pytest.raises(killed):
        run_job(job(cells, storage), audiograms, driver(patience=4), CPU)
    assert steps_of_checkpoints(storage) == [6, 9]


def test_a_young_run_writes_no_checkpoint(
    cells: list[Cell], audiograms: DataSet, storage: Storage, driver: Any, killed: type[Exception]
) -> None:
    with pytest.raises(killed):
        run_job(job(cells, storage, checkpoint_seconds=3600), audiograms, driver(patience=4), CPU)
    assert storage.names(CHECKPOINTS) == []


# An interrupted run


@pytest.mark.parametrize("patience", [1, 2, 3, 4])
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(
    cells: list[Cell],
    audiograms: DataSet,
    storage: Storage,
    driver: Any,
    killed: type[Exception],
    undisturbed: dict[str, FinishedCell],
    patience: int,
) -> None:
    with pytest.raises(killed):
        run_job(job(cells, storage), audiograms, driver(patience), CPU)
    run_job(job(cells, storage), audiograms, lambda event: None, CPU)
    assert_identical(read(storage, cells), undisturbed)


def test_a_run_killed_at_every_report_still_arrives(
    cells: list[Cell],
    audiograms: DataSet,
    storage: Storage,
    driver: Any,
    killed: type[Exception],
    undisturbed: dict[str, FinishedCell],
) -> None:
    kills = 0
    while len(storage.names(FINISHED)) < len(cells):
        # Two events a life: the first tells of an evaluation that the checkpoint, written after it, must outlive.
        with pytest.raises(killed):
            run_job(job(cells, storage), audiograms, driver(patience=2), CPU)
        kills += 1
        assert kills < 10
    assert kills > 1
    assert_identical(read(storage, cells), undisturbed)


def test_a_resumed_run_does_not_repeat_what_the_checkpoint_holds(
    cells: list[Cell], audiograms: DataSet, storage: Storage, driver: Any, killed: type[Exception]
) -> None:
    with pytest.raises(killed):
        run_job(job(cells, storage), audiograms, driver(patience=3), CPU)
    heard = driver()
    run_job(job(cells, storage), audiograms, heard, CPU)
    assert {step for _, step in heard.points()} == {9, 12}


def test_finished_cells_are_told_of_but_not_trained_again(
    cells: list[Cell], audiograms: DataSet, storage: Storage, driver: Any, undisturbed: dict[str, FinishedCell]
) -> None:
    run_job(job(cells[:2], storage), audiograms, lambda event: None, CPU)
    before = {name: storage.read(name) for name in storage.names(FINISHED)}
    heard = driver()
    run_job(job(cells, storage), audiograms, heard, CPU)
    assert {name for name, _ in heard.points()} == {cell.identity for cell in cells[2:]}
    assert sorted(heard.finished()) == sorted(cell.identity for cell in cells)
    assert all(storage.read(name) == content for name, content in before.items())


def test_an_order_with_nothing_left_only_says_so(
    cells: list[Cell], audiograms: DataSet, storage: Storage, driver: Any
) -> None:
    run_job(job(cells, storage), audiograms, lambda event: None, CPU)
    heard = driver()
    run_job(job(cells, storage), audiograms, heard, CPU)
    (event,) = heard.events
    assert sorted(event.finished) == sorted(cell.identity for cell in cells)
    assert event.points == []


def test_cells_resume_from_checkpoints_of_packs_that_were_grouped_otherwise(
    cells: list[Cell],
    audiograms: DataSet,
    storage: Storage,
    driver: Any,
    killed: type[Exception],
    undisturbed: dict[str, FinishedCell],
) -> None:
    for group, patience in ((cells[:1], 2), (cells[1:3], 3)):  # to step 3 and to step 6; the last cell not at all
        with pytest.raises(killed):
            run_job(job(group, storage), audiograms, driver(patience), CPU)
    assert steps_of_checkpoints(storage) == [3, 3, 6]
    heard = driver()
    run_job(job(cells, storage), audiograms, heard, CPU)
    told = {cell.identity: sorted(s for name, s in heard.points() if name == cell.identity) for cell in cells}
    assert list(told.values()) == [[6, 9, 12], [9, 12], [9, 12], [3, 6, 9, 12]]
    assert_close(read(storage, cells), undisturbed)


def test_a_pack_taken_apart_resumes_in_parts(
    cells: list[Cell],
    audiograms: DataSet,
    storage: Storage,
    driver: Any,
    killed: type[Exception],
    undisturbed: dict[str, FinishedCell],
) -> None:
    with pytest.raises(killed):
        run_job(job(cells, storage), audiograms, driver(patience=3), CPU)
    for cell in cells:
        heard = driver()
        run_job(job([cell], storage), audiograms, heard, CPU)
        assert {step for _, step in heard.points()} == {9, 12}
    assert_close(read(storage, cells), undisturbed)


def test_of_several_checkpoints_of_a_cell_the_furthest_counts(
    cells: list[Cell], audiograms: DataSet, storage: Storage, driver: Any, killed: type[Exception]
) -> None:
    for group, patience in ((cells[:2], 2), (cells[:1], 2)):  # the second goes on from the first, to step 6
        with pytest.raises(killed):
            run_job(job(group, storage), audiograms, driver(patience), CPU)
    states, notes = latest_states(storage, [cell.identity for cell in cells])
    assert notes == []
    assert {cell: state.step for state in states for cell in state.cells} == {
        cells[0].identity: 6,
        cells[1].identity: 3,
    }


def test_a_diverging_cell_leaves_its_neighbours_as_they_are(
    small_cell: Callable[..., Cell], audiograms: DataSet, storage: Storage, driver: Any
) -> None:
    sound, mad = small_cell({"training.learning_rate": 1e-3}), small_cell({"training.learning_rate": 1e3})
    run_job(job([sound, mad], storage), audiograms, driver(), CPU)
    found = read(storage, [sound, mad])
    assert found[mad.identity].diverged is not None
    assert found[mad.identity].metrics == {}
    assert found[sound.identity].diverged is None
    alone = Storage(f"{storage.uri}/alone")
    run_job(job([sound], alone), audiograms, lambda event: None, CPU)
    assert_close({sound.identity: found[sound.identity]}, read(alone, [sound]))


def test_another_step_would_be_noticed(
    cells: list[Cell], small_cell: Callable[..., Cell], audiograms: DataSet, storage: Storage, undisturbed: Any
) -> None:
    """The tolerance of `assert_close` is no blanket: eleven steps instead of twelve fail it."""
    short = small_cell({**cells[0].values, "training.steps": 11})
    run_job(job([short], storage), audiograms, lambda event: None, CPU)
    (found,) = read(storage, [short]).values()
    expected = undisturbed[cells[0].identity]
    assert any(not torch.allclose(v, expected.weights[k], rtol=1e-4, atol=1e-5) for k, v in found.weights.items())


# A machine that is taken back


def test_notice_of_the_machines_end_saves_a_young_run_at_its_next_step(
    cells: list[Cell], audiograms: DataSet, storage: Storage, driver: Any, undisturbed: dict[str, FinishedCell]
) -> None:
    def report(event: Event) -> None:
        if any(step == 6 for step, _, _ in event.points):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with notice.listening(), pytest.raises(notice.MachineEnds, match="step 6"):
        run_job(job(cells, storage, checkpoint_seconds=3600), audiograms, report, CPU)
    assert signal.getsignal(signal.SIGTERM) == before, "a second one ends the process"
    assert steps_of_checkpoints(storage) == [6]
    heard = driver()
    with notice.listening():
        run_job(job(cells, storage, checkpoint_seconds=3600), audiograms, heard, CPU)
    assert sorted({step for _, step in heard.points()}) == [9, 12]
    assert_identical(read(storage, cells), undisturbed)


def test_notice_is_taken_in_a_thread_and_outside_of_packs_the_signal_is_as_before() -> None:
    script = """
import os, signal, sys, threading, time
from vaesweep.sweep import notice

def train():
    with notice.listening():
        while signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:  # the main thread sets it
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM) if sys.argv[1] == "within" else None
        deadline = time.monotonic() + 20
        while not notice.is_given() and time.monotonic() < deadline and sys.argv[1] == "within":
            time.sleep(0.01)
        time.sleep(0.2)
    print("noticed", notice.is_given(), flush=True)

thread = threading.Thread(target=train)
thread.start()
while thread.is_alive():
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(20)
"""
    for place, said in (("within", "noticed True\n"), ("after", "noticed False\n")):
        done = subprocess.run([sys.executable, "-c", script, place], capture_output=True, text=True, timeout=120)
        assert (done.stdout, done.returncode) == (said, -signal.SIGTERM), done.stderr


# Checkpoints that serve nobody, or are no checkpoints


def test_where_the_newest_checkpoint_is_lost_the_one_before_goes_on(
    cells: list[Cell],
    audiograms: DataSet,
    storage: Storage,
    driver: Any,
    killed: type[Exception],
    undisturbed: dict[str, FinishedCell],
) -> None:
    with pytest.raises(killed):
        run_job(job(cells, storage), audiograms, driver(patience=4), CPU)
    (newest,) = (name for name in storage.names(CHECKPOINTS) if "-9." in name)
    storage.delete(newest)
    heard = driver()
    run_job(job(cells, storage), audiograms, heard, CPU)
    assert sorted({step for _, step in heard.points()}) == [9, 12]
    assert_identical(read(storage, cells), undisturbed)


def test_where_the_disk_has_room_for_one_checkpoint_less_the_older_makes_room(
    cells: list[Cell],
    audiograms: DataSet,
    storage: Storage,
    driver: Any,
    killed: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill_disk(monkeypatch, lambda disk, _: len(disk.names(CHECKPOINTS)) == 2)
    heard = driver(patience=4)
    with pytest.raises(killed):
        run_job(job(cells, storage), audiograms, heard, CPU)
    assert steps_of_checkpoints(storage) == [6, 9]
    assert not [note for event in heard.events for note in event.notes]


def test_checkpoints_whose_cells_have_all_ended_are_dropped_and_others_kept(
    cells: list[Cell], audiograms: DataSet, storage: Storage, driver: Any, killed: type[Exception]
) -> None:
    for group in (cells[:2], cells[2:]):
        with pytest.raises(killed):
            run_job(job(group, storage), audiograms, driver(patience=2), CPU)
    for cell in cells[:2]:  # in packs of their own, so that the pair's checkpoint stays behind
        run_job(job([cell], storage), audiograms, lambda event: None, CPU)
    assert len(storage.names(CHECKPOINTS)) == 2
    drop_spent_checkpoints(storage)
    (kept,) = storage.names(CHECKPOINTS)
    assert sorted(checkpoint_header(storage, kept, [])["cells"]) == sorted(cell.identity for cell in cells[2:])


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:5],
        lambda content: content[:100],
        lambda content: content[:-1],
        lambda content: b"something else altogether",
        lambda content: content[:8] + b"x" * (len(content) - 8),
    ],
    ids=["empty", "5 bytes", "100 bytes", "all but its end", "text", "a header of nonsense"],
)
def test_a_damaged_checkpoint_is_set_aside_with_a_line_and_its_cells_train_anew(
    cells: list[Cell],
    audiograms: DataSet,
    storage: Storage,
    driver: Any,
    killed: type[Exception],
    damage: Callable[[bytes], bytes],
    undisturbed: dict[str, FinishedCell],
) -> None:
    with pytest.raises(killed):
        run_job(job(cells, storage), audiograms, driver(patience=2), CPU)
    (name,) = storage.names(CHECKPOINTS)
    storage.write(name, damage(storage.read(name)))
    heard = driver()
    run_job(job(cells, storage), audiograms, heard, CPU)
    (note,) = [note for event in heard.events for note in event.notes]
    assert f"{storage.uri}/{name}" in note
    assert "set aside" in note
    assert "delete" not in note
    assert_identical(read(storage, cells), undisturbed)
    assert storage.names(CHECKPOINTS) == []


def test_a_checkpoint_of_a_newer_version_is_left_alone_and_its_cells_are_named(
    cells: list[Cell], audiograms: DataSet, storage: Storage, driver: Any, killed: type[Exception]
) -> None:
    with pytest.raises(killed):
        run_job(job(cells[:2], storage), audiograms, driver(patience=2), CPU)
    (name,) = storage.names(CHECKPOINTS)
    content = newer(storage.read(name))
    storage.write(name, content)
    newer_cells = cells_of_newer_checkpoints(storage, [])
    assert newer_cells.keys() == {cell.identity for cell in cells[:2]}
    assert all("has format 9" in reason and "delete" not in reason for reason in newer_cells.values())
    assert latest_states(storage, [cell.identity for cell in cells]) == ([], [])
    drop_spent_checkpoints(storage)
    assert storage.read(name) == content


def test_a_checkpoint_under_another_name_than_its_own_counts_for_nothing(
    cells: list[Cell], audiograms: DataSet, storage: Storage, driver: Any, killed: type[Exception]
) -> None:
    with pytest.raises(killed):
        run_job(job(cells, storage), audiograms, driver(patience=2), CPU)
    (name,) = storage.names(CHECKPOINTS)
    storage.write(name.replace("-3.", "-6."), storage.read(name))
    storage.delete(name)
    states, notes = latest_states(storage, [cell.identity for cell in cells])
    assert (states, len(notes)) == ([], 1)


@pytest.mark.parametrize("place", ["a weight", "a metric", "another cell's file"])
def test_a_damaged_finished_file_is_set_aside_and_its_cell_trains_again(
    cells: list[Cell],
    audiograms: DataSet,
    storage: Storage,
    driver: Any,
    undisturbed: dict[str, FinishedCell],
    place: str,
) -> None:
    run_job(job(cells, storage), audiograms, driver(), CPU)
    name, other = (finished_name(cell.identity) for cell in cells[:2])
    content = bytearray(storage.read(name))
    if place == "a weight":
        content[-100] ^= 1
    elif place == "a metric":
        at = content.index(b"/distortion") + 16
        content[at : at + 1] = bytes([content[at] ^ 1])
    else:
        content = bytearray(storage.read(other))
    storage.write(name, bytes(content))
    heard = driver()
    run_job(job(cells, storage), audiograms, heard, CPU)
    notes = [note for event in heard.events for note in event.notes]
    assert any(name in note and "set aside" in note for note in notes)
    assert_close(read(storage, cells), undisturbed)


def test_a_checkpoint_that_cannot_be_written_is_told_and_training_goes_on(
    cells: list[Cell],
    audiograms: DataSet,
    storage: Storage,
    driver: Any,
    undisturbed: dict[str, FinishedCell],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill_disk(monkeypatch, lambda _, name: name.startswith(CHECKPOINTS))
    heard = driver()
    run_job(job(cells, storage), audiograms, heard, CPU)
    notes = [note for event in heard.events for note in event.notes]
    assert len(notes) == 3
    assert all("No space left on device" in note and "training goes on" in note for note in notes)
    assert_identical(read(storage, cells), undisturbed)


def test_a_finished_file_that_cannot_be_written_is_tried_again(
    cells: list[Cell],
    audiograms: DataSet,
    storage: Storage,
    driver: Any,
    undisturbed: dict[str, FinishedCell],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, attempts = Storage.write, Counter[str]()

    def flaky(self: Storage, name: str, data: bytes) -> None:
        attempts[name] += 1
        if name.startswith(FINISHED) and attempts[name] < 3:
            raise OSError(5, "Input/output error")
        write(self, name, data)

    monkeypatch.setattr(Storage, "write", flaky)
    monkeypatch.setattr(worker, "WRITE_PAUSES", (0.0, 0.0))
    run_job(job(cells, storage), audiograms, driver(), CPU)
    assert_identical(read(storage, cells), undisturbed)
    assert {count for name, count in attempts.items() if name.startswith(FINISHED)} == {3}
