"""A level that is a latent SDE agrees with a loop of Euler-Maruyama over ordinary convolutions (thesis eqs. 3 to 5)."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from tiny_hierarchies import lively, shaped
from torch import Tensor

from vaesweep.families.hvae.models.continuous import Drifts, SdeLevel
from vaesweep.families.hvae.models.walk import Adaptive
from vaesweep.sde import coarsen, increments, path_increments, refine

WIDTH, LATENTS, HIDDEN, EDGE, BATCH = 6, 2, 5, 4, 3
EXACT = {"rtol": 1e-10, "atol": 1e-10}  # float64, sums in another order
SOLVERS = ["euler_maruyama", "euler_heun", "reversible_heun"]


def level_of(solver: str = "euler_maruyama", kind: str = "continuous", **depth: object) -> SdeLevel:
    """A level with random weights, the same ones for every solver."""
    found = lively(shaped(kind, {"solver": solver, **depth}), gain=1.5).levels[1]
    assert isinstance(found, SdeLevel)
    return found


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def start() -> Tensor:
    return drawn(BATCH, LATENTS, EDGE, EDGE, seed=3)


@pytest.fixture
def signal() -> Tensor:
    return drawn(BATCH, WIDTH, EDGE, EDGE, seed=4)


def path(steps: int, seed: int = 5) -> Tensor:
    return drawn(BATCH, steps, LATENTS, EDGE, EDGE, seed=seed)


# --- written out ------------------------------------------------------------------------------------------------


def plain_drift(drifts: Drifts, process: int, signal: Tensor | None) -> Callable[[float, Tensor], Tensor]:
    """One process by itself, without groups: a block of kernels 1, 3, 3, 1 over state, depth and (posterior) signal."""
    hidden, latents = slice(process * HIDDEN, (process + 1) * HIDDEN), slice(process * LATENTS, (process + 1) * LATENTS)
    first = torch.cat([drifts.state[hidden], drifts.depth[hidden, None]], dim=1)
    bias = drifts.bias[hidden]
    if signal is not None:
        assert drifts.signal is not None
        first, bias = torch.cat([first, drifts.signal.weight], dim=1), bias + drifts.signal.bias

    def drift(s: float, y: Tensor) -> Tensor:
        inputs = [y, torch.full_like(y[:, :1], s)] + ([] if signal is None else [signal])
        x = F.gelu(F.conv2d(torch.cat(inputs, dim=1), first[:, :, None, None], bias))
        x = F.gelu(F.conv2d(x, drifts.first[hidden], drifts.first_bias[hidden], padding=1))
        x = F.gelu(F.conv2d(x, drifts.second[hidden], drifts.second_bias[hidden], padding=1))
        return F.conv2d(x, drifts.expand[latents], drifts.expand_bias[latents])

    return drift


def euler_maruyama(
    level: SdeLevel, start: Tensor, noise: Tensor, signal: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The end of the path, its rate and its log density ratio, step by step."""
    steps, sigma = noise.shape[1], level.log_sigma.exp()
    prior = plain_drift(level.drifts, 0, None)
    posterior = prior if signal is None else plain_drift(level.drifts, 1, signal)
    z, rate, ratio = start, torch.zeros_like(start), torch.zeros_like(start)
    for i in range(steps):
        s, ds, dw = i / steps, 1 / steps, noise[:, i] / math.sqrt(steps)
        h, h_prior = posterior(s, z), prior(s, z)
        ahead = z + h * ds + sigma * dw
        rate = rate + 0.5 * ((h - h_prior) / sigma) ** 2 * ds
        kernels = [torch.distributions.Normal(z + mean * ds, sigma * math.sqrt(ds)) for mean in (h, h_prior)]
        ratio = ratio + kernels[0].log_prob(ahead) - kernels[1].log_prob(ahead)
        z = ahead
    return z, rate, ratio


@pytest.mark.parametrize("solver", ["euler_maruyama", "euler_heun"])  # the same, since the noise is additive
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_posterior_is_a_loop_over_plain_convolutions(
    solver: str, steps: int, start: Tensor, signal: Tensor
) -> None:
    """With its rate of every latent variable by itself, and the ratio of the two Markov chains' densities exactly."""
    level = level_of(solver)
    walk, expected = level(start, path(steps), signal), euler_maruyama(level, start, path(steps), signal)
    for found, right in zip(walk, expected, strict=True):
        assert found.shape == (BATCH, LATENTS, EDGE, EDGE)
        torch.testing.assert_close(found, right, **EXACT)
    assert float(walk.rate.detach().min()) > 0, "random weights: no posterior is its prior"


@pytest.mark.parametrize("kind", ["continuous", "ode_like"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_prior_is_a_loop_over_plain_convolutions(kind: str, steps: int, start: Tensor) -> None:
    level = level_of(kind=kind)
    walk, (end, _, _) = level(start, path(steps), None), euler_maruyama(level, start, path(steps), None)
    torch.testing.assert_close(walk.state, end, **EXACT)
    for cost in (walk.rate, walk.log_ratio):
        assert torch.equal(cost, torch.zeros_like(start))


def test_reversible_heun_is_kidgers_scheme_written_out(start: Tensor, signal: Tensor) -> None:
    """Algorithm 1 of Kidger et al. (2021b) over the plain drifts; its rate by the trapezoid rule along the twin."""
    level, steps = level_of("reversible_heun"), 5
    prior, posterior = plain_drift(level.drifts, 0, None), plain_drift(level.drifts, 1, signal)
    sigma, ds, noise = level.log_sigma.exp(), 1 / steps, path(steps)
    z = twin = start
    rate = torch.zeros_like(start)
    for i in range(steps):
        s, dw = i / steps, noise[:, i] / math.sqrt(steps)
        ahead = 2 * z - twin + posterior(s, twin) * ds + sigma * dw
        z = z + 0.5 * (posterior(s, twin) + posterior(s + ds, ahead)) * ds + sigma * dw
        for weight, (at, y) in ((0.5, (s, twin)), (0.5, (s + ds, ahead))):
            rate = rate + weight * 0.5 * ((posterior(at, y) - prior(at, y)) / sigma) ** 2 * ds
        twin = ahead
    walk = level(start, noise, signal)
    torch.testing.assert_close(walk.state, z, **EXACT)
    torch.testing.assert_close(walk.rate, rate, **EXACT)


# --- what holds of the processes --------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("hidden", [1, 5, 32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_weights_and_no_signal_cost_nothing_but_rounding(solver: str, hidden: int, dtype: torch.dtype) -> None:
    level = level_of(solver, hidden=hidden).to(dtype)
    drifts = level.drifts
    assert drifts.signal is not None
    with torch.no_grad():
        for silent in drifts.signal.parameters():
            silent.zero_()
        for name, parameter in drifts.named_parameters():
            if not name.startswith("signal"):
                half = len(parameter) // 2
                parameter[half:] = parameter[:half]
    start, noise = drawn(BATCH, LATENTS, EDGE, EDGE, seed=3).to(dtype), path(4).to(dtype)
    posterior = level(start, noise, drawn(BATCH, WIDTH, EDGE, EDGE, seed=4).to(dtype))
    # Of most sizes and processors the two halves of one convolution are the same sums, and the costs exactly zero.
    rounding = 100 * torch.finfo(dtype).eps  # of a drift; the rate is its square
    assert posterior.rate.abs().max() < rounding**2
    assert posterior.log_ratio.abs().max() < rounding
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype is torch.float32 else EXACT  # one process or two at a time
    torch.testing.assert_close(posterior.state, level(start, noise, None).state, **close)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_path_rate_is_the_mean_log_ratio_of_paths(solver: str, start: Tensor, signal: Tensor) -> None:
    """Girsanov: their difference is a martingale, of mean zero at any step."""
    draws, level = 4000, level_of(solver)
    one, told = (tensor[:1].expand(draws, -1, -1, -1) for tensor in (start, signal))
    with torch.no_grad():
        walk = level(one, drawn(draws, 4, LATENTS, EDGE, EDGE, seed=6), told)
    apart = walk.log_ratio - walk.rate
    error = apart.std(0) / math.sqrt(draws)
    assert (apart.mean(0).abs() < 5 * error).all()  # five standard errors, 32 latents
    assert float(error.min()) > 0


def test_the_diffusion_is_one_number_a_level() -> None:
    model = lively(shaped("continuous", {"diffusion": 0.3}))
    sigmas = [level.log_sigma for level in model.levels]
    assert [sigma.shape for sigma in sigmas] == [(), ()]
    assert sigmas[0] is not sigmas[1]
    assert all(float(sigma.detach().exp()) == pytest.approx(0.3) for sigma in sigmas)


def test_the_noise_enters_by_that_number_alone(start: Tensor) -> None:
    """Without drift the path's end is the start and σ W(1), in any number of steps."""
    level = level_of(diffusion=0.3)
    with torch.no_grad():
        level.drifts.expand.zero_()
        level.drifts.expand_bias.zero_()
    for steps in (1, 3, 10):
        end = start + 0.3 * path(steps).sum(1) / math.sqrt(steps)
        # The configured σ is kept as a float32 logarithm.
        torch.testing.assert_close(level(start, path(steps), None).state, end, rtol=1e-6, atol=1e-6)


def test_without_noise_neither_process_drifts_where_the_last_layer_is_silent(start: Tensor, signal: Tensor) -> None:
    level = level_of()
    with torch.no_grad():
        level.drifts.expand.zero_()
        level.drifts.expand_bias.zero_()
    walk = level(start, torch.zeros_like(path(4)), signal)
    assert torch.equal(walk.state, start)
    assert torch.equal(walk.rate, torch.zeros_like(start))


def test_signals_reach_the_posterior_and_never_the_prior(start: Tensor, signal: Tensor) -> None:
    level, told = level_of(), signal.clone().requires_grad_()
    (slope,) = torch.autograd.grad(level(start, path(3), told).state.sum(), told)
    assert float(slope.abs().max()) > 0
    # What the prior's drift gives in a posterior's walk: posterior - σ u does not change with the signal.
    for other in (signal, -3 * signal):
        one = level(start, path(1), other)
        h = (one.state - start - level.log_sigma.exp() * path(1)[:, 0]).detach()
        against = (one.log_ratio - one.rate).detach() / path(1)[:, 0]  # u of the only step
        expected = plain_drift(level.drifts, 0, None)(0.0, start)
        torch.testing.assert_close(h - level.log_sigma.exp() * against, expected, rtol=1e-7, atol=1e-7)


def test_an_ode_like_level_ignores_its_signal_and_has_no_rate(start: Tensor, signal: Tensor) -> None:
    level = level_of(kind="ode_like")
    told = signal.requires_grad_()
    walk, free = level(start, path(4), told), level(start, path(4), None)
    for found, expected in zip(walk, free, strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(walk.rate, torch.zeros_like(start))
    assert torch.equal(walk.log_ratio, torch.zeros_like(start))
    assert torch.autograd.grad(walk.state.sum(), told, allow_unused=True) == (None,)
    assert not any("signal" in name for name, _ in level.named_parameters())


@pytest.mark.parametrize("solver", SOLVERS)
def test_ends_and_rates_converge_along_one_path_as_steps_become_more(
    solver: str, start: Tensor, signal: Tensor
) -> None:
    """With additive noise the strong order of all three is 1: an error halves, or nearly, where the step does."""
    level, fine = level_of(solver), path(512)

    def at(steps: int) -> tuple[Tensor, Tensor]:
        walk = level(start, coarsen(increments(fine), 512 // steps) * math.sqrt(steps), signal)
        return walk.state, walk.rate

    with torch.no_grad():
        best = at(512)
        errors = {
            steps: [float((a - b).square().mean().sqrt()) for a, b in zip(at(steps), best, strict=True)]
            for steps in (4, 8, 16, 32, 64)
        }
    for which in (0, 1):
        ratio = errors[4][which] / errors[64][which]
        # Order 1 over four halvings is 16, and the reference's own error makes it 18; order 1/2 would be 4.
        assert ratio > 10, (which, errors)
    assert errors[64][0] < 0.05 * float(best[0].std())


def test_a_refined_path_ends_where_the_finer_walk_does(start: Tensor, signal: Tensor) -> None:
    """From 10 steps to 25 goes through 50: the same Brownian motion at every fifth of depth."""
    noise, bridge = path(10), path(50, seed=7)
    other = coarsen(refine(increments(noise), 5, bridge), 2)
    fifths = [one.unflatten(1, (5, -1)).sum(2) for one in (increments(noise), other)]
    torch.testing.assert_close(fifths[0], fifths[1], **EXACT)
    level = level_of(diffusion=0.3)
    with torch.no_grad():
        coarse, fine = level(start, noise, signal), level(start, other * 5, signal)
        far = level(start, path(25, seed=8), signal)
    error, apart = ((one.state - coarse.state).square().mean().sqrt() for one in (fine, far))
    assert float(error) < 0.3 * float(apart), "nearer than another path of as many steps"


def test_both_processes_begin_as_brownian_motion_nearly_and_the_rate_at_next_to_nothing() -> None:
    torch.manual_seed(0)
    config = shaped("continuous", {"hidden": 32, "diffusion": 0.5}, width=32, latents=4)
    level = SdeLevel(config, config.depth)  # type: ignore[arg-type]
    start, noise = torch.randn(8, 4, 4, 4), torch.randn(8, 10, 4, 4, 4)
    walk = level(start, noise, torch.randn(8, 32, 4, 4))
    brownian = start + 0.5 * noise.sum(1) / math.sqrt(10)
    assert float((walk.state - brownian).detach().abs().max()) < 0.1
    assert 0 < float(walk.rate.detach().mean()) < 0.01


@pytest.mark.parametrize("informed", [True, False])
def test_adaptive_steps_end_where_many_fixed_ones_along_the_same_path_do(
    informed: bool, start: Tensor, signal: Tensor
) -> None:
    level, told = level_of(), signal if informed else None
    with torch.no_grad():
        found = level(start, Adaptive(entropy=3, tolerance=1e-4), told)
        rough = level(start, Adaptive(entropy=3, tolerance=1.0), told)
        fixed = level(start, path_increments(start, 3, 1024) * math.sqrt(1024), told)
    for which in ("state", "rate"):
        ends = [getattr(walk, which) for walk in (found, rough, fixed)]
        near, far = ((end - ends[2]).abs().max() for end in ends[:2])
        # A step of 1/1024 misses by some 1e-3 of what the path moves, since Euler-Maruyama is of order 1 here.
        assert float(near) < 5e-3 * float(1 + ends[2].abs().max()), which
        assert near < far or not informed
    assert found.log_ratio.isnan().all(), "it is not known"
