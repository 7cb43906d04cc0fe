"""Plateau and early stopping judge unweighted quantities, wait for the rate control, and keep cells apart."""

import math

import pytest
import torch

from vaesweep.training.config import Constant, Cosine, EarlyStopping, Plateau, Pruning, TrainingConfig
from vaesweep.training.plateau import PlateauMonitor, PlateauState

WEIGHTS = torch.zeros(1, 2)
WATCHED = ["distortion", "elbo"]


def valid(distortion: list[float], rate: list[float] | None = None) -> dict[str, torch.Tensor]:
    d, r = torch.tensor(distortion), torch.tensor(rate or [0.0] * len(distortion))
    return {"distortion": d, "rate": r, "elbo": -(d + r)}


def yes(cells: int) -> torch.Tensor:
    return torch.ones(cells, dtype=torch.bool)


def judged(
    watch: PlateauMonitor, curves: list[list[float]], settled: list[list[bool]] | None = None
) -> list[PlateauState]:
    """The state after each evaluation; `curves` is one list of distortions a cell."""
    weights = torch.zeros(len(curves), 2)
    state, states = watch.start(weights), []
    for k, values in enumerate(zip(*curves, strict=True)):
        ready = torch.tensor([cell[k] for cell in settled]) if settled else yes(len(curves))
        state = watch.judge(state, valid(list(values)), ready, weights + k)
        states.append(state)
    return states


def plateau(patience: int = 2, **more: object) -> PlateauMonitor:
    return PlateauMonitor(TrainingConfig(schedule=Plateau(factor=0.5, patience=patience, tolerance=0.1, **more)))


def stopping(patience: int = 2, **more: object) -> PlateauMonitor:
    rule = EarlyStopping(patience=patience, tolerance=0.1, **more)
    return PlateauMonitor(TrainingConfig(schedule=Constant(), early_stopping=rule))


def test_a_plateau_halves_the_learning_rate_each_time_patience_runs_out() -> None:
    watch = plateau(patience=2)
    states = judged(watch, [[9.0] * 7])
    assert [float(watch.factor(s, 0)) for s in states] == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_a_warm_up_raises_the_learning_rate_to_what_the_schedule_gives() -> None:
    for schedule in (Constant(), Cosine(final_share=0.1)):
        plain = PlateauMonitor(TrainingConfig(schedule=schedule, steps=100))
        watch = PlateauMonitor(TrainingConfig(schedule=schedule, steps=100, warm_up=4))
        state = watch.start(WEIGHTS)
        shares = [float(watch.factor(state, step) / plain.factor(state, step)) for step in range(7)]
        assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0])


def test_a_warm_up_as_long_as_training_is_refused() -> None:
    with pytest.raises(ValueError, match="set warm_up below steps"):
        TrainingConfig(steps=100, warm_up=100)


def test_an_improvement_larger_than_the_tolerance_starts_patience_anew() -> None:
    watch = stopping(patience=2)
    improving = judged(watch, [[9.0, 9.0, 8.8, 8.8, 8.6, 8.6]])
    assert not any(bool(watch.stopped(s)) for s in improving)
    creeping = judged(watch, [[9.0, 8.95, 8.91, 8.905]])  # less than 0.1 from the best, all of them
    assert [bool(watch.stopped(s)) for s in creeping] == [False, False, True, True]


def test_cells_are_judged_apart() -> None:
    watch = stopping(patience=2)
    last = judged(watch, [[9.0, 9.0, 9.0], [9.0, 8.0, 7.0], [9.0, 9.0, 8.0]])[-1]
    assert watch.stopped(last).tolist() == [True, False, False]
    halved = plateau(patience=2)
    assert halved.factor(judged(halved, [[9.0, 9.0, 9.0], [9.0, 8.0, 7.0]])[-1], 0).tolist() == [0.5, 1.0]


def test_nothing_is_counted_before_the_rate_control_has_settled() -> None:
    watch = stopping(patience=2)
    settled = [[False] * 4 + [True] * 3]
    states = judged(watch, [[9.0] * 7], settled)
    assert [bool(watch.stopped(s)) for s in states] == [False] * 6 + [True]


def test_a_best_value_from_before_settling_does_not_count() -> None:
    # While β rose the distortion was lower than it can ever be again; that is no reason to stop.
    watch = stopping(patience=2)
    states = judged(watch, [[1.0, 9.0, 8.0, 7.0, 6.0]], [[False, True, True, True, True]])
    assert not any(bool(watch.stopped(s)) for s in states)


def test_a_control_that_moves_again_starts_patience_anew() -> None:
    watch = stopping(patience=2)
    states = judged(watch, [[9.0] * 6], [[True, True, False, True, True, True]])
    assert [bool(watch.stopped(s)) for s in states] == [False] * 5 + [True]


@pytest.mark.parametrize("make", [plateau, stopping])
def test_the_watched_quantity_is_the_one_named(make: object) -> None:
    # Distortion falls by as much as the rate rises: the ELBO stands still.
    key = "plateau.waited" if make is plateau else "stop.waited"
    for watched, waited in (("distortion", 0.0), ("elbo", 3.0)):
        watch = make(patience=9, watch=watched)  # type: ignore[operator]
        state = watch.start(WEIGHTS)
        for d in (9.0, 8.0, 7.0, 6.0):
            state = watch.judge(state, valid([d], [10 - d]), yes(1), WEIGHTS)
        assert float(state[key]) == waited, watched


@pytest.mark.parametrize("watched", WATCHED)
def test_a_re_weighted_loss_is_never_looked_at(watched: str) -> None:
    watch = stopping(patience=3, watch=watched)
    state = watch.start(WEIGHTS)
    for k in range(4):
        more = {"objective": torch.tensor([100.0 - 10 * k]), "beta.z": torch.tensor([float(k)])}
        state = watch.judge(state, valid([9.0], [1.0]) | more, yes(1), WEIGHTS)
    assert bool(watch.stopped(state)), "it stood still, whatever β made of it"


def test_a_value_that_is_not_a_number_is_no_improvement() -> None:
    watch = stopping(patience=2)
    assert bool(watch.stopped(judged(watch, [[9.0, math.nan, math.nan]])[-1]))


def test_a_metric_of_the_family_is_watched_in_its_own_direction() -> None:
    for better, waited in (("more", 0.0), ("less", 3.0)):
        watch = stopping(patience=9, watch="si_sdr", better=better)
        state = watch.start(WEIGHTS)
        for value in (1.0, 2.0, 3.0, 4.0):
            state = watch.judge(state, valid([9.0]) | {"si_sdr": torch.tensor([value])}, yes(1), WEIGHTS)
        assert float(state["stop.waited"]) == waited, better


def test_a_metric_without_a_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="set better to less or more"):
        EarlyStopping(watch="si_sdr")


def test_the_best_weights_are_those_of_the_best_evaluation_of_each_cell() -> None:
    watch = stopping(patience=9, keep="best")
    state = judged(watch, [[9.0, 5.0, 7.0, 6.0], [9.0, 8.0, 7.0, 6.0]])[-1]
    last = torch.full((2, 2), 3.0)
    assert watch.kept(state, last)[:, 0].tolist() == [1.0, 3.0]
    assert torch.equal(stopping(patience=9).kept(judged(stopping(patience=9), [[9.0, 5.0, 7.0]])[-1], last), last)


def test_weights_from_before_settling_are_not_the_best_and_without_any_the_last_count() -> None:
    watch = stopping(patience=9, keep="best")
    curves = [[1.0, 9.0, 8.0, 8.5], [1.0, 9.0, 8.0, 8.5]]
    state = judged(watch, curves, [[False, True, True, True], [True, True, True, False]])[-1]
    assert watch.kept(state, torch.full((2, 2), 3.0))[:, 0].tolist() == [2.0, 3.0]


def test_judging_leaves_the_old_state_as_it_was() -> None:
    watch = stopping(keep="best")
    state = watch.start(torch.zeros(2, 3))
    before = {name: value.clone() for name, value in state.items()}
    watch.judge(state, valid([1.0, 2.0]), yes(2), torch.ones(2, 3))
    assert all(torch.equal(state[name], before[name]) for name in before)


def test_the_state_before_training_can_be_saved() -> None:
    weights = torch.zeros(3, 2)
    state = stopping(keep="best").start(weights) | {"flat": weights}
    pointers = {value.data_ptr() for value in state.values()}
    assert len(pointers) == len(state), "no two share their memory, which safetensors refuses"


def test_without_rules_nobody_stops_and_the_learning_rate_stays() -> None:
    watch = PlateauMonitor(TrainingConfig(schedule=Constant()))
    last = judged(watch, [[9.0] * 50])[-1]
    assert not watch.stopped(last).any()
    assert float(watch.factor(last, 10_000)) == 1.0


def test_cosine_goes_from_all_to_its_final_share_and_never_up() -> None:
    watch = PlateauMonitor(TrainingConfig(steps=100, schedule=Cosine(final_share=0.1)))
    state = watch.start(WEIGHTS)
    factors = [float(watch.factor(state, step)) for step in range(101)]
    assert factors[0] == 1.0
    assert factors[50] == pytest.approx(0.55)
    assert factors[100] == pytest.approx(0.1)
    assert factors == sorted(factors, reverse=True)


def test_pruning_compares_with_the_bound_of_its_step_only() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, math.nan])
    rule = Pruning(better="more", steps=(5, 10), bounds=(2.0, 3.0))
    assert rule.is_worse(5, values).tolist() == [True, False, False, False]
    assert rule.is_worse(10, values).tolist() == [True, True, False, False]
    assert not rule.is_worse(7, values).any()
    assert Pruning(better="less", steps=(5,), bounds=(2.0,)).is_worse(5, values).tolist() == [False, False, True, False]


def test_a_step_without_a_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="2 steps have 1 bounds"):
        Pruning(steps=(5, 10), bounds=(1.0,))
