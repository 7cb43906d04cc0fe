"""Faults of files, disks and workers, injected into a sweep in this process (`fault_injection`)."""

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fault_injection import (
    DATA,
    STEPS,
    Ended,
    Killed,
    States,
    Tracked,
    Trial,
    replaced,
    write_population,
)
from fault_table import CELLS, Result, told

from vaesweep.cli.script import OK
from vaesweep.sweep import worker
from vaesweep.sweep.storage import CHECKPOINTS, FINISHED, Storage
from vaesweep.training.sealed import seal, unseal

MORE = f"{DATA},unseen=more.csv"
Act = Callable[[Trial], None]


def nothing(trial: Trial) -> None:
    """Neither damage nor mending."""


@contextlib.contextmanager
def undisturbed(trial: Trial) -> Iterator[None]:
    """Context in which nothing happens."""
    yield


@dataclass(frozen=True)
class FileFault:
    """A fault of a sweep in a prepared `state` (`States`).

    `damage` is done before the command, `during` holds while it runs, and `mend` is what a person does where it did not
    end well, before the same command is given again. `changed` domains have other data afterwards, for which each cell
    has `runs` runs.
    """

    name: str
    state: str
    damage: Act = nothing
    during: Callable[[Trial], contextlib.AbstractContextManager[None]] = undisturbed
    mend: Act = nothing
    data: str = DATA
    changed: tuple[str, ...] = ()
    runs: int = 1
    new_domain: str = ""


def inject(fault: FileFault, states: States, seed: str) -> Result:
    """Inject `fault` once and have the sweep recover."""
    trial = states.trial(fault.state, seed)
    kept, started = trial.kept_steps(), time.monotonic()
    fault.damage(trial)
    with fault.during(trial):
        commands = [trial.command(fault.data)]
    if commands[0].code != OK:
        trial.on_event = lambda number: None
        fault.mend(trial)
        commands.append(trial.command(fault.data))
    seconds = time.monotonic() - (trial.fault_at or started)
    return _result(fault, states, trial, commands, kept, seconds)


def _result(fault: FileFault, states: States, trial: Trial, commands: list[Ended], kept: int, seconds: float) -> Result:
    reference = "population" if fault.changed else "finished"
    tracked = Tracked.of(trial.folder / "results" / "mlflow.db")
    lost = set(tracked.lost(states.points(reference), fault.changed))
    if fault.new_domain:
        lost |= {cell for cell, points in tracked.points.items() if not _has(points, fault.new_domain)}
    surplus = sum(max(0, runs - fault.runs) for runs in tracked.runs.values())
    lines = [line for command in commands for line in command.lines]
    result = Result(
        lost=len(lost),
        again=sum(command.steps for command in commands) - (CELLS * STEPS - kept),
        all_steps=CELLS * STEPS,
        duplicated=tracked.duplicated + surplus,
        said=told(lines, trial.folder),
        outcome=", then ".join(str(command.code) for command in commands),
        seconds=seconds,
        trace="\n".join(lines),
    )
    if result.sound:
        shutil.rmtree(trial.folder)
    return result


def _has(points: dict[tuple[str, int], float], domain: str) -> bool:
    return any(name.startswith(f"test/{domain}/") for name, _ in points)


# --- what is done to files ---------------------------------------------------------------------------------------


def chosen(trial: Trial, folder: str) -> Path:
    """One of the files of a folder of the storage; of checkpoints, a pack's newest, which it would go on from."""
    newest: dict[str, Path] = {}
    for file in trial.files(folder):
        pack, _, step = file.stem.rpartition("-")
        known = newest.get(pack or file.stem)
        if known is None or int(step) > int(known.stem.rpartition("-")[2]):
            newest[pack or file.stem] = file
    return trial.random.choice(sorted(newest.values()))


def flip_bit(folder: str) -> Act:
    """Flips a bit of a file."""

    def damage(trial: Trial) -> None:
        file = chosen(trial, folder)
        content = bytearray(file.read_bytes())
        content[trial.random.randrange(len(content))] ^= 1 << trial.random.randrange(8)
        file.write_bytes(content)

    return damage


def change_digit(trial: Trial) -> None:
    """Change a digit of a metric in the header of a finished file."""
    file = chosen(trial, FINISHED)
    content = bytearray(file.read_bytes())
    metrics = re.search(rb'\\"metrics\\": \{.*?\}', content)
    assert metrics is not None
    places = [digit.start() for number in re.finditer(rb": -?[\d.]+", metrics[0]) for digit in _digits(number)]
    place = metrics.start() + trial.random.choice(places)
    content[place] = trial.random.choice([digit for digit in b"0123456789" if digit != content[place]])
    file.write_bytes(content)


def _digits(number: re.Match[bytes]) -> Iterator[re.Match[bytes]]:
    return re.compile(rb"\d").finditer(number.string, number.start(), number.end())


def copy_over_another(trial: Trial) -> None:
    """Copy a finished file over that of another cell."""
    one, other = trial.random.sample(trial.files(FINISHED), 2)
    shutil.copy(one, other)


def rename_checkpoint(trial: Trial) -> None:
    """Give a checkpoint the name of a later step."""
    file = chosen(trial, CHECKPOINTS)
    group = file.stem.rpartition("-")[0]
    file.replace(file.with_stem(f"{group}-{trial.random.randrange(10, 99)}"))


def cut(folder: str) -> Act:
    """Cuts a file short."""

    def damage(trial: Trial) -> None:
        file = chosen(trial, folder)
        content = file.read_bytes()
        file.write_bytes(content[: trial.random.randrange(1, len(content))])

    return damage


def overwrite(folder: str, content: bytes) -> Act:
    """Puts other content into the place of a file."""
    return lambda trial: chosen(trial, folder).write_bytes(content) and None


def write_newer(folder: str) -> Act:
    """Has a file say that it has format 9, under a digest of its own."""
    return lambda trial: _reseal(chosen(trial, folder), 9)


def flip_format(folder: str) -> Act:
    """Flips a bit of the number of a file's format, so that it looks like a newer one."""

    def damage(trial: Trial) -> None:
        file, written = chosen(trial, folder), b'\\"format\\": '
        content = file.read_bytes()
        file.write_bytes(content.replace(written + b"2", written + trial.random.choice((b"3", b"6"))))

    return damage


def read_newer(folder: str) -> Act:
    """Does what a newer version would do: here, it gives the files their format back."""

    def mend(trial: Trial) -> None:
        for file in trial.files(folder):
            _reseal(file, 2)

    return mend


def _reseal(file: Path, number: int) -> None:
    about, tensors = unseal(file.read_bytes(), file.name, range(1, 10))
    file.write_bytes(seal({**about, "format": number}, tensors))


def write_nan(trial: Trial) -> None:
    """Write a NaN into the tensors of a checkpoint."""
    file = chosen(trial, CHECKPOINTS)
    content = bytearray(file.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    place = begin + 4 * trial.random.randrange((len(content) - begin) // 4)
    content[place : place + 4] = b"\x00\x00\xc0\x7f"
    file.write_bytes(content)


def delete_newest_checkpoint(trial: Trial) -> None:
    """Delete the newest checkpoint of a pack, so that there is the one before it, where there is one."""
    group = chosen(trial, CHECKPOINTS).stem.rpartition("-")[0]
    files = [file for file in trial.files(CHECKPOINTS) if file.stem.rpartition("-")[0] == group]
    max(files, key=lambda file: int(file.stem.rpartition("-")[2])).unlink()


def delete_finished(trial: Trial) -> None:
    """Delete a finished file."""
    chosen(trial, FINISHED).unlink()


def delete_store(trial: Trial) -> None:
    """Delete MLflow's database and all artifacts."""
    (trial.folder / "results" / "mlflow.db").unlink()
    shutil.rmtree(trial.folder / "results" / "mlflow-artifacts", ignore_errors=True)


def empty_storage(trial: Trial) -> None:
    """Delete all checkpoints and finished files."""
    shutil.rmtree(trial.cells_folder)


def change_population(trial: Trial) -> None:
    """Change the data of a population under its name."""
    write_population(trial.folder / "more.csv", rows=40, shift=float(trial.random.randrange(1, 20)))


def leave_drafts(trial: Trial) -> None:
    """Leave drafts behind, as old as an hour."""
    for folder in (CHECKPOINTS, FINISHED):
        for number in range(trial.random.randrange(1, 4)):
            draft = trial.cells_folder / folder / f"{number:016x}.safetensors.{number:032x}.part"
            draft.parent.mkdir(exist_ok=True)
            draft.write_bytes(trial.random.randbytes(100))
            os.utime(draft, (time.time() - 3600, time.time() - 3600))


@contextlib.contextmanager
def drafts_are_deleted(trial: Trial) -> Iterator[None]:
    """Context after which no draft may be left."""
    yield
    left = list(trial.cells_folder.rglob("*.part"))
    assert not left, f"drafts are left behind: {left}"


# --- what happens while the command runs -------------------------------------------------------------------------


def full_disk(folder: str, most: int | None = None, waits: bool = True) -> Callable[[Trial], contextlib.ExitStack]:
    """A disk that is full for files of `folder`: for one to `most` writes, or while the command runs."""

    def during(trial: Trial) -> contextlib.ExitStack:
        write, failures = Storage.write, trial.random.randint(1, most) if most else None
        after = trial.random.randrange(CELLS) if folder == FINISHED else 0
        count = 0

        def failing(storage: Storage, name: str, data: bytes) -> None:
            nonlocal count
            if name.startswith(folder):
                count += 1
                if count > after and (failures is None or count <= after + failures):
                    trial.happens()
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(storage, name, data)

        stack = contextlib.ExitStack()
        stack.enter_context(replaced(Storage, write=failing))
        if not waits:
            stack.enter_context(replaced(worker, WRITE_PAUSES=(0.0,) * len(worker.WRITE_PAUSES)))
        return stack

    return during


@contextlib.contextmanager
def killed_worker(trial: Trial) -> Iterator[None]:
    """Context in which a worker dies at an evaluation."""
    at = trial.random.randint(1, 10)

    def kill(number: int) -> None:
        if number == at:
            trial.happens()
            raise Killed("the worker was killed")

    trial.on_event = kill
    yield


@contextlib.contextmanager
def interrupted(trial: Trial) -> Iterator[None]:
    """Context in which a person presses Ctrl-C at an evaluation."""
    at = trial.random.randint(1, 10)

    def interrupt(number: int) -> None:
        if number == at:
            trial.happens()
            raise KeyboardInterrupt

    trial.on_event = interrupt
    yield


UNTRACKED, TRACKED, UNDER_WAY, NEW = "untracked", "finished", "interrupted", "empty"
FILE_FAULTS = (
    FileFault("finished file: a bit flipped", UNTRACKED, flip_bit(FINISHED)),
    FileFault("finished file: a digit of a metric changed", UNTRACKED, change_digit),
    FileFault("finished file: another cell's copied over it", UNTRACKED, copy_over_another),
    FileFault("finished file: cut short", UNTRACKED, cut(FINISHED)),
    FileFault("finished file: empty", UNTRACKED, overwrite(FINISHED, b"")),
    FileFault("finished file: text in its place", UNTRACKED, overwrite(FINISHED, b"nothing to see here\n")),
    FileFault("finished file: of a newer version", UNTRACKED, write_newer(FINISHED), mend=read_newer(FINISHED)),
    FileFault("finished file: a bit of its format's number flipped", UNTRACKED, flip_format(FINISHED)),
    FileFault("finished file: deleted, not tracked", UNTRACKED, delete_finished),
    FileFault("finished file: deleted, tracked", TRACKED, delete_finished),
    FileFault("checkpoint: a bit flipped", UNDER_WAY, flip_bit(CHECKPOINTS)),
    FileFault("checkpoint: a NaN in its tensors", UNDER_WAY, write_nan),
    FileFault("checkpoint: the newest lost", UNDER_WAY, delete_newest_checkpoint),
    FileFault("checkpoint: renamed", UNDER_WAY, rename_checkpoint),
    FileFault("checkpoint: cut short", UNDER_WAY, cut(CHECKPOINTS)),
    FileFault("checkpoint: empty", UNDER_WAY, overwrite(CHECKPOINTS, b"")),
    FileFault("checkpoint: of a newer version", UNDER_WAY, write_newer(CHECKPOINTS), mend=read_newer(CHECKPOINTS)),
    FileFault("checkpoint: a bit of its format's number flipped", UNDER_WAY, flip_format(CHECKPOINTS)),
    FileFault("MLflow's database deleted", TRACKED, delete_store),
    FileFault("storage emptied", TRACKED, empty_storage),
    FileFault("drafts left behind", UNDER_WAY, leave_drafts, drafts_are_deleted),
    FileFault("a population more in --data", TRACKED, data=MORE, new_domain="more"),
    FileFault(
        "data changed under a population's name",
        "population",
        change_population,
        data=MORE,
        changed=("more",),
        runs=2,
        new_domain="more",
    ),
    FileFault("disk full at checkpoints", NEW, during=full_disk(CHECKPOINTS)),
    FileFault("disk full for a while at a finished file", NEW, during=full_disk(FINISHED, most=2)),
    FileFault("disk full at finished files until it is mended", NEW, during=full_disk(FINISHED, waits=False)),
    FileFault("a worker dies at an evaluation, in process", NEW, during=killed_worker),
    FileFault("Ctrl-C at an evaluation, in process", NEW, during=interrupted),
)
