"""The objective is the ELBO re-weighted, and nothing else: β and free nats as eq. 37 has them, each cell its own."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from vaesweep.elbo import Elbo
from vaesweep.errors import UserError
from vaesweep.rates import FixedBeta, FreeNats, LinearWarmup, RateConfig, RatePolicy, TargetRate, Weights

CELLS, BATCH = 3, 5
SHAPES = {"z": (4,), "path": (), "top": (2, 3)}  # latent axes of three rates
NAMES = tuple(SHAPES)
STEP = torch.tensor(0.0, dtype=torch.float64)


def made_up(cells: int = CELLS) -> Elbo:
    draw = torch.Generator().manual_seed(0)
    distortion = torch.randn(cells, BATCH, generator=draw, dtype=torch.float64)
    rates = {
        name: torch.rand(cells, BATCH, *latent, generator=draw, dtype=torch.float64) for name, latent in SHAPES.items()
    }
    return Elbo(distortion, rates)


def objective(configs: list[RateConfig], elbo: Elbo) -> Tensor:
    policy = RatePolicy(configs, NAMES)
    return policy.weights(policy.start(), STEP).objective(elbo)


def equation_37(configs: list[RateConfig], elbo: Elbo) -> Tensor:
    """D + Σ β Σ_d max(λ, R_d), or β max(λ, Σ_d R_d) for a group, in plain Python."""
    result = torch.zeros(len(configs), BATCH, dtype=torch.float64)
    for (cell, config), datum in itertools.product(enumerate(configs), range(BATCH)):
        value = float(elbo.distortion[cell, datum])
        for name in NAMES:
            shared = config.rates.get("total")
            control = config.rates.get(name, shared)
            beta = control.value if isinstance(control, FixedBeta) else 1.0
            entries = elbo.rates[name][cell, datum].flatten().tolist()
            free = config.free_nats.get(name, FreeNats())
            if free.per == "group":
                value += beta * max(free.nats, sum(entries))
            else:
                value += beta * sum(max(free.nats, entry) for entry in entries)
        result[cell, datum] = value
    return result


def test_without_weights_it_is_the_negative_elbo() -> None:
    elbo = made_up()
    torch.testing.assert_close(objective([RateConfig()] * CELLS, elbo), -elbo.value())
    unit = RateConfig(rates={"total": FixedBeta(value=1.0)})
    torch.testing.assert_close(objective([unit] * CELLS, elbo), -elbo.value())


@pytest.mark.parametrize("per", ["dimension", "group"])
@pytest.mark.parametrize("names", [("z",), ("path",), ("top",), NAMES])
def test_free_nats_and_beta_are_equation_37_cell_by_cell(per: str, names: tuple[str, ...]) -> None:
    elbo = made_up()
    configs = [
        RateConfig(
            rates={name: FixedBeta(value=0.5 + cell + k) for k, name in enumerate(NAMES)},
            free_nats={name: FreeNats(nats=0.3 * (cell + 1) * (4 if per == "group" else 1), per=per) for name in names},
        )
        for cell in range(CELLS)
    ]
    torch.testing.assert_close(objective(configs, elbo), equation_37(configs, elbo), rtol=1e-12, atol=1e-12)


def test_one_beta_on_the_total_weighs_every_rate() -> None:
    elbo = made_up()
    configs = [RateConfig(rates={"total": FixedBeta(value=v)}) for v in (0.0, 0.5, 7.0)]
    expected = elbo.distortion + torch.tensor([0.0, 0.5, 7.0], dtype=torch.float64)[:, None] * elbo.total_rate()
    torch.testing.assert_close(objective(configs, elbo), expected)


def test_a_rate_without_a_control_keeps_beta_one() -> None:
    elbo = made_up(1)
    found = objective([RateConfig(rates={"z": FixedBeta(value=0.0)})], elbo)
    torch.testing.assert_close(found, elbo.distortion + elbo.rate("path") + elbo.rate("top"))


@pytest.mark.parametrize("per", ["dimension", "group"])
def test_what_is_free_has_no_gradient_and_what_is_not_has_beta(per: str) -> None:
    elbo = made_up()
    rate = elbo.rates["z"].requires_grad_()
    nats = 0.5 if per == "dimension" else 2.0
    config = RateConfig(rates={"z": FixedBeta(value=3.0)}, free_nats={"z": FreeNats(nats=nats, per=per)})
    (gradient,) = torch.autograd.grad(objective([config] * CELLS, elbo).sum(), rate)
    spent = rate if per == "dimension" else rate.sum(-1, keepdim=True).expand_as(rate)
    assert 0 < int((spent < nats).sum()) < spent.numel(), "the draw has both sorts"
    assert torch.equal(gradient, 3.0 * (spent > nats).to(gradient))


def test_the_elbo_itself_is_left_unweighted() -> None:
    elbo = made_up()
    before = elbo.value().clone()
    objective([RateConfig(rates={"z": FixedBeta(value=9.0)}, free_nats={"z": FreeNats(nats=2.0)})] * CELLS, elbo)
    assert torch.equal(elbo.value(), before)


def test_a_float32_elbo_has_a_float32_objective() -> None:
    elbo = made_up()
    small = Elbo(elbo.distortion.float(), {name: rate.float() for name, rate in elbo.rates.items()})
    config = RateConfig(rates={"total": TargetRate(target=1.0)}, free_nats={"z": FreeNats(nats=0.1)})
    assert objective([config] * CELLS, small).dtype is torch.float32


REFUSED = [
    (RateConfig(rates={"y": FixedBeta()}), "no rate named 'y'; it has z, path, top"),
    (RateConfig(free_nats={"y": FreeNats()}), "no rate named 'y'"),
    (RateConfig(rates={"total": FixedBeta(), "z": FixedBeta()}), "total and z would both weigh the same rate"),
    (RateConfig(free_nats={"total": FreeNats()}), "total"),
    (RateConfig(rates={"total": FixedBeta()}, free_nats={"total": FreeNats()}), "belong to a rate, not to the total"),
]


@pytest.mark.parametrize(("config", "message"), REFUSED)
def test_a_misnamed_rate_is_refused_in_one_line(config: RateConfig, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        RatePolicy([config], NAMES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("nats", [-0.1, math.nan, math.inf])
def test_free_nats_are_finite_and_not_negative(nats: float) -> None:
    with pytest.raises(ValueError, match="nats"):
        FreeNats(nats=nats)


def test_a_policy_of_many_cells_is_each_cells_own() -> None:
    configs = [
        RateConfig(
            rates={"z": TargetRate(target=1.0 + cell, step_size=0.02), "path": LinearWarmup(steps=10.0 + 5 * cell)},
            free_nats={"top": FreeNats(nats=0.1 * cell)},
        )
        for cell in range(CELLS)
    ]
    elbo, draw = made_up(), torch.Generator().manual_seed(1)
    together, alone = RatePolicy(configs, NAMES), [RatePolicy([config], NAMES) for config in configs]
    state, states = together.start(), [policy.start() for policy in alone]
    one = torch.ones(CELLS, dtype=torch.float64)
    for number in range(150):
        step = torch.tensor(float(number), dtype=torch.float64)
        measured = {name: 4 * torch.rand(CELLS, generator=draw) for name in NAMES}
        weighted = together.weights(state, step).objective(elbo)
        state = together.advance(state, measured, step, one)
        for cell, policy in enumerate(alone):
            part = Elbo(elbo.distortion[[cell]], {name: rate[[cell]] for name, rate in elbo.rates.items()})
            own = policy.weights(states[cell], step).objective(part)
            torch.testing.assert_close(own[0], weighted[cell], rtol=1e-12, atol=1e-12)
            mine = {name: rate[[cell]] for name, rate in measured.items()}
            states[cell] = policy.advance(states[cell], mine, step, one[:1])
            assert policy.settled(states[cell], step)[0] == together.settled(state, step)[cell]
            for name, flag in policy.saturated(states[cell]).items():
                assert flag[0] == together.saturated(state)[name][cell]


def test_a_policy_has_settled_once_all_its_controls_have() -> None:
    policy = RatePolicy([RateConfig(rates={"z": LinearWarmup(steps=5), "path": LinearWarmup(steps=9)})], NAMES)
    assert [bool(policy.settled({}, torch.tensor(float(k)))) for k in (4, 5, 8, 9)] == [False, False, False, True]
    assert bool(RatePolicy([RateConfig()], NAMES).settled({}, STEP)), "nothing that moves has settled"


# --- several draws ----------------------------------------------------------------------------------------------


def drawn(draws: int) -> Elbo:
    """Two cells, three data, random parts of every draw, in nats."""
    generator = torch.Generator().manual_seed(0)
    distortion = 5 * torch.rand(2, 3, draws, generator=generator, dtype=torch.float64)
    return Elbo.drawn(Elbo(distortion, {"z": torch.rand(2, 3, draws, generator=generator, dtype=torch.float64)}))


def test_of_one_draw_the_objective_is_the_draws_own() -> None:
    elbo, weights = drawn(1), Weights({"z": torch.tensor([1.0, 3.0])}, {})
    torch.testing.assert_close(weights.objective(elbo), weights.objective(Elbo(elbo.distortion, elbo.rates)))


def test_of_several_draws_it_is_the_importance_weighted_bound() -> None:
    elbo, beta = drawn(6), torch.tensor([1.0, 0.5], dtype=torch.float64)
    assert elbo.draws is not None
    log_weights = -(elbo.draws.distortion + beta[:, None, None] * elbo.draws.rates["z"])
    expected = -log_weights.exp().mean(-1).log()
    found = Weights({"z": beta}, {}).objective(elbo)
    torch.testing.assert_close(found, expected)
    single = Weights({"z": beta}, {}).objective(Elbo(elbo.distortion, elbo.rates))
    assert (found <= single).all(), "tighter than the mean over draws"
