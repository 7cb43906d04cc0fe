"""The run of a sweep from its options to its curve, as every script in `sweeps/` does it.

Settings and data are checked before Ray, MLflow and what draws are imported, which take seconds.
"""

import pkgutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from vaesweep.cli.script import FAILED, OK
from vaesweep.data.domains import DataSet
from vaesweep.errors import TrackingError
from vaesweep.store_access import ReadRun
from vaesweep.sweep.cells import Sweep
from vaesweep.sweep.lease import lease
from vaesweep.sweep.options import Options
from vaesweep.sweep.plan import Plan, estimate_seconds
from vaesweep.sweep.progress import duration
from vaesweep.sweep.resume import drop_spent_checkpoints
from vaesweep.sweep.session import Session, check_writable, describe
from vaesweep.uris import masked
from vaesweep.vocabulary import SETTLED, store_uri

if TYPE_CHECKING:
    from vaesweep.analysis.report import Report
    from vaesweep.analysis.runs import Runs
    from vaesweep.sweep.tracking import Tracker

Train = Callable[["Tracker"], Mapping[str, str]]  # the causes of cells that failed
FamilyReport = Callable[["Runs", DataSet, Path], "Report"]  # written beside the rate-distortion curve


def run_sweep(
    sweep: Sweep, options: Options, console: Console, report: FamilyReport | str | None, *, plan_only: bool
) -> int:
    """Run a sweep, or print its plan, and return the process's exit code."""
    session = Session(sweep, options, dry=plan_only)
    family_report: FamilyReport | None = pkgutil.resolve_name(report) if isinstance(report, str) else report
    plan = session.plan(1)
    if not (plan.packs or plan.evaluations):
        describe(session, plan, console)
        if plan_only:
            _print_plan(session, plan, 1, console)
            return OK
        check_folders(session)
        with lease(session.storage, sweep.name, _undone(session)):
            return _run_tracked(session, plan, None, console, family_report)
    from vaesweep.sweep.runner import Resources, connected, local_cpus, train_plan  # Ray takes seconds to import

    resources = Resources(workers=options.workers, gpus=options.gpus, address=options.address)
    machine = {"CPU": float(local_cpus(options.workers)), "GPU": options.gpus * options.workers}
    if plan_only:
        plan = session.plan(resources.slots(machine))
        describe(session, plan, console)
        _print_plan(session, plan, resources.slots(machine), console)
        return OK
    check_folders(session)
    with lease(session.storage, sweep.name, _undone(session)):
        clear_storage(session, console)
        with connected(resources) as available:
            slots = resources.slots(available)
            plan = session.plan(slots)  # packs for the cluster that there is
            describe(session, plan, console)

            def train(tracker: "Tracker") -> Mapping[str, str]:
                return train_plan(session, plan, resources, slots, tracker, console)

            return _run_tracked(session, plan, train, console, family_report)


def _undone(session: Session) -> list[str]:
    """The cells that this command works on, or would if nothing stopped it."""
    return [cell.identity for cell in session.cells if cell.identity not in session.survey.done]


def check_folders(session: Session) -> None:
    """Refuse a session whose output or storage is a folder in which nothing can be written."""
    check_writable(session.options.out)
    if session.storage.folder:
        check_writable(session.storage.folder)


def clear_storage(session: Session, console: Console) -> None:
    """Take away drafts and spent checkpoints that earlier commands have left, and say what was damaged."""
    session.storage.sweep_drafts()
    for note in drop_spent_checkpoints(session.storage):
        console.print(masked(note), highlight=False, soft_wrap=True)


def _run_tracked(
    session: Session, plan: Plan, train: Train | None, console: Console, report: FamilyReport | None
) -> int:
    """Train the cells that are left, if any, track them, draw the curve, and set the status of the parent run."""
    tracker, parent = session.tracker(plan)
    read = session.store.take_read()
    if train or session.survey.recovered:
        read = None  # what was read before is not how it will be
    try:
        with tracker:
            if recovered := session.hand_over_recovered(tracker):
                console.print(f"{recovered} cells were finished before and are only tracked now", highlight=False)
            failed = dict(plan.blocked)
            if train:
                failed |= train(tracker)
        code = _finish(session, plan, failed, console, report, read)
    except TrackingError:
        raise  # the store does not answer: the parent run stays open for the next try
    except BaseException as error:
        session.store.end(parent, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    session.store.end(parent, "FINISHED" if code == OK else "FAILED")
    return code


def _print_plan(session: Session, plan: Plan, slots: int, console: Console) -> None:
    for number, pack in enumerate(plan.packs, 1):
        config = pack.cells[0].config
        steps = f"{config.pretraining.training.steps} + " if config.pretraining else ""
        steps += f"{config.training.steps} steps"
        console.print(f"  pack {number}: {len(pack.cells)} cells, {steps}", highlight=False)
    if plan.packs:
        seconds = estimate_seconds(plan, session.data.of, slots)
        many = min(slots, len(plan.packs))
        at_once = f"{many} packs at a time" if many > 1 else "one pack at a time"
        console.print(f"about {duration(seconds)} of training on this machine, {at_once}", highlight=False)
    console.print(f"runs go to {masked(store_uri())}, tables and figure to {session.options.out}", highlight=False)


def _finish(
    session: Session,
    plan: Plan,
    failed: Mapping[str, str],
    console: Console,
    report: FamilyReport | None,
    read: Mapping[str, ReadRun] | None,
) -> int:
    """Draw the curve from MLflow's runs, print the summary and return the process's exit code.

    `read` are the cells' runs where they have been read and have not changed since.
    """
    for cell, cause in failed.items():
        print(f"cell {cell} failed: {masked(cause)}", file=sys.stderr)
    from vaesweep.analysis import runs
    from vaesweep.analysis.report import write

    notes = drop_spent_checkpoints(session.storage)
    sweep_runs = runs.read(session.sweep.name, store_uri(), plan.sweep_identity(session.sweep.name), read)
    print_line = partial(console.print, highlight=False, soft_wrap=True)
    for note in notes:
        print_line(masked(note))
    print_report(write(sweep_runs, session.options.out), sweep_runs, print_line)
    if report:
        print_report(report(sweep_runs, session.data[0], session.options.out), sweep_runs, print_line)
    lacking = sweep_runs.cells.loc[~sweep_runs.cells["outcome"].isin(SETTLED), "cell"]
    lost = [cell for cell in lacking if cell not in failed]
    if lost:
        print(
            f"{len(lost)} cells have not ended in MLflow, such as {lost[0]}: the same command goes on",
            file=sys.stderr,
        )
    return FAILED if failed or lost else OK


def print_report(report: "Report", sweep_runs: "Runs", print_line: Callable[[str], None]) -> None:
    """Log a report's files with the sweep's parent run, and print its summary."""
    from vaesweep.analysis.report import log

    log(report, sweep_runs, store_uri())
    for line in report.summary:
        print_line(line)
    print_line(f"written: {', '.join(str(path) for path in report.paths)}")
