"""Every elementwise distribution agrees with torch.distributions and with its own samples, alone and under vmap."""

import math
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Beta as TorchBeta
from torch.distributions import Distribution as TorchDistribution
from torch.distributions import Gamma as TorchGamma
from torch.distributions import LogNormal as TorchLogNormal
from torch.distributions import Normal, kl_divergence

from vaesweep.distributions import Beta, Distribution, Gamma, Gaussian, LogNormal

SHAPE = (5,)


@dataclass
class Kind:
    """A kind of distribution, its counterpart, and parameters drawn at random."""

    ours: Any
    positive: bool

    def drawn(self, seed: int, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float64) -> Any:
        generator = torch.Generator().manual_seed(seed)
        parameters = torch.randn((len(fields(self.ours)), *shape), generator=generator, dtype=dtype)
        values = parameters.exp() + 0.2 if self.positive else 0.5 * parameters
        return self.ours(*(value.clone().requires_grad_() for value in values))

    def noise(self, samples: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
        generator = torch.Generator().manual_seed(99)
        return torch.randn((samples, *shape, *self.ours.NOISE), generator=generator, dtype=torch.float64)


def leaves_of(q: Any) -> list[Tensor]:
    return [getattr(q, field.name) for field in fields(q)]


def reference(q: Distribution) -> TorchDistribution:
    match q:
        case Gaussian():
            return Normal(q.mean, q.log_std.exp())
        case LogNormal():
            return TorchLogNormal(q.log_mean, q.log_std.exp())
        case Gamma():
            return TorchGamma(q.concentration, torch.ones_like(q.concentration))
        case Beta():
            return TorchBeta(q.a, q.b)
    raise TypeError(q)


@pytest.fixture(
    params=[Kind(Gaussian, False), Kind(LogNormal, False), Kind(Gamma, True), Kind(Beta, True)],
    ids=lambda kind: kind.ours.__name__,
)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


def assert_means(values: Tensor, exact: Tensor) -> None:
    """Five standard errors in each of a few places: a right estimator fails one seed in some 300 000."""
    values = values.detach()
    error = values.std(0) / math.sqrt(len(values))
    assert ((values.mean(0) - exact.detach()).abs() < 5 * error).all()


def test_log_density_is_that_of_torch_distributions(kind: Kind) -> None:
    q = kind.drawn(0)
    z = reference(q).sample((100,))
    torch.testing.assert_close(q.log_prob(z), reference(q).log_prob(z), rtol=1e-9, atol=1e-9)


def test_a_sample_comes_with_its_log_density(kind: Kind) -> None:
    q = kind.drawn(0)
    z, log_q = q.draw(kind.noise(1000))
    torch.testing.assert_close(log_q, q.log_prob(z), rtol=1e-7, atol=1e-7)


def test_mean_and_standard_deviation_are_those_of_torch_distributions(kind: Kind) -> None:
    q = kind.drawn(0)
    torch.testing.assert_close(q.mean, reference(q).mean, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(q.std, reference(q).stddev, rtol=1e-9, atol=1e-11)


def test_kl_is_that_of_torch_distributions(kind: Kind) -> None:
    q, p = kind.drawn(0), kind.drawn(1)
    torch.testing.assert_close(q.kl(p), kl_divergence(reference(q), reference(p)), rtol=1e-9, atol=1e-11)
    assert (q.kl(p) > 0).all()


def test_kl_between_equals_is_exactly_zero(kind: Kind) -> None:
    assert torch.equal(kind.drawn(0).kl(kind.drawn(0)), torch.zeros(SHAPE, dtype=torch.float64))


def test_samples_have_the_mean_and_the_kl_in_expectation(kind: Kind) -> None:
    q, p = kind.drawn(0), kind.drawn(1)
    z, log_q = q.draw(kind.noise(100_000))
    torch.testing.assert_close(q.mean, reference(q).mean)
    assert_means(z, q.mean)
    assert_means(log_q - p.log_prob(z), q.kl(p))


def test_the_reparameterised_gradient_of_the_kl_is_that_of_the_closed_form(kind: Kind) -> None:
    q, p, samples = kind.drawn(2), kind.drawn(3), 50_000
    exact = torch.autograd.grad(q.kl(p).sum(), leaves_of(q))
    wide = kind.ours(*(leaf.detach().expand(samples, *SHAPE).clone().requires_grad_() for leaf in leaves_of(q)))
    z, log_q = wide.draw(kind.noise(samples))
    found = torch.autograd.grad((log_q - p.log_prob(z)).sum(), leaves_of(wide))
    for one, other in zip(found, exact, strict=True):
        assert_means(one, other)


def test_noise_may_have_sample_axes_and_parameters_any_shape(kind: Kind) -> None:
    z, log_q = kind.drawn(0, (2, 3)).draw(kind.noise(7, (2, 3)))
    assert z.shape == log_q.shape == (7, 2, 3)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shared", ["nothing", "noise"])
def test_mapped_over_cells_it_is_a_loop_over_cells_in_value_and_gradient(kind: Kind, shared: str, axis: int) -> None:
    cells = 3
    parameters = leaves_of(kind.drawn(4, (cells, *SHAPE), torch.float32))
    noise = kind.noise(cells).float() if shared == "nothing" else kind.noise(1)[0].float()
    prior = kind.drawn(5, dtype=torch.float32)

    def objective(noise: Tensor, *parameters: Tensor) -> Tensor:
        q = kind.ours(*parameters)
        z, log_q = q.draw(noise)
        return (log_q - prior.log_prob(z) + q.kl(prior) + z.square()).sum()

    in_dims = (0 if shared == "nothing" else None, *[axis] * len(parameters))
    mapped = torch.vmap(objective, in_dims=in_dims)(noise, *(leaf.movedim(0, axis) for leaf in parameters))
    rows = noise if shared == "nothing" else noise.expand(cells, *noise.shape)
    looped = torch.stack([objective(rows[i], *(leaf[i] for leaf in parameters)) for i in range(cells)])
    torch.testing.assert_close(mapped, looped)
    found = torch.autograd.grad(mapped.sum(), parameters)
    for one, other in zip(found, torch.autograd.grad(looped.sum(), parameters), strict=True):
        torch.testing.assert_close(one, other)
        assert one.abs().sum() > 0


def test_one_distribution_is_mapped_over_nested_axes_of_noise(kind: Kind) -> None:
    q, noise = kind.drawn(7), kind.noise(6)
    mapped = torch.vmap(torch.vmap(lambda noise: q.draw(noise)[0]))(noise.unflatten(0, (2, 3))).flatten(0, 1)
    found = torch.autograd.grad(mapped.square().sum(), leaves_of(q))
    torch.testing.assert_close(mapped, q.draw(noise)[0])
    for one, other in zip(found, torch.autograd.grad(q.draw(noise)[0].square().sum(), leaves_of(q)), strict=True):
        torch.testing.assert_close(one, other)


def test_functional_gradients_are_those_of_autograd(kind: Kind) -> None:
    parameters = leaves_of(kind.drawn(6))
    noise = kind.noise(1)[0]

    def objective(*parameters: Tensor) -> Tensor:
        return kind.ours(*parameters).draw(noise)[0].square().sum()

    by_transform = torch.func.grad(objective, argnums=tuple(range(len(parameters))))(*parameters)
    for one, other in zip(by_transform, torch.autograd.grad(objective(*parameters), parameters), strict=True):
        torch.testing.assert_close(one, other)


def written_without_bounds(kind: type, z: Tensor) -> tuple[Tensor, Tensor]:
    """The variable on a scale without bounds, and the logarithm of dz / d(that)."""
    if kind is Beta:
        return z.logit(), z.log() + (-z).log1p()
    return (z, torch.zeros_like(z)) if kind is Gaussian else (z.log(), z.log())


def test_a_point_is_the_most_likely_value_where_the_variable_has_no_bounds(kind: Kind) -> None:
    q = kind.drawn(3)
    at, _ = written_without_bounds(kind.ours, q.point.detach())
    moved = at + torch.linspace(-3, 3, 1201, dtype=torch.float64)[:, None]
    z = {Beta: torch.sigmoid, Gaussian: lambda x: x}.get(kind.ours, torch.exp)(moved)
    density = q.log_prob(z) + written_without_bounds(kind.ours, z)[1]
    assert density.argmax(0).tolist() == [600] * SHAPE[0], "in steps of 0.005"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-3, 0.5, 1.0, 7.9, 8.1, 1e2, 1e4, 1e6])
def test_divergences_of_gammas_and_betas_do_not_cancel_however_concentrated(dtype: torch.dtype, size: float) -> None:
    """In nats, against torch's in float64; torch's own in float32 is a fifth off at 1e5."""
    a, b = (torch.tensor(factor * size, dtype=torch.float64) for factor in (1.0, 3.0))
    one = torch.ones((), dtype=torch.float64)
    pairs = [
        (Beta(a, b), Beta(one, one)),
        (Beta(a, a), Beta(one, one)),
        (Gamma(a), Gamma(0.5 * one)),
        (Gamma(a), Gamma(b)),
    ]
    for q, p in pairs:
        exact = float(kl_divergence(reference(q), reference(p)))
        mine, yours = (type(x)(*(value.detach().to(dtype) for value in leaves_of(x))) for x in (q, p))
        tolerance = {torch.float32: 1e-6, torch.float64: 1e-8}[dtype]  # where torch itself cancels
        assert float(mine.kl(yours)) == pytest.approx(exact, rel=tolerance, abs=tolerance), (q, p)


def test_gammas_of_one_size_are_told_apart_however_concentrated() -> None:
    """An adaptive prior is as concentrated as its posterior: d (u - log(1 + u)) of the relative difference u."""
    for size in (1.0, 1e2, 1e4):
        q, p = (torch.tensor(factor * size, dtype=torch.float64) for factor in (1.02, 1.0))
        exact = float(kl_divergence(TorchGamma(q, 1.0), TorchGamma(p, 1.0)))
        assert float(Gamma(q.float()).kl(Gamma(p.float()))) == pytest.approx(exact, rel=1e-3), size


def test_gradients_of_divergences_are_finite_on_both_sides_of_the_series() -> None:
    for size in (1e-6, 1e-3, 7.99, 8.0, 8.01, 1e6):
        a = torch.tensor([size], requires_grad=True)
        for q in (Beta(a, 2 * a), Gamma(a)):
            p = Beta(torch.ones(1), torch.ones(1)) if isinstance(q, Beta) else Gamma(0.5 * torch.ones(1))
            (gradient,) = torch.autograd.grad(q.kl(p).sum(), a)
            exact_a = a.detach().double().requires_grad_()
            exact_q = (
                TorchBeta(exact_a, 2 * exact_a) if isinstance(q, Beta) else TorchGamma(exact_a, torch.ones(1).double())
            )
            exact_p = (
                TorchBeta(torch.ones(1).double(), torch.ones(1).double())
                if isinstance(q, Beta)
                else TorchGamma(0.5 * torch.ones(1).double(), torch.ones(1).double())
            )
            (exact,) = torch.autograd.grad(kl_divergence(exact_q, exact_p).sum(), exact_a)
            assert float(gradient) == pytest.approx(float(exact), rel=2e-4), size


def test_a_log_normal_variable_neither_overflows_nor_stops_a_gradient() -> None:
    log_mean = torch.tensor([200.0, 0.0], requires_grad=True)
    z, log_q = LogNormal(log_mean, torch.zeros(2)).draw(torch.zeros(2))
    assert z.isfinite().all()
    (gradient,) = torch.autograd.grad(z.clamp_max(1e3).sum() + log_q.sum(), log_mean)
    assert gradient.isfinite().all()
