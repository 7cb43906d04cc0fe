"""Rounds of a search: the trials that were asked train as packs, on one Ray for all rounds, and are told.

study ── ask N ──► configurations ──► cells ──► plan ──► packs on Ray ──► MLflow, one parent run
  ▲                                                            │
  └────────────── tell N ◄── objectives ◄── finished files ◄───┘
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vaesweep.errors import RoundFailed
from vaesweep.family import CellConfig, family
from vaesweep.packing import leaves
from vaesweep.rates import TargetRate
from vaesweep.search.objectives import Objective, ResolvedObjective, resolve
from vaesweep.search.pruning import MedianPruner, was_pruned
from vaesweep.search.search import Sampler, Search
from vaesweep.search.space import check_space, without_fixed
from vaesweep.search.study import CELL, Study, Told, Trial, settings_of
from vaesweep.sweep.cells import Cell
from vaesweep.sweep.identity import digest
from vaesweep.sweep.lease import CellsHeld, lease
from vaesweep.sweep.options import Options
from vaesweep.sweep.plan import Plan
from vaesweep.sweep.session import Session
from vaesweep.sweep.settings import build, combine
from vaesweep.sweep.storage import finished_name
from vaesweep.sweep.timeline import Timeline
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell
from vaesweep.vocabulary import RECORD_DIGEST, record_digest

if TYPE_CHECKING:
    from vaesweep.sweep.cluster import Resources

HELD_SECONDS = 2.0  # between two looks whether another command still trains cells that this one has asked too
TRIAL, CONFIRMATION = "trial", "confirmation"  # axes of the record of a search's parent run
Place = tuple[CellConfig, Mapping[str, Any]]  # a configuration with its values on the axes


class SearchSession(Session):
    """The session of a search: its rounds share data, storage and one parent run, whose record grows by rounds."""

    def __init__(
        self,
        search: Search,
        options: Options,
        objectives: Sequence[Objective] = (),
        *,
        sampler: Sampler = "tpe",
        seed: int = 0,
        prune: bool = False,
        dry: bool = False,
        timeline: Timeline | None = None,
    ) -> None:
        """`objectives` stand in the place of the search's. The space is checked before data are read."""
        owner = family(search.family)
        preset = search.sweep.preset(options.preset, options.data)
        self.space = without_fixed(search.space, options.settings)
        self.settings = combine(preset.base, options.settings)
        check_space(owner, self.settings, self.space)
        super().__init__(search.sweep, options, dry=dry, timeline=timeline)
        self.default = self.configuration({})
        self.objectives = resolve(
            objectives or search.objectives, owner, self.default, self.data.description(self.default)
        )
        self.sampler, self.seed = sampler, seed
        self.pruner = MedianPruner.of(self.objectives, self.default) if prune else None
        self.listed: dict[str, dict[str, Any]] = {}  # by cell of the record, its values on the axes

    @property
    def constrained(self) -> bool:
        """Whether trials can miss a rate that they are steered to."""
        return any(isinstance(control, TargetRate) for control in self.default.rates.values())

    def configuration(self, settings: Mapping[str, Any]) -> CellConfig:
        """The preset's configuration with further settings. Raises `UserError` where they do not go together."""
        config = build(self.family.config, combine(self.settings, settings))
        self.family.check(config)
        return config

    def identify(self, settings: Mapping[str, Any]) -> str:
        """The identity of the cell with a trial's settings."""
        config = self.configuration(settings)
        return Cell(config, self.family.name, self.data.fingerprint(config), {}).identity

    @property
    def study_name(self) -> str:
        """The name of the study: what is searched, on which data, for what and how. The same search has the same."""
        domains = self.data.domains(self.default)
        about = {
            "default": self.identify({}),
            "space": {key: repr(distribution) for key, distribution in self.space.items()},
            "objectives": [[one.objective.direction, one.label] for one in self.objectives],
            "held_out": {name: domains[name] for one in self.objectives for name in one.held_out},
            "sampler": [self.sampler, self.seed],
            "pruner": repr(self.pruner),
        }
        return f"{self.sweep.name} {self.options.preset} {digest(about, 8)}"

    @property
    def default_settings(self) -> dict[str, Any]:
        """The preset's own values of the space's keys."""
        values = dict(leaves(self.default.model_dump(mode="json")))
        return {key: values.get(key) for key in self.space}

    def places(self, trials: Sequence[Trial]) -> list[Place]:
        """The configurations of trials with their values on the axes."""
        return [(self.configuration(settings_of(trial)), values_of(trial)) for trial in trials]

    def list_trials(self, trials: Sequence[Trial]) -> None:
        """Put the trials into the record of the parent run; trials of one configuration share their cell."""
        for trial in trials:
            if CELL in trial.user_attrs:
                self.listed.setdefault(trial.user_attrs[CELL], values_of(trial))

    def sweep_identity(self, plan: Plan) -> str:
        """The identity of the study, whatever has been asked of it."""
        return digest([self.sweep.name, self.study_name])

    def record(self, plan: Plan) -> dict[str, Any]:
        """The record of the study as of this round: all its cells, with their values on the axes."""
        for cell in self.cells:
            self.listed.setdefault(cell.identity, dict(cell.values))
        axes: dict[str, list[Any]] = {}
        for values in self.listed.values():
            for key, value in values.items():
                if value not in (known := axes.setdefault(key, [])):
                    known.append(value)
        record = {key: value for key, value in super().record(plan).items() if key != RECORD_DIGEST}
        record |= {
            "study": self.study_name,
            "axes": axes,
            "cells": [{"cell": cell, "values": values} for cell, values in self.listed.items()],
        }
        return record | {RECORD_DIGEST: record_digest(record)}

    def finished_cell(self, cell: str) -> FinishedCell | None:
        """A finished cell from the storage or, where that has lost it, from MLflow; None where neither has it."""
        name = finished_name(cell)
        if self.storage.exists(name):
            return finished.from_bytes(self.storage.read(name), f"{self.storage.uri}/{name}", cell)
        run = self.tracked.get(cell)
        data = self.store.model(run.run_id) if run else None
        return None if data is None else finished.from_bytes(data, f"model of cell {cell}", cell)


def values_of(trial: Trial) -> dict[str, Any]:
    """A trial's values on the axes of the record: its number, and its settings."""
    return {TRIAL: trial.number, **trial.params}


@dataclass
class Trained:
    """What the cells of a round have come to: finished ones by their place in it, and causes of those that failed."""

    cells: dict[int, FinishedCell] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)


class Trainer:
    """Trains configurations as packs. A context: Ray starts when something is to be trained, and ends with it."""

    def __init__(self, session: SearchSession, resources: "Resources", console: Console) -> None:
        self.session, self._resources, self._console = session, resources, console
        self._ray = ExitStack()
        self._slots: int | None = None
        self.parent: str | None = None  # the study's run, once something was trained or looked up

    def __enter__(self) -> "Trainer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ray.__exit__(kind, error, traceback)  # which says what an interruption was

    def train(self, places: Sequence[Place]) -> Trained:
        """Train and track the cells of `places`, less what is done, and return what all of them have come to."""
        unique: dict[str, Place] = {}
        for config, values in places:
            unique.setdefault(config.model_dump_json(), (config, values))
        session = self.session.of_configurations(list(unique.values()))
        names = {key: cell.identity for key, cell in zip(unique, session.cells, strict=True)}
        failed = self._train(session)
        result = Trained()
        for number, (config, _) in enumerate(places):
            cell = names[config.model_dump_json()]
            if (done := None if cell in failed else session.finished_cell(cell)) is not None:
                result.cells[number] = done
            else:
                result.failed[number] = failed.get(cell, "it has no finished file")
        return result

    def _train(self, session: SearchSession) -> Mapping[str, str]:
        """Train and track the cells of one round; causes of those that failed."""
        from vaesweep.sweep.runner import train_plan  # Ray takes seconds to import

        with ExitStack() as held:
            session = self._held(session, held)
            plan = session.plan(1)
            if plan.packs or plan.evaluations:
                plan = session.plan(self._connected())
            tracker, self.parent = session.tracker(plan)
            with tracker:
                session.hand_over_recovered(tracker)
                failed = dict(plan.blocked)
                if plan.packs or plan.evaluations:
                    failed |= train_plan(session, plan, self._resources, self._connected(), tracker, self._console)
        return failed

    def _held(self, session: SearchSession, held: ExitStack) -> SearchSession:
        """The session with what is known of its cells once no other command trains any; they are held from then on."""
        while True:
            try:
                held.enter_context(lease(session.storage, session.sweep.name, session.undone))
            except CellsHeld:  # another command of this study has asked one of these configurations too
                time.sleep(HELD_SECONDS)
            else:
                return session
            session = session.of_configurations([(cell.config, cell.values) for cell in session.cells])

    def _connected(self) -> int:
        """The number of packs that run at once on the cluster, which is started or joined at the first call."""
        from vaesweep.sweep.runner import connected

        if self._slots is None:
            modules = [type(self.session.family).__module__]
            connection = self._ray.enter_context(connected(self._resources, self.session.data.nbytes, modules))
            self._slots = self._resources.slots(connection.available)
        return self._slots

    def end(self, status: str, *, at_once: bool = False) -> None:
        """Set the status of the parent run, where there is one; `at_once` does not wait for a store that fails."""
        if self.parent is not None:
            store = self.session.of_configurations([]).store
            how = {"patience": 0.0} if at_once else {}
            store.end_sweep(self.parent, status, **how)


Train = Callable[[Sequence[Trial]], Trained]  # the results of a round's trials, by their place in it


def search(
    study: Study,
    trials: int,
    batch: int,
    train: Train,
    identify: Callable[[Mapping[str, Any]], str],
    objectives: Sequence[ResolvedObjective],
    *,
    constrained: bool,
    after: Callable[[Sequence[Trial]], None] = lambda told: None,
) -> dict[int, str]:
    """Ask and train rounds of `batch` until `trials` have been told; the causes of those that failed now, by number.

    A round of which every trial fails is not told, and raises `RoundFailed`.
    """
    failed: dict[int, str] = {}
    while asked := study.ask_round(batch, trials, identify):
        trained = train(asked)
        if not trained.cells:
            cause = next(iter(trained.failed.values()), "")
            raise RoundFailed(f"all {len(asked)} trials of a round failed: {cause}; the same command tries them again")
        for place, trial in enumerate(asked):
            cell, cause = trained.cells.get(place), trained.failed.get(place, "")
            told = Told(None, cause=cause) if cell is None else told_of(cell, objectives, trial, study.pruner)
            study.tell(trial, told, constrained=constrained)
            if told.values is None:
                failed[trial.number] = told.cause
        after(asked)
    return failed


def told_of(
    cell: FinishedCell, objectives: Sequence[ResolvedObjective], trial: Trial, pruner: MedianPruner | None = None
) -> Told:
    """What is told of a trial's cell; one that diverged has no numbers, which counts as the worst."""
    values = tuple(objective.value(cell.metrics) for objective in objectives)
    history = pruner.history(cell) if pruner else {}
    pruned = cell.diverged is None and was_pruned(trial, history)
    return Told(values, missed_target(cell), cell.cause or "", history, pruned)


def missed_target(cell: FinishedCell) -> bool:
    """Whether a cell has not the rate asked for: out of reach, not settled at the end, or diverged."""
    settled = cell.history.get("train/settled")
    unsettled = settled is not None and len(settled) > 0 and not bool(settled[-1])
    return cell.diverged is not None or bool(cell.saturated) or unsettled


def describe_settings(params: Mapping[str, Any]) -> str:
    """Settings as they are typed behind `--set`."""
    return " ".join(f"{key}={_short(value)}" for key, value in params.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value).strip('"')
