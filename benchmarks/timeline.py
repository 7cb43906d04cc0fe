"""What runs when in a sweep's command: its `--timeline`, as a picture.

    python benchmarks/timeline.py --figure docs/figures/timeline.png [--least 0.1] [-- --set training.steps=100]
    python benchmarks/timeline.py --figure timeline.png --log FILE     of a command that has run
    python benchmarks/timeline.py --against ../before --repeats 3      its cost beside another checkout's, no picture

The default command of `sweeps/rd_curve_pvae.py` runs in a new folder, with whatever options stand after `--`. A file
that is given holds the lines that a command has printed.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from matplotlib.patches import Patch
from process_time import ROOT, Cost, cost_of, environment_of, print_costs, python, side_by_side

from vaesweep.analysis.style import BLUE, GREEN, LABEL, ORANGE, PALE, PINK, RED, SKY, TICK, page, save

LINE = re.compile(r"^ *(\d+\.\d\d) +(\d+\.\d\d)  (\S+(?: \d+)?) +(.+)$")
COLOURS = [GREEN, ORANGE, SKY, PINK, RED]  # of packs


class Span(NamedTuple):
    """What ran where, from when to when, in seconds since the command began."""

    began: float
    ended: float
    where: str
    what: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--figure", type=Path, metavar="PNG")
    wanted.add_argument("--against", type=Path, nargs="+", metavar="CHECKOUT", help="other checkouts, which take turns")
    parser.add_argument("--repeats", type=int, default=1, help="how often each checkout runs (%(default)s)")
    parser.add_argument("--log", type=Path, metavar="FILE", help="what a command with --timeline has printed")
    parser.add_argument("--least", type=float, default=0.1, help="seconds of a span that is drawn (%(default)s)")
    parser.add_argument("words", nargs="*", help="options of the command")
    options = parser.parse_args()
    if options.against:
        checkouts = [ROOT, *(checkout.resolve() for checkout in options.against)]
        costs = side_by_side(
            checkouts, options.repeats, lambda one: {"default command": cost_and_output(one, options.words)[0]}
        )
        print_costs(costs)
        return 0
    text = options.log.read_text() if options.log else run(options.words)
    spans = parsed(text)
    if not spans:
        sys.exit("there is no timeline in what the command has printed")
    draw([span for span in spans if span.ended - span.began >= options.least], options.figure)
    return 0


def run(words: list[str]) -> str:
    """What the default command prints; the end of it, and when its process was gone, are printed here too."""
    cost, output = cost_and_output(ROOT, ["--timeline", *words])
    print(output[output.find("seconds since") :], end="")
    print(f"{cost.wall:8.2f}  the process is gone, after {cost.cpu:.1f} s CPU of it and its children")
    return output


def cost_and_output(checkout: Path, words: list[str]) -> tuple[Cost, str]:
    """What a checkout's default command costs in a new folder, and what it prints."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(prefix="vs", dir="/tmp") as of_ray:
        command = python(checkout / "sweeps" / "rd_curve_pvae.py", *words)
        return cost_of(command, Path(folder), environment_of(checkout, RAY_TMPDIR=of_ray))


def parsed(text: str) -> list[Span]:
    """The spans of a command's lines."""
    found = [LINE.match(line) for line in text.splitlines()]
    return [Span(float(m[1]), float(m[2]), m[3], m[4]) for m in found if m]


def draw(spans: list[Span], path: Path) -> None:
    """A bar a span, in the order in which they began."""
    places = list(dict.fromkeys(span.where for span in spans))
    packs = [place for place in places if place.startswith("pack")]
    colours = {"command": BLUE, "store": PALE} | {p: COLOURS[i % len(COLOURS)] for i, p in enumerate(packs)}
    figure = page(10, 1.2 + 0.26 * len(spans), "")
    axis = figure.add_subplot()
    for row, span in enumerate(spans):
        seconds = span.ended - span.began
        axis.barh(row, seconds, left=span.began, color=colours.get(span.where, PALE), height=0.72)
        axis.annotate(f"{seconds:.1f}", (span.ended, row), (3, 0), textcoords="offset points", va="center", fontsize=9)
    axis.set_yticks(range(len(spans)), [span.what for span in spans], fontsize=TICK)
    axis.invert_yaxis()
    axis.margins(y=0.01)
    axis.set_xlim(0, 1.08 * max(span.ended for span in spans))
    axis.set_xlabel("seconds since the command began", fontsize=LABEL)
    axis.grid(axis="x", color=PALE, lw=0.5)
    axis.set_axisbelow(True)
    handles = [Patch(color=colours.get(place, PALE), label=place) for place in places]
    axis.legend(handles=handles, fontsize=TICK, loc="upper right")
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)


if __name__ == "__main__":
    raise SystemExit(main())
