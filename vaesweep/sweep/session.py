"""One command from its options to tracked cells: read data, make cells, find those done, run the rest.

--data ──► data ─┐
preset, --set ───┴─► cells ──► plan (less what MLflow and the storage have) ──► packs on Ray ──► MLflow
"""

import copy
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console

import vaesweep
from vaesweep.errors import UserError
from vaesweep.family import CellConfig, Family, family
from vaesweep.packing import structure
from vaesweep.sweep.cells import Cell, Sweep, axes_and_single, expand
from vaesweep.sweep.data_sets import DataSets
from vaesweep.sweep.options import Options
from vaesweep.sweep.plan import Plan, make_plan
from vaesweep.sweep.storage import Storage, finished_name
from vaesweep.sweep.storage_probe import check_answers
from vaesweep.sweep.survey import Survey, find_aliases, survey
from vaesweep.sweep.telling import tell
from vaesweep.sweep.timeline import Timeline
from vaesweep.training import finished
from vaesweep.training.stack import layout_of
from vaesweep.uris import masked, sqlite_file
from vaesweep.vocabulary import RECORD_DIGEST, Tag, record_digest, store_uri

if TYPE_CHECKING:
    from vaesweep.sweep.store import Store, TrackedRun
    from vaesweep.sweep.tracking import Tracker


class Session:
    """A sweep with its options. Bad input is refused before Ray starts."""

    def __init__(self, sweep: Sweep, options: Options, *, dry: bool = False, timeline: Timeline | None = None) -> None:
        self.sweep, self.options, self.timeline = sweep, options, timeline or Timeline()
        self.family: Family = family(sweep.family)
        self.preset = sweep.preset(options.preset, options.data)
        configs = expand(self.family, self.preset, options.settings)
        self.data = DataSets(self.family, options.data, [config for config, _ in configs], options.data_by)
        shapes = {json.dumps(structure(config)): config for config, _ in configs if config.pretraining}
        for config in shapes.values():
            check_weights(self.family, config)
        storage = options.storage or str(options.out / "cells")
        check_answers(storage)
        self.storage = Storage(storage, dry=dry)
        self._places = configs

    def of_configurations(self, places: Sequence[tuple[CellConfig, Mapping[str, Any]]]) -> Self:
        """This session with other cells on the same data and storage: configurations with their places on the axes."""
        other = copy.copy(self)
        other._places = [(config, dict(place)) for config, place in places]
        if not self.data.covers(configs := [config for config, _ in places]):
            other.data = DataSets(self.family, self.options.data, configs, self.options.data_by)
        for name in ("cells", "survey", "tracked", "store"):
            other.__dict__.pop(name, None)  # what is known of other cells, or as of earlier
        return other

    @cached_property
    def cells(self) -> list[Cell]:
        """The cells, under the identities by which MLflow or the storage has them already, where one has."""
        data, name = self.data, self.family.name
        cells = [
            Cell(config, name, data.fingerprint(config), place, data_set=data.number(config))
            for config, place in self._places
        ]
        aliases = find_aliases(
            self.family, cells, self.tracked, self.storage, lambda cell: data.description(cell.config)
        )
        return [replace(cell, alias=aliases[cell.identity]) if cell.identity in aliases else cell for cell in cells]

    def plan(self, slots: int) -> Plan:
        """The plan of the cells that neither MLflow nor the storage has as ended; `slots` packs run at once."""
        known = self.survey
        done = {*known.done, *known.recovered}
        return make_plan(self.cells, done, known.sources, known.blocked, self.options.pack_size, slots)

    @cached_property
    def survey(self) -> Survey:
        """What MLflow and the storage have of the cells."""
        return survey(self.cells, self.tracked, self.storage, lambda cell: self.data.domains(cell.config), self._model)

    @property
    def undone(self) -> list[str]:
        """The cells that this command works on, or would if nothing stopped it."""
        return [cell.identity for cell in self.cells if cell.identity not in self.survey.done]

    def _model(self, run_id: str) -> bytes | None:
        """The model artifact of a run, None where it cannot be had."""
        return self.store.model(run_id)

    @cached_property
    def tracked(self) -> dict[str, "TrackedRun"]:
        """The runs that MLflow has, by cell; none where there is no store yet."""
        if (file := sqlite_file(store_uri())) and not file.exists():
            return {}
        return self.store.cells()

    @cached_property
    def store(self) -> "Store":
        """The sweep's experiment in the tracking store."""
        from vaesweep.sweep.store import Store  # MLflow takes seconds to import: after the checks

        return Store(store_uri(), self.sweep.name)

    def sweep_identity(self, plan: Plan) -> str:
        """The identity of the sweep, by which its parent run is found again."""
        return plan.sweep_identity(self.sweep.name)

    def record(self, plan: Plan) -> dict[str, Any]:
        """The record of the sweep that its parent run stores, for the analysis to read."""
        axes, _ = axes_and_single(self.preset, self.options.settings)
        record = {
            "sweep": self.sweep_identity(plan),
            "name": self.sweep.name,
            "family": self.family.name,
            "preset": self.options.preset,
            "command": masked(self.options.command),
            "axes": {key: list(values) for key, values in axes.items()},
            "cells": [
                {"cell": cell.identity, "values": dict(cell.values), "steps": cell.config.all_steps}
                for cell in self.cells
            ],
            "domains": [
                {"name": d.name, "role": str(d.role), "rows": len(d)} for d in self.data.descriptions[0].domains
            ],
            "data": {
                "spec": masked(self.options.data),
                "fingerprint": self.data.all_fingerprints,
                "summary": self.data.summary,
            },
        }
        return record | {RECORD_DIGEST: record_digest(record)}

    def check_tracking(self, plan: Plan) -> None:
        """Refuse, before Ray starts, a sweep whose runs could not be opened or filled in the store that there is."""
        if (file := sqlite_file(store_uri())) and not file.exists():
            return
        about = {"sweep": self.sweep_identity(plan), "preset": self.options.preset, "family": self.family.name}
        self.store.check_sweep(about)

    def tracker(self, plan: Plan) -> tuple["Tracker", str]:
        """The writer of this sweep's runs, and the identity of its parent run."""
        from vaesweep.sweep.tracking import Tracker

        common = {Tag.FAMILY: self.family.name, Tag.CODE: code_version(), Tag.DATA: self.data.all_fingerprints}
        tags = {str(key): value for key, value in common.items()}
        tags |= {"mlflow.source.name": f"sweeps/{self.sweep.name}.py", "mlflow.source.type": "LOCAL"}
        identity = self.sweep_identity(plan)
        parent = self.store.open_sweep(self.record(plan), tags)
        own = {c.identity: tags | {str(Tag.SWEEP): identity, str(Tag.DATA): c.data} for c in self.cells}
        for pack in plan.packs:  # cells that are only evaluated keep the pack that they trained in
            for cell in pack.cells:
                own[cell.identity][str(Tag.PACK)] = pack.identity
        tracked = {cell: run for cell, run in self.tracked.items() if cell not in self.survey.reevaluated}
        return Tracker(self.store, parent, self.cells, tracked, own), parent

    def hand_over_recovered(self, tracker: "Tracker") -> int:
        """Complete the runs of cells that were finished but not fully tracked, and return their number."""
        for cell in self.survey.recovered:
            data = self.storage.read(finished_name(cell))
            tracker.ended(finished.from_bytes(data, f"{self.storage.uri}/{finished_name(cell)}", cell), data)
        return len(self.survey.recovered)


def check_weights(owner: Family, config: CellConfig) -> None:
    """Refuse a cell whose pretraining leaves it weights of other names or shapes than its own."""
    pretraining, own = (dict(layout_of(owner.model(phase))) for phase in (config.pretraining or config, config))
    for name in {**pretraining, **own}:
        if pretraining.get(name) != own.get(name):
            raise UserError(
                f"pretraining.model: {name} is {_shape(pretraining.get(name))} in pretraining and "
                f"{_shape(own.get(name))} in the cell that starts from it; give both one size"
            )


def _shape(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else " × ".join(map(str, shape)) or "one number"


def describe(session: Session, plan: Plan, console: Console) -> None:
    """Print the summary of the data and the numbers of cells, done and left."""
    for line in [*(f"data: {line}" for line in session.data.summary), *session.survey.notes]:
        tell(console, line)
    sizes = sorted((len(pack.cells) for pack in plan.packs), reverse=True)
    packs = f"{len(sizes)} packs" if len(sizes) > 1 else "one pack"
    left = f"{plan.left()} to train in {packs} of {_range(sizes)}" if sizes else "none to train"
    if plan.evaluations:
        left += f", {sum(len(pack.cells) for pack in plan.evaluations)} to evaluate only"
    if plan.blocked:
        left += f", {len(plan.blocked)} of a newer version"
    tell(console, f"{session.sweep.name}: {len(plan.cells)} cells, {len(plan.done)} done, {left}")


def code_version() -> str:
    """The package's version, with the commit where it runs from a checkout; `+` marks uncommitted changes."""
    folder = Path(vaesweep.__file__).parent
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        dirty = "+" if _git(folder, "status", "--porcelain", "--untracked-files=no", "--", str(folder)) else ""
    except (OSError, subprocess.SubprocessError):
        return vaesweep.__version__
    return f"{vaesweep.__version__} {commit}{dirty}"


def _git(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10, env=environment
    )
    return done.stdout.strip()


def _range(sizes: Sequence[int]) -> str:
    return f"{sizes[0]}" if sizes[0] == sizes[-1] else f"{sizes[-1]} to {sizes[0]}"


def check_writable(folder: Path) -> None:
    """Create `folder`, and refuse it where nothing can be written there, before hours of training are lost."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error.strerror}); name another folder") from None
