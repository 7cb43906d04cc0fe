"""The page of a sweep shows what was tracked, to the digit, and works where it is opened."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vaesweep.analysis import page
from vaesweep.analysis.contents import contents, differences, effects
from vaesweep.analysis.curves import rd_curve
from vaesweep.analysis.gaps import gap_table
from vaesweep.analysis.runs import Runs
from vaesweep.analysis.table import cells_table
from vaesweep.analysis.tables import make_tables
from vaesweep.vocabulary import Outcome

SweepOf = Callable[..., Runs]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NUMBERS = re.compile(r'<script type="application/json" id="numbers">(.*?)</script>', re.DOTALL)
DRAWN = "drawn"  # when a page was drawn: all else of two pages must agree


def numbers_of(html: str) -> dict[str, Any]:
    """What the page draws."""
    (text,) = NUMBERS.findall(html)
    return dict(json.loads(text))


def without_time(value: dict[str, Any]) -> dict[str, Any]:
    return {key: one for key, one in value.items() if key != DRAWN}


def test_the_page_draws_the_numbers_of_report_json_to_the_digit(sweep_of: SweepOf, tmp_path: Path) -> None:
    written = page.write(sweep_of([1.0, 4.0, 8.0], 3), tmp_path)
    assert [path.name for path in written] == ["report.html", "report.json"]
    assert numbers_of(written[0].read_text()) == json.loads(written[1].read_text())


def test_every_number_of_a_cell_is_that_of_its_run(sweep_of: SweepOf) -> None:
    runs = sweep_of([1.0, 4.0], 2, {"1.0-0": Outcome.FAILED})
    shown = {
        (cell["cell"], domain, metric): value
        for cell in contents(runs)["cells"]
        for domain, on in cell["on"].items()
        for metric, value in on.items()
    }
    finals = runs.finals[runs.finals["metric"].isin(["rate", "distortion", "elbo"])]
    assert shown == {(row.cell, row.domain, row.metric): row.value for row in finals.itertuples()}


def test_cells_csv_alone_gives_the_same_page(sweep_of: SweepOf) -> None:
    runs = sweep_of([1.0, 2.0, 4.0, 8.0], 3, {"8.0-2": Outcome.DIVERGED}, extra={"model.latents": [2, 4]})
    table = cells_table(runs)
    again = pd.read_csv(StringIO(table.to_csv(index=False)), keep_default_na=False, na_values=[""])
    again = again.assign(saturated="", settled=None)  # as all of them are
    assert without_time(contents(runs, make_tables(runs, cells=again))) == without_time(contents(runs))


def test_curve_and_gaps_are_those_of_the_tables(sweep_of: SweepOf) -> None:
    runs = sweep_of([1.0, 4.0, 8.0], 3)
    table, made = cells_table(runs), contents(runs)
    curve = rd_curve(table)
    assert [row["elbo"] for row in made["curve"]] == curve["elbo"].tolist()
    assert [row["gap"] for row in made["gaps"] if row["target_rate"] is None] == gap_table(table, [])[
        lambda gaps: gaps["target_rate"].isna()
    ]["gap"].tolist()


def test_an_answer_is_chosen_on_the_validation_domain_and_measured_on_the_other(sweep_of: SweepOf) -> None:
    runs = sweep_of([2.0, 5.0, 8.0], 3)
    away = runs.finals["domain"] == "toy.test"
    better = away & runs.finals["cell"].str.startswith("8.0") & (runs.finals["metric"] == "elbo")
    finals = runs.finals.assign(value=runs.finals["value"].where(~better, 0.0))  # the test data like another rate
    made = contents(replace(runs, finals=finals))["answers"]
    (answer,) = [one for one in made if (one["domain"], one["metric"]) == ("toy.test", "elbo")]
    there = finals[(finals["domain"] == "toy.test") & (finals["metric"] == "elbo")]
    of_chosen = there[there["cell"].str.startswith("5.0")]["value"].to_numpy()
    low, high = stats.t.interval(0.95, 2, of_chosen.mean(), stats.sem(of_chosen))
    assert answer["chosen_on"] == "toy.valid"
    assert (answer["value"], answer["low"], answer["high"]) == pytest.approx((of_chosen.mean(), low, high))
    assert answer["own"]["value"] == 0.0, "which is what choosing on the test data would have claimed"


def test_an_answer_at_the_edge_of_the_rates_says_so(sweep_of: SweepOf) -> None:
    made = contents(sweep_of([0.5, 1.0, 2.0], 2))["answers"]
    lowest = [one for one in made if one["metric"] == "distortion"]
    assert lowest
    assert all(one["at_edge"] for one in lowest)
    assert all(one["reaches"] == [0.5, 2.0] for one in made)


def test_cells_that_are_not_where_they_should_be_come_first(sweep_of: SweepOf) -> None:
    runs = sweep_of([1.0, 4.0], 2, {"1.0-0": Outcome.FAILED, "4.0-1": Outcome.DIVERGED})
    cells = runs.cells.assign(cause=["out of memory", "", "", "step 3: not finite"])
    found = {one["kind"]: one["cells"] for one in contents(replace(runs, cells=cells))["troubles"]}
    assert found["failed"] == [{"cell": "1.0-0", "why": "out of memory"}]
    assert found["diverged"] == [{"cell": "4.0-1", "why": "step 3: not finite"}]


def test_a_sweep_that_runs_is_drawn_from_what_has_finished(sweep_of: SweepOf, tmp_path: Path) -> None:
    runs = sweep_of([1.0, 4.0], 2)
    cells = runs.cells.assign(outcome=["finished", "running", "missing", "finished"])
    finals = runs.finals[runs.finals["cell"].isin(["1.0-0", "4.0-1"])]
    (sweep,) = numbers_of(page.write(replace(runs, cells=cells, finals=finals), tmp_path)[0].read_text())["sweeps"]
    assert (sweep["progress"]["cells"], sweep["progress"]["ended"]) == (4, 2)


def test_the_effect_of_a_setting_is_within_cells_that_agree_in_all_else(sweep_of: SweepOf) -> None:
    runs = sweep_of([1.0, 4.0], 3, extra={"model.latents": [2, 4]})
    four = runs.finals["cell"].str.endswith("-4")
    seed = runs.finals["cell"].str.split("-").str[1].astype(float)
    moved = runs.finals["value"] + np.where(four & (runs.finals["metric"] == "elbo"), 3 + seed / 10, 0.0)
    found = effects(cells_table(replace(runs, finals=runs.finals.assign(value=moved))), ["model.latents"])
    row = found[(found["domain"] == "toy.test") & (found["metric"] == "elbo")].iloc[0]
    low, high = stats.t.interval(0.95, 2, 3.1, stats.sem([3.0, 3.1, 3.2]))
    assert (row["value"], row["against"], row["n_seeds"], row["n_pairs"]) == (4, 2, 3, 6)
    assert row[["difference", "low", "high"]].tolist() == pytest.approx([3.1, low, high])
    still = found[found["metric"] == "distortion"]
    assert still["difference"].abs().max() == 0


def test_two_sweeps_are_compared_on_the_targets_and_seeds_that_both_have(sweep_of: SweepOf, tmp_path: Path) -> None:
    first, second = sweep_of([1.0, 4.0, 8.0], 3), sweep_of([4.0, 8.0, 9.0], 2)
    lower = second.finals.assign(value=second.finals["value"] - 2 * (second.finals["metric"] == "elbo"))
    other = replace(second, finals=lower)
    apart = differences(cells_table(first), cells_table(other))
    row = apart[(apart["domain"] == "toy.test") & (apart["metric"] == "elbo")].iloc[0]
    assert (row["n_seeds"], row["n_targets"]) == (2, 2)
    assert row["difference"] == pytest.approx(2, abs=0.3)  # the noise of seeds is drawn anew in each
    made = numbers_of(page.compare(first, other, tmp_path)[0].read_text())
    assert len(made["sweeps"]) == 2
    assert [one["difference"] for one in made["differences"]] == apart["difference"].tolist()


MARKUP = [
    "</script><script>alert(1)</script>",
    "/*media*/",
    "[/bold]",
    "<img src=x onerror=alert(1)>",
    "a\u2028b",
    "& < > \" '",
]


@pytest.mark.parametrize("name", MARKUP)
def test_names_are_data_and_not_markup(sweep_of: SweepOf, tmp_path: Path, name: str) -> None:
    runs = sweep_of([1.0, 2.0], 2)
    named = replace(runs.record, name=name, preset=name, command=name)
    domains = tuple(replace(d, name=name if d.name == "elsewhere" else d.name) for d in named.domains)
    finals = runs.finals.assign(domain=runs.finals["domain"].replace("elsewhere", name))
    plain = page.write(runs, tmp_path / "plain")[0].read_text()
    html = page.write(replace(runs, record=replace(named, domains=domains), finals=finals), tmp_path)[0].read_text()
    assert html.count("<script") == plain.count("<script")
    assert html.count("<img") == plain.count("<img")
    (sweep,) = numbers_of(html)["sweeps"]
    assert sweep["sweep"]["name"] == name
    assert sweep["domains"][-1]["name"] == name


def test_nothing_is_loaded_from_elsewhere(sweep_of: SweepOf, tmp_path: Path) -> None:
    figure = tmp_path / "figure.png"
    figure.write_bytes(b"\x89PNG")
    html = page.write(sweep_of([1.0, 2.0], 2), tmp_path, [figure])[0].read_text()
    own = html.replace(page._part("plotly-basic.min.js"), "")
    assert not re.findall(r"(?:src|href)=[\"'](?!#|data:)", own)
    assert "data:image/png;base64" not in own, "the figure is data of the script, not of the document"
    assert '"name":"figure.png","kind":"image/png"' in own
    assert not re.findall(r"fetch\(|XMLHttpRequest|localStorage|sessionStorage|import\(", page._part("page.js"))


def test_figures_that_are_too_large_are_named_and_left_out(tmp_path: Path) -> None:
    for name, size in (("small.png", 10), ("large.wav", page.MOST_BYTES), ("other.csv", 5)):
        (tmp_path / name).write_bytes(bytes(size))
    entries = page.embedded([tmp_path / name for name in ("small.png", "large.wav", "other.csv", "missing.png")])
    assert [(entry["name"], "data" in entry) for entry in entries] == [("small.png", True), ("large.wav", False)]


def test_a_page_of_450_cells_is_small_enough_for_an_e_mail(sweep_of: SweepOf, tmp_path: Path) -> None:
    runs = sweep_of([float(target) for target in range(1, 46)], 10, noise=0.3)
    path = page.write(runs, tmp_path)[0]
    assert len(runs.cells) == 450
    assert path.stat().st_size <= 3_000_000


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("many", [False, True])
def test_a_browser_draws_it_in_a_sandboxed_frame_without_an_error(
    sweep_of: SweepOf, tmp_path: Path, many: bool
) -> None:
    runs = sweep_of([1.0, 4.0, 8.0], 3, {"8.0-2": Outcome.FAILED}, extra={"model.latents": [2, 4]})
    path = page.compare(runs, runs, tmp_path)[0] if many else page.write(runs, tmp_path)[0]
    seen = (
        "<script>console.log('SEEN', JSON.stringify({ready: document.documentElement.dataset.ready, "
        "plots: document.querySelectorAll('.js-plotly-plot .main-svg').length, "
        "rows: document.querySelectorAll('#cells-table tbody tr').length}))</script></body>"
    )
    path.write_text(path.read_text().replace("</body>", seen))
    frame = tmp_path / "frame.html"
    frame.write_text('<iframe sandbox="allow-scripts" src="report.html" width="1200" height="900"></iframe>')
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    (line,) = console
    (found,) = re.findall(r'SEEN (\{.*?\})"', line)
    told = json.loads(found.replace('\\"', '"'))
    assert told["ready"] == "yes"
    assert told["rows"] == len(runs.cells) * (1 + many)
    assert told["plots"] >= 3, "both curves, and the gaps"
