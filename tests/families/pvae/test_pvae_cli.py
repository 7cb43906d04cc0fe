"""`vaesweep acquire` as a user calls it: on a cell in MLflow, from a file or a pipe, for people and for programs."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from vaesweep.analysis import load
from vaesweep.cli.main import main
from vaesweep.families.pvae.cli import RULES
from vaesweep.families.pvae.data.audiograms import COLUMNS, THRESHOLDS
from vaesweep.families.pvae.evaluation import ADAPTIVE
from vaesweep.family import family
from vaesweep.training import finished
from vaesweep.training.loop import start_state, train_pack
from vaesweep.vocabulary import MODEL_FILE, Outcome, RunKind, Tag

PARTIAL = "listener,age,right_1000,left_4000\nAnna,61,20,45\nBert,50,,\n"
COMPLETE = ",".join(COLUMNS) + "\n" + ",".join(["20"] * THRESHOLDS) + ",61\n"
CONFIG = {
    "model": {"hidden": 8, "features": 8, "latents": 2},
    "acquisition": {"rows": 4, "samples": 16},
    "training": {"steps": 2, "batch_size": 16, "evaluate_every": 2},
    "data": {"draws": 1},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, recorder: Any) -> str:
    """URI of a store of cells: `adviser`, `usual` (by variance alone), `bare` (without rules), `lost` (diverged)."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("acquisition_pvae", artifact_location=(folder / "artifacts").as_uri())
    for cell, rules in {"adviser": ["variance", "reduction"], "usual": ["variance"], "bare": [], "lost": None}.items():
        tags = {Tag.KIND: RunKind.CELL, Tag.CELL: cell, Tag.OUTCOME: Outcome.DIVERGED if rules is None else "finished"}
        run = client.create_run(experiment, tags=tags).info.run_id
        if rules is not None:
            path = folder / MODEL_FILE
            path.write_bytes(trained(cell, rules, recorder()))
            client.log_artifact(run, str(path))
    return uri


def trained(cell: str, rules: list[str], listener: Any) -> bytes:
    """The file of a cell that was trained for two steps."""
    own = family("pvae")
    config = own.config.model_validate(CONFIG | {"acquisition": CONFIG["acquisition"] | {"rules": rules}})
    problem = own.problem(config, own.example(), torch.device("cpu"))
    train_pack(problem, [config], start_state(problem, [config], [cell]), listener)
    return finished.to_bytes(finished.of_result(listener.results[cell], "pvae", config.model_dump(mode="json"), {}))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "partial.csv"
    path.write_text(PARTIAL)
    return path


@pytest.fixture(autouse=True)
def _in_the_store(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("COLUMNS", "80")


def said(capsys: pytest.CaptureFixture[str], path: Path | str, *options: str, cell: str = "adviser") -> str:
    """What the command prints, having ended well and with no word on standard error but of its calibration."""
    assert main(["acquire", "--run", cell, "--input", str(path), *options]) == 0
    out, errors = capsys.readouterr()
    assert not errors or errors.startswith("Calibration on the cell's validation listeners")
    assert bool(errors) == ("--format" in options)
    return out


def refused(capsys: pytest.CaptureFixture[str], path: Path | str, *options: str, cell: str = "adviser") -> str:
    """The one line of an error, with exit code 2 and nothing on standard output."""
    assert main(["acquire", "--run", cell, "--input", str(path), *options]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    (line,) = errors.splitlines()
    return line


def advice(capsys: pytest.CaptureFixture[str], path: Path | str, *options: str) -> list[dict[str, Any]]:
    return json.loads(said(capsys, path, "--format", "json", *options))


def test_people_read_an_audiogram_a_listener_and_what_to_do(capsys: pytest.CaptureFixture[str], table: Path) -> None:
    lines = said(capsys, table, "--threshold", "0.001").splitlines()
    assert max(len(line) for line in lines if not line.startswith("Estimated")) <= 80
    text = "\n".join(lines)
    assert all(f"{name} years" in text for name in ("Anna, 61", "Bert, 50"))
    assert text.count(" ?  ") + text.count(" ?\n") == 2, "one frequency is marked as the next a listener"
    right, left = (next(line.split() for line in lines if line.startswith(ear)) for ear in ("right", "left"))
    assert right[2:4] == ["20", "*"]
    assert "45 *" in " ".join(left)
    verdicts = [line for line in lines if line.startswith("Estimated error")]
    assert "not below 0.001 dB: measure the " in verdicts[0]
    assert "nothing is measured: measure the " in verdicts[1]
    (legend,) = [place for place, line in enumerate(lines) if "interval of 80 %" in line]
    assert [line.split("  ")[0] for line in lines[legend + 5 :]] == [
        "below 20 dB HL",
        "20 to 35 dB HL",
        "35 dB HL and more",
    ]


def test_a_cell_whose_file_says_nothing_of_its_calibration_is_said_to(
    store: str, capsys: pytest.CaptureFixture[str], table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = load.load_cell("adviser", store)
    kept = {name: value for name, value in known.kept.items() if not name.startswith("calibration/")}
    monkeypatch.setattr(load, "load_cell", lambda *_: replace(known, kept=kept))
    assert main(["acquire", "--run", "adviser", "--input", str(table)]) == 0
    assert "Calibration by severity is not known" in capsys.readouterr().out


def test_programs_read_json(capsys: pytest.CaptureFixture[str], table: Path) -> None:
    anna, bert = advice(capsys, table, "--interval", "0.95")
    assert (anna["listener"], anna["age"], anna["threshold_db"], anna["interval"]) == ("Anna", 61.0, 5.0, 0.95)
    assert list(anna["audiogram"]) == list(COLUMNS[:THRESHOLDS])
    assert anna["audiogram"]["left_4000"] == {"measured": True, "estimate_db": 45, "low_db": 45, "high_db": 45}
    following = anna["audiogram"][anna["next"]]
    assert following["low_db"] < following["high_db"]
    assert anna["stop"] == (anna["error_db"] < anna["threshold_db"])
    assert not bert["stop"]
    assert bert["next"] in COLUMNS


def test_tables_have_a_row_a_listener_and_threshold_with_the_same_numbers(
    capsys: pytest.CaptureFixture[str], table: Path
) -> None:
    found = advice(capsys, table)
    rows = list(csv.DictReader(io.StringIO(said(capsys, table, "--format", "csv"))))
    assert [row["listener"] for row in rows] == ["Anna"] * THRESHOLDS + ["Bert"] * THRESHOLDS
    for row, name in zip(rows, [*COLUMNS[:THRESHOLDS]] * 2, strict=True):
        (one,) = [one for one in found if one["listener"] == row["listener"]]
        assert f"{row['ear']}_{row['frequency_hz']}" == name
        assert {key: str(value) for key, value in one["audiogram"][name].items()}.items() <= row.items()
        assert row["next"] == str(one["next"] == name)
        assert float(row["error_db"]) == one["error_db"]


def test_it_reads_from_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, table: Path) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(PARTIAL.encode())))
    assert said(capsys, "-") == said(capsys, table)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"right_500\n10\n")))
    assert "error: standard input, line 1: no column 'age'" in refused(capsys, "-")


def test_a_threshold_decides_when_to_stop(capsys: pytest.CaptureFixture[str], table: Path) -> None:
    anna, bert = advice(capsys, table, "--threshold", "1000")
    assert (anna["stop"], bert["stop"]) == (True, False), "nothing is measured of the second"
    assert "below 1e+03 dB: stop. To go on, measure the " in said(capsys, table, "--threshold", "1000")


def test_what_is_next_follows_the_rule_that_is_asked_for(capsys: pytest.CaptureFixture[str], table: Path) -> None:
    usual, other = (advice(capsys, table, *options) for options in ((), ("--rule", "reduction")))
    assert [one["audiogram"] for one in other] == [one["audiogram"] for one in usual]
    assert all(one["next"] for one in other)
    assert tuple(ADAPTIVE) == RULES
    line = refused(capsys, table, "--rule", "reduction", cell="usual")
    assert "no stopping criterion for the rule 'reduction'" in line


def test_a_complete_audiogram_is_done(capsys: pytest.CaptureFixture[str], table: Path) -> None:
    table.write_text(COMPLETE)
    assert "All thresholds are measured: stop." in said(capsys, table)
    (one,) = advice(capsys, table)
    assert (one["next"], one["stop"], one["error_db"]) == (None, True, 0.0)


def test_doubts_and_ignored_columns_are_told(capsys: pytest.CaptureFixture[str], table: Path) -> None:
    table.write_text("age,right_500,sex\n119,-20,f\n")
    for format_, where in (("table", 0), ("csv", 1)):
        assert main(["acquire", "--run", "adviser", "--input", str(table), "--format", format_]) == 0
        told = capsys.readouterr()
        assert "the training population hardly has listeners of this age" in told[where]
        assert "columns ignored: sex" in told.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("age,right_500\n61,200\n", "line 2: right_500 is 200, which is not between -20 and 130 dB HL"),
        ("age,right_750\n61,20\n", "line 1: unknown threshold 'right_750'"),
        ("age,right_500\n,20\n", "line 2: no age"),
    ],
    ids=["out of range", "unknown frequency", "no age"],
)
def test_bad_input_is_refused_in_one_line_before_the_store_is_asked(
    capsys: pytest.CaptureFixture[str], table: Path, content: str, said: str
) -> None:
    table.write_text(content)
    line = refused(capsys, table, cell="nobody")
    assert line.startswith(f"error: {table}, {said}")


def test_a_cell_that_cannot_advise_is_refused_with_what_can(capsys: pytest.CaptureFixture[str], table: Path) -> None:
    assert "sweeps/acquisition_pvae.py" in refused(capsys, table, cell="bare")
    assert "has diverged" in refused(capsys, table, cell="lost")
    assert "no run and no cell of that name" in refused(capsys, table, cell="nobody")
    missing = f"sqlite:///{table.parent / 'none.db'}"
    assert "there is no tracking store" in refused(capsys, table, "--tracking-uri", missing)


def test_impossible_options_are_refused(capsys: pytest.CaptureFixture[str], table: Path) -> None:
    assert "interval 80 is not a share between 0 and 1" in refused(capsys, table, "--interval", "80")
    assert "threshold 0 is not an error above 0 dB" in refused(capsys, table, "--threshold", "0")


NAMES = ["=HYPERLINK(1)", "@x", "+1", "-1", "[/note]", "[bold]x", "\x1b[31mred", "a\x9b2J", "a\u202eb", ":x:", "Anna"]


def test_names_go_out_as_text_and_never_as_a_formula_or_an_escape(
    store: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "x.csv"
    path.write_text("listener,age,right_1000,[/note]\n" + "".join(f"{name},61,20,\n" for name in NAMES))
    words = ["acquire", "--run", "adviser", "--input", str(path), "--tracking-uri", store]
    for form in ("table", "csv", "json"):
        assert main([*words, "--format", form]) == 0
        out, errors = capsys.readouterr()
        assert not set(out + errors) & set("\x1b\x9b\u202e\x7f")
        if form == "csv":
            named = [row["listener"] for row in csv.DictReader(io.StringIO(out))]
            assert not [name for name in named if name.startswith(("=", "+", "-", "@"))]
            assert "'=HYPERLINK(1)" in named
        if form == "json":
            assert [listener["listener"] for listener in json.loads(out)] == NAMES
        if form == "table":
            assert all(name in out for name in ("[/note]", "[bold]x", ":x:", "=HYPERLINK(1)"))
