"""A plan shows what was understood of every `--set`, as it would be written again."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from vaesweep.cli.sweep_run import SHOWN, describe_cost, describe_taken, print_settings
from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.sweep import estimates
from vaesweep.sweep.cells import Cell
from vaesweep.sweep.cluster import Resources
from vaesweep.sweep.estimates import Planned
from vaesweep.sweep.options import Options
from vaesweep.sweep.plan import Estimate, Plan, make_plan
from vaesweep.sweep.settings import parse
from vaesweep.sweep.timeline import COMMAND, Timeline

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


# What was planned, beside what it took


def plan_of(seeds: int, done: int = 0) -> Plan:
    cells = [Cell(PartialVaeCell(seed=seed), "pvae", "data", {"seed": seed}) for seed in range(seeds)]
    return make_plan(cells, [cell.identity for cell in cells[:done]], (), {}, None, 2)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VAESWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_a_plan_says_is_known_to_the_command_with_the_same_cells_left(cache: Path) -> None:
    said = Estimate(wall=10.0, packs=19.0)
    estimates.remember(plan_of(4), said, 2)
    assert estimates.remembered(plan_of(4)) == Planned(said, 2)
    assert estimates.remembered(plan_of(5)) is None
    assert estimates.remembered(plan_of(4, done=1)) is None
    for number in range(5, estimates.MOST_KEPT + 10):
        estimates.remember(plan_of(number), said, 2)
    assert len(list(cache.rglob("*.json"))) == estimates.MOST_KEPT


@pytest.mark.parametrize("content", ["", "[]", '{"wall": 1.0}', '{"wall": "a", "packs": 1, "at_once": 1}'])
def test_a_damaged_note_of_a_plan_is_none(cache: Path, content: str) -> None:
    estimates.remember(plan_of(4), Estimate(1.0, 2.0), 2)
    (file,) = cache.rglob("*.json")
    file.write_text(content)
    assert estimates.remembered(plan_of(4)) is None


def test_a_plan_that_cannot_be_kept_is_said_all_the_same(cache: Path) -> None:
    cache.write_text("no folder")
    estimates.remember(plan_of(4), Estimate(1.0, 2.0), 2)
    assert estimates.remembered(plan_of(4)) is None


def test_what_training_took_is_what_its_packs_did_without_start_and_compiling() -> None:
    timeline = Timeline()
    assert estimates.taken(timeline) is None
    timeline.add(COMMAND, [("training", 0.0, 100.0)])
    for pack, later in (("pack 1", 0.0), ("pack 2", 3.0)):
        names = ("process, imports, wait for a pack", "choice of size, compiling", "first step", "training")
        moments = [later + moment for moment in (10.0, 12.0, 20.0, 21.0, 29.0)]
        timeline.add(pack, list(zip(names, moments[:-1], moments[1:], strict=True)))
        timeline.add(pack, [("final evaluation", later + 29, later + 30), ("finished files", later + 30, later + 40)])
    assert estimates.taken(timeline) == estimates.Taken(Estimate(wall=13.0, packs=20.0), whole=True)
    timeline.add("pack 1", [("process, imports, wait for a pack", 50.0, 51.0), ("first step", 51.0, 52.0)])
    again = estimates.taken(timeline)
    assert again is not None
    assert not again.whole


def test_the_error_of_a_plan_stands_beside_the_truth() -> None:
    truth, said = Estimate(30.0, 7200.0), Estimate(20.0, 9000.0)
    assert list(describe_taken(truth, None, Resources(), 2)) == [
        "training took 30 s and 2.00 core-hours, without start and compiling"
    ]
    assert list(describe_taken(truth, Planned(said, 2), Resources(gpus=0.5), 2)) == [
        "training took 30 s and 1.00 GPU-hours, without start and compiling",
        "--plan had said 20 s, and it took 50% more; 1.25 GPU-hours, and it took 20% less",
    ]
    *_, other = describe_taken(truth, Planned(said, 3), Resources(), 2)
    assert other == "--plan had said 2.50 core-hours, and it took 20% less"
