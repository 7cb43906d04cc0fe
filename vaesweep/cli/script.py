"""The command line that every script in `sweeps/` shares: its options and its exit code.

What runs cells takes seconds to import, so that it is imported when options are right (`vaesweep.cli.sweep_run`).

Exit codes are those of `vaesweep.cli.doors`.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rich.console import Console

from vaesweep.cli import doors
from vaesweep.cli.doors import BAD_INPUT, FAILED, OK
from vaesweep.cli.signals import INTERRUPTED
from vaesweep.data.numbers import real, whole
from vaesweep.errors import UserError
from vaesweep.family.registry import data_forms
from vaesweep.sweep import settings
from vaesweep.sweep.cells import Sweep
from vaesweep.sweep.cluster import named_cluster
from vaesweep.sweep.options import DataBy, Options, check_counts
from vaesweep.sweep.telling import tell
from vaesweep.sweep.timeline import Timeline
from vaesweep.training.compiling import Compile
from vaesweep.vocabulary import store_uri

if TYPE_CHECKING:
    from vaesweep.cli.sweep_run import FamilyReport

__all__ = ["BAD_INPUT", "FAILED", "INTERRUPTED", "OK", "exit_code", "main", "make_parser", "options_from"]


def main(
    sweep: Sweep,
    about: str | None = None,
    words: Sequence[str] | None = None,
    report: "FamilyReport | str | None" = None,
) -> int:
    """Run a sweep with the options of its command line and return the process's exit code.

    `report`, a function or where it is imported from, `module:function`, writes files beside the rate-distortion curve.
    """

    def run(console: Console) -> int:
        arguments = doors.local_paths(make_parser(sweep, about).parse_args(words))
        options = options_from(sweep, arguments, words)
        with print_timeline(console, wanted=arguments.timeline) as timeline:
            from vaesweep.cli.sweep_run import run_sweep  # with torch and all that a sweep needs

            timeline.lap("imports")
            return run_sweep(sweep, options, console, report, timeline, plan_only=arguments.plan)

    return exit_code(run)


@contextmanager
def print_timeline(console: Console, *, wanted: bool) -> Iterator[Timeline]:
    """Context with a command's timeline, which is printed at its end where it is `wanted`, whatever that end is."""
    timeline = Timeline()
    timeline.lap("Python, options")
    try:
        yield timeline
    finally:
        if wanted:
            timeline.lap("end")
            for line in ["seconds since this process began: from, to, where, what", *timeline.lines()]:
                tell(console, line)


def exit_code(run: Callable[[Console], int]) -> int:
    """The exit code of a command, with one line on standard error where it ends by an error that is told."""
    return doors.exit_code(lambda: run(Console()), resumes=True)


def make_parser(sweep: Sweep, about: str | None) -> argparse.ArgumentParser:
    """A parser of the options, which mean the same in every sweep script."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    presets = ", ".join(sweep.presets(sweep.default_data))
    add("--preset", default=sweep.default_preset, metavar="NAME", help=f"size of the sweep: {presets} (%(default)s)")
    forms = ", ".join(data_forms(sweep.family))
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
    price = "with --plan: what a GPU-hour costs, or a core-hour without --gpus, in any currency"
    add("--price", type=real, metavar="PER_HOUR", help=price)
    add("--out", type=Path, default=Path("results") / sweep.name, metavar="DIR", help="tables and figure (%(default)s)")
    add(
        "--storage",
        default="",
        metavar="URI",
        help="checkpoints and finished cells: a folder, or a URI that all nodes reach (OUT/cells)",
    )
    add("--address", metavar="ADDRESS", help="a running Ray cluster; RAY_ADDRESS, or a local Ray, if not given")
    add("--pack-size", type=whole(), metavar="N", help="cells that train together as one stacked model (measured)")
    add(
        "--compile",
        choices=get_args(Compile),
        default="auto",
        help="compile the training step: where it was measured to pay, always, or never (%(default)s)",
    )
    add("--workers", type=whole(), default=1, metavar="N", help="data-parallel workers that share a pack (%(default)s)")
    add(
        "--gpus",
        type=real,
        default=0.0,
        metavar="SHARE",
        help="GPUs that each worker takes, such as 0.25 (%(default)s)",
    )
    add(
        "--scale-to",
        type=whole(),
        metavar="N",
        help="packs at once that the sweep may ask the cluster for (what the cluster has at the start)",
    )
    add(
        "--checkpoint-every",
        type=real,
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
    add("--timeline", action="store_true", help="print in the end what ran when, in seconds since the command began")
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
        price=arguments.price,
        command=command,
    )
    check_counts(options)
    if options.price is not None and not arguments.plan:
        raise UserError(f"--price {options.price:g}: is of use with --plan only, which tells what training would cost")
    store_uri()  # refuses one that MLflow does not take
    named_cluster(options.address)  # refuses one on which no sweep runs
    sweep.preset(options.preset, options.data)  # refused before anything slow is imported
    return options
