"""The command line of the scripts in `sweeps/` that search: the options of every sweep, and those of a search.

Exit codes are those of sweeps: 0 all is well, 1 trials or tracking failed, 2 bad input, 130 interrupted.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from vaesweep.cli import script
from vaesweep.cli.doors import local_paths
from vaesweep.data.numbers import whole
from vaesweep.errors import UserError
from vaesweep.search import objectives
from vaesweep.search.objectives import Objective
from vaesweep.search.search import SAMPLERS, Sampler, Search


@dataclass(frozen=True)
class SearchOptions:
    """The user's options of a search beside those of every sweep."""

    trials: int
    batch: int
    confirm: int
    sampler: Sampler
    seed: int
    prune: bool
    study: str
    objectives: tuple[Objective, ...]
    curve: Path | None


def main(declared: Search, about: str | None = None, words: Sequence[str] | None = None) -> int:
    """Run a search with the options of its command line and return the process's exit code."""

    def run(console: Console) -> int:
        arguments = local_paths(make_parser(declared, about).parse_args(words))
        options = script.options_from(declared.sweep, arguments, words)
        own = search_options(declared, arguments)
        with script.print_timeline(console, wanted=arguments.timeline) as timeline:
            from vaesweep.cli.search_run import run_search  # with torch, Optuna and all that a search needs

            timeline.lap("imports")
            return run_search(declared, options, own, console, timeline, plan_only=arguments.plan)

    return script.exit_code(run)


def make_parser(declared: Search, about: str | None) -> argparse.ArgumentParser:
    """A parser of the options of every sweep, and of those of a search."""
    parser = script.make_parser(declared.sweep, about)
    add = parser.add_argument_group("search").add_argument
    add("--trials", type=whole(), metavar="N", help="trials in all, those of earlier commands counted (the preset's)")
    add("--batch", type=whole(), metavar="N", help="trials that are asked and trained together (the preset's)")
    add("--sampler", choices=SAMPLERS, default="tpe", help="what asks: TPE, a Gaussian process, chance (%(default)s)")
    add(
        "--search-seed",
        type=whole(most=2**63 - 1),
        default=0,
        metavar="N",
        help="seed of the sampler; another is another study",
    )
    add(
        "--objective",
        nargs="+",
        default=[],
        metavar="minimise=DOMAIN/METRIC",
        help="in the place of the script's; DOMAIN is a role or a name, A-B for a gap; several make a front",
    )
    add("--prune", action="store_true", help="end trials that are worse than half of the earlier ones on their way")
    add(
        "--confirm",
        type=whole(),
        metavar="N",
        help="fresh seeds of the choice and of the preset's default (the preset's)",
    )
    add("--study", default="", metavar="URI", help="the study: a file, or a database's URI (OUT/study.journal)")
    add("--curve", type=Path, metavar="CSV", help="curve.csv of a sweep, to be drawn beside the Pareto front")
    return parser


def search_options(declared: Search, arguments: argparse.Namespace) -> SearchOptions:
    """Typed options of the search from parsed arguments. Raises `UserError` where a number is out of range."""
    preset = declared.presets(arguments.data)[arguments.preset]
    numbers = {name: getattr(arguments, name) for name in ("trials", "batch", "confirm")}
    numbers = {name: getattr(preset, name) if value is None else value for name, value in numbers.items()}
    for name, least in (("trials", 1), ("batch", 1), ("confirm", 0)):
        if numbers[name] < least:
            raise UserError(f"--{name} {numbers[name]}: must be at least {least}")
    if arguments.search_seed < 0:
        raise UserError(f"--search-seed {arguments.search_seed}: must be 0 or more")
    return SearchOptions(
        **numbers,
        sampler=arguments.sampler,
        seed=arguments.search_seed,
        prune=arguments.prune,
        study=arguments.study or str(arguments.out / "study.journal"),
        objectives=objectives.parse(arguments.objective),
        curve=arguments.curve,
    )
