"""The report of a search: importances of a planted objective, what the table marks, and files that are drawn."""

import math
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from vaesweep.family import family
from vaesweep.search.objectives import maximise, minimise, resolve
from vaesweep.search.report import (
    Searched,
    _scale,
    _value_scale,
    parameter_importances,
    summarise,
    trials_table,
    write,
)
from vaesweep.search.space import choice, loguniform, uniform
from vaesweep.search.study import Study, Told

SPACE = {"training.learning_rate": loguniform(1e-4, 1e-1), "training.weight_decay": uniform(0.0, 0.3)}
PVAE = family("pvae")


def searched(trials: int, objectives: int = 1, *, off: int | None = None, lost: int | None = None) -> Searched:
    """A search whose first objective depends on the learning rate alone, and its second on the weight decay alone."""
    declared = [minimise("valid/distortion"), maximise("valid/elbo")][:objectives]
    resolved = resolve(declared, PVAE, PVAE.config(), PVAE.example())
    study = Study(None, "a study", SPACE, [one.direction for one in declared], sampler="random")
    for trial in study.ask_round(trials, trials, lambda settings: "a cell"):
        rate, decay = trial.params["training.learning_rate"], trial.params["training.weight_decay"]
        values = ((math.log10(rate) + 2) ** 2, decay)[:objectives]
        told = Told(None, cause="no memory") if trial.number == lost else Told(values, trial.number == off)
        study.tell(trial, told, constrained=True)
    return Searched(study, resolved, "a search")


def test_what_an_objective_depends_on_is_what_is_important() -> None:
    first, second = parameter_importances(searched(40, 2))
    assert first["training.learning_rate"] > 0.9
    assert second["training.weight_decay"] > 0.9
    assert sum(first.values()) == pytest.approx(1)


def test_importances_need_a_few_trials() -> None:
    assert parameter_importances(searched(3)) == []


def test_the_table_marks_the_best_trial_that_is_on_target() -> None:
    table = trials_table(searched(12))
    best = int(table["valid/distortion"].idxmin())
    assert list(table.index[table["best"]]) == [best]
    without = trials_table(searched(12, off=best))
    assert list(without.index[without["best"]]) == [int(without["valid/distortion"].drop(best).idxmin())]
    assert not without["on_target"][best]


def test_a_failed_trial_has_its_cause_and_no_value() -> None:
    row = trials_table(searched(6, lost=2)).iloc[2]
    assert (row["state"], row["cause"]) == (TrialState.FAIL.name.lower(), "no memory")
    assert math.isnan(row["valid/distortion"])


def test_the_summary_counts_how_trials_ended() -> None:
    first, *_ = summarise(searched(12, off=3, lost=2), [])
    assert first == "12 trials: 10 on target, 1 off target, 1 failed"


def test_a_search_without_a_finite_value_says_so(tmp_path: Path) -> None:
    study = Study(None, "a study", SPACE, ["minimise"], sampler="random")
    for trial in study.ask_round(4, 4, lambda settings: "a cell"):
        study.tell(trial, Told((math.nan,), True, "step 3: not finite"), constrained=True)
    objectives = resolve([minimise("valid/distortion")], PVAE, PVAE.config(), PVAE.example())
    report = write(Searched(study, objectives, "a search"), tmp_path)
    assert report.summary[0] == "4 trials: 4 diverged"
    assert "no trial has come to a finite value" in report.summary[1]
    assert {path.name for path in report.paths} == {"trials.csv", "search_history.png"}


def test_a_front_is_drawn_of_several_objectives(tmp_path: Path) -> None:
    report = write(searched(12, 2), tmp_path)
    names = ["trials.csv", "search_history.png", "search_parallel.png", "search_importance.png", "search_front.png"]
    assert [path.name for path in report.paths] == names
    assert all(path.stat().st_size > 500 for path in report.paths)
    front = pd.read_csv(tmp_path / "trials.csv")
    study = optuna.create_study(directions=["minimize", "maximize"])
    for values in zip(front["valid/distortion"], front["valid/elbo"], strict=True):
        study.add_trial(optuna.trial.create_trial(values=values))
    assert list(front["trial"][front["front"]]) == sorted(trial.number for trial in study.best_trials)


def test_lines_of_parallel_coordinates_end_where_settings_and_values_lie() -> None:
    learning_rate, choices = _scale(loguniform(1e-4, 1e-2).of_optuna()), _scale(choice([32, None, 128]).of_optuna())
    assert [learning_rate.height(value) for value in (1e-4, 1e-3, 1e-2)] == pytest.approx([0, 0.5, 1])
    assert [choices.height(value) for value in (32, None, 128)] == [0, 0.5, 1]
    for sign in (1, -1):
        values = sign * np.array([1.0, 2.0, 3.0, 4.0, 1000.0])
        scale = _value_scale(values, sign)
        heights = [scale.height(value) for value in values]
        assert heights == sorted(heights, reverse=True)
        assert (heights[0], heights[-1]) == (1.0, 0.0)
        assert heights[1] - heights[2] > 0.05  # one that is far worse than most does not flatten the rest
