"""Packs on several Ray Train workers: the same sweep as on one.

Each worker's share of a batch is summed before it is added to the other's: sums of float32 in another order, which
differ by about 1e-7 of their size. Adam divides a gradient by its own size, so that a parameter whose gradient is
nothing but rounding moves by a learning rate (1e-3) whichever way the rounding points: after twenty steps a few weights
may differ by as much as 1e-2, and a metric, to which such weights matter little, by far less. Hence few steps and 1e-3.
"""

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.slow

SETTINGS = ("training.steps=20", "training.evaluate_every=10", "rates.total.target=1.0")
NUMBERS = ("rate", "distortion", "elbo", "rmse_observed", "rmse_unobserved")


def table(command: Any) -> list[dict[str, str]]:
    with Path(command.folder / "results" / "rd_curve_pvae" / "cells.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def shared(command_in: Callable[[], Any]) -> Any:
    """A sweep of two cells in one pack on two workers."""
    command = command_in()
    command.first = command.run("--workers", "2", settings=SETTINGS)
    assert command.first.returncode == 0, command.first.stderr
    return command


def test_two_workers_come_to_the_numbers_of_one(shared: Any, command: Any) -> None:
    done = command.run("--workers", "1", settings=SETTINGS)
    assert done.returncode == 0, done.stderr
    for one, two in zip(table(command), table(shared), strict=True):
        assert {key: one[key] for key in ("cell", "domain", "outcome")} == {
            key: two[key] for key in ("cell", "domain", "outcome")
        }
        for name in NUMBERS:
            assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-3)


def test_two_workers_write_every_point_once_and_leave_no_checkpoint(shared: Any) -> None:
    assert [status for _, status in shared.runs("cell")] == ["FINISHED"] * 2
    points = shared.points()
    assert len(set(points)) == len(points)
    assert len([key for _, key, _ in points if key == "valid/elbo"]) == 4
    assert len(shared.finished()) == 2
    assert shared.checkpoints() == []


def test_the_cells_of_two_workers_are_done_for_one_worker_too(shared: Any) -> None:
    done = shared.run("--workers", "1", settings=SETTINGS)
    assert "2 cells, 2 done, none to train" in done.stdout


def test_a_pack_one_of_whose_workers_was_killed_ends_by_itself(command: Any) -> None:
    settings = ("training.steps=1500", "training.evaluate_every=50", "rates.total.target=1.0")
    process = command.start("--workers", "2", "--checkpoint-every", "0", settings=settings)
    deadline = time.monotonic() + 120
    while not command.checkpoints() and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "RayTrainWorker" in " ".join(child.cmdline())
    ]
    assert len(workers) == 2
    workers[-1].kill()
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "cells: 2 finished, 0 diverged, 0 failed" in out
    points = command.points()
    assert len(set(points)) == len(points)
    assert len([key for _, key, _ in points if key == "valid/elbo"]) == 60
    assert [status for _, status in command.runs("cell")] == ["FINISHED"] * 2
