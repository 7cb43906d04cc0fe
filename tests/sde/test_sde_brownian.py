"""Increments of Brownian motion have its variances, and one path stays one path on every grid."""

import pytest
import torch
from torch import Tensor

from vaesweep.sde import coarsen, increments, refine


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(path: Tensor) -> Tensor:
    """Of the increments of `[batch, step, 1]`, over the batch."""
    return path.squeeze(-1).T.cov()


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_increments_have_the_variance_of_their_step_and_are_independent(steps: int) -> None:
    # 100 000 paths: a covariance entry has a standard error of at most sqrt(2 / 100 000) dt, 0.0045 dt; five of them
    found = covariance(increments(normal(100_000, steps, 1))) * steps
    torch.testing.assert_close(found.reshape(steps, steps), torch.eye(steps).double(), atol=0.0225, rtol=0)


@pytest.mark.parametrize("factor", [1, 2, 3, 8])
def test_refined_increments_are_those_of_a_finer_grid(factor: int) -> None:
    steps = 3 * factor
    fine = refine(increments(normal(100_000, 3, 1)), factor, normal(100_000, steps, 1, seed=1))
    torch.testing.assert_close(covariance(fine) * steps, torch.eye(steps).double(), atol=0.0225, rtol=0)


@pytest.mark.parametrize("factor", [1, 2, 3, 8])
def test_a_refined_path_goes_through_the_points_of_the_coarse_one(factor: int) -> None:
    path = increments(normal(2, 5, 3, 4))
    fine = refine(path, factor, normal(2, 5 * factor, 3, 4, seed=1))
    assert fine.shape == (2, 5 * factor, 3, 4)
    torch.testing.assert_close(coarsen(fine, factor), path, rtol=0, atol=1e-14)


def test_what_does_not_fit_is_refused() -> None:
    path = increments(normal(2, 6, 3))
    with pytest.raises(ValueError, match="divisor of 6"):
        coarsen(path, 4)
    with pytest.raises(ValueError, match="noise of 12, not 6"):
        refine(path, 2, path)
