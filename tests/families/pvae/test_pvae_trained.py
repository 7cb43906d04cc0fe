"""A trained partial VAE: dB and years on both sides, and what is not observed does not count."""

import numpy as np
import pytest
import torch

from vaesweep.errors import UserError
from vaesweep.families.pvae.models.partial import PartialVae
from vaesweep.families.pvae.trained import TrainedPartialVae
from vaesweep.family import family
from vaesweep.training.finished import FinishedCell

MEAN, STD = torch.linspace(10, 60, 15), torch.linspace(5, 20, 15)


def model_of(**settings: object) -> TrainedPartialVae:
    pvae = family("pvae")
    config = pvae.config.model_validate({"model": {"latents": 3, **settings}})
    torch.manual_seed(0)
    weights = {name: 2 * value.detach() for name, value in pvae.model(config).state_dict().items()}
    kept = {"standardisation/mean": MEAN, "standardisation/std": STD}
    cell = FinishedCell("c", "pvae", config.model_dump(mode="json"), 1, {}, None, (), (1,), {}, weights, kept)
    return TrainedPartialVae.restore(cell)


def own(model: TrainedPartialVae) -> PartialVae:
    return model.model


@pytest.fixture
def audiograms() -> torch.Tensor:
    return MEAN + STD * torch.randn(4, 15, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_audiograms_are_taken_and_given_in_their_own_units(posterior: str, audiograms: torch.Tensor) -> None:
    model = model_of(posterior=posterior)
    standard = (audiograms - MEAN) / STD
    with torch.no_grad():
        q = own(model).posterior(standard, torch.ones_like(standard, dtype=torch.bool))
        p = own(model).observation(q.mean)
    found = model.encode(audiograms)
    torch.testing.assert_close(found.mean, q.mean)
    torch.testing.assert_close(model.decode(found.mean).mean, MEAN + STD * p.mean)
    torch.testing.assert_close(model.decode(found.mean).std, STD * p.log_std.exp())
    torch.testing.assert_close(model.reconstruct(audiograms), MEAN + STD * p.mean)


def test_the_spread_of_a_full_posterior_is_the_diagonal_of_its_covariance(audiograms: torch.Tensor) -> None:
    model = model_of(posterior="full")
    q = own(model).posterior((audiograms - MEAN) / STD, torch.ones(4, 15, dtype=torch.bool))
    variance = torch.diagonal(q.factor @ q.factor.mT, dim1=-2, dim2=-1)  # type: ignore[union-attr]
    torch.testing.assert_close(model.encode(audiograms).std, variance.sqrt().detach())


def test_where_nothing_is_observed_the_posterior_is_the_prior() -> None:
    q = model_of().encode(np.full((1, 15), np.nan))
    assert torch.equal(q.mean, torch.zeros(1, 3))
    assert q.std is not None
    assert torch.equal(q.std, torch.ones(1, 3))


def test_every_number_that_is_observed_counts(audiograms: torch.Tensor) -> None:
    model, parts = model_of(), audiograms.clone()
    parts[:, 3:] = torch.nan
    assert not torch.allclose(model.encode(parts).mean, model.encode(audiograms).mean)
    assert model.reconstruct(parts).isfinite().all(), "what is not observed is filled in"


def test_samples_vary_as_prior_and_noise_together() -> None:
    """The law of total variance, by other random numbers than the samples'."""
    model = model_of()
    z = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(7))
    p = model.decode(z)
    assert p.std is not None
    expected = p.mean.var(0) + p.std.square().mean(0)
    torch.testing.assert_close(model.sample(20_000).var(0), expected, rtol=0.1, atol=0)  # of heavy-tailed squares
    torch.testing.assert_close(
        model.sample(20_000).mean(0), p.mean.mean(0), rtol=0, atol=float(5 * expected.max().sqrt() / 100)
    )


def test_other_data_than_audiograms_are_refused() -> None:
    with pytest.raises(UserError, match="other columns than audiograms"):
        model_of().evaluate(family("hvae").example())
