"""`vaesweep acquire`: advice on partial audiograms: what to measure next, what to expect, and whether to stop.

The advice goes to standard output, in one of three formats; notes about the input, and the warnings that a table has no
room for, to standard error. What is known of the cell's calibration by severity follows tables, and is on standard
error beside the others. The input is read and checked before slow modules are imported and the cell is loaded.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vaesweep.cli.analysis_script import add_run, add_store
from vaesweep.data.numbers import real
from vaesweep.data.writing import cell_text
from vaesweep.errors import UserError, line_of
from vaesweep.families.pvae.data.audiograms import COLUMNS, EARS, FREQUENCIES, THRESHOLDS
from vaesweep.families.pvae.data.partial import Listeners, read_partial, read_partial_stream
from vaesweep.vocabulary import store_uri

if TYPE_CHECKING:
    from vaesweep.families.pvae.audiometer import Advice
    from vaesweep.families.pvae.tasks.calibration import Band

STDIN = "-"
RULES = ("variance", "reduction")  # of vaesweep.families.pvae.evaluation.ADAPTIVE, which takes seconds to import
DECIMALS = 2  # dB, where programs read on


def register(commands: Any) -> None:
    """Add the command to the subparsers of `vaesweep`."""
    about = "say what to measure next of partial audiograms, what they will look like, and whether to stop"
    parser = commands.add_parser("acquire", help=about, description=about)
    add = parser.add_argument
    add_run(parser)
    add(
        "--input",
        required=True,
        metavar="CSV",
        help="partial audiograms in dB HL with ages in years, a row a listener, empty where not measured; - reads "
        "standard input (docs/acquisition.md)",
    )
    add("--threshold", type=real, metavar="DB", help="stop at an estimated error below this (the cell's own)")
    add("--interval", type=real, default=0.8, metavar="SHARE", help="share of an estimate's interval (%(default)s)")
    add(
        "--rule",
        choices=RULES,
        default=RULES[0],
        help="measure next what is least certain, or what is expected to reduce the error most (%(default)s)",
    )
    add("--format", choices=FORMATS, default="table", help="what is printed (%(default)s)")
    add_store(parser)
    parser.set_defaults(act=acquire)


def acquire(arguments: argparse.Namespace) -> int:
    """Print the advice."""
    if arguments.threshold is not None and not arguments.threshold > 0:
        raise UserError(f"--threshold: threshold {arguments.threshold:g} is not an error above 0 dB, such as 5")
    if not 0 < arguments.interval < 1:
        raise UserError(f"--interval: interval {arguments.interval:g} is not a share between 0 and 1, such as 0.8")
    listeners = _read(arguments.input)
    from vaesweep.analysis import load
    from vaesweep.families.pvae.audiometer import Audiometer

    cell = load.load_cell(arguments.run, arguments.tracking_uri or store_uri())
    audiometer = Audiometer.from_finished(cell, arguments.rule)
    advice = audiometer.advise(listeners.x, threshold=arguments.threshold, interval=arguments.interval)
    if listeners.ignored:
        print(line_of(f"columns ignored: {', '.join(listeners.ignored)}"), file=sys.stderr)
    FORMATS[arguments.format](listeners.names, advice, arguments.interval)
    threshold = audiometer.threshold if arguments.threshold is None else arguments.threshold
    is_table = arguments.format == "table"
    for line in (*([""] if is_table else []), *calibration_lines(audiometer.calibration(threshold), threshold)):
        print(line, file=sys.stdout if is_table else sys.stderr)
    return 0


def _read(path: str) -> Listeners:
    return read_partial_stream(sys.stdin.buffer, "standard input") if path == STDIN else read_partial(path)


def calibration_lines(bands: "Sequence[Band]", threshold: float) -> Iterator[str]:
    """What is known of stops below `threshold` (dB) and of intervals, by the severity of the hearing loss."""
    if not bands:
        yield "Calibration by severity is not known: the cell's file is of an earlier version."
        yield "Stops and intervals that hold on average may not hold for severe losses."
        return
    from vaesweep.families.pvae.tasks.acquisition import INTERVAL  # loaded with the cell, slow before

    stages = ", ".join(map(str, bands[0].coverage))
    yield "Calibration on the cell's validation listeners, by their mean threshold:"
    yield f"{'':20} {'listeners':>9}   stopped at a true   {100 * INTERVAL:g} % intervals hold"
    yield f"{'':20} {'':>9}   error ≥ {f'{threshold:.3g} dB':<9}   after {stages} measurements"
    for band in bands:
        told = f"{band.label:20} {band.listeners:>9}"
        if band.listeners:
            shares = ", ".join(f"{100 * share:.0f}" for share in band.coverage.values())
            told += f"   {f'{100 * band.too_early:.0f} %':<17}   {shares} %"
        yield told


def _print_tables(names: Sequence[str], all_advice: "Sequence[Advice]", interval: float) -> None:
    """Print for people: an audiogram a listener, and in words what to do."""
    console = Console(highlight=False)
    for name, advice in zip(names, all_advice, strict=True):
        console.print(_audiogram(name, advice))
        console.print(Text(_verdict(advice)), soft_wrap=True)
        for warning in advice.warnings:
            console.print(Text(f"Careful: {warning}.", style="yellow"), soft_wrap=True)
        console.print()
    console.print(Text(f"* measured   ? to be measured next   a…b interval of {100 * interval:g} %", style="dim"))


def _audiogram(name: str, advice: "Advice") -> Table:
    """A table with frequencies across, and for both ears the estimate above its interval."""
    title = Text(line_of(f"{name}, {advice.age:g} years"), style="bold")
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1), pad_edge=False)
    table.add_column("dB HL", style="bold")
    for frequency in FREQUENCIES:
        table.add_column(f"{frequency} Hz", justify="right")
    for start, ear in zip(range(0, THRESHOLDS, len(FREQUENCIES)), EARS, strict=True):
        dims = range(start, start + len(FREQUENCIES))
        table.add_row(ear, *(_value(advice, dim) for dim in dims))
        if not advice.measured.all():
            table.add_row("", *(_between(advice, dim) for dim in dims))
    return table


def _value(advice: "Advice", dim: int) -> Text:
    value = float(advice.estimate[dim])
    if advice.measured[dim]:
        return Text(f"{value:g} *", style="bold")
    is_next = COLUMNS[dim] == advice.next
    return Text(f"{round(value)} ?", style="reverse") if is_next else Text(f"{round(value)}  ")


def _between(advice: "Advice", dim: int) -> Text:
    low, high = (round(float(values[dim])) for values in (advice.low, advice.high))
    return Text("" if advice.measured[dim] else f"{low}…{high}  ", style="dim")


def _verdict(advice: "Advice") -> str:
    if advice.next is None:
        return "All thresholds are measured: stop."
    ear, frequency = advice.next.split("_")
    place = f"the {ear} ear at {frequency} Hz"
    error = f"Estimated error {advice.error:.1f} dB"
    if advice.stop:
        return f"{error}, below {advice.threshold:.3g} dB: stop. To go on, measure {place} next."
    if not advice.measured.any():
        return f"{error}, and nothing is measured: measure {place} first."
    return f"{error}, not below {advice.threshold:.3g} dB: measure {place} next."


def _print_csv(names: Sequence[str], all_advice: "Sequence[Advice]", interval: float) -> None:
    """Print CSV: a row a listener and threshold. The columns about a listener repeat in each of its rows."""
    rows = []
    for name, advice in zip(names, all_advice, strict=True):
        person, decision = _person(cell_text(name), advice), _decision(advice)
        for column, values in _thresholds(advice).items():
            ear, frequency = column.split("_")
            place = {"ear": ear, "frequency_hz": frequency}
            rows.append(person | place | values | {"next": column == advice.next} | decision)
        for warning in advice.warnings:
            print(line_of(f"{name}: {warning}"), file=sys.stderr)
    writer = csv.DictWriter(sys.stdout, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _print_json(names: Sequence[str], all_advice: "Sequence[Advice]", interval: float) -> None:
    """Print JSON: a list with an object a listener."""
    listeners = [
        _person(name, advice)
        | {"next": advice.next}
        | _decision(advice)
        | {"effective_samples": _rounded(advice.effective_samples), "warnings": advice.warnings, "interval": interval}
        | {"audiogram": _thresholds(advice)}
        for name, advice in zip(names, all_advice, strict=True)
    ]
    text = json.dumps(listeners, indent=1, ensure_ascii=False)
    print("".join(c if c.isprintable() or c in " \n" else _escaped(c) for c in text))


def _escaped(character: str) -> str:
    """A character as JSON escapes it, which a terminal or an editor would act on."""
    return json.dumps(character)[1:-1] if ord(character) > 127 else f"\\u{ord(character):04x}"


def _person(name: str, advice: "Advice") -> dict[str, Any]:
    return {"listener": name, "age": _rounded(advice.age)}


def _decision(advice: "Advice") -> dict[str, Any]:
    return {"error_db": _rounded(advice.error), "threshold_db": _rounded(advice.threshold), "stop": advice.stop}


def _thresholds(advice: "Advice") -> dict[str, dict[str, Any]]:
    """Every threshold by its column: whether it is measured, its estimate and its interval in dB HL."""
    numbers = {"estimate_db": advice.estimate, "low_db": advice.low, "high_db": advice.high}
    return {
        column: {"measured": bool(advice.measured[dim])}
        | {name: _rounded(values[dim]) for name, values in numbers.items()}
        for dim, column in enumerate(COLUMNS[:THRESHOLDS])
    }


def _rounded(value: float) -> float:
    return round(float(value), DECIMALS)


FORMATS = {"table": _print_tables, "csv": _print_csv, "json": _print_json}
