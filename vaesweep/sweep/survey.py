"""Survey of a sweep's cells before it runs: what MLflow and the storage have of each, and what is left to do."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vaesweep.data.description import Description
from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.family import Family
from vaesweep.sweep.cells import Cell
from vaesweep.sweep.evaluation import evaluated_on
from vaesweep.sweep.identity import identities_of_0_1, training_part
from vaesweep.sweep.resume import begun_cells, cells_of_newer_checkpoints
from vaesweep.sweep.storage import FINISHED, SUFFIX, Storage, finished_name
from vaesweep.training import finished
from vaesweep.training.sealed import DamagedFile, NewerFile
from vaesweep.vocabulary import Outcome

if TYPE_CHECKING:
    from vaesweep.sweep.store import TrackedRun

Fetch = Callable[[str], bytes | None]  # the model artifact of a run, by the run's id
DomainsOf = Callable[[Cell], Mapping[str, str]]  # the fingerprint of every domain of a cell's data


@dataclass
class Survey:
    """Where the cells of a sweep stand; those that are named nowhere are to be trained.

    `done` are tracked as ended, on all domains. `recovered` have a sound finished file that MLflow lacks. `sources` has
    the finished file with whose weights a cell is evaluated, where it lacks domains or uses; `reevaluated` are those of
    them whose data have changed under a domain's name, which get a run of their own. `blocked` says of cells that
    another version has begun or finished why they cannot be worked on. `notes` are lines for the user.
    """

    done: set[str] = field(default_factory=set)
    recovered: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    reevaluated: set[str] = field(default_factory=set)
    blocked: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_aliases(
    owner: Family,
    cells: Sequence[Cell],
    tracked: Mapping[str, "TrackedRun"],
    storage: Storage,
    data_of: Callable[[Cell], DataSet | Description],
) -> dict[str, str]:
    """The identity under which release 0.1 tracked or stored a cell, by its identity of today, where it did."""
    known = {*tracked, *_stems(storage.names(FINISHED)), *begun_cells(storage)}
    unknown = [cell for cell in cells if cell.identity not in known]
    if not known or not unknown:
        return {}
    fingerprints: dict[str, list[str]] = {}  # by what is trained on, of which every cell has one
    for cell in unknown:
        if cell.data not in fingerprints:
            fingerprints[cell.data] = list(data_of(cell).fingerprints_of_0_1())
    aliases = {cell.identity: identities_of_0_1(owner, cell.config, fingerprints[cell.data]) for cell in unknown}
    return {
        identity: alias for identity, old in aliases.items() if (alias := next((a for a in old if a in known), None))
    }


def survey(
    cells: Sequence[Cell],
    tracked: Mapping[str, "TrackedRun"],
    storage: Storage,
    domains_of: DomainsOf,
    fetch: Fetch,
) -> Survey:
    """Where `cells` stand, on the domains that each should be evaluated on.

    Damaged files are set aside. Weights that only MLflow has are copied into the storage.
    """
    result = Survey()
    files = set(storage.names(FINISHED))
    newer = cells_of_newer_checkpoints(storage, result.notes)
    for cell in cells:
        name, run, domains = cell.identity, tracked.get(cell.identity), domains_of(cell)
        if run is not None and run.outcome is Outcome.DIVERGED:
            result.done.add(name)
        elif run is not None and run.outcome is Outcome.FINISHED:
            _of_finished_run(result, name, run, storage, files, domains, fetch)
        elif name in newer:
            result.blocked[name] = newer[name]
        elif finished_name(name) in files and _of_file(result, name, storage, files, domains):
            continue
        elif source := _sibling(result, name, tracked, storage, files, fetch):
            result.sources[name] = source
    return result


def _of_finished_run(
    result: Survey,
    cell: str,
    run: "TrackedRun",
    storage: Storage,
    files: set[str],
    domains: Mapping[str, str],
    fetch: Fetch,
) -> None:
    """A cell that MLflow has as finished: done, or to be evaluated where domains have come or have changed."""
    changed = [name for name, data in domains.items() if run.domains.get(name, data) not in ("", data)]
    if not changed and domains.keys() <= run.domains.keys():
        result.done.add(cell)
        return
    source = _sound(result, finished_name(cell), storage, files) or _fetched(cell, run, storage, fetch)
    if source is None:
        result.notes.append(f"cell {cell}: neither the storage nor MLflow has its weights any more; it trains again")
        return
    result.sources[cell] = source
    if changed:
        result.reevaluated.add(cell)
        names = ", ".join(changed)
        result.notes.append(f"cell {cell}: the data of {names} have changed: it is evaluated anew, as a new run")


def _of_file(result: Survey, cell: str, storage: Storage, files: set[str], domains: Mapping[str, str]) -> bool:
    """A cell with a finished file that MLflow lacks; false where that is damaged, and the cell to be trained."""
    name = finished_name(cell)
    try:
        read = finished.from_bytes(storage.read(name), f"{storage.uri}/{name}", cell)
    except NewerFile as error:
        result.blocked[cell] = str(error)
        return True
    except DamagedFile as error:
        files.discard(name)
        result.notes.append(f"{error}; it is set aside as {storage.set_aside(name)}")
        return False
    if read.diverged is None and not all(evaluated_on(read, domain, data) for domain, data in domains.items()):
        result.sources[cell] = name
    else:
        result.recovered.append(cell)
    return True


def _sibling(
    result: Survey, cell: str, tracked: Mapping[str, "TrackedRun"], storage: Storage, files: set[str], fetch: Fetch
) -> str | None:
    """The finished file of a cell that has trained as this one would, and was only evaluated otherwise."""
    training = training_part(cell)
    for name in sorted(files):
        if training_part(_stem(name)) == training and (source := _sound(result, name, storage, files)):
            return source
    siblings = {other: run for other, run in tracked.items() if training_part(other) == training}
    fetched = (_fetched(o, run, storage, fetch) for o, run in siblings.items() if run.outcome is Outcome.FINISHED)
    return next(filter(None, fetched), None)


def _sound(result: Survey, name: str, storage: Storage, files: set[str]) -> str | None:
    """`name`, where it is a sound finished file of a cell that did not diverge; a damaged one is set aside."""
    if name not in files:
        return None
    try:
        read = finished.from_bytes(storage.read(name), f"{storage.uri}/{name}", _stem(name))
    except NewerFile:
        return None
    except DamagedFile as error:
        files.discard(name)
        result.notes.append(f"{error}; it is set aside as {storage.set_aside(name)}")
        return None
    return name if read.diverged is None else None


def _fetched(cell: str, run: "TrackedRun", storage: Storage, fetch: Fetch) -> str | None:
    """The finished file of a cell, copied into the storage from the model artifact of its run."""
    data = fetch(run.run_id)
    try:
        if data is None or finished.from_bytes(data, f"model of run {run.run_id}", cell).diverged is not None:
            return None
    except UserError:
        return None
    storage.write(finished_name(cell), data)
    return finished_name(cell)


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(SUFFIX)


def _stems(names: Iterable[str]) -> set[str]:
    return {_stem(name) for name in names}
