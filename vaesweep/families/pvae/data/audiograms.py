"""Audiograms as rows of fifteen numbers: the columns, their steps and ranges, and the screening of rows.

A row is seven hearing thresholds of the right ear, the same seven of the left ear (dB HL, pure tones through air) and
the age (years): thesis, section "Data" of the partial VAE's paper. Every loader of real audiograms, NHANES and CSV
alike, ends in `screen`, so that all populations are held to the same standard and report what they dropped in the
same words.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaesweep.data.domains import Domain, Role, partition, partition_by
from vaesweep.errors import UserError

FREQUENCIES = (500, 1000, 2000, 3000, 4000, 6000, 8000)  # Hz
EARS = ("right", "left")
COLUMNS = (*(f"{ear}_{frequency}" for ear in EARS for frequency in FREQUENCIES), "age")
DIMS = len(COLUMNS)
THRESHOLDS = DIMS - 1  # the first 14 columns; the age is the last

QUANTUM = np.array([5.0] * THRESHOLDS + [1.0], dtype=np.float32)  # the step each column is measured in: dB, years
LOWEST = np.array([-20.0] * THRESHOLDS + [0.0], dtype=np.float32)  # dB HL, years
HIGHEST = np.array([130.0] * THRESHOLDS + [120.0], dtype=np.float32)
TABLE_BYTES = 256 * 2**20  # the most that is read of one file: some five million audiograms
CLEAN = "clean"  # a domain's array of audiograms before noise, float32 [row, 15], where they are known
RANGES = "thresholds must lie in -20..130 dB HL, ages in 0..120 years"


@dataclass(frozen=True)
class Rows:
    """Complete audiograms `x`, float32 `[row, 15]` in physical units, and one line of `summary` per file.

    `people` says who each row is of, empty where that is not known: a row without a name is of somebody of its own.
    """

    x: np.ndarray
    summary: tuple[str, ...]
    people: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """The result of loading a source: its domains, and a summary of how they were made, lines for people.

    `people` are those whose rows are trained, validated or tested with, empty where they are not known.
    """

    domains: tuple[Domain, ...]
    summary: tuple[str, ...]
    people: tuple[str, ...] = ()


def plausible(x: np.ndarray) -> np.ndarray:
    """A mask of the complete rows of `x` `[row, 15]` that lie wholly inside the plausible ranges: bool `[row]`."""
    inside = (x >= LOWEST) & (x <= HIGHEST)
    return np.all(inside, axis=1)


def screen(
    x: np.ndarray, reasons: Mapping[str, np.ndarray], path: Path, label: str, people: Sequence[str] = ()
) -> Rows:
    """Keep the complete and plausible rows of `x` `[row, 15]` and count the others.

    `reasons` maps a reason for dropping a row to the rows it holds for, bool `[row]`; a row is counted under the first
    that holds, and "implausible" comes after all of them. `label` begins the summary's line, and a file of which
    nothing is kept is refused by its `path`. `people` says who each row is of.
    """
    keep = np.ones(len(x), dtype=bool)
    dropped = []
    for reason, holds in (*reasons.items(), ("implausible", ~plausible(x))):
        if count := int((keep & holds).sum()):
            dropped.append(f"{count} {reason}")
        keep &= ~holds
    counts = ", ".join(dropped) or "none"
    if not keep.any():
        raise UserError(f"{path}: no usable row among {len(x)}: {counts}; {RANGES}")
    line = f"{label}: {len(x)} rows read, {keep.sum()} kept; dropped: {counts}"
    return Rows(x[keep].astype(np.float32), (line,), tuple(itertools.compress(people, keep)))


def partitioned(
    name: str, x: np.ndarray, seed: int, people: Sequence[str] = (), clean: np.ndarray | None = None
) -> tuple[Domain, ...]:
    """Split `x` `[row, 15]` 80/10/10 into the domains `name.train`, `name.valid` and `name.test`.

    All rows of one of the `people` are in one of them. `clean` `[row, 15]` are the rows before noise, if known.
    """
    try:
        parts = partition_by(people, seed) if people else partition(len(x), seed)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    arrays = _arrays(x, clean)
    return tuple(
        Domain(f"{name}.{role}", role, {key: array[rows] for key, array in arrays.items()})
        for role, rows in parts.items()
    )


def unseen(name: str, x: np.ndarray, clean: np.ndarray | None = None) -> Domain:
    """Make all of `x` `[row, 15]`, `clean` before noise, a population that is evaluated on and never trained on."""
    return Domain(name, Role.UNSEEN, _arrays(x, clean))


def _arrays(x: np.ndarray, clean: np.ndarray | None) -> dict[str, np.ndarray]:
    return {"x": x} if clean is None else {"x": x, CLEAN: clean.astype(np.float32)}


def ages_outside(domains: Sequence[Domain]) -> dict[str, tuple[int, int]]:
    """By unseen domain the number of its rows whose age is outside the ages trained on, and of all of its rows."""
    (train,) = (domain.arrays["x"][:, THRESHOLDS] for domain in domains if domain.role is Role.TRAIN)
    ages = {domain.name: domain.arrays["x"][:, THRESHOLDS] for domain in domains if domain.role is Role.UNSEEN}
    return {name: (int(((own < train.min()) | (own > train.max())).sum()), len(own)) for name, own in ages.items()}


def age_extrapolations(domains: Sequence[Domain]) -> frozenset[str]:
    """The unseen domains most of whose rows have an age that is not trained on: models extrapolate there."""
    return frozenset(name for name, (outside, rows) in ages_outside(domains).items() if outside > rows / 2)
