"""Separation against the rate: planted optima are found, a claim is decided by seeds that did not choose."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vaesweep.analysis.findings import Verdict, chosen_by_others, summarise
from vaesweep.analysis.groups import REGIME
from vaesweep.analysis.intervals import t_interval
from vaesweep.analysis.metric_curves import OPTIMUM
from vaesweep.analysis.runs import DomainRecord, Runs, SweepRecord
from vaesweep.data.domains import Role
from vaesweep.families.emd.analysis.curves import (
    AXES,
    AXIS,
    BLR,
    NEGATIVE_SI_SDR,
    SI_SDRI,
    TOTAL,
    Separators,
    chosen_cells,
    on_axis,
    separation_curve,
    twin_levels,
)
from vaesweep.families.emd.analysis.findings import (
    LOWER,
    TWIN,
    WIDER,
    findings,
    gain_of_lower_rate,
    own_twins,
)
from vaesweep.families.emd.analysis.rate_figures import SeparationCurves, draw_conditions, draw_rates
from vaesweep.families.emd.analysis.scope import scope
from vaesweep.vocabulary import Outcome

DOMAINS = {
    "pulses.train": Role.TRAIN,
    "pulses.valid": Role.VALID,
    "pulses.test": Role.TEST,
    "noise_0": Role.UNSEEN,
    "noise_1": Role.UNSEEN,
}
TARGETS = [10.0, 100.0, 1000.0, 10000.0]
BEST = 100.0  # nats per datum, where SI-SDRi is planted to be highest
FALL = {"noise_0": 1.5}  # dB a decade away from there; 0.5 on all others
SECONDS, SAMPLES, K = 0.5, 4000, 32
TWIN_LEVEL = 8.5


def improvement(target: float, domain: str) -> float:
    """SI-SDRi, dB: a roof over the logarithm of the rate."""
    return 10.0 - FALL.get(domain, 0.5) * abs(np.log10(target / BEST))


def numbers(target: float | None, domain: str, noise: float) -> dict[str, float]:
    better = (TWIN_LEVEL if target is None else improvement(target, domain)) + noise
    found = {"rate": target or 0.0, "distortion": -better, "elbo": better - (target or 0.0)}
    found |= {"si_sdri": better, "si_sdr": better - 3, "blr": -better / 10}
    if target is None:
        return found
    rates = {"rate.encoding": target / 2, "rate.masks": target / 2, "rate_per_second": target / SECONDS}
    per_dimension = {"rate_encoding_per_dimension": target / 2 / SAMPLES / K}
    return found | rates | per_dimension | {"rate_masks_per_dimension": target / 4 / SAMPLES / K}


def made_up(seeds: int = 3, noise: float = 0.05, twins: bool = True) -> Runs:
    """A sweep of variational separators and their twins; noise is each cell's own, alike on all domains."""
    draws = np.random.default_rng(3)
    places = [("variational", target, seed) for target in TARGETS for seed in range(seeds)]
    places += [("deterministic", None, seed) for seed in range(seeds)] if twins else []
    cells, listed, finals = [], {}, []
    for variant, target, seed in places:
        name = f"{variant}-{target}-{seed}"
        values = {"variant": variant, "seed": seed} | ({"rates.total.target": target} if target else {})
        listed[name] = values
        status = {"outcome": str(Outcome.FINISHED), "cause": "", "saturated": ""}
        cells.append({"cell": name, **status, **values})
        draw = draws.normal(scale=noise)
        finals += [(name, d, metric, value) for d in DOMAINS for metric, value in numbers(target, d, draw).items()]
    domains = tuple(DomainRecord(name, role) for name, role in DOMAINS.items())
    axes = {"variant": ["variational", "deterministic"], "rates.total.target": TARGETS, "seed": list(range(seeds))}
    record = SweepRecord("aaaa", "toy", "emd", "small", "command", axes, listed, domains)
    frame = pd.DataFrame(finals, columns=["cell", "domain", "metric", "value"])
    return Runs(record, "parent", pd.DataFrame(cells), frame)


@pytest.fixture(scope="module")
def runs() -> Runs:
    return made_up()


@pytest.fixture(scope="module")
def cells(runs: Runs) -> Separators:
    return Separators.of(runs)


def test_twins_stand_beside_the_curve_and_not_on_it(runs: Runs, cells: Separators) -> None:
    assert len(cells.variational) == len(TARGETS) * 3 * len(DOMAINS)
    assert set(cells.deterministic["regime"]) == {"deterministic"}
    assert set(separation_curve(runs, cells)["regime"]) == {"variational"}


def test_every_rate_and_metric_has_the_planted_optimum(runs: Runs, cells: Separators) -> None:
    curve = separation_curve(runs, cells)
    best = curve[(curve["kind"] == OPTIMUM) & (curve["domain"] == "pulses.test")]
    assert len(best) == len(AXES) * 3
    planted = {"rate_encoding_per_dimension": 50 / SAMPLES / K, "rate_masks_per_dimension": 25 / SAMPLES / K}
    planted[TOTAL.column] = BEST / SECONDS
    np.testing.assert_allclose(best["rate"], best[AXIS].map(planted), rtol=1e-9)


def test_of_si_sdri_more_is_better_and_of_its_negative_less(runs: Runs, cells: Separators) -> None:
    curve = separation_curve(runs, cells)
    rows = curve[(curve[AXIS] == TOTAL.column) & (curve["domain"] == "pulses.test")]
    for metric, best in ((SI_SDRI.name, "max"), (NEGATIVE_SI_SDR, "min"), (BLR.name, "min")):
        mine = rows[rows["metric"] == metric]
        assert mine.loc[mine["kind"] == OPTIMUM, "value"].item() == getattr(mine["value"], best)()


def test_cells_of_lowest_highest_and_best_rate_are_shown_and_the_best_twin(cells: Separators) -> None:
    chosen = chosen_cells(cells)
    assert chosen["lowest_rate"].startswith("variational-10.0-")
    assert chosen["best"].startswith("variational-100.0-")
    assert chosen["highest_rate"].startswith("variational-10000.0-")
    twins = cells.deterministic[cells.deterministic["role"] == Role.VALID].set_index("cell")["si_sdri"]
    assert chosen["deterministic"] == twins.idxmax()


def test_twins_have_an_interval_over_seeds(cells: Separators) -> None:
    level = twin_levels(cells.deterministic, SI_SDRI)["deterministic", "noise_0"]
    assert level.n == 3
    assert level.low < TWIN_LEVEL < level.high


# --- verdicts ---------------------------------------------------------------------------------------------------


def told(runs: Runs, statement: str, metric: str = "si_sdri") -> dict[str, Verdict]:
    cells = Separators.of(runs)
    found = findings(cells, separation_curve(runs, cells))
    mine = [one for one in found if (one.finding.statement, one.about["metric"]) == (statement, metric)]
    return {one.domain: one.finding.verdict for one in mine}


@pytest.mark.parametrize("metric", ["si_sdri", "blr"])
def test_a_planted_optimum_is_confirmed_everywhere(runs: Runs, metric: str) -> None:
    assert told(runs, LOWER, metric) == dict.fromkeys(["pulses.test", "noise_0", "noise_1"], Verdict.CONFIRMED)


def test_a_curve_that_only_rises_refutes_it(runs: Runs) -> None:
    finals = runs.finals.copy()
    better = finals["metric"] == "si_sdri"
    rate = finals[finals["metric"] == "rate"].set_index(["cell", "domain"])["value"]
    places = pd.MultiIndex.from_frame(finals.loc[better, ["cell", "domain"]])
    noise = np.random.default_rng(1).normal(scale=0.01, size=better.sum())
    finals.loc[better, "value"] = np.log10(1 + rate.loc[places].to_numpy()) + noise
    assert set(told(replace(runs, finals=finals), LOWER).values()) == {Verdict.REFUTED}


def test_noise_alone_confirms_no_more_often_than_an_interval_errs() -> None:
    """The other seeds choose, so the best of a flat noisy curve has no advantage: 2.5 % of intervals, not most."""
    cells = Separators.of(made_up(4, twins=False)).variational
    test = on_axis(cells[cells["role"] == Role.TEST], TOTAL)
    confirmed = 0
    for draw in range(100):
        flat = test.assign(si_sdri=np.random.default_rng(draw).normal(size=len(test)))
        gain = gain_of_lower_rate(flat, SI_SDRI)
        assert gain is not None
        confirmed += t_interval(gain.by_seed.to_numpy()).low > 0
    assert confirmed <= 9  # of 100 at 2.5 %: ten or more have a probability below 0.1 %


def test_an_optimum_that_matters_more_elsewhere_is_said_to(runs: Runs) -> None:
    wider = told(runs, WIDER)
    assert wider["noise_0"] is Verdict.CONFIRMED
    assert wider["noise_1"] is Verdict.UNDECIDED


def test_the_chosen_rate_is_compared_to_the_twin_of_its_seed(runs: Runs) -> None:
    assert set(told(runs, f"{TWIN} deterministic").values()) == {Verdict.CONFIRMED}


def test_a_seed_is_judged_where_the_others_are_best() -> None:
    losses = pd.DataFrame({"low": [0.0, 2.0, 2.0], "high": [5.0, 1.0, 1.0]})
    assert list(chosen_by_others(losses)) == ["high", "low", "low"]


def test_one_seed_decides_nothing() -> None:
    assert set(told(made_up(1), LOWER).values()) == {Verdict.UNDECIDED}


def test_the_summary_says_the_test_domain_in_full_and_sums_up_the_others(runs: Runs, cells: Separators) -> None:
    lines = list(summarise(findings(cells, separation_curve(runs, cells))))
    assert any(line.startswith(f"confirmed: {LOWER}") and "pulses.test" in line for line in lines)
    assert any("confirmed on noise_0, noise_1" in line for line in lines)


# --- figures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [1, 3])
def test_figures_are_drawn(seeds: int, tmp_path: Path) -> None:
    found = made_up(seeds, twins=seeds > 1)
    cells = Separators.of(found)
    drawn = SeparationCurves(cells, separation_curve(found, cells), cells.variational["regime"].iloc[0], "toy")
    draw_rates(drawn, tmp_path / "rates.png")
    draw_conditions(drawn, SI_SDRI, tmp_path / "conditions.png")
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("rates.png", "conditions.png"))


def with_settings(runs: Runs, rows: int = 128, **settings: str) -> Runs:
    common = {"training.steps": "2000", "training.batch_size": "8", "data.condition.seconds": "0.5"}
    common |= {"model.sample_rate": "8000", "model.latents": "32", "data.replicate": "0"} | settings
    values = runs.cells.set_index("cell")["seed"]
    sets = 1 if settings.get("data.replicate") == "1" else values.nunique()
    record = replace(
        runs.record, data_sets=sets, domains=tuple(replace(domain, rows=rows) for domain in runs.record.domains)
    )
    return replace(runs, record=record, params={cell: common | {"seed": str(seed)} for cell, seed in values.items()})


def test_the_scope_says_of_what_rates_training_and_draws_the_findings_are(runs: Runs, cells: Separators) -> None:
    (line,) = scope(with_settings(runs), cells)
    assert "2000 steps of 8 mixtures of 0.5 s" in line
    assert "rates of 0.0025 to 2.5 nats a sample (7.81e-05 to 0.0781 a channel)" in line  # 10 to 10 000 nats of 4000
    assert line.endswith("3 seeds, each with mixtures of its own, 128 mixtures a test domain")


def test_the_scope_tells_shared_mixtures_and_several_lengths_of_training(runs: Runs, cells: Separators) -> None:
    shared = with_settings(runs, **{"data.replicate": "1"})
    first = next(iter(shared.params))
    shared.params[first]["training.steps"] = "500"
    (line,) = scope(shared, cells)
    assert "500 to 2000 steps" in line
    assert "3 seeds, on the same mixtures" in line


def test_there_is_no_scope_where_settings_are_unknown(runs: Runs, cells: Separators) -> None:
    assert list(scope(runs, cells)) == []


def test_a_masker_is_compared_to_its_own_twins_where_it_has_some() -> None:
    names = ["tasnet_deterministic", "tdanet_deterministic", "tdanet_exp"]
    twins = pd.DataFrame({REGIME: names})
    assert own_twins("tdanet", twins)[REGIME].tolist() == names[1:]
    assert own_twins("", twins)[REGIME].tolist() == names
    assert own_twins("gauss", twins)[REGIME].tolist() == names
