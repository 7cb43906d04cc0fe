"""The flow prior is a density, and an autoregressive one."""

import math

import pytest
import torch
from torch import Tensor, nn

from vaesweep.families.emd.models.flows import FlowConfig, FlowPrior, Made


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def strong(model: nn.Module) -> nn.Module:
    """`model` in float64 with weights that are not small."""
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model.double()


def jacobian(function: object, channels: int) -> Tensor:
    """Of one frame, `[output, input]`."""
    return torch.autograd.functional.jacobian(
        lambda x: function(x[None, :, None])[0, :, 0], torch.randn(channels, dtype=torch.float64)
    )


def test_the_density_of_two_channels_integrates_to_one() -> None:
    prior = strong(FlowPrior(2, FlowConfig(steps=3, hidden=5)))
    axis = torch.linspace(-40, 40, 1601, dtype=torch.float64)  # the density is continuous, with kinks: 1e-3 is reached
    z = torch.cartesian_prod(axis, axis).T
    total = prior.log_prob(z[None]).detach().sum(1).exp().sum() * (axis[1] - axis[0]) ** 2
    assert float(total) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 7])
@pytest.mark.parametrize("hidden", [3, 64])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_mean_sees_the_channels_before_its_own_only(channels: int, hidden: int, layers: int, backwards: bool) -> None:
    found = jacobian(strong(Made(channels, hidden, layers, backwards=backwards)), channels)
    assert torch.equal(found, found.triu(1) if backwards else found.tril(-1))


@pytest.mark.parametrize("layers", [1, 3])
def test_the_last_mean_sees_every_channel_before_it(layers: int) -> None:
    seen = sum(jacobian(strong(Made(6, 64, layers, backwards=False)), 6).abs() for _ in range(5))
    assert (seen[-1, :-1] > 0).all()


def test_a_flow_has_exactly_as_many_parameters_as_the_thesis_adds() -> None:
    """K = 512: 17.8 M of the whole model less the 5.2 M without it (thesis line 1529)."""
    prior = FlowPrior(512, FlowConfig(steps=4, hidden=1024, layers=3))
    step = (512 * 1024 + 1024) + 2 * (1024 * 1024 + 1024) + (1024 * 512 + 512)
    assert sum(parameter.numel() for parameter in prior.parameters()) == 4 * step == 12_597_248


def test_one_step_has_a_triangular_jacobian_with_ones() -> None:
    found = jacobian(strong(FlowPrior(6, FlowConfig(steps=1))).noise, 6)
    assert torch.equal(found, found.tril())
    assert torch.equal(found.diagonal(), torch.ones(6, dtype=torch.float64))


def test_two_steps_mix_both_ways_and_keep_volumes() -> None:
    found = jacobian(strong(FlowPrior(6, FlowConfig(steps=2))).noise, 6)
    assert found.triu(1).abs().max() > 0
    assert found.tril(-1).abs().max() > 0
    assert float(torch.linalg.det(found)) == pytest.approx(1, abs=1e-9)


def test_log_density_is_that_of_a_change_of_variables() -> None:
    prior = strong(FlowPrior(5, FlowConfig(steps=3)))
    z = torch.randn(5, dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(lambda x: prior.noise(x[None, :, None])[0, :, 0], z)
    epsilon = prior.noise(z[None, :, None])[0, :, 0]
    expected = -0.5 * (epsilon.square() + math.log(2 * math.pi)).sum() + torch.linalg.slogdet(matrix)[1]
    torch.testing.assert_close(prior.log_prob(z[None, :, None]).sum(), expected)


def test_frames_and_leading_axes_do_not_see_each_other() -> None:
    prior = strong(FlowPrior(4, FlowConfig()))
    z = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    whole = prior.log_prob(z)
    assert whole.shape == z.shape
    torch.testing.assert_close(prior.log_prob(z[1:, 2, :, 3:4])[0, :, 0], whole[1, 2, :, 3])


def test_it_learns_a_density_that_no_factorised_prior_has() -> None:
    """Two channels with correlation 0.9 and unit variance given the first: less than twice the standard entropy."""
    prior = FlowPrior(2, FlowConfig(hidden=16))
    first = torch.randn(512)
    z = torch.stack([first, 2 * first + torch.randn(512)]).unsqueeze(0)
    optimiser = torch.optim.Adam(prior.parameters(), 1e-2)
    for _ in range(300):
        optimiser.zero_grad()
        loss = -prior.log_prob(z).sum(1).mean()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) == pytest.approx(math.log(2 * math.pi) + 1, abs=0.15)  # 512 samples
