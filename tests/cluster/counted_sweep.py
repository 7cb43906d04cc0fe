"""A sweep whose every step is counted where it is trained: a family that notes each, and the script of its sweep.

Both are written into a folder that is put on PYTHONPATH. A process notes (seed, step) in a file of its own, 16 bytes a
step, which outlives it.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

ENTRY = struct.Struct("<qq")
NAME = "counted"
FAMILY = '''
"""Partial VAEs whose training steps are noted."""

import os
import struct
import time
from pathlib import Path

from vaesweep.families.pvae.family import FAMILY as PVAE


class Counted(type(PVAE)):
    name = "counted"

    def problem(self, config, data, device):
        problem = super().problem(config, data, device)
        train_share, pause = problem.train_share, float(os.environ.get("COUNTED_PAUSE", "0"))
        notes = open(Path({folder!r}, f"{{os.uname().nodename}}-{{os.getpid()}}-{{time.time_ns()}}.steps"), "ab", 0)

        def noted(draws, read=None):
            if len(draws.places) > 1:  # one row is no step: operations are counted with it
                notes.write(struct.pack("<qq", draws.seed, draws.step))
                time.sleep(pause)
            return train_share(draws, read)

        problem.train_share = noted
        return problem


FAMILY = Counted()
'''
SCRIPT = '''
"""A sweep whose steps are noted."""

import sys

from vaesweep.cli.script import main
from vaesweep.sweep.cells import Preset, Sweep

BASE = {{"rates.total.kind": "target", "rates.total.target": 1.0, "training.steps": {steps},
    "training.evaluate_every": {interval}, "training.batch_size": 16, "model.hidden": 8, "model.features": 8,
    "model.latents": 2, "data.draws": 1}}
SWEEP = Sweep(sys.argv.pop(1), "counted", lambda data: {{"tiny": Preset(base=BASE, axes={{"seed": {seeds}}})}}, "tiny")

if __name__ == "__main__":
    raise SystemExit(main(SWEEP, __doc__))
'''


@dataclass(frozen=True)
class CountedSweep:
    """The files of a sweep of `seeds`, one cell each, of `steps` steps that are evaluated every `interval`."""

    folder: Path
    steps: int
    interval: int
    seeds: tuple[int, ...]

    def write(self) -> None:
        """Write the family and the script."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.notes.mkdir(exist_ok=True)
        about = self.folder / "counted-0.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: counted\nVersion: 0\n")
        (about / "entry_points.txt").write_text("[vaesweep.families]\ncounted = counted_family:FAMILY\n")
        (self.folder / "counted_family.py").write_text(FAMILY.format(folder=str(self.notes)))
        values = {"steps": self.steps, "interval": self.interval, "seeds": list(self.seeds)}
        self.script.write_text(SCRIPT.format(**values))

    @property
    def script(self) -> Path:
        """The sweep script; its first word is the sweep's name, that of its experiment."""
        return self.folder / "counted_sweep_script.py"

    @property
    def notes(self) -> Path:
        """The folder of the processes' notes."""
        return self.folder / "notes"

    def lives(self) -> list[list[tuple[int, int]]]:
        """(seed, step) of every step that each process has begun, by process, oldest first."""
        files = sorted(self.notes.glob("*.steps"), key=lambda file: int(file.stem.rpartition("-")[2]))
        lives = []
        for file in files:
            content = file.read_bytes()
            lives.append(list(ENTRY.iter_unpack(content[: len(content) // ENTRY.size * ENTRY.size])))
        return lives

    def forget(self) -> None:
        """Delete the notes."""
        for file in self.notes.glob("*.steps"):
            file.unlink()

    def repeated(self) -> set[tuple[int, int]]:
        """(seed, step) of steps that were begun by more than one process."""
        seen, again = set[tuple[int, int]](), set[tuple[int, int]]()
        for life in self.lives():
            again |= seen & set(life)
            seen |= set(life)
        return again
