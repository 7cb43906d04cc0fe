"""The stopping criterion: what is estimated, where that stops, and what stopping there costs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from vaesweep.families.pvae.tasks.acquisition import Trace
from vaesweep.families.pvae.tasks.stopping import (
    STRENGTHS,
    Correlations,
    StopOutcome,
    StoppingModel,
    StopResult,
    constant_index,
    first_below,
    pearson,
    shifted_threshold,
    state_features,
)

CELLS, ROWS, STEPS, DIMS = 3, 200, 6, 7
GIVEN = DIMS - 1
THRESHOLD = 5.0


def trace(variance: Tensor, bound: Tensor, rmse: Tensor) -> Trace:
    """A trace that holds what the stopping criterion looks at."""
    nothing = torch.zeros_like(rmse)
    order = torch.zeros(*rmse.shape[:2], rmse.shape[2] - 1, dtype=torch.long)
    return Trace(order, rmse, nothing, nothing, bound, nothing, variance)


def drawn(seed: int, rows: int = ROWS, cells: int = CELLS) -> Trace:
    """Sequences in which data differ by how sure they are, and the error follows the variance, with noise.

    The last dimension is given, the others are observed one after the other, in an order of every datum.
    """
    draw = torch.Generator().manual_seed(seed)
    scale = 4.0 * torch.rand(cells, rows, 1, 1, generator=draw) + 0.5
    place = torch.rand(cells, rows, 1, GIVEN, generator=draw).argsort(-1).argsort(-1)
    place = torch.nn.functional.pad(place, (0, 1), value=-1)
    unknown = place >= torch.arange(STEPS + 1)[:, None]
    variance = 10 * scale * (1 + 0.2 * torch.rand(cells, rows, STEPS + 1, DIMS, generator=draw)) * unknown
    noise = torch.randn(2, cells, rows, STEPS + 1, generator=draw)
    return trace(variance, noise[0], variance.mean(-1) / 2 + 0.3 * noise[1])


def rows_of(whole: Trace, rows: slice) -> Trace:
    return Trace(**{name: value[:, rows] for name, value in vars(whole).items() if value is not None})


def cells_of(whole: Trace, cells: slice) -> Trace:
    return Trace(**{name: value[cells] for name, value in vars(whole).items() if value is not None})


def indices(*values: int) -> Tensor:
    return torch.tensor([values])


# The estimate


def test_a_linear_truth_is_recovered_and_holds_at_no_measurement_too() -> None:
    seen = drawn(0)
    m = torch.arange(STEPS + 1.0)
    slopes = torch.arange(1.0, DIMS + 1) / 100
    linear = replace(seen, rmse=3.0 + seen.variance @ slopes - 0.5 * seen.bound - 0.2 * m)
    model = StoppingModel.fit(linear)
    torch.testing.assert_close(model.estimate(linear).float(), linear.rmse, rtol=0, atol=1e-3)
    physical = (model.coefficients / model.std)[:, :GIVEN]
    torch.testing.assert_close(physical.float(), slopes[:GIVEN].expand(CELLS, -1), rtol=0, atol=1e-3)


def test_the_strength_is_what_leaving_out_every_state_in_turn_would_choose() -> None:
    seen = drawn(1, rows=4, cells=1)
    seen = replace(seen, rmse=seen.rmse + 3 * torch.randn(seen.rmse.shape, generator=torch.Generator().manual_seed(0)))
    model = StoppingModel.fit(seen)
    x = state_features(seen.variance, seen.bound, torch.arange(STEPS + 1))[0, :, 1:].flatten(0, 1)
    x = ((x - model.mean[0]) / model.std[0]).numpy()
    y = seen.rmse[0, :, 1:].flatten().double().numpy()
    errors = [_left_out_error(x, y, len(y) * strength) for strength in STRENGTHS]
    assert 0 < int(np.argmin(errors)) < len(STRENGTHS) - 1, "the choice must be one within the range"
    assert model.strength.item() == pytest.approx(STRENGTHS[int(np.argmin(errors))])


def _left_out_error(x: np.ndarray, y: np.ndarray, alpha: float) -> float:
    """Mean squared error of every point by the ridge regression (intercept free of penalty) on all others."""
    total = 0.0
    for point in range(len(y)):
        others = np.arange(len(y)) != point
        mean, level = x[others].mean(0), y[others].mean()
        centred = x[others] - mean
        slope = np.linalg.solve(centred.T @ centred + alpha * np.eye(x.shape[1]), centred.T @ (y[others] - level))
        total += (level + (x[point] - mean) @ slope - y[point]) ** 2
    return total / len(y)


def test_the_strength_is_the_penalty_beside_the_mean_squared_error() -> None:
    seen = drawn(2)
    model = StoppingModel.fit(seen)
    x = state_features(seen.variance, seen.bound, torch.arange(STEPS + 1))[:, :, 1:].flatten(1, 2)
    x = (x - model.mean[:, None]) / model.std[:, None]
    error = model.estimate(seen)[:, :, 1:].flatten(1) - seen.rmse[:, :, 1:].flatten(1)
    gradient = torch.einsum("cn,cnf->cf", error, x) / x.shape[1] + model.strength[:, None] * model.coefficients
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-9)


@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_what_never_varied_in_validation_has_no_say_later(rounding: float) -> None:
    seen = drawn(3)
    seen = replace(seen, bound=-1234.567 * (1 + rounding * seen.bound))
    model = StoppingModel.fit(seen)
    assert bool((model.coefficients[:, GIVEN : GIVEN + 2] == 0).all())
    before = model.estimate(seen)
    assert bool(before.isfinite().all())
    other = seen.variance.clone()
    other[..., GIVEN] = 50.0
    torch.testing.assert_close(model.estimate(replace(seen, variance=other, bound=seen.bound + 9)), before)


def test_a_single_state_is_estimated_as_in_its_sequence() -> None:
    seen = drawn(4)
    model = StoppingModel.fit(seen)
    alone = model.estimate_state(seen.variance[:, 5, 2], seen.bound[:, 5, 2], 2)
    torch.testing.assert_close(alone, model.estimate(seen)[:, 5, 2])


def test_a_model_is_its_tensors() -> None:
    seen = drawn(5)
    model = StoppingModel.fit(seen)
    tensors = model.to_tensors()
    assert all(len(tensor) == CELLS for tensor in tensors.values())
    assert torch.equal(StoppingModel.from_tensors(tensors).estimate(seen), model.estimate(seen))


def test_a_cell_does_not_depend_on_the_cells_beside_it() -> None:
    seen = drawn(6)
    together = StoppingModel.fit(seen)
    for cell in range(CELLS):
        alone = StoppingModel.fit(cells_of(seen, slice(cell, cell + 1)))
        for name, tensor in alone.to_tensors().items():
            assert torch.equal(tensor[0], together.to_tensors()[name][cell]), name


def test_measurements_alone_tell_no_two_data_apart() -> None:
    estimated = StoppingModel.fit_measurements(drawn(7)).estimate(drawn(8))
    torch.testing.assert_close(estimated, estimated[:, :1].expand_as(estimated))
    assert bool((estimated.diff() < 0).all()), "more measurements leave less error"


# Where to stop


@pytest.mark.parametrize(("threshold", "index"), [(1e9, 1), (-1e9, STEPS)])
def test_a_threshold_above_all_errors_stops_at_once_and_one_below_all_never(threshold: float, index: int) -> None:
    assert bool((first_below(drawn(0).rmse, threshold) == index).all())


def test_the_first_error_below_the_threshold_stops() -> None:
    errors = torch.tensor([[[0.0, 9, 5, 4, 9, 1], [9.0, 9, 9, 9, 9, 9], [9.0, 4, 9, 9, 9, 9], [9.0, 9, 9, 9, 9, 1]]])
    assert first_below(errors, 5.0).tolist() == [[3, 5, 1, 5]]  # 5 is not below 5, and m = 0 is no place to stop


def test_every_cell_may_have_a_threshold_of_its_own() -> None:
    errors = drawn(1).rmse
    thresholds = torch.tensor([2.0, 5.0, 9.0])
    each = [first_below(errors[c : c + 1], float(thresholds[c])) for c in range(CELLS)]
    assert torch.equal(first_below(errors, thresholds), torch.cat(each))


def test_an_error_that_is_not_a_number_stops_nothing() -> None:
    assert first_below(torch.full((1, 1, 4), torch.nan), 5.0).item() == 3


def test_no_constant_index_has_a_lower_offset_than_the_chosen_one() -> None:
    rmse = drawn(2).rmse
    offsets = [StopResult.of(rmse, THRESHOLD, torch.tensor(m)).mean_absolute_offset for m in range(1, STEPS + 1)]
    chosen = StopResult.of(rmse, THRESHOLD, constant_index(rmse, THRESHOLD)[:, None]).mean_absolute_offset
    assert torch.equal(chosen, torch.stack(offsets).amin(0))


def test_the_oracle_is_never_off() -> None:
    rmse = drawn(3).rmse
    oracle = StopResult.of(rmse, THRESHOLD, first_below(rmse, THRESHOLD))
    assert bool((oracle.mean_absolute_offset == 0).all())
    assert bool((oracle.share(StopOutcome.FALSE_POSITIVE) + oracle.share(StopOutcome.FALSE_NEGATIVE) == 0).all())
    below = rmse[..., 1:].amin(-1) < THRESHOLD
    assert bool((oracle.rmse[below] < THRESHOLD).all())


def test_outcomes_of_an_example_by_hand() -> None:
    rmse = torch.tensor([[[9.0, 8, 4, 3, 2], [9.0, 8, 7, 6, 4]]])  # done at 2 and at 4
    result = StopResult.of(rmse, THRESHOLD, indices(3, 2))
    tn, fn, fp, tp = StopOutcome
    assert result.outcomes.tolist() == [[[tn, fn, tp, tp], [tn, fp, fp, tp]]]
    assert [result.share(outcome).item() for outcome in (tn, fn, fp, tp)] == [2 / 8, 1 / 8, 2 / 8, 3 / 8]
    assert result.offset.tolist() == [[1, -2]]
    assert result.rmse.tolist() == [[3.0, 7.0]]
    assert result.mean_absolute_offset.item() == 1.5
    assert result.mean_offset.item() == -0.5
    assert result.true_index.double().mean().item() == 3
    assert result.mean_estimated_index.item() == 2.5
    assert result.mean_rmse.item() == 5
    assert result.mean_cost(early_cost=10, late_cost=1).item() == (2 * 10 + 1 * 1) / 2


def test_every_state_has_one_outcome_and_wrong_ones_add_up_to_the_offset() -> None:
    seen = drawn(4)
    result = StopResult.of(seen.rmse, THRESHOLD, first_below(StoppingModel.fit(seen).estimate(seen), THRESHOLD))
    shares = {outcome: result.share(outcome) for outcome in StopOutcome}
    torch.testing.assert_close(sum(shares.values()), torch.ones(CELLS, dtype=torch.float64))
    wrong = shares[StopOutcome.FALSE_POSITIVE] + shares[StopOutcome.FALSE_NEGATIVE]
    torch.testing.assert_close(STEPS * wrong, result.mean_absolute_offset)


def test_uncertainty_stops_closer_than_any_index_for_all_where_variance_tells_the_error() -> None:
    valid, test = drawn(5), drawn(6)
    uncertain = first_below(StoppingModel.fit(valid).estimate(test), THRESHOLD)
    counted = first_below(StoppingModel.fit_measurements(valid).estimate(test), THRESHOLD)
    constant = constant_index(valid.rmse, THRESHOLD)[:, None]
    offsets = [StopResult.of(test.rmse, THRESHOLD, s).mean_absolute_offset for s in (uncertain, counted, constant)]
    assert bool((2 * offsets[0] < offsets[1].minimum(offsets[2])).all())


# What it costs


COSTS = [(1.0, 1.0), (4.0, 1.0), (1.0, 4.0), (0.3, 0.7)]


def weak() -> tuple[Tensor, Tensor]:
    """Estimates that are of some use only, and true errors."""
    seen = drawn(7, rows=40)
    noise = torch.randn(seen.rmse.shape, generator=torch.Generator().manual_seed(8))
    return seen.rmse.double() + 3 * noise + 1, seen.rmse


def cost(estimated: Tensor, rmse: Tensor, threshold: float | Tensor, early: float, late: float) -> Tensor:
    return StopResult.of(rmse, THRESHOLD, first_below(estimated, threshold)).mean_cost(early, late)


@pytest.mark.parametrize(("early", "late"), COSTS)
def test_no_threshold_costs_less_on_the_validation_set(early: float, late: float) -> None:
    estimated, rmse = weak()
    chosen = cost(estimated, rmse, shifted_threshold(estimated, rmse, THRESHOLD, early, late), early, late)
    everywhere = [THRESHOLD, *np.linspace(-20, 40, 1201), *estimated.flatten().tolist()]
    best = torch.stack([cost(estimated, rmse, tried, early, late) for tried in everywhere]).amin(0)
    torch.testing.assert_close(chosen, best)


def test_of_equally_good_thresholds_the_nearest_is_taken() -> None:
    rmse = drawn(8).rmse
    assert torch.equal(shifted_threshold(rmse, rmse, THRESHOLD, 1, 1), torch.full((CELLS,), THRESHOLD).double())
    moved = shifted_threshold(rmse.double() + 2, rmse, THRESHOLD, 1, 1)
    top = torch.where(rmse < THRESHOLD, rmse, -torch.inf)[..., 1:-1].cummin(-1).values.flatten(1).amax(-1)
    assert bool(((top + 2 < moved) & (moved <= THRESHOLD + 2)).all())


def test_the_nearest_is_taken_among_thresholds_that_lie_apart() -> None:
    done, undone = [9.0, 1, 0], [9.0, 9, 0]
    rmse = torch.tensor([[done, undone, done, undone]])
    estimated = torch.tensor([[[9.0, 1.0, 0], [9, 2.0, 0], [9, 3.0, 0], [9, 4.0, 0]]])  # best in (1, 2] and in (3, 4]
    assert shifted_threshold(estimated, rmse, THRESHOLD, 1, 1).item() == 4


def test_the_dearer_an_early_stop_the_later_it_comes() -> None:
    estimated, rmse = weak()
    ratios = [0.0, 0.1, 0.5, 1.0, 2.0, 10.0, 100.0]
    thresholds = torch.stack([shifted_threshold(estimated, rmse, THRESHOLD, ratio, 1.0) for ratio in ratios])
    assert bool((thresholds.diff(dim=0) <= 0).all())
    stops = torch.stack([first_below(estimated, t).double().mean(-1) for t in thresholds])
    assert bool((stops.diff(dim=0) >= 0).all())
    assert bool((stops[-1] > stops[0] + 1).all())


def test_two_measurements_leave_one_place_to_choose_and_one_leaves_none() -> None:
    rmse = torch.tensor([[[9.0, 4, 0], [9.0, 4, 0], [9.0, 8, 0]]])
    estimated = torch.tensor([[[9.0, 6, 0], [9.0, 7, 0], [9.0, 8, 0]]])
    threshold = shifted_threshold(estimated, rmse, THRESHOLD, 1, 1)
    assert first_below(estimated, threshold).tolist() == [[1, 1, 2]]
    assert shifted_threshold(estimated[..., :2], rmse[..., :2], THRESHOLD, 1, 1).item() == THRESHOLD


# Correlations


def test_correlations_are_pearsons() -> None:
    seen = drawn(9)
    found = Correlations.of(seen, model := StoppingModel.fit(seen))
    predictors = {
        "measurements": torch.arange(STEPS + 1).expand(seen.rmse.shape),
        "variance": seen.variance.mean(-1),
        "bound": seen.bound,
        "estimate": model.estimate(seen),
    }
    for name, predictor in predictors.items():
        for cell in range(CELLS):
            points = [values[cell, :, 1:].flatten().double().numpy() for values in (predictor, seen.rmse)]
            assert getattr(found, name)[cell].item() == pytest.approx(np.corrcoef(*points)[0, 1])


def test_a_constant_correlates_with_nothing() -> None:
    assert pearson(torch.ones(2, 5), torch.randn(2, 5, generator=torch.Generator().manual_seed(0))).tolist() == [0, 0]
