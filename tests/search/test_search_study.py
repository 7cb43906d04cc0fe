"""A study loses no trial and tells none twice, wherever its process dies, and then asks what it would have asked.

Trials are trained by a fake: a cell is finished once its number stands in a dictionary, as a file stands on a disk.
"""

import importlib.util
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

from vaesweep.errors import RoundFailed, UserError
from vaesweep.family import family
from vaesweep.search import study as study_module
from vaesweep.search.objectives import maximise, minimise, resolve
from vaesweep.search.pruning import MedianPruner
from vaesweep.search.rounds import Trained, search
from vaesweep.search.search import Sampler
from vaesweep.search.space import choice, integers, loguniform
from vaesweep.search.study import (
    CELL,
    REFUSED,
    Study,
    Trial,
    best_trial,
    is_on_target,
    open_storage,
    pareto_front,
)
from vaesweep.sweep.identity import digest
from vaesweep.sweep.settings import build
from vaesweep.training.finished import FinishedCell

SPACE = {
    "training.learning_rate": loguniform(1e-4, 1e-1),
    "model.latents": integers(2, 16),
    "training.batch_size": choice([32, 64]),
}
DEFAULT = {"training.learning_rate": 1e-3, "model.latents": 4, "training.batch_size": 64}
TRIALS, BATCH = 11, 4
PRUNER = MedianPruner("distortion", "less", (5,))
PVAE = family("pvae")
OBJECTIVES = resolve([minimise("valid/distortion")], PVAE, PVAE.config(), PVAE.example())
TWO = resolve([minimise("valid/distortion"), maximise("valid/elbo")], PVAE, PVAE.config(), PVAE.example())


class Killed(BaseException):
    """The end of the process."""


@dataclass
class World:
    """What outlives a process: the journal and finished cells; and the moment at which the process dies."""

    journal: Path
    finished: dict[str, int] = field(default_factory=dict)  # by cell, how often it was trained
    dies_at: float = math.inf
    moments: int = 0

    def moment(self) -> None:
        """A moment at which the process may die."""
        self.moments += 1
        if self.moments >= self.dies_at:
            raise Killed

    def train(self, trials: Sequence[Trial]) -> Trained:
        """Train the trials' cells, less those that are finished."""
        result = Trained()
        for place, trial in enumerate(trials):
            cell = trial.user_attrs[CELL]
            self.moment()
            if cell not in self.finished:
                self.finished[cell] = self.finished.get(cell, 0) + 1
            self.moment()
            result.cells[place] = finished_cell(cell, trial.params)
        return result

    def told(self) -> list[int]:
        """Trials by the entries of the journal that end one."""
        entries = [json.loads(line) for line in self.journal.read_text().splitlines()]
        return [entry["trial_id"] for entry in entries if entry["op_code"] == 6]


def finished_cell(cell: str, params: Mapping[str, Any]) -> FinishedCell:
    """A cell whose distortion is least at a learning rate of 0.01 and 8 latents; of 13 or more the rate is not met."""
    loss = (math.log10(params["training.learning_rate"]) + 2) ** 2 + abs(params["model.latents"] - 8) / 8
    metrics = {"synthetic.valid/distortion": loss, "synthetic.valid/elbo": -loss - params["model.latents"]}
    history = {"train/settled": [0.0, float(params["model.latents"] < 13)], "valid/distortion": [loss + 1, loss]}
    tensors = {name: torch.tensor(values, dtype=torch.float64) for name, values in history.items()}
    return FinishedCell(cell, "pvae", {}, 10, metrics, None, (), (5, 10), tensors, {}, {})


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world in which every entry of the journal is a moment at which the process may die, before it and after."""
    made = World(tmp_path / "study.journal")
    write = JournalFileBackend.append_logs

    def append_logs(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        made.moment()
        write(self, logs)
        made.moment()

    monkeypatch.setattr(JournalFileBackend, "append_logs", append_logs)
    return made


def run(world: World, sampler: Sampler = "tpe", trials: int = TRIALS, pruner: MedianPruner | None = None) -> Study:
    """What a command does: open the study and search; the study as it is then."""
    storage = open_storage(str(world.journal))
    study = Study(storage, "a study", SPACE, ["minimise"], sampler=sampler, default=DEFAULT, pruner=pruner)
    search(study, trials, BATCH, world.train, identify, OBJECTIVES, constrained=True)
    return study


def identify(settings: Mapping[str, Any]) -> str:
    return digest(dict(settings))


def facts(study: Study) -> list[Any]:
    """What is known of each trial, but for times."""
    return [
        (t.number, t.state, t.params, t.values, dict(t.constraints), t.user_attrs, t.intermediate_values)
        for t in study.trials
    ]


def test_a_search_asks_rounds_until_all_trials_are_told(world: World) -> None:
    study = run(world)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * TRIALS
    assert [trial.user_attrs["round"] for trial in study.trials] == [0] * 4 + [1] * 4 + [2] * 3
    assert study.trials[0].params == DEFAULT
    assert sorted(world.told()) == list(range(TRIALS))
    for trial in study.trials:
        assert trial.values == [finished_cell("", trial.params).metrics["synthetic.valid/distortion"]]
        assert is_on_target(trial) == (trial.params["model.latents"] < 13)


def test_the_same_command_does_nothing_when_all_are_told(world: World) -> None:
    before = facts(run(world))
    journal = world.journal.read_bytes()
    assert facts(run(world)) == before
    assert [json.loads(x)["op_code"] for x in world.journal.read_bytes()[len(journal) :].splitlines()] in ([], [0])


@pytest.mark.parametrize("pruner", [None, PRUNER], ids=["all", "pruned"])
def test_wherever_the_process_dies_no_trial_is_lost_or_told_twice_and_the_sampler_goes_on(
    world: World, tmp_path: Path, pruner: MedianPruner | None
) -> None:
    undisturbed = facts(run(world, pruner=pruner))
    moments, trained = world.moments, dict(world.finished)
    assert moments > 5 * TRIALS
    for moment in range(2, moments, 3):
        again = tmp_path / f"{moment}.journal"
        world.journal, world.finished, world.moments, world.dies_at = again, {}, 0, moment
        with pytest.raises(Killed):
            run(world, pruner=pruner)
        world.dies_at = math.inf
        assert facts(run(world, pruner=pruner)) == undisturbed, moment
        assert sorted(world.told()) == list(range(TRIALS)), moment
        assert world.finished == trained, moment


def test_a_process_that_dies_again_and_again_comes_to_the_same(world: World, tmp_path: Path) -> None:
    undisturbed = facts(run(world))
    world.journal, world.finished, world.dies_at = tmp_path / "again.journal", {}, 0
    deaths = 0
    while True:
        world.moments, world.dies_at = 0, 9 + deaths % 4
        try:
            study = run(world)
        except Killed:
            deaths += 1
            assert deaths < 200
        else:
            break
    assert deaths > 3
    assert facts(study) == undisturbed
    assert sorted(world.told()) == list(range(TRIALS))


def test_samplers_differ_once_they_have_something_to_go_by(world: World, tmp_path: Path) -> None:
    asked = {}
    for sampler in ("tpe", "random", "gp"):
        world.journal, world.finished = tmp_path / f"{sampler}.journal", {}
        asked[sampler] = [trial.params for trial in run(world, sampler, trials=10).trials]  # type: ignore[arg-type]
    assert asked["tpe"][:8] == asked["random"][:8] == asked["gp"][:8]
    assert len({json.dumps(params[8:]) for params in asked.values()}) == 3


def test_the_gaussian_process_goes_on_as_undisturbed(world: World, tmp_path: Path) -> None:
    undisturbed = facts(run(world, "gp"))
    moment = world.moments - 12  # while the last round is trained or told
    world.journal, world.finished, world.moments, world.dies_at = tmp_path / "gp.journal", {}, 0, moment
    with pytest.raises(Killed):
        run(world, "gp")
    world.dies_at = math.inf
    assert facts(run(world, "gp")) == undisturbed


def test_more_trials_go_on_from_those_that_there_are(world: World) -> None:
    first = facts(run(world, trials=6))
    assert facts(run(world))[:6] == first
    assert len(run(world).trials) == TRIALS


def test_two_drivers_share_a_study_and_neither_runs_what_the_other_has_asked(world: World) -> None:
    def driver(number: int) -> Study:
        study = Study(open_storage(str(world.journal)), "a study", SPACE, ["minimise"], default=DEFAULT)
        study.driver = number
        return study

    first, second = driver(0), driver(1)
    asked = [trial.number for trial in first.ask_round(BATCH, TRIALS, identify)]
    search(second, TRIALS, BATCH, world.train, identify, OBJECTIVES, constrained=True)
    assert [trial.number for trial in first.open()] == asked
    assert second.other_drivers() == [0]
    assert not [t for t in second.trials if t.number not in asked and t.state is not TrialState.COMPLETE]
    search(first, TRIALS, BATCH, world.train, identify, OBJECTIVES, constrained=True)
    assert [trial.state for trial in first.trials] == [TrialState.COMPLETE] * TRIALS
    assert sorted(world.told()) == list(range(TRIALS))
    assert first.other_drivers() == []
    assert len({json.dumps(trial.params) for trial in first.trials}) == TRIALS


def test_only_the_first_driver_tries_the_default(tmp_path: Path) -> None:
    study = Study(open_storage(str(tmp_path / "j")), "a study", SPACE, ["minimise"], default=DEFAULT)
    study.driver = 1
    assert all(trial.params != DEFAULT for trial in study.ask_round(2, 4, identify))
    study.driver = 0
    assert [trial.params == DEFAULT for trial in study.ask_round(2, 4, identify)] == [True, False]


def test_studies_with_other_seeds_share_no_trial_but_the_default(tmp_path: Path) -> None:
    def asked(seed: int) -> list[Any]:
        study = Study(None, "a study", SPACE, ["minimise"], seed=seed, default=DEFAULT)
        return [trial.params for trial in study.ask_round(8, 8, identify)]

    first, second = asked(0), asked(1)
    assert first[0] == second[0]
    assert not [params for params in first[1:] if params in second]


def test_a_default_outside_of_the_space_is_not_tried() -> None:
    study = Study(None, "a study", SPACE, ["minimise"], default=DEFAULT | {"model.latents": 40})
    assert all(trial.params["model.latents"] <= 16 for trial in study.ask_round(8, 8, identify))


def test_a_configuration_that_the_family_refuses_is_recorded_and_costs_no_training(world: World) -> None:
    def refusing(settings: Mapping[str, Any]) -> str:
        if settings["model.latents"] % 2:
            raise UserError("odd latents")
        return identify(settings)

    study = Study(open_storage(str(world.journal)), "a study", SPACE, ["minimise"])
    search(study, TRIALS, BATCH, world.train, refusing, OBJECTIVES, constrained=False)
    refused = [trial for trial in study.trials if trial.params["model.latents"] % 2]
    assert 0 < len(refused) < TRIALS
    assert all(trial.state is TrialState.FAIL and trial.user_attrs[REFUSED] == "odd latents" for trial in refused)
    assert len(world.finished) == TRIALS - len(refused)


def test_a_cell_that_failed_is_told_as_failed_and_the_search_goes_on(world: World) -> None:
    def train(trials: Sequence[Trial]) -> Trained:
        trained = world.train(trials)
        if trials[0].number == 0:
            del trained.cells[1]
            trained.failed[1] = "no memory"
        return trained

    study = Study(open_storage(str(world.journal)), "a study", SPACE, ["minimise"])
    assert search(study, TRIALS, BATCH, train, identify, OBJECTIVES, constrained=True) == {1: "no memory"}
    assert [t.number for t in study.trials if t.state is TrialState.FAIL] == [1]
    assert study.trials[1].user_attrs["cause"] == "no memory"
    assert len(study.trials) == TRIALS


def test_a_round_that_fails_as_a_whole_is_not_told_and_is_trained_by_the_next_command(world: World) -> None:
    def fail(trials: Sequence[Trial]) -> Trained:
        return Trained({}, dict.fromkeys(range(len(trials)), "the cluster is gone"))

    study = Study(open_storage(str(world.journal)), "a study", SPACE, ["minimise"], default=DEFAULT)
    with pytest.raises(RoundFailed, match="the cluster is gone"):
        search(study, TRIALS, BATCH, fail, identify, OBJECTIVES, constrained=True)
    assert len(study.open()) == BATCH
    assert [t.state for t in run(world).trials] == [TrialState.COMPLETE] * TRIALS


def test_a_cell_that_diverged_counts_as_the_worst_in_every_objective(world: World) -> None:
    def train(trials: Sequence[Trial]) -> Trained:
        trained = world.train(trials)
        old = trained.cells[0]
        trained.cells[0] = FinishedCell(old.cell, "pvae", {}, 1, {}, 1, (), (), {}, {}, {}, "step 1: not finite")
        return trained

    study = Study(open_storage(str(world.journal)), "a study", SPACE, ["minimise", "maximise"])
    search(study, 4, 4, train, identify, TWO, constrained=True)
    assert study.trials[0].values == [math.inf, -math.inf]
    assert not is_on_target(study.trials[0])
    assert study.trials[0].user_attrs["cause"] == "step 1: not finite"


def test_trials_worse_than_half_of_the_earlier_ones_are_told_as_pruned(world: World) -> None:
    study = run(world, pruner=PRUNER)
    first, last = study.trials[:8], study.trials[8:]
    assert all(trial.state is TrialState.COMPLETE for trial in first)
    bound = float(np.median([trial.intermediate_values[5] for trial in first]))
    for trial in last:
        assert trial.user_attrs["pruning"]["training.pruning.bounds"] == [bound]
        assert (trial.state is TrialState.PRUNED) == (trial.intermediate_values[5] > bound)
    assert {trial.state for trial in last} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert best_trial(study.trials, 1).state is TrialState.COMPLETE  # type: ignore[union-attr]


def test_only_one_objective_on_valid_can_prune() -> None:
    config = PVAE.config()
    example = PVAE.example()
    rule = MedianPruner.of(OBJECTIVES, config)
    assert (rule.watch, rule.better, rule.steps) == ("distortion", "less", (1000, 2000))  # of 4000, every 200
    gap = resolve([minimise("valid/elbo", less="train")], PVAE, config, example)
    test = resolve([maximise("test/elbo")], PVAE, config, example)
    for objectives in (TWO, gap, test):
        with pytest.raises(UserError, match="one objective on valid"):
            MedianPruner.of(objectives, config)
    rarely = build(PVAE.config, {"training.steps": 100, "training.evaluate_every": 100})
    with pytest.raises(UserError, match="evaluated only at their end"):
        MedianPruner.of(OBJECTIVES, rarely)


def trial(number: int, values: Sequence[float], off: float = 0.0) -> Trial:
    made = optuna.trial.create_trial(values=list(values), constraints={"off_target": off})
    made.number = number
    return made


def test_the_best_trial_is_on_target_where_one_is() -> None:
    trials = [trial(0, [3.0]), trial(1, [1.0], off=1.0), trial(2, [2.0]), trial(3, [2.0]), trial(4, [math.inf])]
    assert best_trial(trials, 1).number == 2  # type: ignore[union-attr]
    assert best_trial(trials, -1).number == 0  # type: ignore[union-attr]
    assert best_trial([trial(0, [3.0], off=1.0), trial(1, [2.0], off=1.0)], 1).number == 1  # type: ignore[union-attr]
    assert best_trial([trial(0, [math.inf])], 1) is None


def test_the_front_is_optunas_own() -> None:
    values = [(1.0, 5.0), (2.0, 4.0), (2.0, 6.0), (3.0, 4.0), (4.0, 1.0), (4.0, 1.0)]
    study = optuna.create_study(directions=["minimize", "minimize"])
    study.add_trials([trial(i, pair) for i, pair in enumerate(values)])
    expected = {found.number for found in study.best_trials}
    assert {found.number for found in pareto_front(study.trials, [1, 1])} == expected == {0, 1, 4, 5}


# Storages


def test_a_line_that_was_cut_off_when_the_machine_went_down_costs_its_entry_only(world: World) -> None:
    undisturbed = facts(run(world))
    content = world.journal.read_bytes()
    world.journal.write_bytes(content[:-20])  # within the last trial's end
    assert facts(run(world)) == undisturbed


def test_a_database_holds_a_study_as_a_journal_does(world: World, tmp_path: Path) -> None:
    undisturbed = facts(run(world))
    uri = f"sqlite:///{tmp_path}/studies.db"
    for trials in (6, TRIALS):
        study = Study(open_storage(uri), "a study", SPACE, ["minimise"], default=DEFAULT)
        search(study, trials, BATCH, world.train, identify, OBJECTIVES, constrained=True)
    assert [fact[:4] for fact in facts(study)][:4] == [fact[:4] for fact in undisturbed][:4]
    assert len(study.trials) == TRIALS


def test_the_tracking_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/mlflow.db")
    with engine.begin() as connection:
        connection.execute(text("create table experiments (name text)"))
        connection.execute(text("create table alembic_version (version_num text)"))
    before = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(UserError, match="such as MLflow's"):
        open_storage(f"sqlite:///{tmp_path}/mlflow.db")
    assert (tmp_path / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize("uri", ["sqlite:////nowhere/at/all.db", "nonsense://host/db", "postgresql://u:secret@h/db"])
def test_a_database_that_cannot_be_used_is_refused_in_one_line_without_its_password(uri: str) -> None:
    with pytest.raises(UserError, match="--study") as error:
        open_storage(uri)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_a_database_whose_tables_another_command_is_just_making_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, tried = f"sqlite:///{tmp_path}/studies.db", list[str]()

    def beaten(uri: str) -> optuna.storages.RDBStorage:
        tried.append(uri)
        storage = optuna.storages.RDBStorage(uri)
        if len(tried) == 1:
            raise IntegrityError("CREATE TABLE studies", {}, ValueError("duplicate key"))
        return storage

    monkeypatch.setattr(study_module, "RDBStorage", beaten)
    assert open_storage(uri).get_all_studies() == []
    assert len(tried) == 2


def test_a_database_without_its_driver_says_what_to_install() -> None:
    if importlib.util.find_spec("oracledb"):
        pytest.skip("the driver is installed")
    with pytest.raises(UserError, match="driver of this database is not installed: pip install oracledb"):
        open_storage("oracle+oracledb://localhost/studies")


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    for content in ("these are\nnotes\n", '{"op_code": 99, "worker_id": "a"}\n'):
        path.write_text(content)
        with pytest.raises(UserError, match="no journal"):
            open_storage(str(path))


def test_a_dry_study_leaves_no_file(tmp_path: Path) -> None:
    for uri in (str(tmp_path / "study.journal"), f"sqlite:///{tmp_path}/studies.db"):
        study = Study(open_storage(uri, dry=True), "a study", SPACE, ["minimise"])
        study.ask_round(4, 4, identify)
    assert list(tmp_path.iterdir()) == []
