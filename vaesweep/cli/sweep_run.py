"""The run of a sweep from its options to its curve, as every script in `sweeps/` does it.

Settings and data are checked before Ray, MLflow and what draws are imported, which take seconds.
"""

import math
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from vaesweep.cli.live_page import LivePage
from vaesweep.cli.script import FAILED, OK
from vaesweep.data.domains import DataSet
from vaesweep.errors import TrackingError, UserError, line_of
from vaesweep.store_access import ReadRun
from vaesweep.sweep import estimates
from vaesweep.sweep.cells import Sweep
from vaesweep.sweep.cluster import ClusterSize, Resources, cluster_size, local_cpus, uploaded_copy
from vaesweep.sweep.data_sets import DataSets
from vaesweep.sweep.lease import lease
from vaesweep.sweep.options import Options
from vaesweep.sweep.plan import Estimate, Plan, estimate_seconds
from vaesweep.sweep.progress import duration
from vaesweep.sweep.resume import begun_cells, drop_spent_checkpoints
from vaesweep.sweep.session import Session, check_writable, describe
from vaesweep.sweep.settings import written
from vaesweep.sweep.splits import drop_stale_requests
from vaesweep.sweep.telling import tell
from vaesweep.sweep.timeline import Timeline
from vaesweep.uris import masked, sqlite_file
from vaesweep.vocabulary import SETTLED, STORE_VARIABLE, store_uri

if TYPE_CHECKING:
    from vaesweep.analysis.report import Report
    from vaesweep.analysis.runs import Runs
    from vaesweep.sweep.tracking import Tracker

Train = Callable[["Tracker"], Mapping[str, str]]  # the causes of cells that failed
SHOWN = 300  # characters of a setting in a plan
FamilyReport = Callable[["Runs", DataSet, Path], "Report"]  # written beside the rate-distortion curve


def run_sweep(
    sweep: Sweep,
    options: Options,
    console: Console,
    report: FamilyReport | str | None,
    timeline: Timeline,
    *,
    plan_only: bool,
) -> int:
    """Run a sweep, or print its plan, and return the process's exit code.

    Ray starts while the store is made, and ends while the curve is drawn.
    """
    session = Session(sweep, options, dry=plan_only, timeline=timeline)
    timeline.lap("data, configurations")
    family_report: FamilyReport | None = pkgutil.resolve_name(report) if isinstance(report, str) else report
    resources = Resources.of(options)
    if plan_only:
        _print_plan(session, resources, console)
        return OK
    plan = session.plan(1)
    timeline.lap("cells, plan")
    if not (plan.packs or plan.evaluations):
        describe(session, plan, console)
        check_folders(session, plan)
        with lease(session.storage, sweep.name, session.undone):
            return _run_tracked(session, plan, None, console, family_report)
    check_folders(session, plan)
    with lease(session.storage, sweep.name, session.undone), ThreadPoolExecutor(1, "store") as threads:
        clear_storage(session, console)
        opened = threads.submit(_open_store, session)
        from vaesweep.sweep.runner import connected, train_plan  # Ray takes seconds to import

        timeline.lap("Ray's imports")
        modules = [type(session.family).__module__]
        with connected(resources, session.data.nbytes, modules) as connection:
            slots = resources.slots(connection.available)
            timeline.lap("Ray starts")
            opened.result()
            timeline.lap("wait for the store")
            plan = session.plan(slots)  # packs for the cluster that there is
            describe(session, plan, console)

            planned = estimates.remembered(plan)
            if planned and begun_cells(session.storage).intersection(plan.cells_left()):
                planned = None  # what is trained already was in it

            def train(tracker: "Tracker") -> Mapping[str, str]:
                with LivePage(sweep.name, session.sweep_identity(plan), options.out):
                    failed = train_plan(session, plan, resources, slots, tracker, console)
                connection.leave()
                timeline.lap("training")
                if plan.packs and (truth := estimates.taken(timeline)) is not None:
                    own = planned if truth.whole and not failed else None  # of the same work
                    for line in describe_taken(truth.seconds, own, resources, at_once(plan, slots)):
                        tell(console, line)
                return failed

            return _run_tracked(session, plan, train, console, family_report)


def _open_store(session: Session) -> None:
    """Open the tracking store, which is made where there is none."""
    with session.timeline.span("store", "MLflow's imports, store"):
        _ = session.store


def check_folders(session: Session, plan: Plan) -> None:
    """Refuse a session whose output or storage is a folder in which nothing can be written, or whose runs cannot be."""
    check_writable(session.options.out)
    if session.storage.folder:
        check_writable(session.storage.folder)
    session.check_tracking(plan)
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
        tell(console, note)


def _run_tracked(
    session: Session, plan: Plan, train: Train | None, console: Console, report: FamilyReport | None
) -> int:
    """Train the cells that are left, if any, track them, draw the curve, and set the status of the parent run."""
    tracker, parent = session.tracker(plan)
    session.timeline.lap("run of the sweep")
    read = session.store.take_read()
    if train or session.survey.recovered:
        read = None  # what was read before is not how it will be
    try:
        with tracker:
            if recovered := session.hand_over_recovered(tracker):
                tell(console, f"{recovered} cells were finished before and are only tracked now")
            failed = dict(plan.blocked)
            if train:
                failed |= train(tracker)
        session.timeline.lap("tracking of the rest")
        code = _finish(session, plan, failed, console, report, read)
    except TrackingError:
        raise  # the store does not answer: the parent run stays open for the next try
    except BaseException as error:
        with suppress(TrackingError):  # what has ended the command is what is told
            status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
            session.store.end_sweep(parent, status, patience=0)
        raise
    session.store.end_sweep(parent, "FINISHED" if code == OK else "FAILED")
    session.timeline.lap("report")
    return code


def _print_plan(session: Session, resources: Resources, console: Console) -> None:
    """Print what a command would train and about how long that takes, and where."""
    size = find_cluster(resources)
    slots = slots_of(size, resources)
    plan = session.plan(slots)
    describe(session, plan, console)
    print_settings(options=session.options, console=console)
    for number, pack in enumerate(plan.packs, 1):
        config = pack.cells[0].config
        steps = f"{config.pretraining.training.steps} + " if config.pretraining else ""
        steps += f"{config.training.steps} steps"
        tell(console, f"  pack {number}: {len(pack.cells)} cells, {steps}")
    if plan.packs:
        estimate = estimate_seconds(plan, session.data.of, slots)
        many = at_once(plan, slots)
        estimates.remember(plan, estimate, many)
        packs = f"{many} packs at a time" if many > 1 else "one pack at a time"
        tell(console, f"about {duration(estimate.wall)} of training on this machine, {packs}")
        tell(console, describe_cost(estimate, resources, session.options.price))
    print_places(session, resources, size, console)


def at_once(plan: Plan, slots: int) -> int:
    """The number of a plan's packs that run at the same time on so many places."""
    return min(slots, len(plan.packs))


def describe_cost(estimate: Estimate, resources: Resources, price: float | None) -> str:
    """A line with the GPU-hours or core-hours that packs hold, their cost at a `price` an hour, and how it is known."""
    unit, held = resources.priced
    hours = estimate.packs / 3600 * held
    money = "" if price is None else f", {_amount(hours * price)} at {price:g} a {unit}-hour"
    where = "measured on one CPU thread of this machine"
    return f"about {_held(estimate, resources)}{money}; {where}{', not on a GPU' if resources.gpus else ''}"


def describe_taken(
    truth: Estimate, planned: estimates.Planned | None, resources: Resources, packs_at_once: int
) -> Iterator[str]:
    """Lines on what training has taken, and by how much that is more or less than `--plan` had said."""
    yield f"training took {duration(truth.wall)} and {_held(truth, resources)}, without start and compiling"
    if planned is None:
        return
    said = [f"{_held(planned.estimate, resources)}, {_error(truth.packs, planned.estimate.packs)}"]
    if planned.at_once == packs_at_once:
        said.insert(0, f"{duration(planned.estimate.wall)}, {_error(truth.wall, planned.estimate.wall)}")
    yield f"--plan had said {'; '.join(said)}"


def _held(estimate: Estimate, resources: Resources) -> str:
    unit, held = resources.priced
    return f"{_amount(estimate.packs / 3600 * held)} {unit}-hours"


def _error(truth: float, planned: float) -> str:
    share = truth / planned - 1 if planned else math.inf
    return f"and it took {abs(share):.0%} {'more' if share >= 0 else 'less'}"


def _amount(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.1g}"


def print_settings(options: Options, console: Console) -> None:
    """Print what was understood of every `--set`."""
    for key, value in options.settings.items():
        tell(console, f"  --set {key}: {line_of(written(value), SHOWN)}")


def find_cluster(resources: Resources) -> ClusterSize | UserError | None:
    """What the cluster has that is named, or why it does not say; `None` for a local Ray of this command's own."""
    if (cluster := resources.cluster) is None:
        return None
    try:
        return cluster_size(cluster)
    except UserError as error:
        return error


def slots_of(size: ClusterSize | UserError | None, resources: Resources) -> int:
    """The number of packs that would run at once, on this machine where no cluster says what it has."""
    return resources.slots(size.resources if isinstance(size, ClusterSize) else resources.machine)


def print_places(
    session: Session, resources: Resources, size: ClusterSize | UserError | None, console: Console
) -> None:
    """Print where a command would run, keep its cells and track them, and what said so; `size` as of `find_cluster`."""
    options, print_line = session.options, partial(tell, console)
    if size is None:
        print_line(f"Ray: one of this command's own, {local_cpus(resources.workers)} CPUs")
    elif isinstance(size, UserError):
        print_line(f"Ray: {size}")
    else:
        held = f"{size.nodes} node{'s' if size.nodes != 1 else ''}"
        held += "".join(
            f", {count:g} {name}{'s' * (count != 1)}"
            for name, count in size.resources.items()
            if count or name == "CPU"
        )
        print_line(f"Ray: the cluster of {resources.cluster}, {held} now")
    nodes = size.nodes if isinstance(size, ClusterSize) else 1
    shared = "; all nodes must reach it" if nodes > 1 and session.storage.folder else ""
    print_line(f"cells go to {session.storage.uri} ({'--storage' if options.storage else 'OUT/cells'}){shared}")
    origin = STORE_VARIABLE if os.environ.get(STORE_VARIABLE) else f"{STORE_VARIABLE} is not set"
    print_line(f"runs go to {store_uri()} ({origin}), tables and figures to {options.out}")
    if note := note_of_copy(session):
        print_line(note)


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
        print(line_of(f"cell {cell} failed: {masked(cause)}"), file=sys.stderr)
    from vaesweep.analysis import runs
    from vaesweep.cli.ending import finish

    notes = drop_spent_checkpoints(session.storage)
    sweep_runs = runs.read(session.sweep.name, store_uri(), plan.sweep_identity(session.sweep.name), read)
    print_line = partial(tell, console)
    for note in notes:
        print_line(note)
    own = partial(_family_report, report, session.data) if report else None
    finish(sweep_runs, session.options.out, store_uri(), print_line, own)
    lacking = sweep_runs.cells.loc[~sweep_runs.cells["outcome"].isin(SETTLED), "cell"]
    lost = [cell for cell in lacking if cell not in failed]
    if lost:
        print(
            f"{len(lost)} cells have not ended in MLflow, such as {lost[0]}: the same command goes on",
            file=sys.stderr,
        )
    return FAILED if failed or lost else OK


def _family_report(report: FamilyReport, data: DataSets, runs: "Runs", out: Path) -> "Report":
    return report(runs, data[0], out)
