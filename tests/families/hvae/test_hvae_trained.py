"""A trained hierarchy by its users' interface: pixels in their own units, and what every level is drawn from."""

from typing import Any

import pytest
import torch

from vaesweep.errors import UserError
from vaesweep.families.hvae.trained import TrainedHierarchy
from vaesweep.family import family
from vaesweep.training.finished import FinishedCell

SCALE = {"standardisation/mean": torch.tensor([3.0]), "standardisation/std": torch.tensor([0.5])}
DEPTHS: list[dict[str, Any]] = [
    {"kind": "continuous", "step": 0.25, "hidden": 4},
    {"kind": "ode_like", "step": 0.25, "hidden": 4},
    {"kind": "discrete", "blocks": 2, "hidden": 4},
]


def model_of(kept: dict[str, torch.Tensor] = SCALE, **settings: Any) -> TrainedHierarchy:
    hvae = family("hvae")
    config = hvae.config.model_validate({"model": hvae.small().model_dump()["model"] | settings})
    torch.manual_seed(0)
    weights = {name: 2 * value.detach() for name, value in hvae.model(config).state_dict().items()}
    raw = config.model_dump(mode="json")
    return TrainedHierarchy.restore(FinishedCell("c", "hvae", raw, 1, {}, None, (), (1,), {}, weights, kept))


@pytest.fixture
def images() -> torch.Tensor:
    return 3 + 0.5 * torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("depth", DEPTHS, ids=lambda depth: depth["kind"])
def test_a_reconstruction_is_what_the_bound_is_made_of(depth: dict[str, Any], images: torch.Tensor) -> None:
    """With the noise of its seed, drawn here again."""
    model = model_of(depth=depth)
    generator = torch.Generator().manual_seed(5)
    shapes = model.config.model.noise_shapes()
    noise = {name: torch.randn(2, *shape, generator=generator) for name, shape in shapes.items()}
    with torch.no_grad():
        _, output = model.model((images - 3) / 0.5, **noise)
    torch.testing.assert_close(model.reconstruct(images, seed=5), 3 + 0.5 * output.observation.mean)
    assert not torch.allclose(model.reconstruct(images, seed=6), model.reconstruct(images, seed=5))


def test_the_initial_value_decides_and_the_levels_below_are_drawn(images: torch.Tensor) -> None:
    model = model_of()
    z = model.encode(images).mean
    assert z.shape == (2, 2, 4, 4)
    assert torch.equal(model.decode(z, seed=1).mean, model.decode(z, seed=1).mean)
    assert not torch.allclose(model.decode(z, seed=1).mean, model.decode(z, seed=2).mean)
    assert not torch.allclose(model.decode(z, seed=1).mean, model.decode(z + 1, seed=1).mean)


def test_pixels_have_their_spread_in_their_own_units(images: torch.Tensor) -> None:
    model, wide = model_of(), model_of(SCALE | {"standardisation/std": torch.tensor([2.0])})
    z = model.encode(images).mean
    narrow_std, wide_std = model.decode(z).std, wide.decode(z).std
    assert narrow_std is not None
    assert wide_std is not None
    torch.testing.assert_close(wide_std, 4 * narrow_std)


def test_binary_pixels_are_zero_or_one() -> None:
    model = model_of({}, observation="bernoulli")
    samples = model.sample(2)
    assert set(samples.unique().tolist()) == {0.0, 1.0}
    p = model.decode(model.encode(samples).mean)
    assert p.std is not None
    torch.testing.assert_close(p.std.square(), p.mean * (1 - p.mean))
    with pytest.raises(UserError, match="give each as 0 or 1"):
        model.encode(0.5 * samples)


def test_grey_pixels_are_whole_intensities() -> None:
    scale = {name: torch.tensor([127.5]) for name in SCALE}
    model = model_of(scale, observation="logistic")
    samples = model.sample(2)
    torch.testing.assert_close(samples, samples.round().clamp(0, 255), rtol=0, atol=1e-3)
    levels = samples.round()
    assert torch.equal(model.encode(samples).mean, model.encode(levels).mean)
    p = model.decode(model.encode(levels).mean)
    assert p.std is not None
    assert p.mean.min() >= 0
    assert p.mean.max() <= 255
    for wrong in (levels + 0.5, levels - 300, levels + 256):
        with pytest.raises(UserError, match="whole numbers from 0 to 255"):
            model.encode(wrong)


def test_a_cell_that_does_not_keep_its_standardisation_takes_it_from_its_data(images: torch.Tensor) -> None:
    model = model_of({})
    with pytest.raises(UserError, match="name its data once"):
        model.encode(images)
    data = family("hvae").example()
    scale = data.standardisation
    told = model.on(data)
    assert told.scale == pytest.approx((scale.std[0], scale.mean[0]))
    torch.testing.assert_close(
        told.encode(images).mean,
        model_of({"standardisation/mean": torch.tensor(scale.mean), "standardisation/std": torch.tensor(scale.std)})
        .encode(images)
        .mean,
    )
