"""Processes that die while a sweep runs: the same command goes on, and the end is that of an undisturbed sweep.

Every pack is one cell, so that no fault regroups packs: then results do not even differ by rounding, and tables are
compared byte by byte.
"""

import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from processes import PATIENCE, TRIAL, WORKER, processes, wait

pytestmark = pytest.mark.slow

LONG = ("training.steps=2400", "training.evaluate_every=120")  # some seconds a cell
OPTIONS = ("--pack-size", "1", "--checkpoint-every", "0")
CELLS = 4


@pytest.fixture(scope="module")
def swept(command_in: Callable[[], Any]) -> Any:
    """A sweep to which nothing happened."""
    command = command_in()
    done = end(begin(command))
    assert done.returncode == 0, done.stderr
    return command


@pytest.fixture(scope="module")
def undisturbed(swept: Any) -> bytes:
    """Its cells.csv."""
    return table(swept)


def begin(command: Any) -> subprocess.Popen[str]:
    return command.start(*OPTIONS, settings=LONG)


def end(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, errors = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def table(command: Any) -> bytes:
    return (command.folder / "results" / "rd_curve_pvae" / "cells.csv").read_bytes()


def own_processes(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All processes below the driver but Ray's two agents, which take a minute to notice that they are alone."""
    return [one for one in psutil.Process(process.pid).children(recursive=True) if "Agent" not in one.name()]


def gone(children: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(children, timeout=30)
    return not alive


def assert_complete(command: Any, undisturbed: bytes) -> None:
    """All cells, one run each, every point once, and the numbers of an undisturbed sweep."""
    assert [status for _, status in command.runs("cell")] == ["FINISHED"] * CELLS
    assert [status for _, status in command.runs("sweep")] == ["FINISHED"]
    points = command.points()
    assert len(set(points)) == len(points)
    assert len([key for _, key, _ in points if key == "valid/elbo"]) == CELLS * 20
    assert len(command.finished()) == CELLS
    assert command.checkpoints() == []
    assert table(command) == undisturbed


@pytest.mark.parametrize("moment", ["first checkpoint", "first finished cell"])
def test_a_sweep_whose_driver_was_killed_goes_on_where_it_was(command: Any, undisturbed: bytes, moment: str) -> None:
    process = begin(command)
    wait(process, command.checkpoints if moment == "first checkpoint" else command.finished)
    children = own_processes(process)
    os.kill(process.pid, signal.SIGKILL)
    assert end(process).returncode == -signal.SIGKILL
    assert gone(children), "processes of Ray outlived their driver"
    before = {file: file.stat().st_mtime_ns for file in command.finished()}
    assert len(before) < CELLS
    done = end(begin(command))
    assert done.returncode == 0, done.stderr
    assert_complete(command, undisturbed)
    assert {file: file.stat().st_mtime_ns for file in before} == before, "a finished cell was trained again"


def test_a_sweep_whose_driver_is_killed_again_and_again_arrives(command: Any, undisturbed: bytes) -> None:
    """Begun again at once, while what is left of the last attempt may still write."""
    seen: set[str] = set()

    def further() -> set[str]:
        return {file.name for file in command.checkpoints()} - seen

    for _ in range(3):
        process = begin(command)
        seen |= wait(process, further)
        os.kill(process.pid, signal.SIGKILL)
        end(process)
    done = end(begin(command))
    assert done.returncode == 0, done.stderr
    assert_complete(command, undisturbed)


def test_a_sweep_whose_worker_was_killed_ends_by_itself(command: Any, undisturbed: bytes) -> None:
    process = begin(command)
    wait(process, command.checkpoints)
    victim = wait(process, lambda: processes(process, TRIAL))[0]
    victim.kill()
    done = end(process)
    assert done.returncode == 0, done.stderr
    assert_complete(command, undisturbed)


@pytest.mark.parametrize(
    ("number", "send"),
    [(signal.SIGINT, os.kill), (signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill)],
    ids=["interrupt of the driver", "Ctrl-C on a terminal", "polite termination"],
)
def test_an_interrupted_sweep_says_so_and_goes_on_where_it_was(
    command: Any, undisturbed: bytes, number: signal.Signals, send: Callable[[int, int], None]
) -> None:
    process = begin(command)
    wait(process, command.checkpoints)
    children = own_processes(process)
    send(process.pid, number)
    done = end(process)
    assert done.returncode == (143 if number == signal.SIGTERM else 130)
    assert done.stderr.splitlines() == ["interrupted; the same command goes on from here"]
    assert gone(children), "processes of Ray outlived their driver"
    assert [status for _, status in command.runs("sweep")] == ["KILLED"]
    assert {status for _, status in command.runs("cell")} <= {"KILLED", "FINISHED"}
    done = end(begin(command))
    assert done.returncode == 0, done.stderr
    assert_complete(command, undisturbed)


def test_a_cell_that_diverges_is_named_and_its_neighbours_finish(command: Any) -> None:
    settings = ("seed=0", "training.learning_rate=[1e-3,1e3]")
    done = command.run(settings=settings)
    assert done.returncode == 0, done.stderr
    assert "cells: 2 finished, 2 diverged, 0 failed" in done.stdout
    assert done.stdout.count("diverged: step 1: the objective or its gradient was not finite") == 2
    assert sorted(status for _, status in command.runs("cell")) == ["FAILED", "FAILED", "FINISHED", "FINISHED"]
    causes = command.rows("select value from tags where key = 'vaesweep.cause'")
    assert len(causes) == 2
    assert all(cause.startswith("step ") for (cause,) in causes)
    again = command.run(settings=settings)
    assert "4 cells, 4 done, none to train" in again.stdout
    assert "2 diverged" in again.stdout


def test_a_cell_that_cannot_be_trained_is_named_with_its_cause_and_the_others_finish(
    command: Any, swept: Any, undisturbed: bytes
) -> None:
    (victim, *_) = swept.finished()
    obstacle = command.folder / victim.relative_to(swept.folder)
    obstacle.mkdir(parents=True)  # a folder where its finished file should go
    done = end(begin(command))
    assert done.returncode == 1
    assert any(line.startswith(f"cell {victim.stem} failed: ") for line in done.stderr.splitlines())
    assert "cells: 3 finished, 0 diverged, 1 failed" in done.stdout
    assert len(command.finished()) == CELLS  # the folder is one of them
    obstacle.rmdir()
    done = end(begin(command))
    assert done.returncode == 0, done.stderr
    assert "4 cells, 3 done, 1 to train" in done.stdout
    assert_complete(command, undisturbed)


def test_a_damaged_checkpoint_is_set_aside_with_a_line_and_the_sweep_arrives(command: Any, undisturbed: bytes) -> None:
    folder = command.folder / "results" / "rd_curve_pvae" / "cells" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "0123-300.safetensors").write_bytes(b"something else altogether")
    done = end(begin(command))
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "set aside" in line]
    assert f"{folder}/0123-300.safetensors" in line
    assert_complete(command, undisturbed)
    assert len(list(folder.glob("*.damaged"))) == 1


def test_a_second_driver_on_the_same_cells_is_refused_and_the_first_goes_on(command: Any, undisturbed: bytes) -> None:
    first = begin(command)
    wait(first, command.checkpoints)
    second = end(begin(command))
    assert second.returncode == 2
    (line,) = second.stderr.splitlines()
    assert f"are being trained by process {first.pid} " in line
    done = end(first)
    assert done.returncode == 0, done.stderr
    assert_complete(command, undisturbed)


def tracked_steps(command: Any) -> set[int]:
    """The steps of points that are tracked, none while there is no database."""
    try:
        return {step for _, _, step in command.points()}
    except sqlite3.OperationalError:
        return set()


@pytest.mark.parametrize(("workers", "name"), [(1, TRIAL), (2, WORKER)], ids=["alone", "on workers"])
def test_a_process_that_is_told_that_its_machine_ends_saves_itself_and_goes_on(
    command: Any, workers: int, name: str
) -> None:
    options = ("--workers", str(workers), "--pack-size", "1", "--checkpoint-every", "3600")
    process = command.start(*options, settings=(*LONG, "seed=0", "rates.total.target=1.0"))
    wait(process, lambda: len(tracked_steps(command)) > 2)
    wait(process, lambda: processes(process, name))[-1].terminate()
    done = end(process)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "its machine ends soon" in line]
    assert int(line.rpartition(" ")[2]) > 2 * 120
    points = command.points()
    assert len(set(points)) == len(points)
    assert len([key for _, key, _ in points if key == "valid/elbo"]) == 20
