"""Every kind of rate control keeps the contract of one; each kind then does what its name says."""

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
import safetensors.torch
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from vaesweep.packing import packed_names
from vaesweep.rates import (
    Control,
    FixedBeta,
    LinearWarmup,
    RateConfig,
    RateControl,
    RatePolicy,
    SigmoidWarmup,
    State,
    TargetRate,
    stack_numbers,
)

DOUBLE = torch.float64


def at(step: float) -> Tensor:
    return torch.tensor(float(step), dtype=DOUBLE)


def pack_of(control: RateControl, cells: int) -> list[RateControl]:
    """Cells like `control`, each with its packed numbers a little smaller, so that bounds stay in order."""
    draw = torch.Generator().manual_seed(0)
    shares = 1 - 0.1 * torch.rand(cells, len(packed_names(control)), generator=draw, dtype=DOUBLE)
    numbers = {name: getattr(control, name) for name in packed_names(control)}
    return [
        type(control)(**{name: value * float(s) for (name, value), s in zip(numbers.items(), row, strict=True)})
        for row in shares
    ]


def drive(controls: Sequence[RateControl], rates: Tensor) -> tuple[Tensor, State]:
    """β at every step `[step, cell]` and the last state, under given rates `[step, cell]`."""
    kind, numbers = type(controls[0]), stack_numbers(controls)
    state, betas, pace = kind.start(numbers), [], torch.ones(len(controls), dtype=DOUBLE)
    for step, rate in enumerate(rates):
        betas.append(kind.beta(numbers, state, at(step)))
        state = kind.advance(numbers, state, rate, at(step), pace)
    return torch.stack(betas), state


def random_rates(steps: int, cells: int) -> Tensor:
    """Rates from 1e-6 to 1e6 nats, one in ten exactly zero."""
    draw = torch.Generator().manual_seed(1)
    size = 10 ** (12 * torch.rand(steps, cells, generator=draw, dtype=DOUBLE) - 6)
    return size * (torch.rand(steps, cells, generator=draw) > 0.1)


# --- the contract, for every kind in the union -------------------------------------------------------------------


def test_state_is_one_float_or_bool_a_cell_from_the_start_on(control: RateControl) -> None:
    cells = pack_of(control, 5)
    for state in (type(control).start(stack_numbers(cells)), drive(cells, random_rates(3, 5))[1]):
        for name, value in state.items():
            assert value.shape == (5,), name
            assert value.is_floating_point() or value.dtype is torch.bool, name


@pytest.mark.parametrize("steps", [0, 7])
def test_state_survives_a_file_and_goes_on_as_if_nothing_had_been(control: RateControl, steps: int) -> None:
    cells, rates = pack_of(control, 5), random_rates(20, 5)
    state = drive(cells, rates[:steps])[1] if steps else type(control).start(stack_numbers(cells))
    read = safetensors.torch.load(safetensors.torch.save(state))
    assert read.keys() == state.keys()
    kind, numbers, pace = type(control), stack_numbers(cells), torch.ones(5, dtype=DOUBLE)
    for step in range(steps, 20):
        assert torch.equal(kind.beta(numbers, read, at(step)), kind.beta(numbers, state, at(step)))
        state = kind.advance(numbers, state, rates[step], at(step), pace)
        read = kind.advance(numbers, read, rates[step], at(step), pace)
    assert all(torch.equal(read[name], state[name]) for name in state)


def test_a_pack_is_its_cells_one_at_a_time(control: RateControl) -> None:
    cells, rates = pack_of(control, 6), random_rates(300, 6)
    betas, state = drive(cells, rates)
    for i, cell in enumerate(cells):
        alone, own = drive([cell], rates[:, i : i + 1])
        # Elementwise float64 arithmetic; vector and scalar `pow` may differ in the last place, 300 times over.
        torch.testing.assert_close(alone[:, 0], betas[:, i], rtol=1e-12, atol=0)
        for name in state:
            torch.testing.assert_close(own[name][0], state[name][i], rtol=1e-12, atol=0)


def test_advance_leaves_the_old_state_as_it_was(control: RateControl) -> None:
    numbers = stack_numbers(pack_of(control, 4))
    state = type(control).start(numbers)
    before = {name: value.clone() for name, value in state.items()}
    type(control).advance(numbers, state, torch.full((4,), 9.0, dtype=DOUBLE), at(0), torch.ones(4, dtype=DOUBLE))
    assert all(torch.equal(state[name], before[name]) for name in before)


def test_beta_is_finite_and_never_negative_whatever_the_rate(control: RateControl) -> None:
    betas, _ = drive(pack_of(control, 8), random_rates(2000, 8))
    assert betas.isfinite().all()
    assert (betas >= 0).all()


def test_every_control_settles_once_the_rate_stands_still(control: RateControl) -> None:
    cells = pack_of(control, 5)
    rates = torch.tensor([1e-3, 0.5, control.model_dump().get("target", 1.0), 20.0, 1e3], dtype=DOUBLE)
    _, state = drive(cells, rates.expand(3000, 5))
    assert type(control).settled(stack_numbers(cells), state, at(3000)).tolist() == [True] * 5


def test_settled_and_saturated_are_one_bool_a_cell(control: RateControl) -> None:
    numbers = stack_numbers(pack_of(control, 3))
    state = type(control).start(numbers)
    for flag in (type(control).settled(numbers, state, at(0)), type(control).saturated(numbers, state)):
        assert flag.shape == (3,)
        assert flag.dtype is torch.bool
    assert not type(control).saturated(numbers, state).any()


def test_a_control_is_frozen(control: RateControl) -> None:
    for name in type(control).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(control, name, 0.5)


def test_nan_infinities_and_unknown_keys_are_refused(control: RateControl) -> None:
    values = control.model_dump()
    for name, bad in itertools.product(packed_names(control), (math.nan, math.inf, -math.inf, -1.0)):
        with pytest.raises(ValidationError, match=name):
            type(control)(**values | {name: bad})
    with pytest.raises(ValidationError, match="unheard_of"):
        type(control)(**values | {"unheard_of": 1.0})


def test_json_finds_its_kind_again(control: RateControl) -> None:
    read = TypeAdapter(Control).validate_json(control.model_dump_json())
    assert read == control
    assert type(read) is type(control)


# --- fixed β and warm-ups ---------------------------------------------------------------------------------------


def test_fixed_beta_never_moves() -> None:
    betas, _ = drive([FixedBeta(value=0.0), FixedBeta(value=3.5)], random_rates(50, 2))
    assert torch.equal(betas, torch.tensor([0.0, 3.5], dtype=DOUBLE).expand(50, 2))


WARMUPS = [
    LinearWarmup(value=3.0, steps=80),
    LinearWarmup(value=0.2, start_value=2.0, steps=80),
    SigmoidWarmup(value=3.0, steps=80),
    SigmoidWarmup(value=3.0, steps=80, steepness=30),
    SigmoidWarmup(value=3.0, steps=80, steepness=1e-12),
    SigmoidWarmup(value=3.0, steps=80, steepness=1e-20),
]


@pytest.mark.parametrize("warmup", WARMUPS, ids=repr)
def test_a_warmup_goes_from_end_to_end_without_turning_back(warmup: LinearWarmup | SigmoidWarmup) -> None:
    betas, _ = drive([warmup], torch.ones(120, 1, dtype=DOUBLE))
    start = getattr(warmup, "start_value", 0.0)
    assert float(betas[0]) == start
    assert betas[80:, 0].tolist() == pytest.approx([warmup.value] * 40, rel=1e-14)
    steps = betas.diff(dim=0) * math.copysign(1, warmup.value - start)
    assert (steps >= 0).all()
    assert float(betas[40]) == pytest.approx((start + warmup.value) / 2, rel=1e-12)  # both are odd about the middle


def test_a_warmup_has_settled_at_its_last_step_and_not_before() -> None:
    for warmup in (LinearWarmup(steps=80), SigmoidWarmup(steps=80)):
        numbers = stack_numbers([warmup])
        flags = [bool(type(warmup).settled(numbers, {}, at(step))) for step in (0, 79, 80, 81)]
        assert flags == [False, False, True, True]


def test_sigmoid_is_the_rescaled_logistic() -> None:
    betas, _ = drive([SigmoidWarmup(value=2.0, steps=100, steepness=5.0)], torch.ones(101, 1, dtype=DOUBLE))

    def logistic(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    for step in range(101):
        share = (logistic(5 * (2 * step / 100 - 1)) - logistic(-5)) / (logistic(5) - logistic(-5))
        assert float(betas[step]) == pytest.approx(2 * share, rel=1e-12, abs=1e-14)


# --- the target rate --------------------------------------------------------------------------------------------

CAPACITY = 20.0  # nats that the simulated model below carries at β = 0
TARGETS = (0.1, 0.5, 1.0, 4.0, 10.0, 15.0)


def follow(
    controls: Sequence[TargetRate],
    steps: int,
    lag: float = 1.0,
    pace: Callable[[int], float] = lambda step: 1.0,
    response: Callable[[Tensor, int], Tensor] = lambda beta, step: CAPACITY / (1 + beta),
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A model that a control drives: its rate moves by 1 / `lag` a step towards what β asks of it.

    Returns rates, β, saturated and settled, each `[step, cell]`.
    """
    numbers, rows = stack_numbers(controls), []
    state = TargetRate.start(numbers)
    rate = torch.zeros(len(controls), dtype=DOUBLE)
    for step in range(steps):
        beta = TargetRate.beta(numbers, state, at(step))
        rate = rate + (response(beta, step) - rate) / lag
        state = TargetRate.advance(numbers, state, rate, at(step), torch.full_like(rate, pace(step)))
        flags = TargetRate.saturated(numbers, state), TargetRate.settled(numbers, state, at(step))
        rows.append((rate, beta, *flags))
    rates, betas, saturated, settled = (torch.stack(column) for column in zip(*rows, strict=True))
    return rates, betas, saturated, settled


def misses(rates: Tensor, targets: Sequence[float]) -> Tensor:
    """The largest relative miss over the last 500 steps, of either sign: `[cell]`."""
    ratio = rates[-500:] / torch.tensor(targets, dtype=DOUBLE)
    return torch.maximum(ratio, 1 / ratio).amax(0) - 1


@pytest.mark.parametrize("lag", [1.0, 2.0, 5.0, 20.0, 50.0])
def test_targets_are_reached_within_the_dead_band_where_steps_suit_the_lag(lag: float) -> None:
    # A relay with dead band ε that drives an integrator with gain δ and two lags, the average's 50 steps and the
    # model's, has no limit cycle if (2 / π ε) · δ · lag · 50 / (lag + 50) < 1 (describing function; the model's
    # elasticity d log R / d log β is below 1). A margin of 2 to that bound is taken; 1 % would be the largest step.
    band, memory = 0.005, 50.0
    step_size = min(0.01, 0.5 * (math.pi / 2) * band * (lag + memory) / (lag * memory))
    start = [2 * (CAPACITY / t - 1) for t in TARGETS]  # twice the β that is right
    controls = [
        TargetRate(target=t, initial=b, step_size=step_size, dead_band=band)
        for t, b in zip(TARGETS, start, strict=True)
    ]
    rates, betas, saturated, settled = follow(controls, int(1.3 * math.log(2) / step_size) + 1500, lag)
    assert (misses(rates, TARGETS) <= band + 1e-9).all()
    assert torch.equal(betas[-1], betas[-500]), "inside the band β stands still"
    assert settled[-1].all()
    assert not saturated.any()


def test_a_falling_pace_brings_a_control_to_rest_that_is_too_fast_for_its_model() -> None:
    controls, steps = [TargetRate(target=t) for t in TARGETS], 4000
    restless, *_ = follow(controls, steps, lag=20)
    rested, *_ = follow(controls, steps, lag=20, pace=lambda k: 0.505 + 0.495 * math.cos(math.pi * k / steps))
    assert (misses(restless, TARGETS) > 0.05).all()
    assert (misses(rested, TARGETS) < 0.05).all()


def given(control: TargetRate, rate: float, beta: float, pace: float = 1.0) -> float:
    """β after one step that started at `beta` and measured `rate`, with no memory of earlier ones."""
    numbers = stack_numbers([control.model_copy(update={"initial": beta, "smoothing": 0.0})])
    tensor = torch.tensor([rate], dtype=DOUBLE)
    pace_of = torch.tensor([pace], dtype=DOUBLE)
    return float(TargetRate.advance(numbers, TargetRate.start(numbers), tensor, at(0), pace_of)["beta"])


@pytest.mark.parametrize("pace", [1.0, 0.5, 0.01, 0.0])
def test_one_step_is_a_power_of_one_plus_step_size(pace: float) -> None:
    control = TargetRate(target=4.0, step_size=0.03, dead_band=0.1)
    assert given(control, 4.5, 2.0, pace) == pytest.approx(2.0 * 1.03**pace, rel=1e-14)
    assert given(control, 3.5, 2.0, pace) == pytest.approx(2.0 / 1.03**pace, rel=1e-14)


@pytest.mark.parametrize("rate", [4.0, 4.0 * 1.1 - 1e-9, 4.0 / 1.1 + 1e-9])
def test_inside_the_dead_band_beta_stays_exactly(rate: float) -> None:
    assert given(TargetRate(target=4.0, dead_band=0.1), rate, 2.0) == 2.0


def test_without_a_pace_beta_is_frozen() -> None:
    _, betas, *_ = follow([TargetRate(target=t) for t in TARGETS], 200, pace=lambda step: 0.0)
    assert torch.equal(betas, torch.ones_like(betas))


def test_bounds_are_never_left() -> None:
    control = TargetRate(target=2.0, floor=0.5, ceiling=3.0, step_size=0.4, smoothing=0.0)
    betas, _ = drive([control] * 4, random_rates(2000, 4))
    assert (betas >= 0.5).all()
    assert (betas <= 3.0).all()
    assert {0.5, 3.0} <= set(betas.flatten().tolist()), "and both are reached exactly"


def test_an_initial_beta_outside_its_bounds_is_refused() -> None:
    with pytest.raises(ValidationError, match="outside its bounds: floor 2, ceiling 3"):
        TargetRate(target=1.0, initial=1.0, floor=2.0, ceiling=3.0)


def test_the_average_is_corrected_for_its_start() -> None:
    # A constant rate is its own average from the first step on: β must not first fall towards an average of zero.
    betas, state = drive([TargetRate(target=5.0)], torch.full((40, 1), 5.0, dtype=DOUBLE))
    assert torch.equal(betas, torch.ones_like(betas))
    assert float(state["average"] / state["weight"]) == pytest.approx(5.0, rel=1e-12)


def test_a_target_above_capacity_is_saturated_until_capacity_grows() -> None:
    control = TargetRate(target=30.0, floor=0.1, patience=50)

    def response(beta: Tensor, step: int) -> Tensor:
        return (20.0 if step < 1500 else 40.0) / (1 + beta)

    rates, betas, saturated, settled = follow([control], 3000, response=response)
    assert float(betas[1499]) == 0.1
    assert saturated[1499]
    assert settled[1499], "nothing will move any more"
    assert not saturated[-1]
    assert misses(rates, [30.0])[0] <= 0.005 + 1e-9


def test_a_target_below_what_the_model_must_spend_is_saturated_until_it_may_spend_less() -> None:
    control = TargetRate(target=2.0, ceiling=10.0, patience=50)

    def response(beta: Tensor, step: int) -> Tensor:
        return (5.0 if step < 1500 else 0.0) + 10 / (1 + beta)

    rates, betas, saturated, _ = follow([control], 3000, response=response)
    assert float(betas[1499]) == 10.0
    assert saturated[1499]
    assert not saturated[-1]
    assert misses(rates, [2.0])[0] <= 0.005 + 1e-9


def test_saturation_takes_patience_steps_in_a_row() -> None:
    control = TargetRate(target=30.0, initial=0.1, floor=0.1, patience=50)
    *_, saturated, _ = follow([control], 60)
    assert saturated[:, 0].tolist() == [False] * 49 + [True] * 11


def test_one_control_a_rate_meets_each_target_and_one_on_the_total_meets_their_sum() -> None:
    capacity = {"a": 6.0, "b": 14.0}
    separate = RateConfig(rates={"a": TargetRate(target=2.0), "b": TargetRate(target=5.0)})
    total = RateConfig(rates={"total": TargetRate(target=7.0)})
    for config, expected in ((separate, {"a": 2.0, "b": 5.0}), (total, {"a": 6 * 0.35, "b": 14 * 0.35})):
        policy = RatePolicy([config], ("a", "b"))
        state, one = policy.start(), torch.ones(1, dtype=DOUBLE)
        for step in range(2500):
            beta = policy.weights(state, at(step)).beta
            rates = {name: capacity[name] / (1 + beta[name]) for name in capacity}
            state = policy.advance(state, rates, at(step), one)
        for name, value in expected.items():
            assert float(rates[name]) == pytest.approx(
                value, rel=0.006
            )  # the dead band of 0.005, and rounding of 1/1.005
        assert bool(policy.settled(state, at(2500)))
    assert torch.equal(beta["a"], beta["b"]), "one β for all rates"
