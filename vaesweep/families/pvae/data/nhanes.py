"""Audiograms of NHANES, from a folder of the CDC's SAS transport files (thesis, "NHANES and HÖRSTAT data").

A two-year cycle is a pair of files: the examination (`AUX1`, `AUX_B`, ...) and the demographics (`DEMO`, `DEMO_B`,
...), joined on the respondent's number `SEQN`. The thesis trains on 1999-2004, 2011-12 and 2015-16. Cycles that
examined the young and the old only are never trained on: 2005-2010 are left out, 2017-2020 is an unseen population.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaesweep.data.folders import find
from vaesweep.data.spelling import did_you_mean
from vaesweep.errors import UserError
from vaesweep.families.pvae.data.audiograms import EARS, Loaded, Rows, partitioned, screen, unseen
from vaesweep.families.pvae.data.xport import read_xport

THRESHOLDS = tuple(
    f"AUXU{frequency}{ear[0].upper()}"
    for ear in EARS
    for frequency in (
        "500",
        "1K1",
        "2K",
        "3K",
        "4K",
        "6K",
        "8K",
    )  # 1K1: first reading at 1 kHz, 1K2 is the retest
)
AGE = "RIDAGEYR"  # years, top-coded at 80 or 85
STATUS, DONE = "AUAEXSTS", 1  # of the examination
NO_RESPONSE, NOT_OBTAINED = 666, 888
HELD_OUT = "nhanes_held_out"  # one name for any cycle, so that all are one domain of a sweep


@dataclass(frozen=True)
class Cycle:
    """One cycle: the names of its two files, without `.XPT`, and its years."""

    exam: str
    demographics: str
    years: str

    def __str__(self) -> str:
        return f"{self.exam} ({self.years})"


def _lettered(letter: str, years: str) -> Cycle:
    return Cycle(f"AUX_{letter}", f"DEMO_{letter}", years)


LATEST = Cycle("P_AUX", "P_DEMO", "2017-2020")
LATEST_HALF = _lettered("J", "2017-2018")  # its participants are in LATEST too
TRAINED = (
    Cycle("AUX1", "DEMO", "1999-2000"),
    _lettered("B", "2001-2002"),
    _lettered("C", "2003-2004"),
    _lettered("G", "2011-2012"),
    _lettered("H", "2013-2014"),
    _lettered("I", "2015-2016"),
)
PARTIAL = (_lettered("D", "2005-2006"), _lettered("E", "2007-2008"), _lettered("F", "2009-2010"))
CYCLES = {cycle.exam: cycle for cycle in sorted((*TRAINED, *PARTIAL, LATEST_HALF, LATEST), key=lambda c: c.years)}


def training(folder: Path, seed: int, complete: bool = False, held_out: str | None = None) -> Loaded:
    """Load `nhanes.train`, `.valid`, `.test` and, where its files are there, the unseen `nhanes_2017_2020`.

    The cycle of the years `held_out`, such as `2015-2016`, becomes the unseen `nhanes_held_out` and is not trained on.

    2017-2018 without 2017-2020 becomes the unseen `nhanes_2017_2018`. With `complete`, rows are of examinations whose
    status (`AUAEXSTS`) says so, as the thesis has it.
    """
    files, notes = _files(folder)
    cycles, summary = _without_overlap(_cycles(folder, files))
    summary += [
        f"{cycle}: left out, it examined young (12-19) and old participants only"
        for cycle in cycles
        if cycle in PARTIAL
    ]
    held = _held_out(folder, cycles, held_out)
    training_cycles = [cycle for cycle in cycles if cycle in TRAINED and cycle not in held]
    if not training_cycles:
        raise UserError(
            f"{folder}: only {', '.join(map(str, cycles))}, which is never trained on; "
            f"add at least one of {', '.join(c.exam for c in TRAINED)} with its demographics"
        )
    unseen_cycles = [cycle for cycle in cycles if cycle in (LATEST, LATEST_HALF)]
    rows_by_cycle = _read(folder, files, training_cycles + held + unseen_cycles, complete)
    population = _pool([rows_by_cycle[cycle] for cycle in training_cycles])
    domains = partitioned("nhanes", population.x, seed)
    domains += tuple(unseen(HELD_OUT, rows_by_cycle[cycle].x) for cycle in held)
    domains += tuple(unseen(f"nhanes_{c.years.replace('-', '_')}", rows_by_cycle[c].x) for c in unseen_cycles)
    lines = [line for rows in rows_by_cycle.values() for line in rows.summary]
    lines += [f"{cycle}: held out, not trained on, the unseen {HELD_OUT}" for cycle in held]
    return Loaded(domains, (*lines, *summary, *notes, *_halves(folder, files)), population.people)


def _held_out(folder: Path, cycles: list[Cycle], years: str | None) -> list[Cycle]:
    """The cycle of `years`, one of those in `folder` that are trained on; none where none is held out."""
    if years is None:
        return []
    by_years = {cycle.years: cycle for cycle in cycles if cycle in TRAINED}
    if years not in by_years:
        raise UserError(
            f"data.held_out={years}: no cycle of {folder} that is trained on{did_you_mean(years, by_years)}; there are "
            f"{', '.join(by_years)}"
        )
    if len(by_years) == 1:
        raise UserError(f"data.held_out={years}: without it {folder} has no cycle to train on; add another one")
    return [by_years[years]]


def pooled(folder: Path, complete: bool = False) -> Rows:
    """Read all complete rows of all cycles in `folder`, as one population."""
    files, notes = _files(folder)
    cycles, summary = _without_overlap(_cycles(folder, files))
    rows = _pool(_read(folder, files, cycles, complete).values())
    return Rows(rows.x, (*rows.summary, *summary, *notes, *_halves(folder, files)), rows.people)


def _pool(parts: Iterable[Rows]) -> Rows:
    """Put the rows of several cycles one after the other."""
    parts = list(parts)
    return Rows(
        np.concatenate([part.x for part in parts]),
        tuple(line for part in parts for line in part.summary),
        tuple(person for part in parts for person in part.people),
    )


def _files(folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The `.XPT` files of `folder` by their upper-case names without the ending, and a line on what was left out."""
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; give the folder that holds the NHANES files")
    found = find(folder, (".xpt",), deep=False)
    files: dict[str, Path] = {}
    for path in (folder / name for name in sorted(found.names)):
        same = files.setdefault(path.stem.upper(), path)
        if same != path:
            raise UserError(f"{folder}: {same.name} and {path.name} differ in case only; remove one of them")
    return files, found.summary


def _halves(folder: Path, files: Mapping[str, Path]) -> list[str]:
    """Lines on files that no cycle has: demographics without their examination, and others."""
    lone = [c for c in CYCLES.values() if c.demographics in files and c.exam not in files]
    lines = [f"{files[c.demographics].name}: left out, its examination {c.exam}.XPT is not there" for c in lone]
    known = {name for cycle in CYCLES.values() for name in (cycle.exam, cycle.demographics)}
    if others := sorted(path.name for name, path in files.items() if name not in known):
        lines.append(f"{folder}: {len(others)} XPT files are of no audiometry, such as {others[0]}")
    return lines


def _cycles(folder: Path, files: Mapping[str, Path]) -> list[Cycle]:
    """The known cycles among `files`, oldest first; every one of them must have its demographics."""
    cycles = [cycle for exam, cycle in CYCLES.items() if exam in files]
    if not cycles:
        stray = next((hint for name in files if (hint := did_you_mean(name, CYCLES))), "")
        raise UserError(
            f"{folder}: no NHANES cycle among its {len(files)} XPT files{stray}; "
            f"needed: {', '.join(CYCLES)} (.XPT), each with its demographics, e.g. AUX_B.XPT with DEMO_B.XPT"
        )
    missing = [f"{c.demographics}.XPT (for {files[c.exam].name})" for c in cycles if c.demographics not in files]
    if missing:
        raise UserError(f"{folder}: missing {', '.join(missing)}; put it next to the examination it belongs to")
    return cycles


def _without_overlap(cycles: list[Cycle]) -> tuple[list[Cycle], list[str]]:
    """Drop 2017-2018 where 2017-2020 is there too, with a line for the summary."""
    if LATEST in cycles and LATEST_HALF in cycles:
        remaining = [cycle for cycle in cycles if cycle != LATEST_HALF]
        return remaining, [f"{LATEST_HALF}: left out, {LATEST} holds the same participants"]
    return cycles, []


def _read(folder: Path, files: Mapping[str, Path], cycles: Iterable[Cycle], complete: bool) -> dict[Cycle, Rows]:
    """Read `cycles`; a participant may be in one of them only."""
    rows: dict[Cycle, Rows] = {}
    people_by_cycle: dict[Cycle, set[float]] = {}
    for cycle in cycles:
        rows[cycle], people = _read_cycle(cycle, files[cycle.exam], files[cycle.demographics], complete)
        for earlier, earlier_people in people_by_cycle.items():
            if common := people & earlier_people:
                raise UserError(
                    f"{folder}: {len(common)} participants are in both {earlier} and {cycle}, e.g. SEQN "
                    f"{min(common):.0f}; one of the two files has the wrong name"
                )
        people_by_cycle[cycle] = people
    return rows


def _read_cycle(cycle: Cycle, exam: Path, demographics: Path, complete: bool) -> tuple[Rows, set[float]]:
    """The complete rows of one cycle and the numbers of everyone examined."""
    table = read_xport(exam, ("SEQN", *THRESHOLDS, *((STATUS,) if complete else ()))).set_index("SEQN")
    measured = table[list(THRESHOLDS)]
    ages = read_xport(demographics, ("SEQN", AGE)).set_index("SEQN")[AGE]
    for path, people in ((exam, measured.index), (demographics, ages.index)):
        if people.hasnans:
            raise UserError(f"{path}: {int(np.isnan(people.to_numpy()).sum())} rows without a SEQN; download it again")
        if people.has_duplicates:
            duplicate = people[people.duplicated()][0]
            raise UserError(f"{path}: SEQN {duplicate:.0f} occurs more than once; download it again")
    thresholds = measured.to_numpy()
    age = ages.reindex(measured.index).to_numpy()
    unfinished = table[STATUS].to_numpy() != DONE if complete else np.zeros(len(table), dtype=bool)
    reasons = {
        f"not complete ({STATUS})": unfinished,
        "without demographics": ~measured.index.isin(ages.index),
        "without age": np.isnan(age),
        "not tested at every frequency": np.isnan(thresholds).any(axis=1),
        f"could not be obtained ({NOT_OBTAINED})": (thresholds == NOT_OBTAINED).any(axis=1),
        f"no response ({NO_RESPONSE})": (thresholds == NO_RESPONSE).any(axis=1),
    }
    label = f"{exam.name} + {demographics.name} ({cycle.years})"
    names = [f"SEQN {person:.0f}" for person in measured.index]
    rows = screen(np.column_stack([thresholds, age]), reasons, exam, label, names)
    return rows, set(measured.index)
