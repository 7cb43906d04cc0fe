"""Cells that keep the weights of their best evaluation, and rules that watch what a cell does not have."""

import pytest
import torch

from vaesweep.errors import UserError
from vaesweep.family import family
from vaesweep.sweep.settings import build
from vaesweep.training.evaluate import evaluate
from vaesweep.training.loop import start_state, train_pack
from vaesweep.training.stack import Stack
from vaesweep.training.state import PackState
from vaesweep.training.world import World


def test_a_cell_that_keeps_its_best_weights_ends_with_those_of_its_best_evaluation(recorder: type) -> None:
    """At an absurd learning rate the last weights are worse than earlier ones; a resumed pack ends alike."""
    owner = family("pvae")
    stop = {"patience": 50, "tolerance": 0.0, "keep": "best"}
    numbers = {"steps": 40, "evaluate_every": 5, "batch_size": 16, "learning_rate": 0.5, "early_stopping": stop}
    numbers["schedule"] = {"kind": "constant"}
    config = owner.config.model_validate({"model": {"hidden": 4, "features": 4, "latents": 2}, "training": numbers})
    problem = owner.problem(config, owner.example(), torch.device("cpu"))
    whole, resumed = recorder(), recorder()
    train_pack(problem, [config], start_state(problem, [config], ["a"]), whole)
    curve = whole.results["a"].state.history["valid/distortion"][0]
    assert int(curve.argmin()) < len(curve) - 1
    weights = whole.results["a"].state.flat
    found = evaluate(Stack(problem.build(), weights), problem, problem.valid, 16, World(), quick=True)
    assert float(found["distortion"]) == pytest.approx(float(curve.min()), rel=1e-6)
    at = sorted(whole.checkpoints)[-1]
    train_pack(problem, [config], PackState.from_bytes(whole.checkpoints[at], "here"), resumed)
    assert torch.equal(resumed.results["a"].state.flat, weights)


def test_a_rule_that_watches_what_the_cell_does_not_have_is_refused_with_the_nearest() -> None:
    owner = family("emd")
    for rule in ("schedule", "early_stopping"):
        kind = {"training.schedule.kind": "plateau"} if rule == "schedule" else {}
        watched = {f"training.{rule}.watch": "si_sdri.modes", f"training.{rule}.better": "more"}
        with pytest.raises(UserError, match=rf"training\.{rule}\.watch=si_sdri\.modes: .*did you mean .*si_sdri\.mode"):
            owner.check(build(owner.config, kind | watched))
        owner.check(build(owner.config, kind | watched | {f"training.{rule}.watch": "si_sdri.mode"}))
