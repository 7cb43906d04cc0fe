"""The Optuna study of a search: trials are asked in rounds, recorded before they are run, and told once.

A trial is sampled in a copy of the study in memory and then recorded in one write, with its cell's identity: a process
that dies leaves whole trials only. The sampler of a trial is seeded by the study's seed and the trial's number, and a
round is asked only when the one before has been told, so that a study that goes on after an interruption asks what an
undisturbed one asks.

Several commands may search one study, each in rounds of its own: drivers 0, 1, …, of which a lone command is the first,
and the one that tries the default.
"""

import logging
import math
import os
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial as Trial
from optuna.trial import TrialState, create_trial
from sqlalchemy import create_engine, dialects, inspect
from sqlalchemy.exc import SQLAlchemyError

from vaesweep.errors import UserError
from vaesweep.search.objectives import MAXIMISE, MINIMISE
from vaesweep.search.pruning import MedianPruner
from vaesweep.search.search import Sampler
from vaesweep.search.space import Space
from vaesweep.store_access import once_made, one_line
from vaesweep.sweep.identity import digest
from vaesweep.uris import folder_of, is_database, masked, scheme_of, sqlite_file

DIRECTIONS = {MINIMISE: StudyDirection.MINIMIZE, MAXIMISE: StudyDirection.MAXIMIZE}
STARTUP = 8  # trials that are drawn at random before the sampler models anything
TRIES = 3  # of opening a database whose tables are being made
# Attributes of a trial.
CELL, DRIVER, ROUND, SIZE, REFUSED, CAUSE, PRUNING = "cell", "driver", "round", "size", "refused", "cause", "pruning"
OFF_TARGET = "off_target"  # the constraint that trials meet which have the rate that was asked for

optuna.logging.set_verbosity(optuna.logging.ERROR)  # its warnings are of its own defaults
warnings.filterwarnings("ignore", category=ExperimentalWarning)
warnings.filterwarnings("ignore", message="Clip non-finite values")  # of trials that diverged: they count as the worst
logging.getLogger("alembic").setLevel(logging.WARNING)


@dataclass(frozen=True)
class Told:
    """What a trial has come to: its values, None where its cell failed, and whether it missed the rate asked for.

    `history` has the values by step that trials are pruned by; one that was pruned has no others.
    """

    values: tuple[float, ...] | None
    off_target: bool = False
    cause: str = ""
    history: Mapping[int, float] = field(default_factory=dict)
    pruned: bool = False


Identify = Callable[[Mapping[str, Any]], str]  # the identity of the cell with a trial's settings; UserError if refused


class Study:
    """A study in a storage of Optuna's, or in memory."""

    def __init__(
        self,
        storage: BaseStorage | None,
        name: str,
        space: Space,
        directions: Sequence[str],
        *,
        sampler: Sampler = "tpe",
        seed: int = 0,
        default: Mapping[str, Any] | None = None,
        pruner: MedianPruner | None = None,
    ) -> None:
        """`default` has the settings of the preset's own configuration, which is tried first where the space has it."""
        self.name, self._sampler, self._seed, self.pruner = name, sampler, seed, pruner
        self.driver = 0  # of those that share the study, the one whose rounds are asked
        self._space = {key: distribution.of_optuna() for key, distribution in space.items()}
        self._directions = [DIRECTIONS[direction] for direction in directions]
        self._default = dict(default) if default is not None and self._holds(default) else None
        self.optuna = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=self._directions,
            sampler=RandomSampler(seed=0),  # which asks nothing: trials are sampled in a copy
            load_if_exists=True,
        )

    def _holds(self, settings: Mapping[str, Any]) -> bool:
        try:
            return all(d._contains(d.to_internal_repr(settings[key])) for key, d in self._space.items())
        except (KeyError, TypeError, ValueError):
            return False

    @property
    def trials(self) -> list[Trial]:
        """All trials, by number."""
        return self.optuna.get_trials(deepcopy=False)

    def open(self) -> list[Trial]:
        """Trials that this driver has asked and not told."""
        return [trial for trial in self._all_open() if trial.user_attrs[DRIVER] == self.driver]

    def _all_open(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.state is TrialState.RUNNING]

    def other_drivers(self) -> list[int]:
        """Other drivers that have trials which are asked and not told."""
        return sorted({trial.user_attrs[DRIVER] for trial in self._all_open()} - {self.driver})

    def ask_round(self, batch: int, trials: int, identify: Identify) -> list[Trial]:
        """The trials to be run next, in all at most `trials`: those left open, or a new round of `batch`; else none.

        A round that was interrupted while it was asked is asked to its end.
        """
        while True:
            known = self.trials
            own = [trial for trial in known if trial.user_attrs[DRIVER] == self.driver]
            last = max((trial.user_attrs[ROUND] for trial in own), default=-1)
            members = [trial for trial in own if trial.user_attrs[ROUND] == last]
            begun = [t for t in members if t.state.is_finished() and REFUSED not in t.user_attrs]
            lacking = 0 if begun or not members else members[0].user_attrs[SIZE] - len(members)
            if lacking <= 0 and (left := self.open()):
                return left
            if lacking <= 0:
                last, lacking = last + 1, min(batch, trials - len(known))
                if lacking <= 0:
                    return []
                members = []
            common: dict[str, Any] = {DRIVER: self.driver, ROUND: last, SIZE: len(members) + lacking}
            if self.pruner and (bounds := self.pruner.settings([t for t in known if t.state.is_finished()])):
                common[PRUNING] = bounds
            for _ in range(lacking):
                self._ask(common, identify)

    def _ask(self, common: Mapping[str, Any], identify: Identify) -> None:
        """Sample one trial and record it with its cell; one whose configuration is refused is recorded as failed."""
        settings, attributes = self._sampled(), dict(common)
        state = TrialState.RUNNING
        try:
            attributes[CELL] = identify({**settings, **attributes.get(PRUNING, {})})
        except UserError as error:
            attributes[REFUSED], state = str(error), TrialState.FAIL
        self.optuna.add_trial(
            create_trial(state=state, params=settings, distributions=self._space, user_attrs=attributes)
        )

    def _sampled(self) -> dict[str, Any]:
        """The settings of the next trial."""
        known = self.trials
        if self.driver == 0 and self._default is not None and not any(t.user_attrs[DRIVER] == 0 for t in known):
            return {key: self._default[key] for key in self._space}
        sampler = make_sampler(self._sampler, int(digest([self._seed, self.driver, len(known)], 8), 16))
        copy = optuna.create_study(directions=self._directions, sampler=sampler)
        copy.add_trials(known)
        return dict(copy.ask(self._space).params)

    def tell(self, trial: Trial, told: Told, *, constrained: bool) -> None:
        """Record what a trial has come to; a value that is not a number counts as the worst.

        `constrained` says whether trials can miss their rate, which Optuna is told of each.
        """
        if told.values is None:
            self._note(trial, {CAUSE: told.cause})
            self.optuna.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            return
        if told.cause:
            self._note(trial, {CAUSE: told.cause})
        for step, value in told.history.items():
            if step not in trial.intermediate_values:
                optuna.trial.Trial(self.optuna, trial._trial_id).report(value, step)
        if constrained and OFF_TARGET not in trial.constraints:
            writer = optuna.trial.Trial(self.optuna, trial._trial_id)
            writer.set_constraint(OFF_TARGET, float(told.off_target))
        if told.pruned:
            self.optuna.tell(trial.number, state=TrialState.PRUNED, skip_if_finished=True)
            return
        values = [_worst(value, way) for value, way in zip(told.values, self._directions, strict=True)]
        self.optuna.tell(trial.number, values, skip_if_finished=True)

    def _note(self, trial: Trial, attributes: Mapping[str, Any]) -> None:
        for key, value in attributes.items():
            optuna.trial.Trial(self.optuna, trial._trial_id).set_user_attr(key, value)


def _worst(value: float, direction: StudyDirection) -> float:
    if not math.isnan(value):
        return value
    return math.inf if direction is StudyDirection.MINIMIZE else -math.inf


def make_sampler(kind: Sampler, seed: int) -> BaseSampler:
    """A sampler that takes trials which are not told yet into account."""
    if kind == "random":
        return RandomSampler(seed=seed)
    if kind == "gp":
        return GPSampler(seed=seed, n_startup_trials=STARTUP, deterministic_objective=False)
    return TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=True)


def settings_of(trial: Trial) -> dict[str, Any]:
    """The settings of a trial's cell: what was sampled, and the bounds by which it is pruned."""
    return {**trial.params, **trial.user_attrs.get(PRUNING, {})}


def is_on_target(trial: Trial) -> bool:
    """Whether a trial has the rate that was asked for; also where none was."""
    return trial.constraints.get(OFF_TARGET, 0.0) <= 0


def complete(trials: Collection[Trial]) -> list[Trial]:
    """The trials with finite values."""
    done = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    return [trial for trial in done if all(math.isfinite(value) for value in trial.values)]


def eligible(trials: Collection[Trial]) -> list[Trial]:
    """The trials to choose from: complete ones that are on target or, where none is, all of them."""
    done = complete(trials)
    return [trial for trial in done if is_on_target(trial)] or done


def best_trial(trials: Collection[Trial], sign: int) -> Trial | None:
    """The trial with the best first value (`sign` 1: the least), of equals the first; None where none is complete."""
    return min(eligible(trials), key=lambda trial: (sign * trial.values[0], trial.number), default=None)


def pareto_front(trials: Collection[Trial], signs: Sequence[int]) -> list[Trial]:
    """The eligible trials than which no other is as good in all values and better in one."""
    costs = [(trial, [s * v for s, v in zip(signs, trial.values, strict=True)]) for trial in eligible(trials)]

    def beaten(own: list[float]) -> bool:
        return any(o != own and all(a <= b for a, b in zip(o, own, strict=True)) for _, o in costs)

    return [trial for trial, own in costs if not beaten(own)]


def open_storage(uri: str, *, dry: bool = False) -> BaseStorage:
    """Optuna's storage at a file's path, a journal, or at a database's URI. A `dry` one that is not there is in memory.

    Raises `UserError` where it cannot be used. MLflow's own database is refused: both keep the version of their schema
    in a table of one name.
    """
    if not is_database(uri, "--study") and scheme_of(uri) not in dialects.__all__:
        return _journal(folder_of(uri, "--study"), dry=dry)
    if dry and (file := sqlite_file(uri)) and not file.exists():
        return optuna.storages.InMemoryStorage()
    try:
        engine = create_engine(uri)
        tables = set(inspect(engine).get_table_names())
        engine.dispose()
        if ("alembic_version" in tables and "version_info" not in tables) or "experiments" in tables:
            raise UserError(
                f"--study {masked(uri)}: this is a database of something else, such as MLflow's; name another "
                "one on the same server"
            )
        if dry and "studies" not in tables:
            return optuna.storages.InMemoryStorage()
        return once_made(lambda: RDBStorage(uri), TRIES)
    except ModuleNotFoundError as error:
        raise UserError(
            f"--study {masked(uri)}: the driver of this database is not installed: pip install {error.name}, "
            "or name a file"
        ) from None
    except (SQLAlchemyError, ImportError, RuntimeError, ValueError) as error:
        raise UserError(f"--study {masked(uri)}: {one_line(error)}; name a file, or a database's URI") from None


def _journal(path: Path, *, dry: bool) -> BaseStorage:
    if not path.exists() and dry:
        return optuna.storages.InMemoryStorage()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not dry:
            _mend(path)
        return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))
    except OSError as error:
        raise UserError(f"--study {path}: {error.strerror}; name another file") from None
    except Exception as error:  # Optuna replays it, and raises whatever comes of values that are not its own
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"--study {path}: this is no journal of Optuna's ({reason}); name another file") from None


def _mend(path: Path) -> None:
    """Take away a last line that a machine which went down has left incomplete: what follows would be lost with it."""
    lock = JournalFileOpenLock(str(path))
    lock.acquire()  # nobody is writing it
    try:
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)
    finally:
        lock.release()
