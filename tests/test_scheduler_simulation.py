"""The simulation of a cluster: what it says where the answer is known."""

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "scheduler_simulation.py"
spec = importlib.util.spec_from_file_location("scheduler_simulation", SCRIPT)
assert spec is not None
assert spec.loader is not None
simulation = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(simulation)
Cluster, Work = simulation.Cluster, simulation.Work
ideal_seconds, simulate = simulation.ideal_seconds, simulation.simulate

WORK = Work(cells=80, pack=10, steps=1000, step=0.1, free=10)  # 8 packs of 200 s
READY = Cluster(devices=2, at_start=2, start=30.0, split=False)


def test_packs_on_devices_that_are_there_take_turns() -> None:
    outcome = simulate(WORK, READY)
    assert outcome.seconds == pytest.approx(4 * (30 + 200))
    assert outcome.trained == pytest.approx(8 * 200)
    assert outcome.starting == pytest.approx(8 * 30)
    assert (outcome.lost, outcome.losses, outcome.splits) == (0, 0, 0)
    assert outcome.idle == pytest.approx(0)
    assert ideal_seconds(WORK, READY) == pytest.approx(8 * 200 / 2)


def test_a_device_that_is_idle_takes_half_of_a_pack() -> None:
    one = replace(WORK, cells=10)
    assert simulate(one, READY).seconds == pytest.approx(230)
    outcome = simulate(one, replace(READY, split=True, arrival=80.0, at_start=1))
    # At 80 s the pack has trained 50 s; both halves start anew and train the rest at the speed of five cells.
    assert outcome.splits == 1
    assert outcome.seconds == pytest.approx(80 + 30 + 150 * 1.5 / 2)


def test_a_pack_that_has_little_left_is_not_split() -> None:
    outcome = simulate(replace(WORK, cells=10), replace(READY, split=True, arrival=180.0, at_start=1))
    assert (outcome.splits, outcome.seconds) == (0, pytest.approx(230))


@pytest.mark.parametrize("notice", [True, False])
def test_a_loss_costs_half_a_checkpoints_interval_or_nothing_after_a_notice(notice: bool) -> None:
    cluster = Cluster(devices=20, at_start=20, life=2000.0, returns_after=50.0, checkpoint_every=60.0, start=10.0)
    work = Work(cells=400, pack=1, steps=20_000, step=0.1, free=1)
    outcome = simulate(work, replace(cluster, split=False, notice=notice))
    assert outcome.trained == pytest.approx(400 * 20_000 * 0.2)  # each step counts once, whatever was lost
    assert outcome.losses == pytest.approx(20 * outcome.seconds / (2000 + 50), rel=0.1)
    assert outcome.lost / outcome.losses == (0 if notice else pytest.approx(30, rel=0.1))


def test_every_second_of_a_device_is_accounted_for() -> None:
    cluster = Cluster(devices=5, at_start=5, life=1000.0, returns_after=100.0, start=20.0, worth=100.0)
    outcome = simulate(replace(WORK, steps=10_000), cluster, seed=3)
    there = outcome.trained + outcome.lost + outcome.starting + outcome.idle
    assert there <= 5 * outcome.seconds
    assert there == pytest.approx(5 * outcome.seconds * 1000 / 1100, rel=0.25)
    assert len(outcome.ended) == 80
    assert math.isfinite(outcome.busiest_second)
