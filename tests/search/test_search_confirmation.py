"""The confirmation of a choice: its intervals are those of paired t-tests, and what it says follows from them."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import FrozenTrial
from scipy import stats

from vaesweep.family import family
from vaesweep.search.confirmation import Confirmation, choices, confirmation_table, default_of, summarise
from vaesweep.search.objectives import maximise, minimise, resolve
from vaesweep.training.finished import FinishedCell

PVAE = family("pvae")
DATA = PVAE.example()
OBJECTIVES = resolve([maximise("valid/elbo"), minimise("valid/elbo", less="train")], PVAE, PVAE.config(), DATA)
CHOSEN, DEFAULT = [-9.1, -9.0, -9.3, -8.9, -9.2], [-9.9, -9.6, -10.2, -9.7, -9.8]


def cell(elbo: float, *, diverged: bool = False) -> FinishedCell:
    numbers = {
        f"{domain.name}/{metric}": value - 0.1 * place
        for place, domain in enumerate(DATA.domains)
        for metric, value in (("elbo", elbo), ("distortion", -elbo - 2.5), ("rate", 2.5))
    }
    history = {"train/settled": torch.tensor([1.0])}
    return FinishedCell(
        "c", "pvae", {}, 1, {} if diverged else numbers, 1 if diverged else None, (), (1,), history, {}, {}
    )


def confirmed(chosen: Sequence[float], default: Sequence[float], trial: float = -8.5) -> Confirmation:
    groups = [{seed: cell(elbo) for seed, elbo in enumerate(elbos, 1)} for elbos in (chosen, default)]
    return Confirmation(7, cell(trial), *groups, {})


def test_the_difference_is_that_of_a_paired_t_test() -> None:
    row = confirmation_table([confirmed(CHOSEN, DEFAULT)], OBJECTIVES, DATA).iloc[0]
    expected = stats.ttest_rel(CHOSEN, DEFAULT)
    interval = expected.confidence_interval(0.95)
    shift = 0.1 * [domain.name for domain in DATA.domains].index("synthetic.valid")
    assert row["difference"] == pytest.approx(np.mean(CHOSEN) - np.mean(DEFAULT))
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(tuple(interval))
    assert row["chosen"] == pytest.approx(np.mean(CHOSEN) - shift)
    assert row["trial"] == pytest.approx(-8.5 - shift)
    assert row["chosen_sd"] == pytest.approx(np.std(CHOSEN, ddof=1))
    assert row["seeds"] == 5


def test_the_table_has_every_objective_and_every_domain() -> None:
    table = confirmation_table([confirmed(CHOSEN, DEFAULT)], OBJECTIVES, DATA)
    assert list(table["objective"][:2]) == ["valid/elbo", "valid-train/elbo"]
    gap = table.iloc[1]
    assert gap["difference"] == pytest.approx(0, abs=1e-12)
    assert set(table["domain"][2:]) == {domain.name for domain in DATA.domains}
    assert set(table["metric"][2:]) == {"rate", "distortion", "elbo"}


def test_a_seed_that_diverged_is_in_no_mean_and_is_told_of() -> None:
    confirmation = confirmed(CHOSEN, DEFAULT)
    confirmation.chosen[2] = cell(math.nan, diverged=True)  # type: ignore[index]
    table = confirmation_table([confirmation], OBJECTIVES, DATA)
    rest = [value for place, value in enumerate(CHOSEN) if place != 1]
    others = [value for place, value in enumerate(DEFAULT) if place != 1]
    assert table["seeds"][0] == 4
    assert table["difference"][0] == pytest.approx(np.mean(rest) - np.mean(others))
    assert "of the chosen cells 1 diverged and 0 missed the target rate" in list(
        summarise([confirmation], table, OBJECTIVES)
    )


@pytest.mark.parametrize(
    ("chosen", "default", "said"),
    [
        (CHOSEN, DEFAULT, "better than the default"),
        (DEFAULT, CHOSEN, "worse than the default"),
        (CHOSEN, [-9.0, -9.1, -9.1, -9.2, -9.0], "not shown to differ"),
        (CHOSEN[:1], DEFAULT[:1], "not shown to differ"),
    ],
)
def test_the_verdict_follows_the_interval(chosen: list[float], default: list[float], said: str) -> None:
    confirmation = confirmed(chosen, default)
    table = confirmation_table([confirmation], OBJECTIVES, DATA)
    lines = list(summarise([confirmation], table, OBJECTIVES))
    assert said in lines[0]
    assert any(line.startswith("synthetic.test elbo") for line in lines)


def test_how_optimistic_the_trial_was_is_said_whatever_the_direction() -> None:
    confirmation = confirmed(CHOSEN, DEFAULT, trial=-8.5)
    lines = list(summarise([confirmation], confirmation_table([confirmation], OBJECTIVES, DATA), OBJECTIVES))
    assert "0.6 better than the mean of fresh seeds" in lines[1]
    for_less = resolve([minimise("valid/distortion")], PVAE, PVAE.config(), DATA)
    lines = list(summarise([confirmation], confirmation_table([confirmation], for_less, DATA), for_less))
    assert "better than the default" in lines[0]
    assert "0.6 better than the mean of fresh seeds" in lines[1]


def study(values: Sequence[tuple[float, ...]]) -> list[FrozenTrial]:
    """Complete trials with these values, by number."""
    made = optuna.create_study(directions=["minimize"] * len(values[0]))
    for each in values:
        made.add_trial(optuna.trial.create_trial(values=list(each)))
    return made.get_trials()


def test_one_objective_has_one_choice() -> None:
    assert [trial.number for trial in choices(study([(3.0,), (1.0,), (2.0,)]), [1])] == [1]
    assert choices([], [1]) == []


def test_of_a_front_its_ends_and_its_middle_are_confirmed() -> None:
    front = [(float(rate), 10.0 - rate) for rate in (5, 1, 3, 2, 4)]
    assert [trial.number for trial in choices(study([*front, (6.0, 20.0)]), [1, 1])] == [1, 2, 0]
    assert [trial.number for trial in choices(study([(1.0, 1.0), (2.0, 2.0)]), [1, 1])] == [0]


def test_the_default_beside_a_point_of_the_front_has_its_rate() -> None:
    params = {"rates.total.target": 1.5, "rates.total.step_size": 0.1, "model.latents": 3}
    both = resolve([minimise("valid/rate"), minimise("valid/distortion")], PVAE, PVAE.config(), DATA)
    assert default_of(params, both) == {"rates.total.target": 1.5}
    assert default_of(params, both[:1]) == {}


def test_every_choice_has_its_rows_and_is_named() -> None:
    both = [confirmed(CHOSEN, DEFAULT), replace(confirmed(DEFAULT, CHOSEN), choice=9)]
    table = confirmation_table(both, OBJECTIVES, DATA)
    assert list(table["choice"].unique()) == [7, 9]
    assert (table.groupby("choice")["difference"].first() > 0).tolist() == [True, False]
    lines = list(summarise(both, table, OBJECTIVES))
    assert all(line.startswith(("trial 7: ", "trial 9: ")) for line in lines)
