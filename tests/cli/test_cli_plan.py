"""A plan shows what was understood of every `--set`, as it would be written again."""

import io

from rich.console import Console

from vaesweep.cli.sweep_run import SHOWN, print_settings
from vaesweep.sweep.options import Options
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
