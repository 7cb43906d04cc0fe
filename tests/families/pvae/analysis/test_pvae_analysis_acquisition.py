"""What is chosen is chosen on validation rows, pairs are of one datum, and verdicts follow the seeds."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vaesweep.analysis.findings import Verdict, below, lower_rate
from vaesweep.analysis.groups import REGIME, grouped_table, point_axes, regime_axes, splits
from vaesweep.analysis.metric_curves import metric_curve
from vaesweep.analysis.runs import Runs
from vaesweep.data.domains import DataSet, Role
from vaesweep.families.pvae.analysis import baselines
from vaesweep.families.pvae.analysis import report as report_module
from vaesweep.families.pvae.analysis.baselines import Baseline
from vaesweep.families.pvae.analysis.comparison import OF_ALL, OF_REGIME, acquisition_table, choose, paired_difference
from vaesweep.families.pvae.analysis.findings import findings
from vaesweep.families.pvae.analysis.metrics import UNITS, metrics_of
from vaesweep.families.pvae.analysis.records import AcquisitionRecord, areas_by_split, common_config
from vaesweep.families.pvae.analysis.report import report as report_of
from vaesweep.families.pvae.evaluation import AcquisitionConfig
from vaesweep.family import family
from vaesweep.vocabulary import Outcome

SweepOf = Callable[..., Runs]
TARGETS = [1.0, 2.0, 3.0, 6.0]
ROWS, STEPS = 40, 5
REGIMES = {"variant": ["static", "dynamic"]}
CONFIG = AcquisitionConfig(rules=("variance", "random", "single_best"), threshold=7.0)
TEST = "toy.test"


def kept_of(runs: Runs, missingness: str = "") -> dict[str, AcquisitionRecord]:
    """Made-up curves and areas of every finished cell: more area with every seed, and with every datum."""
    found = {}
    for _, row in runs.cells[runs.cells["outcome"] == Outcome.FINISHED].iterrows():
        places = [(domain.name, rule) for domain in runs.record.domains for rule in CONFIG.rules]
        areas = {place: 60.0 + row["seed"] + np.linspace(-3, 3, ROWS) for place in places}
        curves = {place: np.linspace(12, 0, STEPS + 1) + len(place[1]) / 10 for place in places}
        found[row["cell"]] = AcquisitionRecord(
            CONFIG, curves, areas, {"missingness": missingness or str(row.get("variant", ""))}
        )
    return found


def baseline_of(runs: Runs, components: int = 5, area: float = 55.0, rows: int = ROWS) -> Baseline:
    names = [domain.name for domain in runs.record.domains if domain.role != Role.TRAIN]
    metrics = {(name, "area_rmse.variance"): area + np.array([-0.1, 0.0, 0.1]) for name in names}
    fits = np.array([-0.1, 0.0, 0.1])[:, None]
    areas = {(name, "variance"): {"0": np.cos(np.arange(rows)) + area + fits} for name in names}
    curves = {(name, "variance"): np.linspace(11, 0, STEPS + 1) * np.ones((3, 1)) for name in names}
    return Baseline(components, metrics, curves, areas)


def table_of(runs: Runs, mixture: Baseline | None = None) -> pd.DataFrame:
    points = grouped_table(runs)
    axes = [*regime_axes(runs), *point_axes(runs)]
    measured = [mixture] if mixture else []
    return acquisition_table(points, axes, "toy", choose(points), kept_of(runs), measured, mixture)


def number(table: pd.DataFrame, **where: object) -> pd.Series:
    for column, value in where.items():
        table = table[table[column] == value]
    (row,) = [row for _, row in table.iterrows()]
    return row


def test_the_choice_looks_at_validation_rows_only(acquiring: SweepOf) -> None:
    runs = acquiring(TARGETS, 2)
    areas = runs.finals["metric"] == "area_rmse.variance"
    lucky = areas & runs.finals["cell"].str.startswith("6.0") & runs.finals["domain"].isin([TEST, "elsewhere"])
    runs.finals.loc[lucky, "value"] = 1.0
    chosen = choose(grouped_table(runs))
    assert chosen is not None
    assert chosen.best == ("", "target 3")


def test_every_regime_has_its_choice_and_the_sweep_the_best_of_them(acquiring: SweepOf) -> None:
    chosen = choose(grouped_table(acquiring(TARGETS, 2, extra=REGIMES, lowered={"dynamic": 2.0})))
    assert chosen is not None
    assert chosen.by_regime == {"static": ("static", "target 3"), "dynamic": ("dynamic", "target 3")}
    marks = [chosen.mark(("dynamic", "target 3")), chosen.mark(("static", "target 3")), chosen.mark(("x", "y"))]
    assert marks == [OF_ALL, OF_REGIME, ""]


def test_a_group_that_lost_most_of_its_seeds_is_not_chosen(acquiring: SweepOf) -> None:
    lost = {f"3.0-{seed}": Outcome.DIVERGED for seed in (1, 2)}
    chosen = choose(grouped_table(acquiring(TARGETS, 3, lost)))
    assert chosen is not None
    assert chosen.best == ("", "target 2")


def test_intervals_are_over_seeds(acquiring: SweepOf) -> None:
    runs = acquiring(TARGETS, 3)
    row = number(table_of(runs), point="target 2", metric="area_rmse", by="random", domain=TEST)
    cells = runs.finals[runs.finals["cell"].str.startswith("2.0") & (runs.finals["domain"] == TEST)]
    values = cells.loc[cells["metric"] == "area_rmse.random", "value"].to_numpy()
    expected = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
    assert (row["low"], row["high"], row["n"]) == (pytest.approx(expected[0]), pytest.approx(expected[1]), 3)
    assert (row["target_rate"], row["rate"]) == (2.0, pytest.approx(2.0))


def test_a_pair_is_one_datum_and_its_interval_is_over_data_seeds_and_fits(acquiring: SweepOf) -> None:
    runs = acquiring(TARGETS, 3)
    mixture = baseline_of(runs)
    row = number(table_of(runs, mixture), point="target 3", metric="area_rmse", by="variance", domain=TEST)
    cells = 61.0 + np.linspace(-3, 3, ROWS)  # the mean over three seeds, which are 1 apart
    mean_fit = mixture.areas[TEST, "variance"]["0"].mean(0)
    variances = np.array([(cells - mean_fit).var(ddof=1) / ROWS, 1.0 / 3, 0.1**2 / 3])
    freedom = variances.sum() ** 2 / (variances**2 / [ROWS - 1, 2, 2]).sum()
    half = stats.t.ppf(0.975, freedom) * np.sqrt(variances.sum())
    assert row["difference"] == pytest.approx((cells - mean_fit).mean())
    assert row["difference_high"] - row["difference"] == pytest.approx(half)
    assert tuple(row[["n_data", "n_seeds", "n_fits", "n_splits"]]) == (ROWS, 3, 3, 1)


def test_other_rows_rules_and_missing_cells_make_no_pair(acquiring: SweepOf) -> None:
    runs = acquiring([1.0], 2)
    points, kept = grouped_table(runs), kept_of(runs)
    group = ("", "target 1")
    assert paired_difference(points, group, kept, baseline_of(runs, rows=ROWS - 1), TEST, "variance") is None
    assert paired_difference(points, group, kept, baseline_of(runs), TEST, "random") is None
    assert paired_difference(points, group, {}, baseline_of(runs), TEST, "variance") is None
    ragged = [AcquisitionRecord(None, {}, {(TEST, "variance"): np.ones(size)}) for size in (3, 4)]
    assert areas_by_split(ragged, (TEST, "variance")) == {}


def test_the_commonest_settings_are_the_baselines() -> None:
    cells = [AcquisitionRecord(config) for config in (None, CONFIG, AcquisitionConfig(rules=("variance",)), CONFIG)]
    assert common_config(cells) == CONFIG
    assert common_config(cells[:1]) is None


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([-1.0, -1.1, -0.9], Verdict.CONFIRMED),
        ([1.0, 1.1, 0.9], Verdict.REFUTED),
        ([-1.0, 1.0, -0.5], Verdict.UNDECIDED),
        ([-1.0], Verdict.UNDECIDED),
    ],
)
def test_a_difference_is_what_its_interval_says(differences: list[float], verdict: Verdict) -> None:
    assert below("less is less", "here", pd.Series(differences), "dB").verdict is verdict


@pytest.mark.parametrize(
    ("rates", "verdict"),
    [
        ([1.0, 2.0], Verdict.CONFIRMED),
        ([4.0, 5.0], Verdict.REFUTED),
        ([1.0, 3.0], Verdict.UNDECIDED),
        ([1.0], Verdict.UNDECIDED),
    ],
)
def test_optima_are_compared_seed_by_seed(rates: list[float], verdict: Verdict) -> None:
    other = pd.Series([3.0] * len(rates))
    assert lower_rate("it is lower", "here", pd.Series(rates), other).verdict is verdict


def test_planted_statements_are_found(acquiring: SweepOf) -> None:
    """Planted: variance < single best < random, uncertainty < m alone, area at 3 nats, distortion at 6, ELBO at 4."""
    runs = acquiring([2.0, 3.0, 4.0, 6.0], 3, extra=REGIMES, lowered={"dynamic": 9.0})
    points = grouped_table(runs)
    found = {
        (one.statement, one.where.partition(",")[0]): one for one in findings(points, choose(points), kept_of(runs))
    }
    ours = ", by the cells' own samples"
    verdicts = {(statement.removesuffix(ours), where): str(one.verdict) for (statement, where), one in found.items()}
    assert sum(statement.endswith(ours) for statement, _ in found) == len(found) - 2, "all but those on missingness"
    less = "leaves a smaller area than"
    expected = {
        (f"largest variance {less} the greedy single best order", "dynamic"): "confirmed",
        (f"largest variance {less} a random order", "dynamic"): "confirmed",
        (f"the greedy single best order {less} a random one", "dynamic"): "confirmed",
        ("uncertainty stops nearer to where it should than a line of m alone", "dynamic"): "confirmed",
        ("uncertainty stops nearer to where it should than the best constant index", "dynamic"): "undecided",
        ("the best area on elsewhere lies at a lower rate than on toy.test", "static"): "undecided",
        ("dynamic has a smaller distortion gap train → test than static", "mean over 4 common points"): "undecided",
        ("dynamic leaves a smaller best area than static", "each at its point chosen by validation"): "confirmed",
    }
    for regime in REGIMES["variant"]:
        expected[("the best area lies at a lower rate than the best distortion", regime)] = "confirmed"
        expected[("the best area lies at a lower rate than the best ELBO", regime)] = "confirmed"
        for stop in ("offset", "index"):
            for best in ("distortion", "ELBO"):
                expected[(f"the smallest stopping {stop} lies at a lower rate than the best {best}", regime)] = (
                    "confirmed"
                )
        expected[("the best area on elsewhere lies at a lower rate than on toy.test", regime)] = "undecided"
    assert verdicts == expected


def test_a_statement_of_the_thesis_is_judged_without_importance_weights_and_ours_beside_it(acquiring: SweepOf) -> None:
    """Planted: with weights the best area is at 3 nats, without at 6, the ELBO's at 4; the stop is at 2."""
    runs = acquiring([2.0, 3.0, 4.0, 6.0], 3)
    finals = runs.finals

    def planted(metric: str, name: str, best: float, own: pd.DataFrame = finals) -> pd.DataFrame:
        rows = own[own["metric"] == metric]
        targets = rows["cell"].str.partition("-")[0].astype(float)
        return rows.assign(metric=name, value=60 + (targets - best).abs() + 0 * rows["value"])

    more = [
        planted("area_rmse.variance", "area_rmse.unweighted", 6.0),
        planted("stop_offset.uncertainty", "stop_offset.unweighted_uncertainty", 2.0),
    ]
    points = grouped_table(replace(runs, finals=pd.concat([finals, *more], ignore_index=True)))
    found = {one.statement: str(one.verdict) for one in findings(points, choose(points), {})}
    statement = "the best area lies at a lower rate than the best ELBO"
    assert found[f"{statement}, by plain samples, as the thesis"] == "refuted"
    assert found[f"{statement}, by the cells' own samples"] == "confirmed"
    offset = "the smallest stopping offset lies at a lower rate than the best ELBO"
    assert found[f"{offset}, by plain samples, as the thesis"] == "confirmed"


def test_where_audiograms_before_noise_are_known_statements_are_on_errors_against_them(acquiring: SweepOf) -> None:
    runs = acquiring([2.0, 3.0, 4.0, 6.0], 3)
    rows = runs.finals[runs.finals["metric"].str.startswith("area_rmse.")]
    name = rows["metric"].str.replace("area_rmse", "area_rmse_clean")
    turned = rows.assign(metric=name, value=-rows["value"])
    points = grouped_table(replace(runs, finals=pd.concat([runs.finals, turned], ignore_index=True)))
    found = {one.statement.partition(",")[0]: str(one.verdict) for one in findings(points, choose(points), {})}
    assert found["largest variance leaves a smaller area than a random order"] == "refuted"


def test_missingness_is_what_cells_were_trained_with_and_not_what_a_variant_is_called(acquiring: SweepOf) -> None:
    runs = acquiring(TARGETS, 2, extra=REGIMES)
    points = grouped_table(runs)
    lines = [str(one) for one in findings(points, choose(points), kept_of(runs, missingness="dynamic"))]
    assert lines
    assert not any("dynamic has" in line or "dynamic leaves" in line for line in lines)


@pytest.fixture(scope="module")
def toy() -> DataSet:
    return family("pvae").example()


@pytest.fixture(scope="module")
def measured(toy: DataSet) -> list[Baseline]:
    config = AcquisitionConfig(rules=("variance", "reduction", "information"), rows=24, threshold=6.0)
    return baselines.measure({"0": toy}, config, [(1, False), (2, False), (2, True)])


def test_baselines_acquire_the_cells_rows_by_their_rules(measured: list[Baseline], toy: DataSet) -> None:
    assert [baseline.name for baseline in measured] == [
        "Gaussian",
        "Gaussian mixture of 2",
        "Gaussian mixture of 2, mirrored ears",
    ]
    gaussian = measured[0]
    adaptive = {"variance", "reduction"}
    for role, rules in ((Role.VALID, adaptive), (Role.TEST, {*adaptive, "random", "single_best", "information"})):
        domain = toy.domain(role).name
        assert {rule for name, rule in gaussian.areas if name == domain} == rules
        assert gaussian.areas[domain, "variance"]["0"].shape == (1, min(24, len(toy.domain(role))))
    assert toy.domain(Role.TRAIN).name not in {name for name, _ in gaussian.areas}


def test_baselines_numbers_agree_with_each_other(measured: list[Baseline], toy: DataSet) -> None:
    test = toy.domain(Role.TEST).name
    for baseline, fits in zip(measured, (1, 3, 3), strict=True):
        area = baseline.metrics[test, "area_rmse.variance"]
        assert area.shape == (fits,)
        assert baseline.areas[test, "variance"]["0"].mean() == pytest.approx(area.mean())
        np.testing.assert_allclose(baseline.curves[test, "variance"][:, 1:].sum(-1), area)
        assert (baseline.metrics[test, "stop_offset.oracle"] == 0).all()
        assert (baseline.metrics[test, "stop_offset.uncertainty"] >= 0).all()
        assert {name.partition(".")[0] for _, name in baseline.metrics} <= set(UNITS)


def test_the_baseline_is_chosen_on_validation_rows(sweep_of: SweepOf) -> None:
    runs = sweep_of([1.0], 1)
    one, other = baseline_of(runs, 5, area=55.0), baseline_of(runs, 20, area=54.0)
    one.metrics[TEST, "area_rmse.variance"] -= 9
    assert baselines.best_baseline([one, other], "toy.valid") is other


def toy_report(
    runs: Runs,
    kept: dict[str, AcquisitionRecord],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    mixtures: Sequence[Baseline] | None = None,
    measure: Callable[..., list[Baseline]] | None = None,
) -> list[str]:
    """The summary of a report whose models were read and whose baselines were measured as made up here."""
    finished = int((runs.cells["outcome"] == Outcome.FINISHED).sum())
    monkeypatch.setattr(report_module, "load_records", lambda *_: (kept, finished - len(kept)))
    mixtures = mixtures or [baseline_of(runs), baseline_of(runs, 10, area=56.0)]
    monkeypatch.setattr(baselines, "measure", measure or (lambda *_: mixtures))
    example = family("pvae").example()
    renamed = zip(example.domains, runs.record.domains, strict=False)
    data = replace(example, domains=tuple(replace(old, name=new.name, role=new.role) for old, new in renamed))
    report = report_of(runs, data, out)
    assert {path.name for path in out.iterdir()} == {path.name for path in report.paths} if report.paths else True
    return list(report.summary)


EVERY = {
    *("metric_curve.csv", "acquisition.csv"),
    *("information_curves.png", "area_rate.png", "metrics_rate.png", "stopping_rate.png"),
}


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_report_is_whole(acquiring: SweepOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: int) -> None:
    runs = acquiring(TARGETS, seeds, extra=REGIMES, lowered={"dynamic": 9.0})
    summary = toy_report(runs, kept_of(runs), tmp_path, monkeypatch)
    assert names_in(tmp_path) == EVERY
    assert summary[0].startswith("chosen on validation rows only: dynamic, target 3, rate 3: area in measurement·dB: ")
    assert summary[2].startswith("best classical baseline on validation rows: Gaussian mixture of 5: ")
    compared = [line.partition(": ")[0] for line in summary[3:7]]
    assert compared == [
        f"dynamic, target 3 less Gaussian mixture of {count} on {domain}"
        for domain in ("toy.test", "elsewhere")
        for count in (5, 10)
    ]
    verdicts = {line.partition(":")[0] for line in summary[7:]}
    assert verdicts == ({"undecided"} if seeds == 1 else {"confirmed", "undecided"})
    table = pd.read_csv(tmp_path / "acquisition.csv")
    assert set(table["chosen"].dropna()) == {OF_ALL, OF_REGIME}
    assert set(table["model"]) == {"toy", "Gaussian mixture of 5", "Gaussian mixture of 10"}


def by_reduction(values: dict[tuple[str, str], np.ndarray], less: float) -> dict[tuple[str, str], np.ndarray]:
    """`values`, and the same by expected reduction, less so much."""
    other = {(name, what.replace("variance", "reduction")): value - less for (name, what), value in values.items()}
    return values | other


def test_models_are_compared_by_expected_reduction_too(
    acquiring: SweepOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = acquiring(TARGETS, 3)
    finals = runs.finals[runs.finals["metric"] == "area_rmse.variance"]
    reduced = finals.assign(metric="area_rmse.reduction", value=finals["value"] - 2)
    kept = {
        cell: replace(one, curves=by_reduction(dict(one.curves), 0.1), areas=by_reduction(dict(one.areas), 2.0))
        for cell, one in kept_of(runs).items()
    }
    mixtures = [
        replace(
            one,
            metrics=by_reduction(one.metrics, less),
            areas=by_reduction({place: areas["0"] for place, areas in one.areas.items()}, less),
        )
        for one, less in ((baseline_of(runs), 0.0), (baseline_of(runs, 10, area=56.0), 3.0))
    ]
    mixtures = [replace(one, areas={place: {"0": areas} for place, areas in one.areas.items()}) for one in mixtures]
    runs = replace(runs, finals=pd.concat([runs.finals, reduced], ignore_index=True))
    summary = toy_report(runs, kept, tmp_path, monkeypatch, mixtures)
    starts = [line.partition(": area")[0] for line in summary[:4]]
    assert starts[1] == "the same by expected reduction of the error"
    assert starts[2] == "best classical baseline on validation rows: Gaussian mixture of 5"
    assert starts[3] == "the best by expected reduction of the error: Gaussian mixture of 10"
    # Of every datum the cells' mean is 61 and what depends on the datum; the mixture's 56 less 3.
    datum = np.linspace(-3, 3, ROWS) - np.cos(np.arange(ROWS))
    (line,) = (line for line in summary if "less Gaussian mixture of 10 on toy.test by expected reduction" in line)
    assert f": {61 - 2 - (56 - 3) + datum.mean():+.3g} measurement·dB (95 % " in line
    assert any(line.startswith("confirmed: expected reduction of the error leaves a smaller area") for line in summary)


def test_figures_are_of_errors_before_noise_where_these_are_known_and_tables_of_both(acquiring: SweepOf) -> None:
    runs = acquiring(TARGETS, 2)
    areas = runs.finals[(runs.finals["metric"] == "area_rmse.variance") & (runs.finals["domain"] != "elsewhere")]
    clean = areas.assign(metric="area_rmse_clean.variance", value=areas["value"] + 500)
    runs = replace(runs, finals=pd.concat([runs.finals, clean], ignore_index=True))
    points = grouped_table(runs)
    curve = metric_curve(points, regime_axes(runs), metrics_of(points))
    shown = report_module._curves(points, curve, "toy")
    values = shown.points.groupby("domain")["area_rmse.variance"].min()
    assert (values.drop("elsewhere") > 500).all()
    assert values["elsewhere"] < 500
    by_domain = shown.curve[shown.curve["metric"] == "area_rmse.variance"].groupby("domain")["value"].min()
    assert (by_domain.drop("elsewhere") > 500).all()
    assert by_domain["elsewhere"] < 500
    assert {"area_rmse.variance", "area_rmse_clean.variance"} <= set(curve["metric"])


def of_split(record: AcquisitionRecord, seed: int, domains: dict[str, str]) -> AcquisitionRecord:
    return replace(record, data={**record.data, "seed": seed}, domains=domains)


def test_splits_are_replicates_and_no_regimes_and_mixtures_are_fitted_to_each(
    acquiring: SweepOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = acquiring(TARGETS, 2, extra={"data.seed": [0, 1]})
    points = grouped_table(runs)
    assert set(points[REGIME]) == {""}
    assert set(splits(points)) == {"0", "1"}
    split = dict(zip(runs.cells["cell"], runs.cells["data.seed"], strict=True))
    known = {0: {"changed": "a"}, 1: {}}
    kept = {
        cell: of_split(one, int(split[cell]), known[int(split[cell])])
        for cell, one in kept_of(runs, missingness="dynamic").items()
    }
    loaded, measured = [], []
    example = family("pvae").example()
    monkeypatch.setattr(type(report_module.FAMILY), "load", lambda _, spec, config: loaded.append(config) or example)

    def measure(data: dict[str, DataSet], *_: object) -> list[Baseline]:
        measured.append(set(data))
        one = baseline_of(runs)
        areas = {place: {"0": by_split["0"], "1": by_split["0"] + 1} for place, by_split in one.areas.items()}
        return [replace(one, areas=areas)]

    summary = toy_report(runs, kept, tmp_path, monkeypatch, measure=measure)
    assert measured == [{"1"}]
    assert {config.data.seed for config in loaded} == {0, 1}
    assert any(line.startswith("acquisition: no baselines on split 0: ") and "no longer" in line for line in summary)
    (line,) = (line for line in summary if f"less Gaussian mixture of 5 on {TEST}" in line)
    assert f"over {2 * ROWS} listeners, 2 seeds, 3 fits, 2 splits" in line
    assert any("2 seeds on 2 splits" in line for line in summary if "largest variance leaves" in line)


def test_without_targets_nothing_is_drawn_against_the_rate(
    acquiring: SweepOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = acquiring([2.0], 3)
    runs = replace(
        runs, record=replace(runs.record, axes={"seed": [0, 1, 2]}), cells=runs.cells.drop(columns="rates.total.target")
    )
    summary = toy_report(runs, kept_of(runs), tmp_path, monkeypatch)
    assert names_in(tmp_path) == {"metric_curve.csv", "acquisition.csv", "information_curves.png"}
    assert summary[0].startswith("chosen on validation rows only: all cells, rate 2: ")
    assert summary[0].count("toy.test") == 1
    assert any("single point of the rate axis" in line for line in summary)
    assert any(line.startswith("confirmed: largest variance") for line in summary)


def test_cells_that_do_not_acquire_are_said_not_to(
    sweep_of: SweepOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = toy_report(sweep_of(TARGETS, 2), {}, tmp_path, monkeypatch)
    assert names_in(tmp_path) == {"metric_curve.csv", "acquisition.csv"}
    (line,) = summary
    assert "no cell has acquired by largest variance" in line


def test_lost_cells_and_models_are_counted(acquiring: SweepOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = acquiring(TARGETS, 2, {"3.0-0": Outcome.DIVERGED, "6.0-1": Outcome.FAILED})
    kept = kept_of(runs)
    del kept["1.0-0"], kept["3.0-1"]
    summary = toy_report(runs, kept, tmp_path, monkeypatch)
    assert "2 finished cells without a readable model" in summary[0]
    assert any("no paired comparison" in line for line in summary)
    assert names_in(tmp_path) == EVERY - {"information_curves.png"}


def test_without_any_model_the_curves_are_drawn_all_the_same(
    acquiring: SweepOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = toy_report(acquiring(TARGETS, 2), {}, tmp_path, monkeypatch)
    assert names_in(tmp_path) == EVERY - {"information_curves.png"}
    assert any("there are no classical baselines" in line for line in summary)


def test_a_sweep_without_a_finished_cell_says_so(sweep_of: SweepOf, tmp_path: Path) -> None:
    runs = sweep_of([1.0], 1, {"1.0-0": Outcome.DIVERGED})
    report = report_of(runs, family("pvae").example(), tmp_path)
    assert report.paths == ()
    assert "no cell has finished" in report.summary[0]
    assert REGIME in grouped_table(runs)
