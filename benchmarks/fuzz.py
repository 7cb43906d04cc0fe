"""Fuzz every door: words and files made at random, each of which must give a value or be refused in one line.

    python benchmarks/fuzz.py --list
    python benchmarks/fuzz.py --inputs 10000                       every door
    python benchmarks/fuzz.py --inputs 10000 --door csv xpt        some
    python benchmarks/fuzz.py --door csv --only 4711               one input again, with its traceback

A fault is any exception but a `UserError`, a refusal of more than a line or of what is not to be printed, a value that
an independent reader does not have, more time or memory than the limits. An input is a function of the door's name, the
seed and its number. Doors are the lists `DOORS` of the modules `fuzz_*.py` beside this one; exit code 1 where one has a
fault.
"""

import argparse
import contextlib
import importlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vaesweep.errors import LONGEST_LINE, UserError

SECONDS = 20.0  # of the processor's time, that one input may take
GROWTH, PEAK = 96 * 2**20, 768 * 2**20  # bytes: of memory after the first inputs, and of its peak, over what there was
WARM = 200  # inputs before memory is looked at
SHOWN = 5  # faults of a door that are printed


class Fault(Exception):
    """A door has given something else than what came in."""


@dataclass(frozen=True)
class Door:
    """A door: `trial` makes an input from a generator in an empty folder, tries it, and says what it was.

    It raises `UserError` where the door refuses the input, and `Fault` where what it gives is wrong. `share` of the
    inputs that are asked for are tried, of doors that are slow.
    """

    name: str
    about: str
    trial: Callable[[random.Random, Path], object]
    share: float = 1.0


@dataclass
class Outcome:
    """What came of a door's inputs."""

    door: str
    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def doors() -> dict[str, Door]:
    """All doors by their names."""
    here = Path(__file__).resolve().parent
    sys.path.insert(0, str(here))
    modules = (importlib.import_module(path.stem) for path in sorted(here.glob("fuzz_*.py")))
    return {door.name: door for module in modules for door in module.DOORS}


def fuzz(door: Door, inputs: int, seed: int, first: int = 0, *, verbose: bool = False) -> Outcome:
    """Try `inputs` inputs of a door from number `first` on."""
    outcome, began, memory = Outcome(door.name), time.process_time(), 0
    before, held = _peak(), _resident()
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        for number in range(first, first + inputs):
            outcome.inputs += 1
            fault = _tried(door, number, seed, place / "input", outcome, verbose=verbose)
            if outcome.inputs == WARM:
                memory = _resident()
            if memory and _resident() > memory + GROWTH:
                fault, memory = fault or "memory grows", 0
            if fault:
                outcome.faults.append(f"{door.name} --only {number}: {fault}")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if _peak() > max(before, held + PEAK):
        outcome.faults.append(f"{door.name}: {PEAK} bytes more at once")
    outcome.seconds = time.process_time() - began
    return outcome


def _tried(door: Door, number: int, seed: int, folder: Path, outcome: Outcome, *, verbose: bool) -> str:
    """What is wrong with what came of one input; nothing where all is well."""
    generator = random.Random(f"{door.name} {seed} {number}")
    folder.mkdir(parents=True)
    try:
        with _limited():
            made = door.trial(generator, folder)
        if verbose:
            print(f"{door.name} {number}: {made!r}"[:2000])
    except UserError as error:
        outcome.refused += 1
        if verbose:
            print(f"{door.name} {number}: refused: {error}")
        line = str(error)
        if len(line) > LONGEST_LINE or not line.isprintable() or not line.strip():
            return f"no line: {line[:200]!r}"
    except Exception as error:
        if verbose:
            traceback.print_exc()
        return f"{type(error).__name__}: {str(error)[:300]!r}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return ""


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"not done within {SECONDS:g} s")

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(words: Sequence[str] | None = None) -> int:
    """Fuzz the doors that are asked for and return the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1000, metavar="N", help="of each door (%(default)s)")
    parser.add_argument("--door", nargs="+", metavar="NAME", help="doors (all)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is made (%(default)s)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one input, and what comes of it")
    parser.add_argument("--list", action="store_true", help="name the doors")
    options = parser.parse_args(words)
    known = doors()
    if options.list:
        print(*(f"{door.name:<12} {door.about}" for door in known.values()), sep="\n")
        return 0
    if unknown := set(options.door or ()) - set(known):
        parser.error(f"no door {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    faults = 0
    for name in options.door or known:
        door = known[name]
        if options.only is not None:
            outcome = fuzz(door, 1, options.seed, options.only, verbose=True)
        else:
            outcome = fuzz(door, max(1, round(options.inputs * door.share)), options.seed)
        read = outcome.inputs - outcome.refused - len(outcome.faults)
        print(
            f"{name:<12} {outcome.inputs:>7} inputs, {read} read, {outcome.refused} refused, "
            f"{len(outcome.faults)} faults, {outcome.seconds:.0f} s",
            flush=True,
        )
        print(*(f"  {fault}" for fault in outcome.faults[:SHOWN]), sep="\n", end="\n" * bool(outcome.faults))
        faults += len(outcome.faults)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
