"""Priors are densities, and their terms by dimension sum to them."""

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from vaesweep.families.pvae.models.priors import MixturePrior, StandardPrior


@pytest.fixture
def mixture() -> MixturePrior:
    torch.manual_seed(0)
    prior = MixturePrior(latents=3, components=4)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(torch.randn_like(parameter))
    return prior.double()


def test_a_mixture_is_that_of_torch_distributions(mixture: MixturePrior) -> None:
    parts = Independent(Normal(mixture.mean, mixture.log_std.exp()), 1)
    same = MixtureSameFamily(Categorical(logits=mixture.weight), parts)
    z = 2 * torch.randn(5, 6, 3, dtype=torch.float64)
    torch.testing.assert_close(mixture.total(z), same.log_prob(z))


@pytest.mark.parametrize("kind", ["standard", "mixture"])
def test_the_terms_of_the_dimensions_sum_to_the_density(kind: str, mixture: MixturePrior) -> None:
    prior = mixture if kind == "mixture" else StandardPrior()
    z = 2 * torch.randn(5, 6, 3, dtype=torch.float64)
    terms = prior.log_prob(z)
    assert terms.shape == z.shape
    torch.testing.assert_close(terms.sum(-1), prior.total(z))


def test_a_dimensions_term_is_its_density_given_the_dimensions_before(mixture: MixturePrior) -> None:
    """It does not look at later dimensions, and integrates to one over its own."""
    z = torch.randn(3, dtype=torch.float64)
    changed = z.clone()
    changed[2] += 1.0
    assert torch.equal(mixture.log_prob(z)[:2], mixture.log_prob(changed)[:2])
    grid = torch.linspace(-40, 40, 20001, dtype=torch.float64)
    along = z.repeat(len(grid), 1)
    along[:, 1] = grid
    assert torch.trapezoid(mixture.log_prob(along)[:, 1].exp(), grid).item() == pytest.approx(1.0, abs=1e-6)


def test_samples_of_a_mixture_have_its_mean_and_covariance(mixture: MixturePrior) -> None:
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(200_000, 3, generator=draw, dtype=torch.float64)
    z = mixture.sample(noise, torch.rand(200_000, generator=draw, dtype=torch.float64)).detach()
    share = mixture.weight.softmax(0).detach()
    mean = share @ mixture.mean.detach()
    apart = mixture.mean.detach() - mean
    covariance = torch.diag(share @ (2 * mixture.log_std.detach()).exp()) + apart.T @ (share[:, None] * apart)
    size = covariance.diagonal().sqrt()
    assert ((z.mean(0) - mean).abs() / size < 0.015).all(), "six standard errors"
    assert ((z.T.cov() - covariance).abs() / torch.outer(size, size) < 0.05).all()
