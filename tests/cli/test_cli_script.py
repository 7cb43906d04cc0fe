"""The sweep script as a user calls it: bad input is refused at once, the same command again does only what is left."""

import csv
import runpy
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from vaesweep.cli import main as vaesweep_command
from vaesweep.families.pvae.data.audiograms import COLUMNS

SCRIPT = Path(__file__).parents[2] / "sweeps" / "rd_curve_pvae.py"
TABLES = ["cells.csv", "curve.csv", "gap.csv", "rd_curve.png"]
FILES = [*TABLES, "report.html", "report.json", "summary.txt"]


@pytest.fixture
def assert_refused(
    command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., None]:
    """Runs the script in this process, and expects code 2, one line on standard error, and nothing begun."""

    def check(*options: str, said: Sequence[str], settings: Sequence[str] = ()) -> None:
        monkeypatch.chdir(command.folder)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        monkeypatch.setenv("RAY_TMPDIR", str(command.ray))
        monkeypatch.setattr("sys.argv", ["rd_curve_pvae.py", *options, *(["--set", *settings] if settings else [])])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        assert ended.value.code == 2
        assert_one_line(capsys.readouterr().err, command, *said)

    return check


def assert_one_line(errors: str, command: Any, *said: str) -> None:
    """One line on standard error, and nothing begun: no Ray, no MLflow store."""
    (line,) = errors.splitlines()
    assert all(words in line for words in said), line
    assert list(command.ray.iterdir()) == []
    assert not list(command.folder.rglob("mlflow.db"))


@pytest.mark.parametrize(
    ("options", "settings", "said"),
    [
        (["--preset", "huge"], [], ["--preset huge", "smoke, laptop, paper"]),
        ([], ["training.stps=3"], ["training.stps", "did you mean training.steps?"]),
        ([], ["training.steps=many"], ["training.steps=many", "integer"]),
        ([], ["rates.y.kind=fixed"], ["no rate named 'y'", "it has z"]),
        (["--data", "nhanes:nowhere"], [], ["nowhere"]),
        (["--pack-size", "0"], [], ["--pack-size 0", "at least 1"]),
    ],
    ids=["unknown preset", "unknown setting", "bad value", "unknown rate", "missing data", "pack size"],
)
def test_bad_input_is_refused_in_one_line_before_anything_starts(
    assert_refused: Callable[..., None], options: list[str], settings: list[str], said: list[str]
) -> None:
    assert_refused(*options, settings=settings, said=said)


def test_a_refused_command_has_nothing_else_on_standard_error(command: Any) -> None:
    done = command.run("--preset", "huge")
    assert done.returncode == 2
    assert_one_line(done.stderr, command, "--preset huge")


def test_a_price_without_a_plan_is_refused(assert_refused: Callable[..., None]) -> None:
    assert_refused("--price", "2.5", settings=[], said=["--price 2.5: is of use with --plan only"])


def test_a_damaged_data_file_is_refused_in_one_line_before_anything_starts(
    command: Any, assert_refused: Callable[..., None]
) -> None:
    folder = command.folder / "nhanes"
    folder.mkdir()
    for name in ("AUX_I.XPT", "DEMO_I.XPT"):
        (folder / name).write_bytes(b"garbage " * 100)
    assert_refused("--data", f"nhanes:{folder}", said=["_I.XPT"])


def test_a_plan_starts_nothing_and_writes_nothing(command: Any) -> None:
    done = command.run("--plan", "--price", "0.5", settings=("pretraining.training.steps=7",))
    assert done.returncode == 0, done.stderr
    assert "2 cells, 7 + " in done.stdout
    assert "4 cells, 0 done, 4 to train" in done.stdout
    assert "of training on this machine" in done.stdout
    assert "at 0.5 a core-hour; measured on one CPU thread of this machine" in " ".join(done.stdout.split())
    assert list(command.ray.iterdir()) == []
    assert list(command.folder.iterdir()) == []


# One run with a local Ray, and what it leaves behind


@pytest.fixture(scope="module")
def swept(command_in: Callable[[], Any]) -> Any:
    """A sweep of four cells that has run once."""
    command = command_in()
    command.first = command.run()
    assert command.first.returncode == 0, command.first.stderr
    return command


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_sweep_writes_its_tables_and_its_figure(swept: Any) -> None:
    out = swept.folder / "results" / "rd_curve_pvae"
    assert sorted(file.name for file in out.iterdir() if file.is_file()) == FILES
    assert (out / "rd_curve.png").read_bytes().startswith(b"\x89PNG")
    header = (out / "cells.csv").read_text().splitlines()[0].split(",")
    expected = ["cell", "seed", "target_rate", "domain", "role", "rate", "distortion", "elbo"]
    assert header[: len(expected)] == expected
    assert swept.first.stderr == ""


def test_every_cell_has_a_row_for_every_domain_with_an_elbo_that_adds_up(swept: Any) -> None:
    rows = table(swept.folder / "results" / "rd_curve_pvae" / "cells.csv")
    domains = {row["domain"] for row in rows}
    assert {"synthetic.train", "synthetic.valid", "synthetic.test"} < domains
    assert set(Counter(row["cell"] for row in rows).values()) == {len(domains)}
    assert len({row["cell"] for row in rows}) == 4
    assert {(row["seed"], row["target_rate"]) for row in rows} == {
        (seed, target) for seed in ("0", "1") for target in ("0.5", "2.0")
    }
    for row in rows:
        # The numbers are means over a domain of float32 parts, added in float64.
        assert float(row["elbo"]) == pytest.approx(-float(row["distortion"]) - float(row["rate"]), rel=1e-9)


def test_mlflow_has_one_run_of_the_sweep_and_one_of_each_cell(swept: Any) -> None:
    assert [status for _, status in swept.runs("sweep")] == ["FINISHED"]
    assert [status for _, status in swept.runs("cell")] == ["FINISHED"] * 4


def test_every_point_stands_once_in_the_store(swept: Any) -> None:
    points = swept.points()
    assert len(set(points)) == len(points)
    runs = {run for run, _ in swept.runs("cell")}
    assert {run for run, key, _ in points if not key.startswith("optimum/")} == runs  # the sweep's own run has these
    for name in ("valid/rate", "valid/elbo", "train/distortion", "train/beta.z"):
        assert Counter(run for run, key, _ in points if key == name) == dict.fromkeys(runs, 2)


def test_the_same_command_again_trains_nothing_and_writes_nothing(swept: Any) -> None:
    out = swept.folder / "results" / "rd_curve_pvae"
    runs, points, cells = swept.runs(), swept.points(), (out / "cells.csv").read_bytes()
    before = {file: file.stat().st_mtime_ns for file in swept.finished()}
    ray = set(swept.ray.rglob("session_*"))
    started = time.monotonic()
    done = swept.run()
    assert done.returncode == 0, done.stderr
    assert "4 cells, 4 done, none to train" in done.stdout
    assert set(swept.ray.rglob("session_*")) == ray
    assert time.monotonic() - started < 60
    assert swept.runs() == runs
    assert len(swept.runs("sweep")) == 1
    assert swept.points() == points
    assert (out / "cells.csv").read_bytes() == cells
    assert {file: file.stat().st_mtime_ns for file in swept.finished()} == before


def test_a_second_sweep_trains_only_the_cells_that_are_new(swept: Any) -> None:
    done = swept.run("--plan", settings=("rates.total.target=[0.5,1.0,2.0]",))
    assert "6 cells, 4 done, 2 to train" in done.stdout


def test_the_curve_is_redrawn_from_mlflow_alone(swept: Any) -> None:
    out = swept.folder / "results" / "rd_curve_pvae"
    away = swept.folder / "away"
    out.rename(away)
    try:
        done = swept.run("--experiment", "rd_curve_pvae", "--out", "redrawn", script="analysis/rd_curve.py")
    finally:
        away.rename(out)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (swept.folder / "redrawn").iterdir()) == TABLES
    for name in TABLES[:3]:
        assert (swept.folder / "redrawn" / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.slow
def test_a_population_more_is_evaluated_and_trains_nothing(swept: Any) -> None:
    runs, points, cells = swept.runs(), set(swept.points()), swept.finished()
    rows = [",".join(COLUMNS), *(",".join(str(10 + (row * column) % 50) for column in range(15)) for row in range(20))]
    (swept.folder / "more.csv").write_text("\n".join(rows))
    done = swept.run(
        "--data", "synthetic,unseen=more.csv", "--out", "wider", "--storage", "results/rd_curve_pvae/cells"
    )
    assert done.returncode == 0, done.stderr
    assert "4 cells, 0 done, none to train, 4 to evaluate only" in done.stdout
    assert swept.runs() == runs
    assert swept.finished() == cells
    added = [point for point in swept.points() if point not in points]
    assert added
    assert {key.rpartition("/")[0] for _, key, _ in added} == {"test/more", "optimum/more"}
    assert len(swept.points()) == len(set(swept.points()))
    with (swept.folder / "wider" / "cells.csv").open() as file:
        assert Counter(row["domain"] for row in csv.DictReader(file))["more"] == 4


def test_an_unknown_experiment_is_refused_with_the_nearest(swept: Any) -> None:
    done = swept.run("--experiment", "rd_curve_pvea", script="analysis/rd_curve.py")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "did you mean 'rd_curve_pvae'?" in line


# The `vaesweep` command


def test_the_ui_is_refused_where_there_is_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert vaesweep_command.main(["ui"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "run a sweep first" in line
    assert list(tmp_path.iterdir()) == []


def test_the_ui_of_a_server_is_the_servers_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert vaesweep_command.main(["ui"]) == 0
    assert "http://mlflow:5000" in capsys.readouterr().out
