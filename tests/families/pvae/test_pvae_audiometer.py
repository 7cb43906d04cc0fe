"""A trained cell as an adviser: one step of what its sweep did, sane at both ends, and doubtful of strangers."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from vaesweep.data.domains import DataSet
from vaesweep.errors import UserError
from vaesweep.families.pvae import audiometer
from vaesweep.families.pvae.audiometer import Advice, Audiometer
from vaesweep.families.pvae.data.audiograms import COLUMNS, DIMS, THRESHOLDS
from vaesweep.families.pvae.evaluation import RuleName
from vaesweep.family import family
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell
from vaesweep.training.loop import start_state, train_pack

ROWS = 6  # data of a domain that the sweep acquires, and these tests after it
VALID = "synthetic.valid"
CONFIG = {
    "rates": {"total": {"kind": "target", "target": 2.0}},
    "acquisition": {"rules": ["variance", "reduction"], "rows": ROWS, "samples": 64},
    "training": {"steps": 300, "evaluate_every": 300},
    "data": {"draws": 1},
}
MODELS: dict[str, dict[str, Any]] = {
    "thesis": {},
    "beyond": {"prior": "mixture", "posterior": "full", "linear_path": True},
}


@pytest.fixture(scope="module")
def data() -> DataSet:
    return family("pvae").example()


@pytest.fixture(scope="module", params=MODELS)
def cell(request: pytest.FixtureRequest, data: DataSet, recorder: Any) -> FinishedCell:
    """A briefly trained cell, as its file holds it."""
    config = family("pvae").config.model_validate(CONFIG | {"model": MODELS[request.param]})
    problem = family("pvae").problem(config, data, torch.device("cpu"))
    listener = recorder()
    train_pack(problem, [config], start_state(problem, [config], ["abc"]), listener)
    content = finished.to_bytes(finished.of_result(listener.results["abc"], "pvae", config.model_dump(mode="json"), {}))
    return finished.from_bytes(content, "abc")


@pytest.fixture(scope="module")
def adviser(cell: FinishedCell) -> Audiometer:
    return Audiometer.from_finished(cell)


@pytest.fixture(scope="module")
def audiograms(data: DataSet) -> np.ndarray:
    """The complete audiograms that the sweep has acquired: `[ROWS, 15]`."""
    (x,) = (domain.arrays["x"] for domain in data.domains if domain.name == VALID)
    return x[np.linspace(0, len(x) - 1, ROWS).round().astype(int)]


def known(x: np.ndarray, dims: list[int]) -> np.ndarray:
    """The audiograms `x` with their ages, measured in `dims` only."""
    found = np.full_like(x, np.nan)
    found[:, [*dims, THRESHOLDS]] = x[:, [*dims, THRESHOLDS]]
    return found


def changed(cell: FinishedCell, section: str, **values: Any) -> FinishedCell:
    part = cell.config[section] | values
    return dataclasses.replace(cell, config=cell.config | {section: part})


def warned(advice: Advice, word: str) -> bool:
    return any(word in warning for warning in advice.warnings)


# --- the sweep's own steps --------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["variance", "reduction"])
def rule(request: pytest.FixtureRequest) -> RuleName:
    return request.param


@pytest.fixture(scope="module")
def followed(cell: FinishedCell, rule: RuleName, audiograms: np.ndarray) -> list[list[Advice]]:
    """The advice after m = 0 … 14 measurements, each where the advice before it said."""
    adviser = Audiometer.from_finished(cell, rule)
    partial = known(audiograms, [])
    steps = [adviser.advise(partial)]
    for _ in range(THRESHOLDS):
        dims = [COLUMNS.index(str(advice.next)) for advice in steps[-1]]
        partial[range(ROWS), dims] = audiograms[range(ROWS), dims]
        steps.append(adviser.advise(partial))
    return steps


def true_errors(steps: list[list[Advice]], audiograms: np.ndarray) -> np.ndarray:
    """Root mean squared errors of all fifteen numbers `[step, row]`, dB; the age is known."""
    estimates = np.array([[advice.estimate for advice in step] for step in steps])
    return np.sqrt(np.square(estimates - audiograms[:, :THRESHOLDS]).sum(-1) / DIMS)


def test_who_follows_the_advice_measures_in_the_sweeps_order_with_the_sweeps_errors(
    cell: FinishedCell, rule: RuleName, followed: list[list[Advice]], audiograms: np.ndarray
) -> None:
    order = [[COLUMNS.index(str(advice.next)) for advice in step] for step in followed[:-1]]
    assert np.array_equal(np.array(order).T, cell.kept[f"acquisition/{VALID}/{rule}/order"].numpy())
    area = cell.kept[f"acquisition/{VALID}/{rule}/area_rmse"].numpy()
    assert true_errors(followed[1:], audiograms).sum(0) == pytest.approx(area, rel=1e-4)  # sums of float32


def test_estimated_errors_have_on_average_no_bias_on_what_they_were_fitted_to(
    followed: list[list[Advice]], audiograms: np.ndarray
) -> None:
    steps = followed[1:-1]
    estimated, true = np.array([[a.error for a in step] for step in steps]), true_errors(steps, audiograms)
    # A regression with an intercept has none; the last state, which is not estimated, and clipping leave a little.
    assert estimated.mean() == pytest.approx(true.mean(), rel=0.1)
    assert np.corrcoef(estimated.ravel(), true.ravel())[0, 1] > 0.5


# --- what is said -----------------------------------------------------------------------------------------------


def test_measured_values_are_certain_and_what_is_next_is_not_measured(
    adviser: Audiometer, audiograms: np.ndarray
) -> None:
    dims = [1, 4, 11]
    for advice, x in zip(adviser.advise(known(audiograms, dims)), audiograms, strict=True):
        assert advice.measured.nonzero()[0].tolist() == dims
        for values in (advice.estimate, advice.low, advice.high):
            assert values[dims].tolist() == x[dims].tolist()
        open_ = ~advice.measured
        assert (advice.low[open_] < advice.high[open_]).all()
        assert COLUMNS.index(str(advice.next)) not in [*dims, THRESHOLDS]
        assert advice.age == x[THRESHOLDS]


def test_a_larger_interval_holds_a_smaller_one(adviser: Audiometer, audiograms: np.ndarray) -> None:
    partial = known(audiograms, [3])
    for small, large in zip(adviser.advise(partial, interval=0.5), adviser.advise(partial, interval=0.95), strict=True):
        open_ = ~small.measured
        assert (large.low[open_] < small.low[open_]).all()
        assert (small.high[open_] < large.high[open_]).all()


def test_it_stops_below_the_threshold_and_only_there(adviser: Audiometer, audiograms: np.ndarray) -> None:
    for advice in adviser.advise(known(audiograms, [0, 6, 10])):
        (below,) = adviser.advise(known(audiograms, [0, 6, 10])[:1], threshold=1e6)
        assert advice.stop == (advice.error < advice.threshold)
        assert below.stop
        assert below.next is not None, "whoever goes on is told where"


def test_it_never_stops_before_the_first_measurement(adviser: Audiometer, audiograms: np.ndarray) -> None:
    for advice in adviser.advise(known(audiograms, []), threshold=1e6):
        assert not advice.stop
        assert advice.next in COLUMNS[:THRESHOLDS]


def test_where_all_is_measured_there_is_nothing_to_do_and_no_error(adviser: Audiometer, audiograms: np.ndarray) -> None:
    for advice in adviser.advise(audiograms, threshold=1e-6):
        assert (advice.next, advice.stop, advice.error) == (None, True, 0.0)


def test_a_listener_does_not_depend_on_the_others(adviser: Audiometer, audiograms: np.ndarray) -> None:
    many = known(np.concatenate([audiograms] * 30), [2, 9])
    assert len(many) > 128, "more than are predicted at once"
    (alone,) = adviser.advise(many[:1])
    last = adviser.advise(many)[-ROWS]
    assert (last.next, last.stop, last.warnings) == (alone.next, alone.stop, alone.warnings)
    assert last.estimate == pytest.approx(alone.estimate, abs=1e-3)  # dB; sums of float32
    assert last.error == pytest.approx(alone.error, abs=1e-3)
    assert adviser.advise(many[:0]) == []


# --- doubts -----------------------------------------------------------------------------------------------------


def test_most_of_the_training_population_are_no_strangers(adviser: Audiometer, data: DataSet) -> None:
    x = known(data.domains[0].arrays["x"][:200], [0, 4, 8, 12])
    strangers = [warned(advice, "training population") for advice in adviser.advise(x)]
    assert np.mean(strangers) < 0.1  # 0.01 of what a perfect model says is its own; this one has trained for seconds


@pytest.mark.parametrize("age", [0.0, 119.0])
def test_an_age_that_training_never_saw_is_doubted(adviser: Audiometer, audiograms: np.ndarray, age: float) -> None:
    partial = known(audiograms[:1], [3])
    partial[:, THRESHOLDS] = age
    (advice,) = adviser.advise(partial)
    assert warned(advice, "of this age")


def test_an_audiogram_that_training_never_saw_is_doubted(adviser: Audiometer, audiograms: np.ndarray) -> None:
    partial = known(audiograms[:1], [0, 1, 2, 7, 8, 9])
    partial[:, [0, 1, 2]], partial[:, [7, 8, 9]] = 100.0, -10.0
    (advice,) = adviser.advise(partial)
    assert warned(advice, "unlike")


def test_an_estimate_that_rests_on_few_samples_is_doubted_where_anything_is_estimated(
    adviser: Audiometer, audiograms: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audiometer, "FEW", 1.0)
    partial, complete = adviser.advise(known(audiograms[:1], [3])) + adviser.advise(audiograms[:1])
    assert warned(partial, f"({partial.effective_samples:.1f} effective of 64)")
    assert not warned(complete, "effective")


# --- thresholds and refusals ------------------------------------------------------------------------------------


def test_costs_that_differ_bring_the_threshold_that_was_found_for_them(
    cell: FinishedCell, audiograms: np.ndarray
) -> None:
    kept = cell.kept | {"stopping/shifted": torch.tensor(3.25, dtype=torch.float64)}
    shifted = dataclasses.replace(changed(cell, "acquisition", early_cost=4.0), kept=kept)
    assert Audiometer.from_finished(dataclasses.replace(cell, kept=kept)).threshold == 5.0
    assert Audiometer.from_finished(shifted).threshold == 3.25
    (advice,) = Audiometer.from_finished(shifted).advise(audiograms[:1], threshold=7.5)
    assert advice.threshold == 7.5


def test_a_rule_is_refused_that_the_cell_has_no_criterion_for(cell: FinishedCell) -> None:
    with pytest.raises(UserError, match="rule 'random' does not decide by the prediction alone; use variance or redu"):
        Audiometer.from_finished(cell, "random")
    kept = {name: value for name, value in cell.kept.items() if not name.startswith("stopping/reduction/")}
    older = dataclasses.replace(cell, kept=kept)
    Audiometer.from_finished(older)
    with pytest.raises(UserError, match="no stopping criterion for the rule 'reduction'"):
        Audiometer.from_finished(older, "reduction")


def test_a_cell_without_a_stopping_criterion_is_refused_with_how_to_get_one(cell: FinishedCell) -> None:
    kept = {name: value for name, value in cell.kept.items() if not name.startswith("stopping/")}
    with pytest.raises(UserError, match=r"cell abc has no stopping criterion.*sweeps/acquisition_pvae\.py"):
        Audiometer.from_finished(dataclasses.replace(cell, kept=kept))


def test_cells_of_other_families_and_other_versions_are_refused(cell: FinishedCell) -> None:
    with pytest.raises(UserError, match="cell abc is of family 'separator'"):
        Audiometer.from_finished(dataclasses.replace(cell, family="separator"))
    other = (changed(cell, "model", unheard_of=1), changed(cell, "model", hidden=7))
    for one in (*other, dataclasses.replace(cell, weights={})):
        with pytest.raises(UserError, match="cell abc was trained by another version"):
            Audiometer.from_finished(one)


def test_bad_input_is_refused_with_its_listener(adviser: Audiometer, audiograms: np.ndarray) -> None:
    loud, ageless = known(audiograms, [3]), known(audiograms, [3])
    loud[1, 3], ageless[2, THRESHOLDS] = 200.0, np.nan
    for x, said in ((loud, "listener 2: right_3000 is 200"), (ageless, "listener 3: no age")):
        with pytest.raises(UserError, match=said):
            adviser.advise(x)
    with pytest.raises(UserError, match="interval 80 is not a share"):
        adviser.advise(audiograms, interval=80)
    with pytest.raises(UserError, match="threshold -1 is not an error above 0 dB"):
        adviser.advise(audiograms, threshold=-1)
