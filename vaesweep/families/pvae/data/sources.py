"""Data sets named after `--data`: `synthetic`, `nhanes:DIR`, `csv:FILE`, …, each with any number of `,unseen=PATH`.

A new kind of data is one entry in `SOURCES`: a function of the path and the data seed that returns named domains.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vaesweep.data.domains import DataSet, Domain, Role, Standardisation
from vaesweep.data.door import guarded
from vaesweep.data.repeats import repeats
from vaesweep.data.spelling import did_you_mean, existing, slug
from vaesweep.errors import UserError
from vaesweep.families.pvae.data import nhanes
from vaesweep.families.pvae.data.archetypes import synthetic, synthetic_wide
from vaesweep.families.pvae.data.audiograms import COLUMNS, THRESHOLDS, Loaded, Rows, ages_outside, partitioned, unseen
from vaesweep.families.pvae.data.population import read_population


@dataclass(frozen=True)
class Source:
    """The loader of a kind of data; `path` names the argument that it needs after the colon, none if empty."""

    load: Callable[[Path, int, bool], Loaded]
    path: str = ""


def _population(path: Path, seed: int, complete: bool) -> Loaded:
    rows = read_population(path)
    return Loaded(partitioned(slug(path.stem), rows.x, seed, rows.people), rows.summary, rows.people)


SOURCES = {
    "synthetic": Source(lambda _, seed, complete: synthetic(seed)),
    "synthetic_wide": Source(lambda _, seed, complete: synthetic_wide(seed)),
    "nhanes": Source(nhanes.training, "DIR"),
    "csv": Source(_population, "FILE"),
}
COMPLETE = "complete"
FORMS = (
    "synthetic, synthetic_wide, nhanes:DIR or csv:FILE, each with any number of ,unseen=PATH; "
    f"of NHANES ,exam={COMPLETE} takes complete examinations only"
)


@guarded
def load(spec: str, seed: int, held_out: str | None = None) -> DataSet:
    """Load the data that `spec` names, such as `nhanes:~/nhanes,unseen=horstat.csv`.

    `held_out` are the years of an NHANES cycle, as `2015-2016`, that is unseen and not trained on.

    `seed` decides the partition and everything that is generated. The standardisation is fitted on the training domain.
    Every fault of the specification or of a file is a `UserError`.
    """
    if seed < 0:
        raise UserError(f"data seed {seed}: must be 0 or larger")
    source, path, unseen_paths, complete = _parse(spec)
    if held_out is None:
        loaded = source.load(path, seed, complete)
    elif source is SOURCES["nhanes"]:
        loaded = nhanes.training(path, seed, complete, held_out)
    else:
        raise UserError(f"--data {spec}: data.held_out={held_out} is a cycle of NHANES, which is not trained on here")
    domains, summary = list(loaded.domains), list(loaded.summary)
    for unseen_path in unseen_paths:
        rows = read_unseen(unseen_path, complete)
        _refuse_shared(spec, path, loaded, unseen_path, rows)
        name = slug(unseen_path.resolve().name if unseen_path.is_dir() else unseen_path.stem)
        domains.append(unseen(name, rows.x))
        summary.extend(rows.summary)
    summary.extend(repeats(domains, "x"))
    summary.extend(_extrapolation(domains))
    (train,) = (domain for domain in domains if domain.role is Role.TRAIN)
    try:
        standardisation = Standardisation.fit(train.arrays["x"])
    except UserError as error:
        raise UserError(f"{spec}: {error}") from None
    return DataSet(tuple(domains), COLUMNS, standardisation, tuple(summary))


def _extrapolation(domains: Sequence[Domain]) -> Iterator[str]:
    """A line for each unseen domain of which a tenth or more of the rows have an age outside those trained on."""
    (ages,) = (domain.arrays["x"][:, THRESHOLDS] for domain in domains if domain.role is Role.TRAIN)
    for name, (outside, rows) in ages_outside(domains).items():
        if outside >= rows / 10:
            yield (
                f"{name}: age extrapolation: {outside} of {rows} rows have an age outside the {ages.min():g} to "
                f"{ages.max():g} years that are trained on"
            )


def read_unseen(path: Path, complete: bool = False) -> Rows:
    """Read a population that is only evaluated on: a folder of NHANES cycles, all pooled, or a CSV file."""
    if path.suffix.upper() == ".XPT":
        raise UserError(f"{path}: a single XPT file; give the folder that holds it and its demographics")
    return nhanes.pooled(path, complete) if path.is_dir() else read_population(path)


def _refuse_shared(spec: str, path: Path, loaded: Loaded, unseen_path: Path, rows: Rows) -> None:
    """Refuse an unseen population with people of the one that is trained on, or that is a copy of rows of it."""
    if shared := set(loaded.people) & set(rows.people):
        raise UserError(
            f"--data {spec}: {len(shared)} people are in both {path} and {unseen_path}, such as {min(shared)}; nobody "
            "can be both trained on and unseen: take the rows away from one, or, if others have the same names, rename "
            "them there"
        )
    own = [domain.arrays["x"] for domain in loaded.domains if domain.role is not Role.UNSEEN]
    known = {row.tobytes() for x in own for row in x}
    if all(row.tobytes() in known for row in rows.x):
        raise UserError(
            f"--data {spec}: each of the {len(rows.x)} rows of {unseen_path} is in {path} too; a copy of what is "
            "trained on is not unseen"
        )


def _parse(spec: str) -> tuple[Source, Path, list[Path], bool]:
    """The source, its path (`.` where it takes none), the unseen paths of `spec`, and whether exams are complete."""
    head, *options = re.split(r",(?=[A-Za-z_]+=)", spec.strip())
    kind, colon, argument = head.partition(":")
    if kind not in SOURCES:
        raise UserError(f"--data {spec}: unknown kind {kind!r}{did_you_mean(kind, SOURCES)}; use {FORMS}")
    source = SOURCES[kind]
    if bool(source.path) != bool(argument) or (colon and not argument):
        correct = f"{kind}:{source.path}" if source.path else kind
        raise UserError(f"--data {spec}: a path is {'needed' if source.path else 'not taken'}; write {correct}")
    path = existing(argument) if source.path else Path()
    exams = [option for option in options if option.partition("=")[0] == "exam"]
    if any(option != f"exam={COMPLETE}" for option in exams):
        raise UserError(f"--data {spec}: write exam={COMPLETE}, or leave it out for every examination")
    unseen_paths = [_unseen_path(option, spec) for option in options if option not in exams]
    if exams and kind != "nhanes" and not any(path.is_dir() for path in unseen_paths):
        raise UserError(f"--data {spec}: exam={COMPLETE} is of NHANES, of which there is none here; leave it out")
    if source.path and path.resolve() in {unseen_path.resolve() for unseen_path in unseen_paths}:
        raise UserError(f"--data {spec}: {path} cannot be both trained on and unseen")
    return source, path, unseen_paths, bool(exams)


def _unseen_path(option: str, spec: str) -> Path:
    key, _, value = option.partition("=")
    if key != "unseen":
        raise UserError(f"--data {spec}: unknown option {key!r}{did_you_mean(key, ['unseen', 'exam'])}; use {FORMS}")
    if not value:
        raise UserError(f"--data {spec}: unseen= needs the path of a CSV file or of a folder of NHANES files")
    return existing(value)
