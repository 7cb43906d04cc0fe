"""An Elbo adds up: over latent axes, over rates, under any leading axes, and always unweighted."""

import numpy as np
import pytest
import torch

from vaesweep.elbo import Elbo, total_over_latents

LEADING = [(), (3,), (2, 3)]
LATENT = [(), (4,), (2, 5)]


def made_up(leading: tuple[int, ...], latent: tuple[int, ...]) -> Elbo:
    draw = torch.Generator().manual_seed(0)
    datum = (*leading, 6)
    return Elbo(
        torch.randn(datum, generator=draw, dtype=torch.float64),
        {
            "z": torch.rand((*datum, *latent), generator=draw, dtype=torch.float64),
            "path": torch.rand(datum, generator=draw, dtype=torch.float64),
        },
    )


@pytest.mark.parametrize("leading", LEADING)
@pytest.mark.parametrize("latent", LATENT)
def test_a_rate_is_summed_over_its_latent_axes_and_no_others(leading: tuple[int, ...], latent: tuple[int, ...]) -> None:
    elbo = made_up(leading, latent)
    rate = elbo.rates["z"].numpy()
    for datum in np.ndindex(*leading, 6):
        assert float(elbo.rate("z")[datum]) == pytest.approx(rate[datum].sum(), rel=1e-12)
    assert elbo.rate("z").shape == (*leading, 6)


@pytest.mark.parametrize("leading", LEADING)
def test_the_bound_is_minus_distortion_and_all_rates(leading: tuple[int, ...]) -> None:
    elbo = made_up(leading, (4,))
    torch.testing.assert_close(elbo.total_rate(), elbo.rates["z"].sum(-1) + elbo.rates["path"])
    torch.testing.assert_close(elbo.value(), -elbo.distortion - elbo.rates["z"].sum(-1) - elbo.rates["path"])
    assert elbo.value().shape == (*leading, 6)


def test_leading_cells_are_as_good_as_cells_alone() -> None:
    pack = made_up((3,), (4,))
    for cell in range(3):
        alone = Elbo(pack.distortion[cell], {name: rate[cell] for name, rate in pack.rates.items()})
        assert torch.equal(alone.value(), pack.value()[cell])


def test_without_rates_the_bound_is_minus_the_distortion() -> None:
    elbo = Elbo(torch.tensor([1.0, 2.0]), {})
    assert torch.equal(elbo.total_rate(), torch.zeros(2))
    assert torch.equal(elbo.value(), torch.tensor([-1.0, -2.0]))


def test_a_rate_of_the_datums_shape_passes_through() -> None:
    rate = torch.rand(5, generator=torch.Generator().manual_seed(0))
    assert total_over_latents(rate, torch.zeros(5)) is rate


def test_several_draws_are_reported_by_their_means() -> None:
    draws = Elbo(torch.tensor([[1.0, 3.0]]), {"z": torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])})
    elbo = Elbo.drawn(draws)
    assert elbo.distortion.tolist() == [2.0]
    assert elbo.rates["z"].tolist() == [[2.0, 4.0]]
    assert elbo.value().tolist() == [-8.0]
    assert elbo.draws is draws
