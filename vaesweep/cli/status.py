"""`vaesweep status`: where sweeps stand, from outside, by their runs in MLflow and by Ray's list of jobs.

Exit codes: 0, 1 where a sweep that is shown has failed cells, 2 bad input, 130 ended by Ctrl-C.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vaesweep.cli.analysis_script import add_store
from vaesweep.data.numbers import real
from vaesweep.errors import UserError, visible
from vaesweep.store_access import StoreFile, store_file
from vaesweep.uris import masked, sqlite_file
from vaesweep.vocabulary import STORE_VARIABLE, store_uri

if TYPE_CHECKING:
    from vaesweep.analysis.status import SweepStatus
    from vaesweep.sweep.ray_jobs import SweepJob

OK, FAILED = 0, 1
WATCH_SECONDS = 5.0  # between two looks
LARGEST_LOAD = 0.2  # of the time that watching may keep the store busy
CAUSES, TARGETS = 3, 15  # lines of a sweep's causes, and of its targets
RAY_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


@dataclass(frozen=True)
class View:
    """What one look has shown: sweeps, and Ray's jobs where a cluster is named or why there are none."""

    store: str
    time: datetime
    sweeps: "list[SweepStatus]"
    ray_address: str = ""
    jobs: "Sequence[SweepJob]" = ()
    ray_error: str = ""

    def sweep_of(self, job: "SweepJob") -> "SweepStatus | None":
        """The sweep that a job runs: that of the same command, the last used where there are several."""
        return next((one for one in self.sweeps if one.name == job.script and job.runs(one.command)), None)

    def to_json(self) -> dict[str, Any]:
        """The view as documented in docs/status.md."""
        jobs = []
        for job in self.jobs:
            sweep = self.sweep_of(job)
            jobs.append({**asdict(job), "sweep": sweep.run_id if sweep else None})
        ray = {"address": self.ray_address, "error": self.ray_error or None, "jobs": jobs} if self.ray_address else None
        return {"store": self.store, "time": self.time, "sweeps": [asdict(one) for one in self.sweeps], "ray": ray}


def register(commands: Any) -> None:
    """Add the command to the subparsers of `vaesweep`."""
    about = "say where sweeps stand: cells, failures, rates reached, time left"
    parser = commands.add_parser("status", help=about, description=about + " (docs/status.md).")
    add = parser.add_argument
    about_sweeps = "name of a sweep, or identity of one or of its parent run; those that run, else the newest, if none"
    add("sweeps", nargs="*", metavar="SWEEP", help=about_sweeps)
    add_store(parser)
    add("--json", action="store_true", help="one JSON object (a line each time with --watch)")
    add(
        "--watch",
        nargs="?",
        type=real,
        const=WATCH_SECONDS,
        metavar="SECONDS",
        help=f"look again every so many seconds until all have ended ({WATCH_SECONDS:g})",
    )
    add("--ray", metavar="ADDRESS", help="Ray cluster whose jobs to list; RAY_API_SERVER_ADDRESS or RAY_ADDRESS if set")
    parser.set_defaults(act=run)


def run(arguments: argparse.Namespace) -> int:
    """Show the status once, or until all sweeps that were shown have ended."""
    if arguments.watch is not None and not 0 < arguments.watch < float("inf"):
        raise UserError(f"--watch {arguments.watch:g}: must be above 0 seconds")
    look = _Look(arguments)
    view = look()
    _show(view, arguments)
    while arguments.watch is not None and any(sweep.is_open for sweep in view.sweeps):
        time.sleep(max(arguments.watch, look.seconds * (1 / LARGEST_LOAD - 1)))
        try:
            view = look()
        except UserError as error:  # it answered before, and may again
            print(f"{_clock(datetime.now(UTC))}: {masked(str(error))}", file=sys.stderr)
            continue
        _show(view, arguments)
    return FAILED if any(sweep.cells["failed"] for sweep in view.sweeps) else OK


class _Look:
    """Looks at the store and at Ray; what it has shown once it shows again. `seconds` is how long the store took."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._uri = store_uri(arguments.tracking_uri)
        self._names = arguments.sweeps
        self._ray_asked = arguments.ray is not None
        addresses = [arguments.ray, *(os.environ.get(name) for name in RAY_VARIABLES)]
        self._ray = next((address for address in addresses if address and address != "local"), "")
        self._has_store = not (self._ray_asked and not self._names and _is_default_and_absent(arguments.tracking_uri))
        self._shown: set[str] = set()
        self._client: Any = None
        self.seconds = 0.0

    def __call__(self) -> View:
        sweeps = self._sweeps() if self._has_store else []
        jobs, ray_error = self._jobs() if self._ray else ([], "")
        self._shown |= {sweep.run_id for sweep in sweeps}
        store = masked(self._uri) if self._has_store else ""
        return View(store, datetime.now(UTC), sweeps, masked(self._ray), jobs, ray_error)

    def _sweeps(self) -> "list[SweepStatus]":
        file = sqlite_file(self._uri)
        if file and store_file(self._uri) is not StoreFile.COMPLETE:  # said before MLflow is imported
            raise UserError(f"there is no tracking store {file}; change to its folder, or name one by {STORE_VARIABLE}")
        from vaesweep.analysis import status  # MLflow takes seconds to import
        from vaesweep.analysis.runs import client_of

        self._client = self._client or client_of(self._uri)
        began = time.monotonic()
        sweeps = status.read(self._client, self._names, also=self._shown)
        self.seconds = time.monotonic() - began
        return sweeps

    def _jobs(self) -> "tuple[Sequence[SweepJob], str]":
        """The jobs, or why there are none, which is an error only where they were asked for."""
        try:
            from vaesweep.sweep.ray_jobs import sweep_jobs

            return sweep_jobs(self._ray), ""
        except (UserError, ImportError) as error:
            if self._ray_asked:
                raise UserError(str(error)) from None
            return [], str(error)


def _is_default_and_absent(given: str | None) -> bool:
    """Whether the store was named nowhere, and is not where it is by default."""
    file = sqlite_file(store_uri())
    return not given and not os.environ.get(STORE_VARIABLE) and file is not None and not file.exists()


def _show(view: View, arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps(view.to_json(), default=_plain), flush=True)
        return
    if arguments.watch is not None and sys.stdout.isatty():
        print("\033[H\033[2J", end="")
    print(*(visible(line) for line in _lines(view)), sep="\n", flush=True)


def _plain(value: Any) -> Any:
    return value.isoformat(timespec="seconds") if isinstance(value, datetime) else str(value)


def _lines(view: View) -> Iterator[str]:
    """The view as text."""
    jobs = list(view.jobs)
    for sweep in view.sweeps:
        yield from _sweep_lines(sweep, view.time)
        for job in [job for job in jobs if view.sweep_of(job) is sweep]:
            jobs.remove(job)
            yield f"  Ray job  {_job_words(job)}"
        yield ""
    if not view.sweeps and view.store:
        yield f"no sweep in {view.store} yet"
    if view.ray_error:
        yield view.ray_error
    elif view.ray_address and not view.jobs:
        yield f"Ray at {view.ray_address}: no job runs a script of sweeps/"
    if jobs:
        yield f"Ray at {view.ray_address}, jobs of other sweeps:" if view.sweeps else f"Ray at {view.ray_address}:"
        for job in jobs:
            yield f"  {_job_words(job)}"
            yield f"    {shlex.join([f'sweeps/{job.script}.py', *job.words])}"
    yield _clock(view.time, date=True)


def _sweep_lines(sweep: "SweepStatus", now: datetime) -> Iterator[str]:
    from vaesweep.sweep.progress import duration

    def ago(moment: datetime) -> str:
        return f"{duration((now - moment).total_seconds())} ago"

    yield f"{sweep.name} {sweep.preset}: {_state_words(sweep, now)}"
    if sweep.command:
        yield f"  command  {sweep.command}"
    yield f"  run      {sweep.run_id}"
    began = f"  began    {_clock(sweep.began, date=True)}"
    if sweep.command_began and (sweep.command_began - sweep.began).total_seconds() > 60:
        began += f", this command {_clock(sweep.command_began, date=True)}"
    yield f"{began}; last sign {ago(sweep.last_sign)}" if sweep.is_open else began
    counts = [f"{count} {state}" for state, count in sweep.cells.items() if count]
    yield f"  cells    {sum(sweep.cells.values())}: {', '.join(counts) or 'none'}"
    if sweep.steps_all:
        share = sweep.steps_done / sweep.steps_all
        yield f"  steps    {sweep.steps_done} of {sweep.steps_all} ({share:.0%})"
    for state, causes in (("failed", sweep.failed), ("diverged", sweep.diverged)):
        for cause in causes[:CAUSES]:
            yield f"  {state:<8} {cause.cells} × {cause.cause[:300]}"
        if len(causes) > CAUSES:
            yield f"  {state:<8} … and {len(causes) - CAUSES} other causes"
    missed = {"off target": sweep.off_target, "not settled": sweep.unsettled, "out of reach": sweep.saturated}
    if any(missed.values()):
        yield f"  targets  {', '.join(f'{count} {word}' for word, count in missed.items() if count)}"
    for target in sweep.targets[:TARGETS]:
        span = f", {target.lowest:.4g} to {target.highest:.4g}" if target.cells > 1 else ""
        cells = f"{target.cells} cell{'s' if target.cells > 1 else ''}"
        yield f"  target   {target.target:<8.4g} reached {target.median:.4g} nats ({cells}{span})"
    if len(sweep.targets) > TARGETS:
        yield f"  target   … and {len(sweep.targets) - TARGETS} more; --json has all"
    if sweep.note:
        yield f"  note     {sweep.note}"


def _state_words(sweep: "SweepStatus", now: datetime) -> str:
    from vaesweep.sweep.progress import duration

    if sweep.state == "running":
        left = "unknown" if sweep.seconds_left is None else f"about {duration(sweep.seconds_left)}"
        return f"running, time left {left}"
    if sweep.state == "silent":
        since = _clock(sweep.last_sign, date=True)
        return f"silent since {since}: has its driver died? the same command goes on"
    when = f" {_clock(sweep.ended, date=True)}" if sweep.ended else ""
    return f"{sweep.state}{when}" + ("" if sweep.state == "finished" else "; the same command goes on")


def _job_words(job: "SweepJob") -> str:
    began = f" since {_clock(job.began, date=True)}" if job.began else ""
    ended = f", ended {_clock(job.ended, date=True)}" if job.ended else ""
    message = f": {job.message[:200]}" if job.message and job.status == "FAILED" else ""
    return f"{job.id} {job.status}{began}{ended}{message}"


def _clock(moment: datetime, date: bool = False) -> str:
    """A time as this machine's clock shows it."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S")
