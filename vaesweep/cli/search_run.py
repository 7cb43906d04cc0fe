"""The run of a search from its options to its report, as the scripts in `sweeps/` that search do it."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import count
from pathlib import Path

import pandas as pd
from rich.console import Console

from vaesweep.analysis.runs import log_files
from vaesweep.cli import sweep_run
from vaesweep.cli.script import FAILED, OK
from vaesweep.cli.search_script import SearchOptions
from vaesweep.errors import TrackingError, UserError
from vaesweep.search import confirmation
from vaesweep.search.confirmation import Confirmation
from vaesweep.search.report import Searched, write
from vaesweep.search.rounds import SearchSession, Trained, Trainer, describe_settings, search
from vaesweep.search.search import Search
from vaesweep.search.space import is_packed
from vaesweep.search.study import CELL, Study, Trial, best_trial, is_on_target, open_storage
from vaesweep.sweep.cluster import Resources
from vaesweep.sweep.lease import CellsHeld, lease
from vaesweep.sweep.options import Options
from vaesweep.sweep.plan import estimate_seconds
from vaesweep.sweep.progress import duration
from vaesweep.sweep.resume import drop_spent_checkpoints
from vaesweep.sweep.telling import tell
from vaesweep.sweep.timeline import Timeline
from vaesweep.uris import masked
from vaesweep.vocabulary import store_uri


def run_search(
    declared: Search, options: Options, own: SearchOptions, console: Console, timeline: Timeline, *, plan_only: bool
) -> int:
    """Search, or print what would be searched, and return the process's exit code."""
    session = SearchSession(
        declared,
        options,
        own.objectives,
        sampler=own.sampler,
        seed=own.seed,
        prune=own.prune,
        dry=plan_only,
        timeline=timeline,
    )
    timeline.lap("data, search")
    curve = None if own.curve is None else _read_curve(own.curve)
    study = Study(
        open_storage(own.study, dry=plan_only),
        session.study_name,
        session.space,
        [one.objective.direction for one in session.objectives],
        sampler=own.sampler,
        seed=own.seed,
        default=session.default_settings,
        pruner=session.pruner,
    )
    resources = Resources.of(options)
    _describe(session, study, own, console)
    if plan_only:
        _print_estimate(session, own, resources, console)
        return OK
    sweep_run.check_folders(session, session.plan(1))
    with ExitStack() as held:
        study.driver = _free_driver(session, held)
        sweep_run.clear_storage(session, console)
        with Trainer(session, resources, console) as trainer:
            return _searched(session, study, own, trainer, console, curve)


def _free_driver(session: SearchSession, held: ExitStack) -> int:
    """The first driver of the study that no living command is, which this one is while `held` lasts."""
    return next(driver for driver in count() if _is_taken(session, driver, held))


def _is_taken(session: SearchSession, driver: int, held: ExitStack) -> bool:
    """Take a driver for this command while `held` lasts; false where a living command has it."""
    try:
        held.enter_context(lease(session.storage, session.sweep.name, [f"{session.study_name}, driver {driver}"]))
    except CellsHeld:
        return False
    return True


def _searched(
    session: SearchSession,
    study: Study,
    own: SearchOptions,
    trainer: Trainer,
    console: Console,
    curve: pd.DataFrame | None,
) -> int:
    """Search, confirm the choice, write the report, and set the status of the parent run."""
    try:
        failed = _search(session, study, own, trainer, console)
        confirmed = _confirm(session, study, own, trainer)
        causes = {f"trial {number}": cause for number, cause in failed.items()}
        for one in confirmed:
            causes |= one.failed
        for name, cause in causes.items():
            print(f"{name} failed: {masked(cause)}", file=sys.stderr)
        _report(session, study, own, trainer, console, confirmed, curve)
    except TrackingError:
        raise  # the store does not answer: the parent run stays open for the next try
    except BaseException as error:
        with suppress(TrackingError):  # what has ended the command is what is told
            trainer.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED", at_once=True)
        raise
    trainer.end("FAILED" if causes else "FINISHED")
    return FAILED if causes else OK


def _search(
    session: SearchSession, study: Study, own: SearchOptions, trainer: Trainer, console: Console
) -> dict[int, str]:
    """Ask, train and tell rounds until there are as many trials as wanted; causes of those that failed."""

    def train(asked: Sequence[Trial]) -> Trained:
        session.list_trials(study.trials)
        return trainer.train(session.places(asked))

    def after(told: Sequence[Trial]) -> None:
        best = best_trial(study.trials, session.objectives[0].sign)
        done = sum(trial.state.is_finished() for trial in study.trials)
        if best is not None:
            values = ", ".join(f"{o.label} {v:.5g}" for o, v in zip(session.objectives, best.values, strict=True))
            missed = "" if is_on_target(best) else " (off target)"
            line = (
                f"{done}/{own.trials} trials; best is {best.number}: {values}{missed}, {describe_settings(best.params)}"
            )
            tell(console, line)

    def run() -> dict[int, str]:
        return search(
            study,
            own.trials,
            own.batch,
            train,
            session.identify,
            session.objectives,
            constrained=session.constrained,
            after=after,
        )

    failed, driver = run(), study.driver
    with ExitStack() as held:  # what drivers that died have left open
        for other in study.other_drivers():
            if _is_taken(session, other, held):
                study.driver = other
                failed |= run()
    study.driver = driver
    return failed


def _confirm(session: SearchSession, study: Study, own: SearchOptions, trainer: Trainer) -> list[Confirmation]:
    """Train what is chosen, and the preset's default, with fresh seeds; empty where nothing is to be confirmed."""
    if others := study.other_drivers():
        print(f"{len(others)} other commands still train trials of this study; the last one confirms the choice")
        return []
    session.list_trials(study.trials)
    if not own.confirm:
        return []
    chosen = confirmation.choices(study.trials, [one.sign for one in session.objectives])
    every = session.of_configurations([])
    cells = [(trial, every.finished_cell(trial.user_attrs[CELL])) for trial in chosen]
    there = [(trial, cell) for trial, cell in cells if cell is not None]
    return confirmation.confirm(trainer, there, session.objectives, own.confirm) if there else []


def _report(
    session: SearchSession,
    study: Study,
    own: SearchOptions,
    trainer: Trainer,
    console: Console,
    confirmed: Sequence[Confirmation],
    curve: pd.DataFrame | None,
) -> None:
    table = None
    if confirmed:
        table = confirmation.confirmation_table(confirmed, session.objectives, session.data.descriptions[0])
    title = f"{session.sweep.name} ({session.family.name}, preset {session.options.preset})"
    report = write(Searched(study, session.objectives, title, confirmed, table, curve), session.options.out)
    if trainer.parent is not None:
        log_files(trainer.parent, report.paths, store_uri())
    print_line = partial(tell, console)
    for line in [*drop_spent_checkpoints(session.storage), *report.summary]:
        print_line(line)
    print_line(f"written: {', '.join(str(path) for path in report.paths)}")
    print_line(f"to look at the study: pip install optuna-dashboard, then: optuna-dashboard {masked(own.study)}")


def _read_curve(path: Path) -> pd.DataFrame:
    """A sweep's `curve.csv`."""
    try:
        curve = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"--curve {path}: cannot be read ({error}); name the curve.csv of a sweep") from None
    if not {"kind", "domain", "rate", "distortion", "elbo"} <= set(curve.columns):
        raise UserError(f"--curve {path}: this is no table of a curve; name the curve.csv of a sweep")
    return curve


def _describe(session: SearchSession, study: Study, own: SearchOptions, console: Console) -> None:
    """Print the data, the space and how far the study has come."""
    print_line = partial(tell, console)
    for line in session.data.summary:
        print_line(f"data: {line}")
    packed = {
        key: is_packed(session.family, session.settings, key, distribution)
        for key, distribution in session.space.items()
    }
    for name, wanted in (("within packs", True), ("packs of their own", False)):
        if keys := [key for key, value in packed.items() if value is wanted]:
            print_line(f"space, {name}: {', '.join(keys)}")
    told = sum(trial.state.is_finished() for trial in study.trials)
    left = max(0, own.trials - len(study.trials))
    print_line(
        f"study {study.name}: {told} trials told, {len(study.open())} open, {left} to ask by {own.sampler} "
        f"in rounds of {own.batch}; {', '.join(f'{o.objective.direction} {o.label}' for o in session.objectives)}"
    )


def _print_estimate(session: SearchSession, own: SearchOptions, resources: Resources, console: Console) -> None:
    """Print about how long a first round takes, as a round of random trials on this machine, and what all would."""
    sweep_run.print_settings(session.options, console)
    size = sweep_run.find_cluster(resources)
    slots = sweep_run.slots_of(size, resources)
    study = Study(
        None,
        "plan",
        session.space,
        [one.objective.direction for one in session.objectives],
        sampler="random",
    )
    asked = study.ask_round(own.batch, own.batch, session.identify)
    plan = session.of_configurations(session.places(asked)).plan(slots)
    if plan.packs:
        estimate = estimate_seconds(plan, session.data.of, slots)
        rounds = -(-own.trials // own.batch)
        choices = 1 if len(session.objectives) == 1 else confirmation.FRONT
        took = f"about {duration(estimate.wall)} of training a round"
        line = f"{took} of {plan.left()} in {len(plan.packs)} packs on this machine"
        tell(console, f"{line}, {rounds} rounds and {2 * own.confirm * choices} cells that confirm")
        cost = sweep_run.describe_cost(estimate, resources, session.options.price)
        tell(console, f"a round: {cost}")
    sweep_run.print_places(session, resources, size, console)
