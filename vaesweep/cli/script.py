"""The command line that every script in `sweeps/` shares: options, the run, and the curve at its end.

Exit codes: 0 all is well, 1 cells or tracking failed, 2 bad input (one line on standard error), 130 interrupted.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rich.console import Console

from vaesweep.analysis import runs
from vaesweep.analysis.report import Report, log, write
from vaesweep.analysis.runs import Runs
from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.family import family
from vaesweep.sweep import settings
from vaesweep.sweep.cells import Sweep
from vaesweep.sweep.cluster import ClusterSize, cluster_size, named_cluster, uploaded_copy
from vaesweep.sweep.data_sets import DataBy
from vaesweep.sweep.lease import lease
from vaesweep.sweep.plan import Plan, estimate_seconds
from vaesweep.sweep.progress import duration
from vaesweep.sweep.resume import drop_spent_checkpoints
from vaesweep.sweep.session import Options, Session, check_counts, check_writable, describe
from vaesweep.sweep.splits import drop_stale_requests
from vaesweep.sweep.tracking import TrackingError
from vaesweep.training.autotune import Compile
from vaesweep.uris import masked, sqlite_file
from vaesweep.vocabulary import SETTLED, STORE_VARIABLE, store_uri

if TYPE_CHECKING:
    from vaesweep.sweep.runner import Resources

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


FamilyReport = Callable[[Runs, DataSet, Path], Report]  # written beside the rate-distortion curve


def main(
    sweep: Sweep, about: str | None = None, words: Sequence[str] | None = None, report: FamilyReport | None = None
) -> int:
    """Run a sweep with the options of its command line and return the process's exit code."""

    def run(console: Console) -> int:
        arguments = make_parser(sweep, about).parse_args(words)
        options = options_from(sweep, arguments, words)
        return _run(sweep, options, console, report, plan_only=arguments.plan)

    return exit_code(run)


def exit_code(run: Callable[[Console], int], *failures: type[Exception]) -> int:
    """The exit code of a command, with one line on standard error where it ends by an error that is told.

    `failures` are the command's own errors of code 1, beside those of tracking.
    """
    try:
        return run(Console())
    except UserError as error:
        print(f"error: {masked(str(error))}", file=sys.stderr)
        return BAD_INPUT
    except TrackingError as error:
        print(f"error: tracking failed: {masked(str(error))}", file=sys.stderr)
        return FAILED
    except failures as error:
        print(f"error: {masked(str(error))}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def make_parser(sweep: Sweep, about: str | None) -> argparse.ArgumentParser:
    """A parser of the options, which mean the same in every sweep script."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    presets = ", ".join(sweep.presets(sweep.default_data))
    add("--preset", default=sweep.default_preset, metavar="NAME", help=f"size of the sweep: {presets} (%(default)s)")
    forms = ", ".join(family(sweep.family).data_forms)
    about_data = f"what to train on: {forms}; see docs/data.md (%(default)s)"
    add("--data", default=sweep.default_data, metavar="SPEC", help=about_data)
    add(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="dotted settings over the preset's; a [list] becomes an axis: --set training.steps=2000 seed=[0,1]",
    )
    add("--plan", action="store_true", help="say what would run and about how long it takes, then stop")
    add("--out", type=Path, default=Path("results") / sweep.name, metavar="DIR", help="tables and figure (%(default)s)")
    add(
        "--storage",
        default="",
        metavar="URI",
        help="checkpoints and finished cells: a folder, or a URI that all nodes reach (OUT/cells)",
    )
    add("--address", metavar="ADDRESS", help="a running Ray cluster; RAY_ADDRESS, or a local Ray, if not given")
    add("--pack-size", type=int, metavar="N", help="cells that train together as one stacked model (measured)")
    add(
        "--compile",
        choices=get_args(Compile),
        default="auto",
        help="compile the training step: where it was measured to pay, always, or never (%(default)s)",
    )
    add("--workers", type=int, default=1, metavar="N", help="data-parallel workers that share a pack (%(default)s)")
    add(
        "--gpus",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="GPUs that each worker takes, such as 0.25 (%(default)s)",
    )
    add(
        "--scale-to",
        type=int,
        metavar="N",
        help="packs at once that the sweep may ask the cluster for (what the cluster has at the start)",
    )
    add(
        "--checkpoint-every",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="a process that dies costs at most what it did since, and one step; 0: saved at every evaluation "
        "(%(default)s)",
    )
    add(
        "--data-by",
        choices=get_args(DataBy),
        default="auto",
        help="who reads data: the driver, which sends them, or each worker; auto: workers, if an object store is too "
        "small (%(default)s)",
    )
    return parser


def options_from(sweep: Sweep, arguments: argparse.Namespace, words: Sequence[str] | None) -> Options:
    """Typed options from parsed arguments."""
    command = shlex.join([f"sweeps/{sweep.name}.py", *(words if words is not None else sys.argv[1:])])
    options = Options(
        preset=arguments.preset,
        data=arguments.data,
        settings=settings.parse(arguments.settings),
        out=arguments.out,
        storage=arguments.storage,
        address=arguments.address,
        pack_size=arguments.pack_size,
        workers=arguments.workers,
        gpus=arguments.gpus,
        scale_to=arguments.scale_to,
        checkpoint_seconds=arguments.checkpoint_every,
        compiling=arguments.compile,
        data_by=arguments.data_by,
        command=command,
    )
    check_counts(options)
    named_cluster(options.address)  # refuses one on which no sweep runs
    return options


def _run(sweep: Sweep, options: Options, console: Console, report: FamilyReport | None, *, plan_only: bool) -> int:
    session = Session(sweep, options, dry=plan_only)
    from vaesweep.sweep.runner import Resources, connected, local_cpus  # Ray takes seconds to import: after the checks

    resources = Resources(options.workers, gpus=options.gpus, address=options.address, scale_to=options.scale_to)
    machine = {"CPU": float(local_cpus(options.workers)), "GPU": options.gpus * options.workers}
    size = find_cluster(resources) if plan_only else None
    slots = resources.slots(size.resources if isinstance(size, ClusterSize) else machine)
    plan = session.plan(slots)
    work = bool(plan.packs or plan.evaluations)
    if plan_only or not work:
        describe(session, plan, console)
    if plan_only:
        _print_plan(session, plan, slots, console)
        print_places(session, resources, size, console)
        return OK
    check_folders(session)
    undone = [cell.identity for cell in session.cells if cell.identity not in session.survey.done]
    with lease(session.storage, sweep.name, undone):
        if not work:
            return _run_tracked(session, plan, resources, 0, console, report)
        clear_storage(session, console)
        with connected(resources, session.data.nbytes) as available:
            slots = resources.slots(available)
            plan = session.plan(slots)  # packs for the cluster that there is
            describe(session, plan, console)
            return _run_tracked(session, plan, resources, slots, console, report)


def check_folders(session: Session) -> None:
    """Refuse a session whose output or storage is a folder in which nothing can be written."""
    check_writable(session.options.out)
    if session.storage.folder:
        check_writable(session.storage.folder)
    if note := note_of_copy(session):
        print(note, file=sys.stderr)


def note_of_copy(session: Session) -> str | None:
    """A line on what of a session would go with the uploaded working directory in which a Ray job runs, if it does."""
    copy, options = uploaded_copy(), session.options
    places = {"--out": options.out, "--storage": session.storage.folder, STORE_VARIABLE: sqlite_file(store_uri())}
    inside = [name for name, path in places.items() if path and copy and path.resolve().is_relative_to(copy)]
    if not inside:
        return None
    names = ", ".join(inside)
    return f"this job runs in an uploaded copy, which goes with Ray's session: place {names} elsewhere to keep results"


def clear_storage(session: Session, console: Console) -> None:
    """Take away drafts, requests and spent checkpoints that earlier commands have left; say what was damaged."""
    session.storage.sweep_drafts()
    drop_stale_requests(session.storage)
    for note in drop_spent_checkpoints(session.storage):
        console.print(masked(note), highlight=False, soft_wrap=True)


def _run_tracked(
    session: Session, plan: Plan, resources: "Resources", slots: int, console: Console, report: FamilyReport | None
) -> int:
    """Train the cells that are left, track them, draw the curve, and set the status of the parent run."""
    from vaesweep.sweep.runner import train_plan

    tracker, parent = session.tracker(plan)
    try:
        with tracker:
            if recovered := session.hand_over_recovered(tracker):
                console.print(f"{recovered} cells were finished before and are only tracked now", highlight=False)
            failed = dict(plan.blocked)
            if plan.packs or plan.evaluations:
                failed |= train_plan(session, plan, resources, slots, tracker, console)
        code = _finish(session, plan, failed, console, report)
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


def find_cluster(resources: "Resources") -> ClusterSize | UserError | None:
    """What the cluster has that is named, or why it does not say; `None` for a local Ray of this command's own."""
    if (cluster := resources.cluster) is None:
        return None
    try:
        return cluster_size(cluster)
    except UserError as error:
        return error


def print_places(
    session: Session, resources: "Resources", size: ClusterSize | UserError | None, console: Console
) -> None:
    """Print where a command would run, keep its cells and track them, and what said so; `size` as of `find_cluster`."""
    from vaesweep.sweep.runner import local_cpus

    options, print_line = session.options, partial(console.print, highlight=False, markup=False, soft_wrap=True)
    if size is None:
        print_line(f"Ray: one of this command's own, {local_cpus(resources.workers)} CPUs")
    elif isinstance(size, UserError):
        print_line(masked(f"Ray: {size}"))
    else:
        held = f"{size.nodes} node{'s' if size.nodes != 1 else ''}"
        held += "".join(
            f", {count:g} {name}{'s' * (count != 1)}"
            for name, count in size.resources.items()
            if count or name == "CPU"
        )
        print_line(masked(f"Ray: the cluster of {resources.cluster}, {held} now"))
    nodes = size.nodes if isinstance(size, ClusterSize) else 1
    shared = "; all nodes must reach it" if nodes > 1 and session.storage.folder else ""
    print_line(f"cells go to {masked(session.storage.uri)} ({'--storage' if options.storage else 'OUT/cells'}){shared}")
    origin = STORE_VARIABLE if os.environ.get(STORE_VARIABLE) else f"{STORE_VARIABLE} is not set"
    print_line(f"runs go to {masked(store_uri())} ({origin}), tables and figures to {options.out}")
    if note := note_of_copy(session):
        print_line(note)


def _finish(
    session: Session, plan: Plan, failed: Mapping[str, str], console: Console, report: FamilyReport | None
) -> int:
    """Draw the curve from MLflow's runs, print the summary and return the process's exit code."""
    for cell, cause in failed.items():
        print(f"cell {cell} failed: {masked(cause)}", file=sys.stderr)
    notes = drop_spent_checkpoints(session.storage)
    sweep_runs = runs.read(session.sweep.name, store_uri(), plan.sweep_identity(session.sweep.name))
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


def print_report(report: Report, sweep_runs: Runs, print_line: Callable[[str], None]) -> None:
    """Log a report's files with the sweep's parent run, and print its summary."""
    log(report, sweep_runs, store_uri())
    for line in report.summary:
        print_line(line)
    print_line(f"written: {', '.join(str(path) for path in report.paths)}")
