"""Files of cells that are finished or under way, read again: what is sound counts, what is damaged is set aside.

checkpoints, by cell ──► the furthest state of each ──► groups of equal step
"""

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vaesweep.sweep.storage import CHECKPOINTS, Storage, finished_name
from vaesweep.training import finished
from vaesweep.training.sealed import LARGEST_HEADER, DamagedFile, NewerFile, header, unseal
from vaesweep.training.state import FORMATS, PackState, check_name, merge

REPLACED_RETRIES = 8  # a second each


def check_finished(storage: Storage, cells: Iterable[str]) -> tuple[list[str], list[str]]:
    """Those of `cells` that have a sound finished file, and lines about damaged ones, which are set aside."""
    ended, notes = [], []
    for cell in cells:
        name = finished_name(cell)
        if not storage.exists(name):
            continue
        try:
            finished.from_bytes(storage.read(name), f"{storage.uri}/{name}", cell)
        except FileNotFoundError:
            continue
        except DamagedFile as error:
            with contextlib.suppress(FileNotFoundError):  # another worker of the same pack has set it aside
                notes.append(f"{error}; it is set aside as {storage.set_aside(name)}, and cell {cell} is trained again")
        else:
            ended.append(cell)
    return ended, notes


def latest_states(storage: Storage, cells: Sequence[str]) -> tuple[list[PackState], list[str]]:
    """The furthest state that any checkpoint holds of each of `cells`, cells of one file together, and notes.

    A damaged checkpoint is set aside, with a note, and counts for nothing; neither does one of a newer version, whose
    cells the driver does not send (`cells_of_newer_checkpoints`).
    """
    for _ in range(REPLACED_RETRIES):
        try:
            return _read_latest(storage, cells)
        except FileNotFoundError:
            # The process of a killed driver lives on for seconds, and has just replaced its checkpoint.
            time.sleep(1.0)
    return _read_latest(storage, cells)


def _read_latest(storage: Storage, cells: Sequence[str]) -> tuple[list[PackState], list[str]]:
    best: dict[str, tuple[int, str]] = {}
    notes: list[str] = []
    for name in storage.names(CHECKPOINTS):
        about = checkpoint_header(storage, name, notes)
        for cell in set(about.get("cells", ())) & set(cells):
            best[cell] = max(best.get(cell, (0, "")), (about.get("begun", 0) + about["step"], name))
    states: list[PackState] = []
    for name in sorted({name for _, name in best.values()}):
        try:
            state = PackState.from_bytes(storage.read(name), f"{storage.uri}/{name}", name)
        except DamagedFile as error:
            notes.append(f"{error}; it is set aside as {storage.set_aside(name)}")
            states, more = _read_latest(storage, cells)  # an earlier one may hold its cells too
            return states, notes + more
        states.append(state.select([i for i, cell in enumerate(state.cells) if best.get(cell, (0, ""))[1] == name]))
    return states, notes


def resumed(fresh: PackState, states: Sequence[PackState]) -> Iterator[PackState]:
    """States of all cells of `fresh`, one a group of equal step; cells of `states` are as they were left."""
    resumed_cells = {cell for state in states for cell in state.cells}
    new = [i for i, cell in enumerate(fresh.cells) if cell not in resumed_cells]
    groups: dict[tuple[int, int, tuple[int, ...]], list[PackState]] = {}
    for state in [*states, *([fresh.select(new)] if new else [])]:
        groups.setdefault((state.begun, state.step, state.evaluated), []).append(state)
    for group in groups.values():
        yield merge(group)


def checkpoint_header(storage: Storage, name: str, notes: list[str]) -> dict[str, Any]:
    """A checkpoint's header, without its tensors: empty of a newer one, and of a damaged one, which is set aside."""
    try:
        return _header(storage, name)
    except DamagedFile as error:
        notes.append(f"{error}; it is set aside as {storage.set_aside(name)}")
    except NewerFile:
        pass
    return {}


def _header(storage: Storage, name: str) -> dict[str, Any]:
    length = min(int.from_bytes(storage.read(name, 8), "little"), LARGEST_HEADER)
    about = header(storage.read(name, 8 + length), f"{storage.uri}/{name}", FORMATS)
    check_name(about, f"{storage.uri}/{name}", name)
    if not {"cells", "step"} <= about.keys():
        raise DamagedFile(f"{storage.uri}/{name} is not a checkpoint")
    return about


def cells_of_newer_checkpoints(storage: Storage, notes: list[str]) -> dict[str, str]:
    """Cells that a newer version of vaesweep has begun, by cell the line that says so: only that one can go on.

    A damaged checkpoint that only seems newer is set aside, with a note.
    """
    cells: dict[str, str] = {}
    for name in storage.names(CHECKPOINTS):
        where = f"{storage.uri}/{name}"
        try:
            _header(storage, name)
        except NewerFile:
            try:
                unseal(storage.read(name), where, FORMATS)  # the whole file tells a newer one from a damaged number
            except NewerFile as error:
                listed = error.about.get("cells")
                cells |= dict.fromkeys(map(str, listed), str(error)) if isinstance(listed, list) else {}
            except DamagedFile as error:
                notes.append(f"{error}; it is set aside as {storage.set_aside(name)}")
        except (DamagedFile, FileNotFoundError):
            continue
    return cells


def begun_cells(storage: Storage) -> set[str]:
    """Cells of which there is a sound checkpoint."""
    cells: set[str] = set()
    for name in storage.names(CHECKPOINTS):
        with contextlib.suppress(DamagedFile, NewerFile, FileNotFoundError):  # which others tell of
            cells |= {str(cell) for cell in _header(storage, name)["cells"]}
    return cells


def drop_spent_checkpoints(storage: Storage) -> list[str]:
    """Delete checkpoints all of whose cells have finished files, and set damaged ones aside; lines about those."""
    notes: list[str] = []
    for name in storage.names(CHECKPOINTS):
        with contextlib.suppress(FileNotFoundError):  # another command has just replaced its own
            cells = checkpoint_header(storage, name, notes).get("cells", ())
            if cells and all(storage.exists(finished_name(cell)) for cell in cells):
                storage.delete(name)
    return notes
