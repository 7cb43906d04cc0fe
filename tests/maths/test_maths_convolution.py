"""The convolution of distributions is the distribution of a sum of independent samples."""

from collections.abc import Sequence

import pytest
import torch
from scipy import stats
from torch import Tensor

from vaesweep.distributions import Distribution, Gamma, Gaussian, LogNormal, convolve

SAMPLES = 20_000


def tensor(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def summed(parts: Sequence[Distribution]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return sum(
        (part.draw(torch.randn(SAMPLES, *part.NOISE, generator=generator, dtype=torch.float64))[0] for part in parts),
        start=torch.zeros(SAMPLES, dtype=torch.float64),
    )


def test_gammas_of_one_rate() -> None:
    parts = [Gamma(tensor(c)) for c in (0.3, 1.2, 5.0)]
    total = convolve(parts)
    assert stats.kstest(summed(parts).numpy(), stats.gamma(float(total.concentration)).cdf).pvalue > 1e-3


def test_gaussians() -> None:
    parts = [Gaussian(tensor(mean), tensor(log_std)) for mean, log_std in ((1.0, -0.5), (-3.0, 0.4), (0.2, 0.0))]
    total = convolve(parts)
    law = stats.norm(float(total.mean), float(total.log_std.exp()))
    assert stats.kstest(summed(parts).numpy(), law.cdf).pvalue > 1e-3


def test_means_and_variances_add() -> None:
    mean, log_std = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    total = convolve([Gaussian(m, s) for m, s in zip(mean, log_std, strict=True)])
    torch.testing.assert_close(total.mean, mean.sum(0))
    torch.testing.assert_close((2 * total.log_std).exp(), (2 * log_std).exp().sum(0))


def test_a_variance_too_small_for_a_float_changes_nothing_and_has_a_gradient() -> None:
    log_std = torch.tensor([-200.0, 0.3], requires_grad=True)
    total = convolve([Gaussian(torch.zeros(()), one) for one in log_std])
    assert float(total.log_std.detach()) == pytest.approx(0.3)
    torch.testing.assert_close(torch.autograd.grad(total.log_std, log_std)[0], torch.tensor([0.0, 1.0]))


def test_one_part_is_itself() -> None:
    part = Gamma(tensor(2.0))
    assert convolve([part]) == part


def test_nothing_to_add_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        convolve([])


@pytest.mark.parametrize("others", [[Gamma(tensor(1.0))], [LogNormal(tensor(0.0), tensor(0.0))]], ids=["mixed", "none"])
def test_sums_without_a_closed_form_are_an_error(others: list) -> None:
    with pytest.raises(TypeError, match="closed form"):
        convolve([*others, LogNormal(tensor(0.0), tensor(0.0))])
