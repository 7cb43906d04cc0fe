"""The table, the figure's ranges and the summary say what happened, also when little did."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vaesweep.analysis import report
from vaesweep.analysis.curves import COLUMNS, rd_curve
from vaesweep.analysis.figures import DISTORTION, domain_styles, draw_rd_curve, ordinary_range, panel_limits
from vaesweep.analysis.runs import Runs
from vaesweep.analysis.table import cells_table, is_open, target_axis
from vaesweep.analysis.tables import make_tables
from vaesweep.vocabulary import Outcome

SweepOf = Callable[..., Runs]


def renamed(runs: Runs, names: dict[str, str]) -> Runs:
    """The same sweep with other names for its axes."""
    axes = {names.get(axis, axis): values for axis, values in runs.record.axes.items()}
    return replace(runs, record=replace(runs.record, axes=axes), cells=runs.cells.rename(columns=names))


def test_the_table_has_a_row_for_every_cell_and_domain_in_the_records_order(sweep_of: SweepOf) -> None:
    table = cells_table(sweep_of([2.0, 1.0], 2, {"1.0-0": Outcome.FAILED}, extra={"model.latents": [4]}))
    assert list(table.columns) == [
        *("cell", "seed", "target_rate", "domain", "role", "rate", "distortion", "elbo"),
        *("saturated", "settled", "outcome", "model.latents", "rmse_db"),
    ]
    assert list(dict.fromkeys(table["domain"])) == ["toy.train", "toy.valid", "toy.test", "elsewhere"]
    assert table["target_rate"].head(4).tolist() == [1.0, 1.0, 2.0, 2.0]
    assert len(table) == 16


def test_of_several_targets_the_totals_is_the_target_rate(sweep_of: SweepOf) -> None:
    runs = sweep_of([1.0], 1, extra={"rates.speech.target": [0.5]})
    assert target_axis(runs) == "rates.total.target"
    assert target_axis(renamed(runs, {"rates.total.target": "rates.noise.target"})) is None


def test_a_sweep_without_targets_has_none(sweep_of: SweepOf) -> None:
    runs = renamed(sweep_of([1.0, 2.0], 1), {"rates.total.target": "rates.total.beta"})
    table = cells_table(runs)
    assert table["target_rate"].isna().all()
    assert "rates.total.beta" in table


def test_a_constant_target_counts_as_much_as_a_swept_one(sweep_of: SweepOf) -> None:
    runs = sweep_of([1.0], 2)
    fixed = replace(runs, record=replace(runs.record, axes={"seed": [0, 1]}))
    assert cells_table(fixed)["target_rate"].eq(1.0).all()


def test_targets_per_another_unit_are_compared_with_rates_per_datum(sweep_of: SweepOf, tmp_path: Path) -> None:
    """Half a nat a second of data of two seconds is the nat a datum that was measured, and no target is missed."""
    runs = sweep_of([1.0, 2.0, 4.0], 2)
    per_second = {"rates.total.per": "second", "datum.second": "2.0"}
    cells = runs.cells.assign(**{"rates.total.target": runs.cells["rates.total.target"] / 2})
    given = replace(runs, cells=cells, params=dict.fromkeys(cells["cell"], per_second))
    assert cells_table(given)["target_rate"].unique().tolist() == [1.0, 2.0, 4.0]
    assert not any("missed" in line for line in report.write(given, tmp_path).summary)
    without = replace(given, params={})
    assert any("missed" in line for line in report.write(without, tmp_path).summary)


@pytest.mark.parametrize(("targets", "seeds"), [([1.0], 1), ([1.0, 4.0, 9.0], 1), ([1.0, 4.0, 9.0], 3)])
def test_the_report_is_whole_for_small_sweeps(
    sweep_of: SweepOf, tmp_path: Path, targets: list[float], seeds: int
) -> None:
    written = report.write(sweep_of(targets, seeds), tmp_path)
    assert [path.name for path in written.paths] == ["cells.csv", "curve.csv", "gap.csv", "rd_curve.png"]
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written.paths}
    assert written.paths[-1].read_bytes().startswith(b"\x89PNG")


def test_an_axis_of_names_is_reported_like_any_other(sweep_of: SweepOf, tmp_path: Path) -> None:
    written = report.write(sweep_of([1.0, 4.0], 2, extra={"variant": ["static", "dynamic"]}), tmp_path)
    assert any(line.startswith("each curve averages over variant") for line in written.summary)
    assert any(line.startswith("gap toy.train → toy.test") for line in written.summary)


def test_nothing_is_averaged_over_an_axis_of_one_value(sweep_of: SweepOf, tmp_path: Path) -> None:
    written = report.write(sweep_of([1.0, 2.0], 2, extra={"acquisition.rules": [("variance",)]}), tmp_path)
    assert not any("averages over" in line for line in written.summary)


def test_a_sweep_without_a_finished_cell_is_reported_all_the_same(sweep_of: SweepOf, tmp_path: Path) -> None:
    written = report.write(sweep_of([1.0], 1, {"1.0-0": Outcome.DIVERGED}), tmp_path)
    assert written.summary == ("cells: 0 finished, 1 diverged, 0 failed",)


def test_a_file_is_replaced_whole_or_not_at_all(
    sweep_of: SweepOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = sweep_of([1.0], 1)
    report.write(runs, tmp_path)
    before = (tmp_path / "rd_curve.png").read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(report, "draw_rd_curve", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write(runs, tmp_path)
    assert (tmp_path / "rd_curve.png").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 4


def test_the_summary_names_optima_gaps_and_outcomes(sweep_of: SweepOf, tmp_path: Path) -> None:
    targets = [float(target) for target in range(1, 10)]
    summary = "\n".join(report.write(sweep_of(targets, 3, {"9.0-0": Outcome.DIVERGED}), tmp_path).summary)
    assert "cells: 26 finished, 1 diverged, 0 failed" in summary
    assert "toy.test: highest ELBO -26 at rate 4" in summary
    assert "gap toy.train → toy.test at the optimum of toy.valid: distortion +1 nats" in summary
    assert "distortion rises somewhere with rate on toy.train" in summary


def test_missed_targets_are_named_unless_they_are_out_of_reach(sweep_of: SweepOf, tmp_path: Path) -> None:
    runs = sweep_of([1.0, 2.0, 4.0], 2)
    rates = runs.finals["metric"] == "rate"
    runs.finals.loc[rates & runs.finals["cell"].isin(["2.0-1", "4.0-0", "4.0-1"]), "value"] *= 0.8
    runs.cells.loc[runs.cells["cell"].str.startswith("4.0"), "saturated"] = "total"
    summary = report.write(runs, tmp_path).summary
    assert summary[-2:] == (
        "target 2 missed on the training domain by up to 20% (1 cell)",
        "targets out of reach: 4 (2 cells)",
    )


def test_a_far_domain_gets_its_own_scale_above_the_cut(sweep_of: SweepOf) -> None:
    table = cells_table(sweep_of([1.0, 4.0, 9.0], 2))
    assert panel_limits(table, DISTORTION).above is None
    far = table["distortion"].where(table["domain"] != "elsewhere", table["distortion"] + 900)
    limits = panel_limits(table.assign(distortion=far), DISTORTION)
    assert limits.above is not None
    assert limits.high < 40
    assert limits.above[0] > 900
    assert limits.above[1] >= far.max()


def test_many_unseen_domains_are_faint_and_few_have_a_colour_each(sweep_of: SweepOf, tmp_path: Path) -> None:
    table = cells_table(sweep_of([1.0, 2.0], 2))
    elsewhere = table[table["domain"] == "elsewhere"]

    def with_unseen(count: int) -> pd.DataFrame:
        return pd.concat([table, *(elsewhere.assign(domain=f"else_{i}", distortion=1e9) for i in range(count - 1))])

    few, many = (domain_styles(with_unseen(count)) for count in (4, 5))
    assert len({style.colour for style in few.values()}) == 7
    assert [name for name, style in many.items() if style.faint] == [
        "elsewhere",
        "else_0",
        "else_1",
        "else_2",
        "else_3",
    ]
    assert not any(style.faint for style in few.values())
    draw_rd_curve(with_unseen(5), rd_curve(with_unseen(5)), "many", tmp_path / "many.png")
    assert (tmp_path / "many.png").stat().st_size > 0


def test_a_single_monster_does_not_set_the_range_but_a_steep_curve_does() -> None:
    assert ordinary_range(np.append(np.linspace(10, 20, 30), 1e6)) == (10.0, 20.0)
    steep = np.exp(np.linspace(0, 9, 30))
    assert ordinary_range(steep)[1] == pytest.approx(steep.max())
    assert ordinary_range(np.array([3.0])) == (3.0, 3.0)


def test_csv_files_read_back_as_they_were(sweep_of: SweepOf, tmp_path: Path) -> None:
    report.write(sweep_of([1.0, 2.0], 2), tmp_path)
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert list(curve.columns) == COLUMNS
    assert set(curve["kind"]) == {"curve", "optimum.distortion", "optimum.elbo"}


def test_cells_whose_control_has_not_settled_are_named_and_open(sweep_of: Callable[..., Runs], tmp_path: Path) -> None:
    runs = sweep_of([2.0, 4.0, 8.0], seeds=2)
    runs.cells["settled"] = ~runs.cells["cell"].str.startswith("4.0")
    written = report.write(runs, tmp_path)
    (line,) = [line for line in written.summary if "had settled" in line]
    assert line.startswith("2 cells ended before the rate control had settled (target 4): open on the curve")
    table = cells_table(runs)
    assert set(table.loc[is_open(table), "target_rate"]) == {4.0}
    assert set(pd.read_csv(tmp_path / "cells.csv")["settled"]) == {True, False}


def test_skipped_steps_are_told(sweep_of: Callable[..., Runs]) -> None:
    runs = sweep_of([2.0, 4.0], seeds=1)
    told = [line for line in report.summarise(runs, *report_tables(runs)) if "skipped" in line]
    assert told == []
    runs.cells["skipped"] = [0.0, 3.0]
    (line,) = [line for line in report.summarise(runs, *report_tables(runs)) if "skipped" in line]
    assert line == f"1 cell skipped steps of too large or not finite gradients: at most 3, cell {runs.cells['cell'][1]}"


def report_tables(runs: Runs) -> tuple[pd.DataFrame, pd.DataFrame]:
    tables = make_tables(runs, None)
    return tables.cells, tables.curve


def test_where_it_is_not_known_whether_a_control_has_settled_nothing_is_said(sweep_of: Callable[..., Runs]) -> None:
    table = cells_table(sweep_of([2.0, 4.0], seeds=1))
    assert not is_open(table).any()
