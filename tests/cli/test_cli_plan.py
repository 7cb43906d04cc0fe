"""A plan shows what was understood of every `--set`, as it would be written again."""

import io

import pytest
from rich.console import Console

from vaesweep.cli.sweep_run import SHOWN, describe_cost, print_settings
from vaesweep.sweep.cluster import Resources
from vaesweep.sweep.options import Options
from vaesweep.sweep.plan import Estimate
from vaesweep.sweep.settings import parse

WORDS = {
    "training.steps=2000": "2000",
    "training.learning_rate=1e-3": "0.001",
    "seed=[0, 1,2]": "[0, 1, 2]",
    "data.missingness=static": '"static"',
    "data.mirror=true": "true",
    "pretraining=null": "null",
    "variant='larger and longer'": '"larger and longer"',
    "a.b=yes": '"yes"',
    "a.c=010": '"010"',
}


def test_every_setting_has_a_line_with_what_it_was_read_as() -> None:
    said = io.StringIO()
    settings = parse(WORDS)
    print_settings(Options(preset="smoke", data="synthetic", settings=settings), Console(file=said))
    expected = [f"  --set {word.partition('=')[0]}: {shown}" for word, shown in WORDS.items()]
    assert said.getvalue().splitlines() == expected
    assert parse(line.removeprefix("  --set ").replace(": ", "=", 1) for line in expected) == settings


def test_a_long_list_is_shown_by_its_ends() -> None:
    said = io.StringIO()
    settings = parse([f"seed=[{','.join(map(str, range(5000)))}]"])
    print_settings(Options(preset="smoke", data="synthetic", settings=settings), Console(file=said))
    (line,) = said.getvalue().splitlines()
    assert len(line) < SHOWN + 20
    assert line.startswith("  --set seed: [0, 1, 2, ")
    assert line.endswith("4998, 4999]")


@pytest.mark.parametrize(
    ("resources", "price", "line"),
    [
        (Resources(), None, "about 4.00 core-hours; measured on one CPU thread of this machine"),
        (Resources(workers=3), 0.5, "about 12.00 core-hours, 6.00 at 0.5 a core-hour; measured on one CPU thread"),
        (Resources(gpus=0.25), None, "about 1.00 GPU-hours; measured on one CPU thread of this machine, not on a GPU"),
        (Resources(workers=2, gpus=2.0), 3.0, "about 16.00 GPU-hours, 48.00 at 3 a GPU-hour; measured on one CPU"),
        (Resources(gpus=0.001), 2.0, "about 0.004 GPU-hours, 0.008 at 2 a GPU-hour; measured"),
    ],
)
def test_a_plan_costs_what_its_packs_hold(resources: Resources, price: float | None, line: str) -> None:
    two_at_once = Estimate(wall=2 * 3600.0, packs=4 * 3600.0)
    assert describe_cost(two_at_once, resources, price).startswith(line)
