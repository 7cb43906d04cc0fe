"""A trained separator by its users' interface: signals in their own units, points and samples, twins."""

from typing import Any

import pytest
import torch

from vaesweep.errors import UserError
from vaesweep.families.emd.family import SCALE
from vaesweep.families.emd.trained import TrainedSeparator
from vaesweep.family import family
from vaesweep.training.finished import FinishedCell

DETERMINISTIC = {"encoding": "deterministic", "masks": "relu"}


def model_of(scale: float = 1.0, **settings: Any) -> TrainedSeparator:
    emd = family("emd")
    config = emd.config.model_validate({"model": emd.small().model_dump()["model"] | settings})
    torch.manual_seed(0)
    weights = {name: 3 * value.detach() for name, value in emd.model(config).state_dict().items()}
    kept = {} if scale == 1.0 else {SCALE: torch.tensor([scale])}
    cell = FinishedCell("c", "emd", config.model_dump(mode="json"), 1, {}, None, (), (1,), {}, weights, kept)
    return TrainedSeparator.restore(cell)


@pytest.fixture
def mixtures() -> torch.Tensor:
    return torch.randn(2, 403, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("settings", [{}, DETERMINISTIC], ids=["variational", "deterministic"])
def test_no_other_gains_of_the_sources_explain_more_of_the_mixture(
    settings: dict[str, Any], mixtures: torch.Tensor
) -> None:
    """What is left is orthogonal to every source, as least squares leave it."""
    sources = model_of(**settings).reconstruct(mixtures)
    assert sources.shape == (2, 2, 403)
    left = mixtures - sources.sum(1)
    cosines = torch.cosine_similarity(left.unsqueeze(1), sources, dim=-1)
    torch.testing.assert_close(cosines, torch.zeros(2, 2), rtol=0, atol=1e-4)  # float32 sums of 403 products
    assert (left.square().sum(-1) < mixtures.square().sum(-1)).all()


def test_signals_are_divided_by_the_scale_and_sources_multiplied(mixtures: torch.Tensor) -> None:
    unit, scaled = model_of(), model_of(0.05)
    torch.testing.assert_close(scaled.reconstruct(0.05 * mixtures), 0.05 * unit.reconstruct(mixtures))
    torch.testing.assert_close(scaled.encode(0.05 * mixtures).mean, unit.encode(mixtures).mean)
    torch.testing.assert_close(scaled.sample(1), 0.05 * unit.sample(1))


@pytest.mark.parametrize("encoding", ["gaussian", "log_normal", "gamma"])
@pytest.mark.parametrize("masks", ["log_normal", "beta", "sigmoid"])
def test_every_kind_of_latent_variable_is_encoded_decoded_and_sampled(
    encoding: str, masks: str, mixtures: torch.Tensor
) -> None:
    model = model_of(encoding=encoding, masks=masks)
    q = model.encode(mixtures)
    assert q.std is not None
    assert (q.std > 0).all()
    m = model.masks(q.sample())
    assert m.mean.shape == m.sample().shape == (2, 2, 8, 51)
    assert m.std is not None
    assert bool((m.std > 0).all()) == (masks != "sigmoid")
    assert model.decode(q.mean).mean.shape == (2, 2, 51 * 8)
    assert model.decode(q.mean, 403).mean.shape == (2, 2, 403)
    assert model.sample(2).isfinite().all()


def test_a_deterministic_twin_encodes_numbers_and_has_no_prior(mixtures: torch.Tensor) -> None:
    model = model_of(**DETERMINISTIC)
    q = model.encode(mixtures)
    assert torch.equal(q.sample(1), q.mean)
    assert q.std is not None
    assert not q.std.any()
    with pytest.raises(UserError, match="deterministic: it has no prior to sample from"):
        model.sample(1)


def test_a_flow_has_no_samples() -> None:
    with pytest.raises(UserError, match="gives densities and no samples"):
        model_of(prior={"kind": "flow"}).sample(1)


def test_estimates_have_no_spread(mixtures: torch.Tensor) -> None:
    model = model_of()
    decoded = model.decode(model.encode(mixtures).mean)
    assert decoded.std is None
    with pytest.raises(UserError, match="without a spread"):
        decoded.sample()
