"""The fuzz script tries every door, and tells a door that fails by the input that it failed on."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vaesweep.errors import UserError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from fuzz import Door, Fault, doors, fuzz  # noqa: E402


def test_every_door_gives_a_value_or_a_line() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "fuzz.py"), "--inputs", "40", "--seed", "7"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" 0 faults") == len(doors())


def test_an_input_is_a_function_of_its_number_and_the_seed() -> None:
    made: list[int] = []

    def trial(generator: random.Random, folder: Path) -> None:
        assert not list(folder.iterdir())
        (folder / "x").touch()
        made.append(generator.randrange(10**9))

    door = Door("any", "", trial)
    fuzz(door, 4, seed=3)
    fuzz(door, 1, seed=3, first=2)
    assert made[4] == made[2]
    assert len(set(made)) == 4


def _raise(error: Exception) -> Callable[[random.Random, Path], None]:
    def trial(generator: random.Random, folder: Path) -> None:
        if generator.random() < 2:
            raise error

    return trial


@pytest.mark.parametrize("error", [KeyError("x"), Fault("x"), RecursionError("x"), UserError("")])
def test_what_is_neither_a_value_nor_a_line_is_a_fault(error: Exception) -> None:
    outcome = fuzz(Door("any", "", _raise(error)), 3, seed=0)
    assert [fault.partition(":")[0] for fault in outcome.faults] == ["any --only 0", "any --only 1", "any --only 2"]


def test_a_refusal_is_none() -> None:
    outcome = fuzz(Door("any", "", _raise(UserError("x: is wrong; write y"))), 3, seed=0)
    assert (outcome.refused, outcome.faults) == (3, [])
