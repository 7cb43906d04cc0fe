"""Missingness has the distribution of the thesis; dequantisation undoes rounding and nothing more."""

import math

import pytest
import torch

from vaesweep.families.pvae.data.missingness import dequantise, draw

ROWS, DIMS = 40_000, 15


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def counts() -> torch.Tensor:
    """How many dimensions of each datum are observed."""
    return draw(ROWS, DIMS, generator()).sum(dim=1)


def within(share: float, expected: float) -> bool:
    """Whether a share of `ROWS` independent data is within five standard errors of its expectation."""
    return abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / ROWS)


def test_mask_is_boolean_and_of_the_asked_shape() -> None:
    mask = draw(7, DIMS, generator())
    assert mask.shape == (7, DIMS)
    assert mask.dtype is torch.bool


def test_number_of_observed_dimensions_has_its_exact_distribution(counts: torch.Tensor) -> None:
    # With rho uniform the number observed is uniform on 0..15 (a Beta-binomial with both parameters 1), to which the
    # two exceptions add 10 % at 0 and at 15.
    for count in range(DIMS + 1):
        expected = 0.8 / (DIMS + 1) + 0.1 * (count in (0, DIMS))
        assert within(float((counts == count).float().mean()), expected), count


def test_every_dimension_is_observed_half_of_the_time() -> None:
    observed = draw(ROWS, DIMS, generator(1)).float().mean(dim=0)
    assert all(within(float(share), 0.5) for share in observed)


def test_dimensions_are_exchangeable() -> None:
    # P(two dimensions both observed) = 0.1 + 0.8 E[(1 - rho)²] = 0.1 + 0.8/3, for neighbours as for distant ones.
    mask = draw(ROWS, DIMS, generator(2))
    for other in (1, 7, 14):
        assert within(float((mask[:, 0] & mask[:, other]).float().mean()), 0.1 + 0.8 / 3)


def test_data_are_independent_of_each_other(counts: torch.Tensor) -> None:
    pairs = torch.stack([counts[:-1], counts[1:]]).double()
    assert abs(float(torch.corrcoef(pairs)[0, 1])) < 5 / math.sqrt(ROWS)


def test_the_generator_decides_the_mask() -> None:
    assert torch.equal(draw(50, DIMS, generator(3)), draw(50, DIMS, generator(3)))
    assert not torch.equal(draw(50, DIMS, generator(3)), draw(50, DIMS, generator(4)))


def test_dequantised_rows_round_back_to_themselves() -> None:
    quantum = torch.tensor([5.0, 5.0, 1.0])
    rows = quantum * torch.randint(-4, 20, (5_000, 3), generator=generator())
    spread = dequantise(rows, quantum, generator(1))
    assert torch.equal(torch.round(spread / quantum) * quantum, rows)


def test_dequantisation_noise_is_uniform_over_one_step() -> None:
    quantum = torch.tensor([5.0, 1.0])
    noise = dequantise(torch.zeros(ROWS, 2), quantum, generator()) / quantum
    assert noise.abs().max() <= 0.5
    assert (noise.mean(dim=0).abs() < 5 * math.sqrt(1 / 12 / ROWS)).all()
    # the variance of u² for uniform u is 1/180
    assert ((noise.var(dim=0) - 1 / 12).abs() < 5 * math.sqrt(1 / 180 / ROWS)).all()


def test_dequantisation_keeps_leading_axes_and_type() -> None:
    rows = torch.zeros(2, 3, 4, dtype=torch.float64)
    spread = dequantise(rows, torch.ones(4, dtype=torch.float64), generator())
    assert spread.shape == rows.shape
    assert spread.dtype is torch.float64
