"""The end of a sweep: its tables, figures and page are written and logged, and the answer is printed."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vaesweep.analysis import logged, page, report, workbench
from vaesweep.analysis.contents import contents
from vaesweep.analysis.report import Report
from vaesweep.analysis.runs import Runs, log_files
from vaesweep.analysis.tables import make_tables
from vaesweep.data.writing import replace_file

SUMMARY = "summary.txt"
SHOWN = 5  # lines of a family's report on the console
PrintLine = Callable[[str], None]
FamilyReport = Callable[[Runs, Path], Report]


def finish(runs: Runs, out: Path, store: str, print_line: PrintLine, family_report: FamilyReport | None) -> None:
    """Write the reports of a sweep and its page into `out`, log them with its parent run, and print the answer."""
    tables = make_tables(runs)
    reports = [report.write(runs, out, tables=tables), *([family_report(runs, out)] if family_report else [])]
    media = [path for one in reports[1:] for path in one.paths]
    answer = contents(runs, tables)
    pages = page.write_contents(answer, out, media)
    lines = [line for one in reports for line in one.summary]
    summary = replace_file(out / SUMMARY, lambda path: path.write_text("\n".join([*lines, ""]), encoding="utf-8"))
    written = [path for one in reports for path in one.paths]
    log_files(runs.run_id, [*written, *pages, summary], store)
    workbench.publish(runs, answer["answers"], store)
    for line in [
        *report.end(runs, tables, answer["answers"]),
        *(line for one in reports[1:] for line in _shortened(one.summary, summary)),
    ]:
        print_line(line)
    for line in logged.log_best(runs, store):
        print_line(line)
    print_line(f"written: {', '.join(str(path) for path in [*written, pages[1], summary])}")
    print_line(f"the page of this sweep: {pages[0]}")


def _shortened(lines: Sequence[str], summary: Path) -> Iterator[str]:
    yield from lines[:SHOWN]
    if left := lines[SHOWN:]:
        yield f"{len(left)} more lines are in {summary}"
