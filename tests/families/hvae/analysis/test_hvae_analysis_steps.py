"""Steps after training: what is planted is found, what steps change is taken within cells, rates split as planted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vaesweep.analysis.findings import DomainFinding, Verdict, summarise
from vaesweep.analysis.intervals import t_interval
from vaesweep.analysis.runs import DomainRecord, Runs, SweepRecord
from vaesweep.data.domains import DataSet, Domain, Role
from vaesweep.families.hvae import data as images
from vaesweep.families.hvae.analysis.cells import Hierarchies
from vaesweep.families.hvae.analysis.continuity import bound_parts, by_seed, continuity, has_steps
from vaesweep.families.hvae.analysis.continuity_figure import ContinuityCurves, draw_continuity, legend_handles
from vaesweep.families.hvae.analysis.findings import (
    BEST,
    BY_DISTORTION,
    COARSER,
    GAINS,
    LOSES,
    findings,
)
from vaesweep.families.hvae.analysis.rates import draw_rates, have_curve, split_rates
from vaesweep.families.hvae.analysis.references import LAROCHELLE, PUBLISHED, TRUE_DENSITY, references
from vaesweep.families.hvae.data import ImageCondition, ImageRows, ImagesConfig, PixelKind, Pixels, poisson_nll
from vaesweep.families.hvae.models.config import ContinuousDepth, Depth, DiscreteDepth, OdeLike
from vaesweep.vocabulary import Outcome

DOMAINS = {
    "toy.train": Role.TRAIN,
    "toy.valid": Role.VALID,
    "toy.test": Role.TEST,
    "elsewhere": Role.UNSEEN,
}
STEPS = (2, 10, 100)
DEPTHS: dict[str, Depth] = {
    "continuous": ContinuousDepth(step=0.1),
    "ODE-like": OdeLike(step=0.1),
    "discrete": DiscreteDepth(),
}
LEVEL = {"continuous": 70.0, "ODE-like": 74.0, "discrete": 71.0}  # nats of negative ELBO as trained
CHANGE = {  # of distortion and of path rate, nats
    "continuous": {2: (2.0, 0.5), 10: (0.0, 0.0), 100: (-0.4, 0.1)},
    "ODE-like": {2: (6.0, 0.0), 10: (0.0, 0.0), 100: (3.0, 0.0)},
}
INITIAL, PATH = 4.0, 6.0


def numbers(variant: str, shift: float, wobble: float, target: float) -> dict[str, float]:
    """Planted: cells of one seed share `shift`, and `wobble` is of what steps change."""
    path = 0.0 if variant == "ODE-like" else PATH
    elbo = -LEVEL[variant] - shift
    found = {"elbo": elbo, "rate": INITIAL + path + target, "distortion": -elbo - INITIAL - path - target}
    found |= {"rate.initial": INITIAL, "rate.level_0": path + target}
    for steps, (distortion, rate) in CHANGE.get(variant, {}).items():
        more = 0.0 if steps == 10 else wobble
        found |= {
            f"steps_{steps}.elbo": elbo - distortion - rate - more,
            f"steps_{steps}.distortion": found["distortion"] + distortion + more,
            f"steps_{steps}.path_rate": path + target + rate,
            f"steps_{steps}.initial_rate": INITIAL,
        }
    return found


def made_up(
    seeds: int = 4, variants: tuple[str, ...] = tuple(DEPTHS), targets: tuple[float, ...] = (), steps: bool = True
) -> Runs:
    """A sweep of hierarchies: seeds differ by nats, what steps change by hundredths of one."""
    draws = np.random.default_rng(5)
    shifts, wobbles = draws.normal(scale=1.0, size=seeds), draws.normal(scale=0.01, size=seeds)
    rows, listed, finals = [], {}, []
    for variant in variants:
        for target in targets or (None,):
            for seed in range(seeds):
                name = "-".join(map(str, (variant, target, seed)))
                values = {"variant": variant, "seed": seed} | ({"rates.total.target": target} if target else {})
                listed[name] = values
                rows.append({"cell": name, "outcome": str(Outcome.FINISHED), "cause": "", "saturated": "", **values})
                found = numbers(variant, shifts[seed], wobbles[seed], target or 0.0)
                finals += [
                    (name, domain, metric, value)
                    for domain, role in DOMAINS.items()
                    for metric, value in found.items()
                    if not metric.startswith("steps") or (steps and role in (Role.TEST, Role.UNSEEN))
                ]
    axes = {"variant": list(variants), "seed": list(range(seeds))} | (
        {"rates.total.target": list(targets)} if targets else {}
    )
    domains = tuple(DomainRecord(name, role) for name, role in DOMAINS.items())
    record = SweepRecord("aaaa", "toy", "hvae", "small", "command", axes, listed, domains)
    frame = pd.DataFrame(finals, columns=["cell", "domain", "metric", "value"])
    return Runs(record, "parent", pd.DataFrame(rows), frame)


def hierarchies(runs: Runs) -> Hierarchies:
    return Hierarchies.of(runs, {cell: DEPTHS[values["variant"]] for cell, values in runs.record.cells.items()})


def told_of(cells: Hierarchies) -> dict[tuple[str, str, str], DomainFinding]:
    return {(one.finding.statement, one.label, one.domain): one for one in findings(cells, bound_parts(cells))}


@pytest.fixture(scope="module")
def cells() -> Hierarchies:
    return hierarchies(made_up())


@pytest.fixture(scope="module")
def told(cells: Hierarchies) -> dict[tuple[str, str, str], DomainFinding]:
    return told_of(cells)


def test_the_table_has_every_step_and_part_of_test_and_unseen_domains(cells: Hierarchies) -> None:
    table = continuity(cells, bound_parts(cells))
    assert len(table) == 2 * 4 * (len(STEPS) + len(STEPS) + 1)
    assert set(table["domain"]) == {"toy.test", "elsewhere"}
    sizes = table.loc[table["kind"] == "continuous", "step_size"].unique()
    np.testing.assert_allclose(sizes, [1 / steps for steps in STEPS])
    assert table.loc[table["kind"] == "discrete", "steps"].isna().all()
    assert (table["n_seeds"] == 4).all()


def test_the_parts_add_up_to_the_bound(cells: Hierarchies) -> None:
    table = continuity(cells, bound_parts(cells)).fillna({"steps": 0})
    wide = table.pivot(index=["group", "domain", "steps"], columns="part", values="value")
    np.testing.assert_allclose(-wide["elbo"], wide[["distortion", "path_rate", "initial_rate"]].sum(axis=1))


def test_a_change_is_within_cells_so_that_its_interval_does_not_contain_how_seeds_differ(cells: Hierarchies) -> None:
    table = continuity(cells, bound_parts(cells))
    row = table[(table["group"] == "continuous") & (table["domain"] == "toy.test") & (table["part"] == "elbo")]
    finest = row[row["steps"] == 100].iloc[0]
    assert finest["change"] == pytest.approx(0.3, abs=0.03)
    assert finest["high"] - finest["low"] > 1
    assert finest["change_high"] - finest["change_low"] < 0.1
    trained = row[row["in_training"]]
    assert trained["steps"].tolist() == [10]
    assert trained["change"].tolist() == [0]


def test_training_steps_that_were_not_asked_for_are_those_of_the_cell_itself(cells: Hierarchies) -> None:
    lacking = replace(cells, points=cells.points.drop(columns=[name for name in cells.points if "steps_10." in name]))
    left, right = (continuity(one, bound_parts(one)) for one in (lacking, cells))
    pd.testing.assert_frame_equal(left, right)


# --- verdicts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["toy.test", "elsewhere"])
def test_planted_statements_are_confirmed(told: dict[tuple[str, str, str], DomainFinding], domain: str) -> None:
    confirmed = [
        (GAINS, "continuous"),
        (COARSER, "continuous"),
        (f"finer {BY_DISTORTION}", "continuous"),
        (f"coarser {BY_DISTORTION}", "continuous"),
        (LOSES, "ODE-like"),
        (COARSER, "ODE-like"),
        (BEST, "ODE-like"),
        ("continuous is better than ODE-like, both as trained", "continuous"),
        ("continuous with its finest steps is better than discrete as trained", "continuous"),
    ]
    for statement, group in confirmed:
        assert told[statement, group, domain].finding.verdict is Verdict.CONFIRMED, statement


def test_the_numbers_are_those_planted(told: dict[tuple[str, str, str], DomainFinding]) -> None:
    assert (
        "+1 nats"
        in told["continuous is better than discrete, both as trained", "continuous", "toy.test"].row["numbers"]
    )
    assert "at 1/100" in told[GAINS, "continuous", "toy.test"].row["numbers"]
    assert "best steps 1/10, 1/10, 1/10, 1/10" in told[BEST, "ODE-like", "toy.test"].row["numbers"]


def test_a_loss_from_finer_steps_refutes_the_gain() -> None:
    runs = made_up()
    worse = runs.finals["metric"].eq("steps_100.elbo") & runs.finals["cell"].str.startswith("continuous")
    finals = runs.finals.assign(value=runs.finals["value"] - 5.0 * worse)
    found = told_of(hierarchies(replace(runs, finals=finals)))[GAINS, "continuous", "toy.test"]
    assert found.finding.verdict is Verdict.REFUTED
    assert "-4.7" in found.row["numbers"]


def test_a_best_step_elsewhere_refutes_the_training_step() -> None:
    runs = made_up()
    better = runs.finals["metric"].eq("steps_100.elbo") & runs.finals["cell"].str.startswith("ODE-like")
    finals = runs.finals.assign(value=runs.finals["value"] + 5.0 * better)
    found = told_of(hierarchies(replace(runs, finals=finals)))[BEST, "ODE-like", "toy.test"]
    assert found.finding.verdict is Verdict.REFUTED
    assert "seeds' best steps 1/100" in found.row["numbers"]


def test_without_a_change_there_is_nothing_to_divide() -> None:
    runs = made_up()
    finals = runs.finals.copy()
    values = finals.set_index(["cell", "domain", "metric"])["value"]
    for part in ("elbo", "distortion", "path_rate"):
        mine = finals["metric"] == f"steps_100.{part}"
        keys = finals.loc[mine, ["cell", "domain"]].itertuples(index=False)
        finals.loc[mine, "value"] = [values[key.cell, key.domain, f"steps_10.{part}"] for key in keys]
    noise = np.random.default_rng(1).normal(scale=0.1, size=len(finals))  # of the bound alone, around no change
    finals["value"] += noise * finals["metric"].eq("steps_100.elbo")
    found = told_of(hierarchies(replace(runs, finals=finals)))[f"finer {BY_DISTORTION}", "continuous", "toy.test"]
    assert found.finding.verdict is Verdict.UNDECIDED
    assert "no change to divide" in found.row["numbers"]


def test_one_seed_decides_nothing_and_draws(tmp_path: Path) -> None:
    cells = hierarchies(made_up(seeds=1))
    assert {one.finding.verdict for one in told_of(cells).values()} == {Verdict.UNDECIDED}
    table = continuity(cells, bound_parts(cells))
    draw_continuity(ContinuityCurves(table[table["domain"] == "toy.test"], {}), "one seed", tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("variants", [("continuous",), ("ODE-like",), ("discrete",), ("ODE-like", "discrete")])
def test_kinds_may_be_missing(variants: tuple[str, ...], tmp_path: Path) -> None:
    cells = hierarchies(made_up(variants=variants))
    table = continuity(cells, bound_parts(cells))
    assert has_steps(table) == (variants != ("discrete",))
    assert not any("as trained" in statement for statement, _, _ in told_of(cells))
    draw_continuity(
        ContinuityCurves(table[table["domain"] == "toy.test"], {"MADE": PUBLISHED["MADE"]}), "few", tmp_path / "few.png"
    )


def test_a_bound_that_is_not_finite_is_missing_and_not_a_number() -> None:
    runs = made_up()
    broken = runs.finals["metric"].eq("steps_2.elbo") & runs.finals["cell"].eq("ODE-like-None-0")
    finals = runs.finals.assign(value=runs.finals["value"].where(~broken, -np.inf))
    cells = hierarchies(replace(runs, finals=finals))
    table = continuity(cells, bound_parts(cells)).query("group == 'ODE-like' and steps == 2 and part == 'elbo'")
    assert table["n_seeds"].tolist() == [3, 3]
    assert np.isfinite(table["value"]).all()


def test_failed_cells_are_left_out() -> None:
    runs = made_up()
    failed = runs.cells["cell"].isin(["continuous-None-0", "ODE-like-None-1"])
    cells = hierarchies(replace(runs, cells=runs.cells.assign(outcome=runs.cells["outcome"].where(~failed, "failed"))))
    gain = told_of(cells)["continuous is better than ODE-like, both as trained", "continuous", "toy.test"]
    assert "2 seeds" in gain.row["numbers"]
    assert by_seed(bound_parts(cells), "continuous", "toy.test", "elbo").index.tolist() == [1, 2, 3]


def test_the_test_domain_is_said_in_full_and_the_others_by_name(
    told: dict[tuple[str, str, str], DomainFinding],
) -> None:
    lines = list(summarise(list(told.values())))
    assert any(line.startswith(f"confirmed: {GAINS} (continuous, toy.test): +0.") for line in lines)
    assert f"{GAINS} (continuous): confirmed on elsewhere" in lines


# --- rates ------------------------------------------------------------------------------------------------------


def test_rates_split_as_planted_and_are_drawn(tmp_path: Path) -> None:
    cells = hierarchies(made_up(variants=("continuous", "discrete"), targets=(1.0, 10.0), steps=False))
    assert not has_steps(continuity(cells, bound_parts(cells)))
    table = split_rates(cells)
    assert have_curve(table)
    at = table.set_index(["regime", "point", "domain", "part"])["value"]
    assert at["continuous", "target 10", "toy.test", "level_0"] == pytest.approx(PATH + 10)
    shares = table.groupby(["regime", "point", "domain"])["share"].sum()
    np.testing.assert_allclose(shares, 1.0)
    draw_rates(table, "rates", tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_one_rate_is_no_curve(cells: Hierarchies) -> None:
    assert not have_curve(split_rates(cells))


# --- references -------------------------------------------------------------------------------------------------


def test_poisson_images_have_the_density_that_they_are_drawn_from_on_the_images_evaluated() -> None:
    data = images.load("poisson:unseen=noise_2", ImagesConfig(size=8, rows=ImageRows(train=20, valid=10, test=10)))
    for domain in data.domains:
        found = references(data, domain.name, 6)
        pixels = Pixels(domain, data.standardisation, "cpu")  # type: ignore[arg-type]
        expected = poisson_nll(pixels.batch(slice(0, 6)), domain.condition, data.standardisation)  # type: ignore[arg-type]
        assert found.keys() == {TRUE_DENSITY}
        density = found[TRUE_DENSITY]
        assert density.nats == pytest.approx(t_interval(expected.numpy()).mean)
        assert (density.exact, density.rows, density.data) == (True, 6, domain.name)


def test_published_models_stand_beside_their_test_set_only() -> None:
    condition = ImageCondition(kind=PixelKind.BINARY, size=28)
    arrays = {"images": np.zeros((10_000, 1, 1, 1), np.uint8), "indices": np.arange(10_000)}
    names = {"binarised_mnist.train": Role.TRAIN, "binarised_mnist.test": Role.TEST, "mnist.test": Role.UNSEEN}
    data = DataSet(tuple(Domain(name, role, arrays, condition) for name, role in names.items()), ("pixel",))
    assert references(data, "binarised_mnist.test", 10_000) == PUBLISHED
    assert references(data, "binarised_mnist.test", 1000) == {}
    assert references(data, "binarised_mnist.train", 10_000) == {}
    assert references(data, "mnist.test", 10_000) == {}
    assert references(data, "not loaded", 10_000) == {}


def test_a_published_model_says_what_it_was_computed_of(cells: Hierarchies) -> None:
    for reference in PUBLISHED.values():
        assert (reference.data, reference.rows) == (LAROCHELLE, 10_000)
        assert reference.source
    curves = ContinuityCurves(continuity(cells, bound_parts(cells)), PUBLISHED)
    legend = " ".join(str(handle.get_label()) for handle in legend_handles(curves)).replace("\n", " ")
    assert "MADE, PixelCNN: exact −log p, Larochelle's fixed binarisation, 10000 test images" in legend
