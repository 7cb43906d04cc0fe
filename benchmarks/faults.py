"""The fault table: what is lost, trained again, written twice and said when something breaks, and the time to recover.

Faults of files are injected into a sweep in this process; those of processes into the real command with Ray; those of a
cluster into jobs on nodes in network namespaces, which takes root, iproute2, PostgreSQL and psycopg2.

    python benchmarks/faults.py --out docs/faults.md               all, into the page: some hours
    python benchmarks/faults.py --quick --only bit NaN             once each, of files only, by parts of their names
    python benchmarks/faults.py --quick --group cluster            once each, of a cluster
"""

import argparse
import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which reads it once

import cluster_faults
from cluster_faults import CLUSTER_FAULTS, Cluster
from cluster_faults import inject as inject_cluster_fault
from fault_injection import States
from fault_table import Result, row, table
from file_faults import FILE_FAULTS
from file_faults import inject as inject_file_fault
from process_faults import PROCESS_FAULTS
from process_faults import inject as inject_process_fault

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- {group}: by benchmarks/faults.py -->", "<!-- end of {group} -->"
FILES, PROCESSES, CLUSTER = "files", "processes", "cluster"
TIMES = {FILES: 20, PROCESSES: 2, CLUSTER: 20}

Inject = Callable[[str], Result]  # given a seed


def main() -> int:
    """Inject faults, print their tables, put them into the page; 1 where a cell was lost or a point is there twice."""
    arguments = make_parser().parse_args()
    sound = True
    with (
        tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder,
        contextlib.closing(Cluster(Path(folder) / "cluster")) as cluster,
    ):
        for group, faults in chosen_faults(arguments, States(Path(folder)), cluster).items():
            times = arguments.times or (1 if arguments.quick else TIMES[group])
            rows: list[tuple[str, ...]] = []
            for name, inject in faults.items():
                results = list(injected(name, inject, times))
                sound = sound and all(result.sound for result in results)
                rows.append(row(name, results))
                if arguments.out:  # row by row: what is ended early keeps what it has
                    put_into_page(arguments.out, group, [*table(rows), "", made_by()])
            print("\n".join([*table(rows), "", made_by()]), flush=True)
    return 0 if sound else 1


def make_parser() -> argparse.ArgumentParser:
    """A parser of the script's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", nargs="+", metavar="NAME", help="faults with one of these words in their names")
    add("--group", choices=list(TIMES), help="faults of one group only")
    add("--times", type=int, metavar="N", help=f"how often each ({TIMES[FILES]}, and {TIMES[PROCESSES]} of processes)")
    add("--quick", action="store_true", help="once each, of files only unless --group is given")
    add("--out", type=Path, metavar="PAGE", help="the page whose tables are replaced, such as docs/faults.md")
    return parser


def chosen_faults(arguments: argparse.Namespace, states: States, cluster: Cluster) -> dict[str, dict[str, Inject]]:
    """The injection of every fault that was asked for, by group and name."""
    groups: dict[str, dict[str, Inject]] = {
        FILES: {fault.name: partial(inject_file_fault, fault, states) for fault in FILE_FAULTS},
        PROCESSES: {fault.name: partial(inject_process_fault, fault, states) for fault in PROCESS_FAULTS},
        CLUSTER: {fault.name: partial(inject_cluster_fault, fault, cluster) for fault in CLUSTER_FAULTS},
    }
    wanted = arguments.group or (FILES if arguments.quick else None)
    if (lacking := cluster_faults.missing()) and wanted in (None, CLUSTER):
        print(f"faults of a cluster are left out: they take {lacking}", file=sys.stderr)
        del groups[CLUSTER]
    chosen = {
        group: {name: inject for name, inject in faults.items() if is_chosen(name, arguments.only)}
        for group, faults in groups.items()
        if wanted in (None, group)
    }
    return {group: faults for group, faults in chosen.items() if faults}


def is_chosen(name: str, only: Sequence[str] | None) -> bool:
    """Whether a fault was asked for."""
    return only is None or any(word in name for word in only)


def injected(name: str, inject: Inject, times: int) -> Iterator[Result]:
    """Results of a fault that is injected `times` times, each in another place; what fails is printed in full."""
    started = time.monotonic()
    for number in range(times):
        seed = f"{name} {number}"
        result = inject(seed)
        print(f"{seed}: {result.outcome}, {result.seconds:.1f} s", file=sys.stderr, flush=True)
        if not result.sound:
            print(f"NOT SOUND: {seed!r}: {result}\n{result.trace}", file=sys.stderr, flush=True)
        yield result
    print(f"{name}: {(time.monotonic() - started) / times:.1f} s each", file=sys.stderr, flush=True)


def made_by() -> str:
    """The command, the date, the machine and the commit of a table."""
    git = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True)
    commit = git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip() or "unknown"
    changed = git(["git", "status", "--porcelain", "--untracked-files=no", "--", "vaesweep"]).stdout
    dirty = " with uncommitted changes" if changed else ""
    command = shlex.join(["python", "benchmarks/faults.py", *sys.argv[1:]])
    cores, date = len(os.sched_getaffinity(0)), datetime.now(UTC).date()
    return f"Made by `{command}` on {date}, on {cores} cores, at commit {commit}{dirty}."


def put_into_page(page: Path, group: str, lines: Sequence[str]) -> None:
    """Replace what stands between the two marks of a group in `page`, which is begun where it is not there."""
    begin, end = BEGIN.format(group=group), END.format(group=group)
    text = page.read_text() if page.exists() else ""
    if begin not in text:
        text += f"{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    page.write_text("\n".join([f"{before}{begin}", "", *lines, "", f"{end}{after}"]))


if __name__ == "__main__":
    raise SystemExit(main())
