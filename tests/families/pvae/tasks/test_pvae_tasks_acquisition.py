"""Acquisition measures every dimension once, by its rule, and judges each estimate as numpy does.

The predictors are mixtures of Gaussians, whose conditionals are exact; with one component numpy knows every answer.
The last of six dimensions plays the age, which is given.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from torch import Tensor

from vaesweep.families.pvae.tasks import mixture
from vaesweep.families.pvae.tasks.acquisition import (
    ExpectedInformation,
    ExpectedReduction,
    FixedOrder,
    LargestVariance,
    RandomOrder,
    Rule,
    Trace,
    acquire,
    area,
    single_best_order,
    start_mask,
)
from vaesweep.families.pvae.tasks.mixture import MixturePredictor
from vaesweep.families.pvae.tasks.predictive import RandomNumbers

CELLS, DIMS, AGE, ROWS = 3, 6, 5, 11
STEPS = DIMS - 1
MEAN = torch.tensor([20.0, 25.0, 35.0, 30.0, 40.0, 55.0], dtype=torch.float64)
STD = torch.tensor([12.0, 9.0, 20.0, 14.0, 17.0, 18.0], dtype=torch.float64)
ORDERS = torch.tensor([[3, 1, 4, 0, 2], [0, 1, 2, 3, 4], [4, 2, 0, 3, 1]])
EVERY = slice(None)

RULES: dict[str, Callable[[Tensor, slice], Rule]] = {
    "variance": lambda x, cells: LargestVariance(),
    "reduction": lambda x, cells: ExpectedReduction(),
    "random": lambda x, cells: RandomOrder.of(x, seed=4),
    "fixed": lambda x, cells: FixedOrder(ORDERS[cells]),
    "information": lambda x, cells: ExpectedInformation(RandomNumbers.of(x, 3, seed=5)),
}
RULES_OF_MOMENTS = (LargestVariance, ExpectedReduction)
every_rule = pytest.mark.parametrize("rule", RULES)


def parameters(components: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(components)
    weights = 0.2 + torch.rand(CELLS, components, generator=draw, dtype=torch.float64)
    means = torch.randn(CELLS, components, DIMS, generator=draw, dtype=torch.float64)
    roots = torch.randn(CELLS, components, DIMS, DIMS, generator=draw, dtype=torch.float64)
    covariances = 0.2 * (roots @ roots.mT) + 0.1 * torch.eye(DIMS, dtype=torch.float64)
    return weights / weights.sum(-1, keepdim=True), means, covariances


def mixtures(components: int, cells: slice = EVERY) -> MixturePredictor:
    weights, means, covariances = (p[cells] for p in parameters(components))
    return MixturePredictor(weights, means, covariances, MEAN, STD)


@dataclass(frozen=True)
class NumpyGaussian:
    """A cell of `mixtures(1)` in physical units."""

    mean: np.ndarray
    covariance: np.ndarray

    def conditional(self, x: np.ndarray, known: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Mean `[row, dim]` and covariance given the `known` dimensions of `x` `[row, dim]`; `known` has no error."""
        gain = self.covariance[:, known] @ np.linalg.inv(self.covariance[np.ix_(known, known)])
        return self.mean + (x[:, known] - self.mean[known]) @ gain.T, self.covariance - gain @ self.covariance[known]

    def mean_rmse(self, x: np.ndarray, known: list[int]) -> float:
        estimate, _ = self.conditional(x, known)
        return float(np.sqrt(((x - estimate) ** 2).mean(-1)).mean())


def gaussians() -> list[NumpyGaussian]:
    _, means, covariances = (p.numpy() for p in parameters(1))
    mean, std = MEAN.numpy(), STD.numpy()
    return [
        NumpyGaussian(mean + std * m[0], std[:, None] * std * c[0]) for m, c in zip(means, covariances, strict=True)
    ]


@pytest.fixture
def x() -> Tensor:
    return MEAN + STD * torch.randn(ROWS, DIMS, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def assert_same(found: Trace, expected: Trace) -> None:
    """Equal orders; numbers may differ by how a matrix product of another size is summed."""
    assert torch.equal(found.order, expected.order)
    for name in (field.name for field in fields(Trace) if field.name != "order"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-9)


@every_rule
@pytest.mark.parametrize("components", [1, 3])
def test_every_dimension_is_measured_once_until_no_error_is_left(x: Tensor, rule: str, components: int) -> None:
    trace = acquire(mixtures(components), x, [AGE], RULES[rule](x, EVERY))
    assert trace.order.shape == (CELLS, ROWS, STEPS)
    assert torch.equal(trace.order.sort(-1).values, torch.arange(STEPS).expand(CELLS, ROWS, -1))
    for curve in (trace.rmse, trace.nll, trace.unexplained, trace.bound, trace.effective_samples):
        assert curve.shape == (CELLS, ROWS, STEPS + 1)
        assert torch.isfinite(curve).all()
    assert (trace.rmse[..., -1] == 0).all()
    assert (trace.rmse[..., :-1] > 0).all()
    assert (trace.unexplained[..., -1] == 0).all()


@every_rule
def test_the_variance_is_zero_where_observed_and_nowhere_else(x: Tensor, rule: str) -> None:
    trace = acquire(mixtures(3), x, [AGE], RULES[rule](x, EVERY))
    assert (trace.variance[..., AGE] == 0).all()
    for m in range(STEPS + 1):
        observed = start_mask(CELLS, ROWS, DIMS, [AGE]).scatter(-1, trace.order[..., :m], True)
        assert torch.equal(trace.variance[:, :, m] == 0, observed)


@pytest.mark.parametrize("given", [[], [AGE], [0, 2, AGE]])
def test_what_is_given_is_known_from_the_start(x: Tensor, given: list[int]) -> None:
    observed = start_mask(CELLS, ROWS, DIMS, given)
    assert observed.sum() == CELLS * ROWS * len(given)
    trace = acquire(mixtures(1), x, given, LargestVariance())
    assert trace.order.shape[-1] == DIMS - len(given)
    assert not torch.isin(trace.order, torch.tensor(given)).any()
    for cell, expected in enumerate(gaussians()):
        estimate, _ = expected.conditional(x.numpy(), given)
        rmse = np.sqrt(((x.numpy() - estimate) ** 2).mean(-1))
        np.testing.assert_allclose(trace.rmse[cell, :, 0], rmse, rtol=1e-9)


def test_every_estimate_is_judged_as_the_gaussian_conditional_says(x: Tensor) -> None:
    trace = acquire(mixtures(1), x, [AGE], FixedOrder(ORDERS))
    data = x.numpy()
    for cell, expected in enumerate(gaussians()):
        for m in range(STEPS):
            known = [AGE, *ORDERS[cell, :m].tolist()]
            rest = [dim for dim in range(DIMS) if dim not in known]
            mean, covariance = expected.conditional(data, known)
            variance = covariance.diagonal()[rest]
            rmse = np.sqrt(((data - mean)[:, rest] ** 2).sum(-1) / DIMS)
            nll = -norm.logpdf(data[:, rest], mean[:, rest], np.sqrt(variance)).sum(-1)
            joint = multivariate_normal(np.zeros(len(rest)), covariance[np.ix_(rest, rest)])
            np.testing.assert_allclose(trace.rmse[cell, :, m], rmse, rtol=1e-9)
            np.testing.assert_allclose(trace.nll[cell, :, m], nll, rtol=1e-9)
            np.testing.assert_allclose(trace.unexplained[cell, :, m], -joint.logpdf((data - mean)[:, rest]), rtol=1e-9)
            np.testing.assert_allclose(trace.variance[cell, :, m][:, rest], np.tile(variance, (ROWS, 1)), rtol=1e-9)
        assert float(trace.nll[cell, :, -1].abs().max()) < 1e-12


def test_what_is_explained_and_what_is_not_add_up_to_the_joint_density(x: Tensor) -> None:
    trace = acquire(mixtures(3), x, [AGE], LargestVariance())
    units = (
        trace.variance > 0
    ).double() @ STD.log()  # the bound is in standardised units, the surprise in physical ones
    total = trace.bound - trace.unexplained + units
    torch.testing.assert_close(total, total[..., :1].expand_as(total), rtol=1e-9, atol=1e-9)


def test_the_area_leaves_the_first_estimate_out(x: Tensor) -> None:
    curve = torch.tensor([[[100.0, 3.0, 2.0, 1.0]], [[7.0, 0.0, 0.5, 0.0]]])
    assert area(curve).tolist() == [[6.0], [0.5]]
    rmse = acquire(mixtures(1), x, [AGE], LargestVariance()).rmse
    torch.testing.assert_close(area(rmse), sum(rmse[..., m] for m in range(1, STEPS + 1)))


@every_rule
@pytest.mark.parametrize("rows", [1, 4])
def test_the_result_does_not_depend_on_how_many_data_are_predicted_at_a_time(
    x: Tensor, rule: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, made = mixtures(3), RULES[rule](x, EVERY)
    assert predictor.rows >= ROWS
    whole = acquire(predictor, x, [AGE], made)
    best = single_best_order(predictor, x, [AGE])
    monkeypatch.setattr(mixture, "LARGEST_CHUNK", rows * CELLS * predictor.components)
    assert predictor.rows == rows
    assert_same(acquire(predictor, x, [AGE], made), whole)
    assert torch.equal(single_best_order(predictor, x, [AGE]), best)


@every_rule
def test_a_cell_acquires_alike_alone_and_among_others(x: Tensor, rule: str) -> None:
    clean = x + 3.0
    stack = acquire(mixtures(3), x, [AGE], RULES[rule](x, EVERY), clean, intervals=True)
    for number in range(CELLS):
        cell = slice(number, number + 1)
        alone = acquire(mixtures(3, cell), x, [AGE], RULES[rule](x, cell), clean, intervals=True)
        assert_same(alone, Trace(*(getattr(stack, field.name)[cell] for field in fields(Trace))))
    assert torch.equal(
        single_best_order(mixtures(3, slice(1, 2)), x, [AGE])[0], single_best_order(mixtures(3), x, [AGE])[1]
    )


def test_errors_against_the_data_before_noise_end_at_the_noise_and_change_no_order(x: Tensor) -> None:
    rule = RULES["variance"](x, EVERY)
    noise = torch.full_like(x, 3.0)
    known, unknown = acquire(mixtures(3), x, [AGE], rule, x - noise), acquire(mixtures(3), x, [AGE], rule)
    assert unknown.clean_rmse is None
    assert torch.equal(known.order, unknown.order)
    torch.testing.assert_close(known.rmse, unknown.rmse)
    assert known.clean_rmse is not None
    torch.testing.assert_close(known.clean_rmse[..., -1], torch.full_like(known.rmse[..., -1], 3.0))
    torch.testing.assert_close(known.against_clean.rmse, known.clean_rmse)
    with pytest.raises(ValueError, match="not known"):
        _ = unknown.against_clean


@every_rule
def test_a_rule_does_not_look_at_what_is_not_measured(x: Tensor, rule: str) -> None:
    predictor, made = mixtures(3), RULES[rule](x, EVERY)
    observed = torch.zeros(CELLS, ROWS, DIMS, dtype=torch.bool)
    observed[..., [1, AGE]] = True
    hidden = x.masked_fill(~observed[0], math.nan)
    scores = [
        made.scores(predictor, data, observed, predictor.predict(data, observed), slice(0, ROWS)).expand_as(observed)
        for data in (x, hidden)
    ]
    assert torch.equal(scores[0][~observed], scores[1][~observed])
    assert torch.isfinite(scores[0][~observed]).all()


def test_a_fixed_order_is_followed(x: Tensor) -> None:
    order = acquire(mixtures(3), x, [AGE], FixedOrder(ORDERS)).order
    assert torch.equal(order, ORDERS.unsqueeze(1).expand(CELLS, ROWS, STEPS))


def test_a_random_order_belongs_to_the_datum(x: Tensor) -> None:
    many = x[:1].expand(600, -1)
    order = acquire(mixtures(1), many, [AGE], RandomOrder.of(many, seed=0)).order
    assert torch.equal(order, order[:1].expand_as(order)), "the same for every cell"
    assert torch.equal(order, acquire(mixtures(1), many, [AGE], RandomOrder.of(many, seed=0)).order)
    assert not torch.equal(order, acquire(mixtures(1), many, [AGE], RandomOrder.of(many, seed=1)).order)
    for step in range(STEPS):
        counts = order[0, :, step].bincount(minlength=STEPS)
        # 600 data choose among 5: 120 each, with a standard deviation of 10; four of them.
        assert ((counts - 120).abs() < 40).all()


def test_the_largest_variance_of_a_gaussian_has_one_order_for_all_data(x: Tensor) -> None:
    order = acquire(mixtures(1), x, [AGE], LargestVariance()).order
    for cell, expected in enumerate(gaussians()):
        known = [AGE]
        for _ in range(STEPS):
            _, covariance = expected.conditional(x.numpy(), known)
            left = [dim for dim in range(DIMS) if dim not in known]
            known.append(max(left, key=lambda dim: covariance[dim, dim]))
        assert torch.equal(order[cell], torch.tensor(known[1:]).expand(ROWS, -1))


def test_the_expected_reduction_is_what_measuring_takes_from_a_gaussians_variance(x: Tensor) -> None:
    predictor = mixtures(1)
    observed = start_mask(CELLS, ROWS, DIMS, [AGE, 1])
    scores = ExpectedReduction().scores(predictor, x, observed, predictor.predict(x, observed), EVERY)
    for cell, gaussian in enumerate(gaussians()):
        before = np.trace(gaussian.conditional(x.numpy(), [AGE, 1])[1])
        for dim in (0, 2, 3, 4):
            after = np.trace(gaussian.conditional(x.numpy(), [AGE, 1, dim])[1])
            np.testing.assert_allclose(scores[cell, :, dim], before - after, rtol=1e-9)
    assert (scores[..., [1, AGE]] == 0).all()


def test_what_tells_most_of_the_rest_comes_before_what_is_least_certain() -> None:
    # The first has the largest variance and is alone; the other two tell of each other.
    covariance = torch.tensor([[1.5, 0.0, 0.0], [0.0, 1.0, 0.9], [0.0, 0.9, 1.0]], dtype=torch.float64)
    nowhere = torch.zeros(1, 1, 3, dtype=torch.float64)
    predictor = MixturePredictor(torch.ones(1, 1), nowhere, covariance[None, None], torch.zeros(3), torch.ones(3))
    first = {rule: acquire(predictor, nowhere[0], [], rule()).order[0, 0, 0] for rule in RULES_OF_MOMENTS}
    assert first[LargestVariance] == 0
    assert first[ExpectedReduction] in (1, 2)


def told(covariance: np.ndarray, dim: int) -> float:
    """Mutual information of a dimension and all others, by determinants."""
    rest = [other for other in range(len(covariance)) if other != dim]
    others, together = (np.linalg.slogdet(c)[1] for c in (covariance[np.ix_(rest, rest)], covariance))
    return 0.5 * (math.log(covariance[dim, dim]) + others - together)


def test_the_most_informative_dimension_of_a_gaussian_comes_first(x: Tensor) -> None:
    order = acquire(mixtures(1), x, [AGE], ExpectedInformation(RandomNumbers.of(x, 1, seed=0))).order
    for cell, expected in enumerate(gaussians()):
        _, covariance = expected.conditional(x.numpy(), [AGE])
        informations = [told(covariance[:STEPS, :STEPS], dim) for dim in range(STEPS)]
        assert (order[cell, :, 0] == int(np.argmax(informations))).all()


def test_the_single_best_order_is_the_greedy_one(x: Tensor) -> None:
    found = single_best_order(mixtures(1), x, [AGE])
    for cell, expected in enumerate(gaussians()):
        known = [AGE]
        for _ in range(STEPS):
            left = [dim for dim in range(DIMS) if dim not in known]
            known.append(min(left, key=lambda dim: expected.mean_rmse(x.numpy(), [*known, dim])))
        assert found[cell].tolist() == known[1:]
    assert len({tuple(order) for order in found.tolist()}) > 1, "each cell has an order of its own"


def test_the_single_best_order_begins_with_the_best_dimension_for_the_data_it_was_found_on(x: Tensor) -> None:
    predictor = mixtures(3)
    best = single_best_order(predictor, x, [AGE])
    errors = acquire(predictor, x, [AGE], FixedOrder(best)).rmse[..., 1].mean(1)
    for dim in range(STEPS):
        first = torch.tensor([dim, *(other for other in range(STEPS) if other != dim)]).expand(CELLS, -1)
        assert (errors <= acquire(predictor, x, [AGE], FixedOrder(first)).rmse[..., 1].mean(1) + 1e-5).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_data_of_either_precision_are_acquired(x: Tensor, dtype: torch.dtype) -> None:
    data = x.to(dtype)
    trace = acquire(mixtures(3), data, [AGE], ExpectedInformation(RandomNumbers.of(data, 2, seed=0)))
    assert (trace.rmse[..., -1] == 0).all()
    assert single_best_order(mixtures(3), data, [AGE]).shape == (CELLS, STEPS)
