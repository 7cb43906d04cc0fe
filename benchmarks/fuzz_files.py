"""Doors of our own files and of URIs, for a fuzz run: files are changed as disks and people change them.

Every trial makes one input in an empty folder and reads it. It raises `UserError`, the refusal, or nothing, and
`AssertionError` where what is read differs in silence from what was written. Whatever else it raises is a fault of the
reader.
"""

import json
from pathlib import Path
from random import Random
from typing import Any

import torch
from fuzz import Door

from vaesweep.analysis.runs import SweepRecord
from vaesweep.cli.search_run import _read_curve
from vaesweep.errors import LONGEST_LINE, UserError, line_of
from vaesweep.search.study import open_storage
from vaesweep.sweep.lease import lease
from vaesweep.sweep.resume import begun_cells, cells_of_newer_checkpoints, drop_spent_checkpoints
from vaesweep.sweep.storage import CHECKPOINTS, SUFFIX, Storage
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell
from vaesweep.training.state import PackState
from vaesweep.uris import check_store, folder_of, masked, place_of, sqlite_file
from vaesweep.vocabulary import RECORD_DIGEST, record_digest

CELL = "0123456789abcdef"
ODD_NUMBERS = ["NaN", "-1", "1e999", "null", "[]", "{}", '""', "18446744073709551616", "true"]
SCHEMES = [
    "sqlite",
    "SQLITE",
    "sqlite+pysqlite",
    "http",
    "https",
    "file",
    "s3",
    "gs",
    "postgresql",
    "postgres",
    "x",
    "",
]
PIECES = [
    "/",
    "//",
    "///",
    ":",
    "?",
    "#",
    "@",
    "%",
    "%00",
    "\0",
    "\n",
    " ",
    "[",
    "]",
    "~",
    "a",
    "é",
    "\ud800",
    "uri=true",
]
CURVE = "kind,domain,rate,distortion,elbo\ncurve,toy.test,1.5,20.25,-21.75\ncurve,toy.test,3.0,18.5,-21.5\n"


def changed(content: bytes, random: Random) -> bytes:
    """A file's content with one to four changes: bits, bytes, pieces cut out, doubled, zeroed or put in."""
    data = bytearray(content)
    for _ in range(random.randint(1, 4)):
        start = random.randrange(len(data) + 1)
        end = min(len(data), start + random.choice((1, 8, 64, 4096)))
        kind = random.randrange(7)
        if kind == 0 and start < len(data):
            data[start] ^= 1 << random.randrange(8)
        elif kind == 1:
            del data[start:end]
        elif kind == 2:
            data[start:start] = data[start:end]
        elif kind == 3:
            data[start:end] = bytes(end - start)
        elif kind == 4:
            data[start:start] = random.randbytes(random.randint(1, 16))
        elif kind == 5:
            del data[start:]
        else:
            data[start:end] = random.choice(ODD_NUMBERS).encode()
    return bytes(data)


def finished_cell(random: Random) -> FinishedCell:
    """A finished cell of a few numbers."""
    return FinishedCell(
        cell=CELL,
        family="pvae",
        config={"seed": random.randrange(9)},
        step=20,
        metrics={"toy.test/elbo": -random.random()},
        diverged=None,
        cause=None,
        saturated=("z",),
        evaluated=(10, 20),
        domains={"toy.test": "ab"},
        weights={"layer.weight": torch.arange(6.0).reshape(2, 3)},
        history={"train/elbo": torch.tensor([-2.0, -1.0])},
        kept={},
    )


def finished_file(random: Random, folder: Path) -> None:
    """The finished file of a cell."""
    cell = finished_cell(random)
    written = finished.to_bytes(cell)
    content = changed(written, random)
    path = folder / f"{CELL}{SUFFIX}"
    path.write_bytes(content)
    read = finished.from_bytes(path.read_bytes(), str(path), CELL)
    assert finished.to_bytes(read) == written, "a finished file differs in silence"


def checkpoint(random: Random, folder: Path) -> None:
    """A checkpoint, read whole, and as what looks through a storage reads it."""

    def none() -> torch.Tensor:
        return torch.empty(2, 0)

    cells = (CELL, CELL[::-1])
    state = PackState(
        cells,
        (("w", (3,)),),
        7,
        torch.ones(2, 3),
        none(),
        none(),
        torch.zeros(2),
        none(),
        none(),
        {"z/beta": torch.ones(2)},
        {},
        {},
        evaluated=(5,),
    )
    storage = Storage(str(folder))
    name = f"{CHECKPOINTS}/fuzz-7{SUFFIX}"
    written = state.to_bytes(name)
    storage.write(name, changed(written, random))
    refused: UserError | None = None
    try:
        read = PackState.from_bytes(storage.read(name), name, name)
        assert read.to_bytes(name) == written, "a checkpoint differs in silence"
    except UserError as error:
        refused = error
    begun_cells(storage)
    cells_of_newer_checkpoints(storage, [])
    drop_spent_checkpoints(storage)
    if refused:
        raise refused


def parent_record(random: Random, folder: Path) -> None:
    """The record of a sweep in its parent run."""
    record: dict[str, Any] = {"sweep": CELL, "name": "toy", "family": "pvae", "preset": "smoke", "command": "toy.py"}
    record |= {"axes": {"seed": [0, 1]}, "cells": [{"cell": CELL, "values": {"seed": 0}, "steps": 20}]}
    record |= {"domains": [{"name": "toy.test", "role": "test", "rows": 5}], "data": {"spec": "synthetic"}}
    record |= {RECORD_DIGEST: record_digest(record)}
    text = json.dumps(record, indent=random.choice((None, 2)))
    content = changed(text.encode(), random)
    read = SweepRecord.from_json(content.decode("utf-8", "replace"))
    expected = SweepRecord.from_json(text)
    # Records of release 0.1 have no digest, and one whose digest was lost is like them.
    if RECORD_DIGEST in json.loads(content.decode("utf-8", "replace")):
        assert read == expected, "a record differs in silence"


def study_journal(random: Random, folder: Path) -> None:
    """The journal of a search's study."""
    path = folder / "study.journal"
    lines = [
        {"op_code": 0, "worker_id": "w", "study_name": "toy", "directions": [1]},
        {"op_code": 4, "worker_id": "w", "study_id": 0, "datetime_start": "2026-01-01T00:00:00.000000"},
    ]
    path.write_bytes(changed("".join(json.dumps(line) + "\n" for line in lines).encode(), random))
    open_storage(str(path)).get_all_studies()


def curve_table(random: Random, folder: Path) -> None:
    """The table of a sweep's curve that `--curve` names."""
    path = folder / "curve.csv"
    path.write_bytes(changed(CURVE.encode(), random))
    _read_curve(path)


def lease_file(random: Random, folder: Path) -> None:
    """The file of a lease that somebody has left."""
    storage = Storage(str(folder))
    about = {"sweep": "toy", "pid": 1, "host": "h", "beat": 3, "cells": [CELL], "since": "2026-01-01"}
    storage.write("leases/other.json", changed(json.dumps(about).encode(), random))
    with lease(storage, "toy", [CELL]):
        pass


def uri(random: Random, folder: Path) -> None:
    """A URI of a store, of a place of files, and the path of a folder."""
    text = random.choice(SCHEMES) + "".join(random.choices(PIECES, k=random.randint(0, 8)))
    line = line_of(masked(text))
    assert len(line) <= LONGEST_LINE
    assert len(line.splitlines()) <= 1
    sqlite_file(text)
    refused: UserError | None = None
    for check in (check_store, place_of, folder_of):
        try:
            check(text, "--option")
        except UserError as error:
            refused = error
    if refused:
        raise refused


DOORS = [
    Door(trial.__name__, str(trial.__doc__), trial)
    for trial in (finished_file, checkpoint, parent_record, study_journal, curve_table, lease_file, uri)
]
