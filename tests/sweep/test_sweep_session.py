"""A session: what is refused, what is done already, what is handed over without training, and what a person sees."""

import io
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient
from packs import newer
from rich.console import Console

import vaesweep
from vaesweep.analysis import runs
from vaesweep.cli import script
from vaesweep.errors import UserError
from vaesweep.families.pvae.data.audiograms import COLUMNS
from vaesweep.family import family
from vaesweep.sweep import progress
from vaesweep.sweep import session as session_module
from vaesweep.sweep.cells import Preset, Sweep
from vaesweep.sweep.cluster import Resources
from vaesweep.sweep.jobs import Event, PackJob
from vaesweep.sweep.options import Options, check_counts
from vaesweep.sweep.progress import ProgressDisplay, duration
from vaesweep.sweep.runner import job_of
from vaesweep.sweep.session import Session, code_version, describe
from vaesweep.sweep.storage import FINISHED, finished_name
from vaesweep.sweep.worker import run_job
from vaesweep.training import finished
from vaesweep.vocabulary import Outcome, RunKind, Tag, store_uri

TINY = {
    "training.steps": 4,
    "training.evaluate_every": 2,
    "training.batch_size": 16,
    "model.hidden": 4,
    "model.features": 4,
    "data.draws": 1,
}
SWEEP = Sweep("session", "pvae", lambda data: {"tiny": Preset(TINY, {"seed": [0, 1, 2]})}, "tiny")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Absolute, since MLflow keeps a process's connections by URI, and a relative one means another file here.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/results/mlflow.db")


@pytest.fixture
def tracked(store_file: Path, tmp_path: Path) -> str:
    """The URI of this test's own store, which is there already."""
    (tmp_path / "results").mkdir()
    shutil.copy(store_file, tmp_path / "results")
    return store_uri()


def session(**options: Any) -> Session:
    """A session as a new command makes it."""
    return Session(SWEEP, Options(**({"preset": "tiny", "data": "synthetic"} | options)))


def train(made: Session, packs: int | None = None) -> None:
    """What Ray would have done with the first `packs` packs of a plan, as far as files go."""
    send = partial(job_of, storage=made.storage, options=made.options, data=made.data)
    plan = made.plan(3)
    jobs = [send(pack) for pack in plan.packs] + [send(p, sources=made.survey.sources) for p in plan.evaluations]
    for job in jobs[:packs]:
        run_job(job, made.data[job.data], lambda event: None, torch.device("cpu"))


def hand_over(made: Session) -> int:
    tracker, parent = made.tracker(made.plan(1))
    with tracker:
        count = made.hand_over_recovered(tracker)
    made.store.end(parent, "FINISHED")
    return count


def spoken(act: Callable[[Console], None], width: int = 200) -> str:
    console = Console(file=io.StringIO(), force_terminal=False, width=width)
    act(console)
    return console.file.getvalue()  # type: ignore[attr-defined]


# What is done


def test_a_first_plan_has_everything_before_it_and_touches_nothing(tmp_path: Path) -> None:
    plan = session().plan(2)
    assert (len(plan.cells), plan.left(), len(plan.packs)) == (3, 3, 2)
    assert list(tmp_path.iterdir()) == []


def test_finished_files_count_as_done_though_mlflow_knows_nothing_of_them() -> None:
    train(session(), packs=2)
    plan = session().plan(3)
    assert (len(plan.done), plan.left()) == (2, 1)


@pytest.mark.parametrize(("gpus", "packs", "share"), [(0.0, 2, 0.5), (0.25, 8, 0.25), (2.0, 1, 1.0)])
def test_a_pack_is_told_what_was_asked_for_and_how_much_of_a_device_it_has(
    gpus: float, packs: int, share: float
) -> None:
    made = session(pack_size=2, compiling="never", checkpoint_seconds=5.0)
    pack, places = made.plan(1).packs[0], Resources(gpus=gpus)
    found = PackJob.from_json(job_of(pack, made.data, made.storage, made.options, places.share(packs)).to_json())
    assert (found.pack_size, found.compiling, found.checkpoint_seconds) == (2, "never", 5.0)
    assert found.share == pytest.approx(share)


def test_finished_files_are_handed_over_without_training(tracked: str) -> None:
    train(session())
    assert hand_over(session()) == 3
    found = runs.read("session", tracked)
    assert set(found.cells["outcome"]) == {Outcome.FINISHED}
    assert found.finals["cell"].nunique() == 3


def test_what_was_handed_over_is_not_handed_over_again(tracked: str) -> None:
    train(session())
    hand_over(session())
    later = session()
    assert later.survey.recovered == []
    assert later.plan(1).left() == 0
    assert hand_over(later) == 0


def test_what_mlflow_has_is_done_though_the_files_are_gone(tracked: str) -> None:
    train(session())
    hand_over(session())
    later = session(storage="elsewhere")
    assert later.storage.names(FINISHED) == []
    assert later.plan(1).left() == 0


@pytest.mark.parametrize("damage", ["cut short", "a bit", "another cell's"])
def test_a_damaged_finished_file_is_set_aside_and_its_cell_is_left_to_train(
    tmp_path: Path, tracked: str, damage: str
) -> None:
    train(session())
    folder = tmp_path / "results" / "cells" / "finished"
    file, other, _ = sorted(folder.iterdir())
    content = file.read_bytes()
    damaged = {"cut short": content[:-10], "a bit": content[:-9] + bytes([content[-9] ^ 4]) + content[-8:]}
    file.write_bytes(damaged.get(damage, other.read_bytes()))
    planned = Session(SWEEP, Options(preset="tiny", data="synthetic"), dry=True)
    assert planned.plan(1).left() == 1
    assert file.exists(), "a plan changes nothing"
    later = session()
    assert later.plan(1).left() == 1
    (note,) = later.survey.notes
    assert str(file) in note
    assert "set aside" in note
    assert not file.exists()
    assert len(list(folder.glob("*.damaged"))) == 1
    train(later)
    assert hand_over(session()) == 3


def test_a_file_of_a_newer_version_stops_its_own_cell_and_is_left_alone(tmp_path: Path, tracked: str) -> None:
    train(session())
    file = min((tmp_path / "results" / "cells" / "finished").iterdir())
    content = newer(file.read_bytes())
    file.write_bytes(content)
    later = session()
    plan = later.plan(1)
    assert plan.left() == 0
    ((cell, reason),) = plan.blocked.items()
    assert cell == file.stem
    assert "use the version that wrote it" in reason
    assert len(later.survey.recovered) == 2
    assert file.read_bytes() == content


# --- what has been trained stays trained ------------------------------------------------------------------------


def points(uri: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        return database.execute("select run_uuid, key, step from metrics order by 1, 2, 3").fetchall()


def population(path: Path, rows: int = 40, shift: float = 0.0) -> str:
    """A CSV of audiograms, as `--data` names an unseen population."""
    x = np.random.default_rng(1).uniform(10, 40, size=(rows, 15)).round() + shift
    path.write_text("\n".join([",".join(COLUMNS), *(",".join(map(str, row)) for row in x)]))
    return str(path)


def test_a_population_more_is_evaluated_and_trains_nothing(tracked: str, tmp_path: Path) -> None:
    train(session())
    hand_over(session())
    before, trained = runs.read("session", tracked), session().tracked
    weights = {file: file.stat().st_size for file in (tmp_path / "results/cells/finished").iterdir()}
    more = f"synthetic,unseen={population(tmp_path / 'more.csv')}"
    later = session(data=more)
    plan = later.plan(3)
    assert (plan.left(), sum(len(pack.cells) for pack in plan.evaluations)) == (0, 3)
    train(later)
    assert hand_over_collected(later) == 3
    after = runs.read("session", tracked)
    assert after.run_ids == before.run_ids, "in the runs that there are"
    assert {domain.name for domain in after.record.domains} - {domain.name for domain in before.record.domains} == {
        "more"
    }
    merged = after.finals.merge(before.finals, on=["cell", "domain", "metric"], how="left")
    assert set(merged.loc[merged["value_y"].isna(), "domain"]) == {"more"}
    known = merged.dropna()
    assert (known["value_x"] == known["value_y"]).all()
    assert len(points(tracked)) == len(set(points(tracked)))
    assert trained.keys() == session(data=more).tracked.keys()
    assert {file: file.stat().st_size for file in weights}.keys() == weights.keys()
    again = session(data=more)
    assert (again.plan(1).left(), again.plan(1).evaluations, len(again.survey.done)) == (0, (), 3)
    assert len(session().survey.done) == 3, "and less data are asked for again"


def test_what_is_evaluated_later_is_what_would_have_been_evaluated_at_once(tracked: str, tmp_path: Path) -> None:
    spec = f"synthetic,unseen={population(tmp_path / 'more.csv')}"
    train(session())
    train(session(data=spec))
    train(session(data=spec, storage="at_once"))
    later, at_once = session(data=spec), session(data=spec, storage="at_once")
    for cell in later.cells:
        one, other = (
            finished.from_bytes(made.storage.read(finished_name(cell.identity)), cell.identity)
            for made in (later, at_once)
        )
        assert one.domains == other.domains
        assert one.metrics.keys() == other.metrics.keys()
        assert any(name.startswith("more/") for name in one.metrics)
        for name, value in one.metrics.items():  # a stack of other cells may round otherwise
            assert value == pytest.approx(other.metrics[name], rel=1e-5, abs=1e-5), name


def hand_over_collected(made: Session) -> int:
    """What the driver does with cells that workers have evaluated."""
    tracker, parent = made.tracker(made.plan(1))
    with tracker:
        for cell in made.survey.sources:
            data = made.storage.read(finished_name(cell))
            tracker.ended(finished.from_bytes(data, cell, cell), data)
    made.store.end(parent, "FINISHED")
    return len(made.survey.sources)


def test_weights_that_only_mlflow_has_are_fetched_for_it(tracked: str, tmp_path: Path) -> None:
    train(session())
    hand_over(session())
    later = session(data=f"synthetic,unseen={population(tmp_path / 'more.csv')}", storage="elsewhere")
    assert later.plan(1).left() == 0
    assert len(later.plan(1).evaluations[0].cells) == 3
    assert len(later.storage.names(FINISHED)) == 3


def test_data_that_have_changed_under_a_domains_name_are_evaluated_as_a_new_run(tracked: str, tmp_path: Path) -> None:
    spec = f"synthetic,unseen={population(tmp_path / 'more.csv')}"
    train(session(data=spec))
    hand_over(session(data=spec))
    before = runs.read("session", tracked)
    population(tmp_path / "more.csv", shift=7.0)
    later = session(data=spec)
    assert later.plan(1).left() == 0
    assert len(later.survey.reevaluated) == 3
    assert all("more" in note and "evaluated anew" in note for note in later.survey.notes)
    train(later)
    hand_over_collected(later)
    after = runs.read("session", tracked)
    assert not set(after.run_ids.values()) & set(before.run_ids.values())
    changed = after.finals.merge(before.finals, on=["cell", "domain", "metric"])
    moved = changed.loc[changed["value_x"] != changed["value_y"], "domain"]
    assert set(moved) == {"more"}
    assert session(data=spec).survey.done == after.run_ids.keys()


def test_another_evaluation_of_the_same_training_trains_nothing(tracked: str) -> None:
    train(session())
    hand_over(session())
    settings = {"acquisition.rules": ("variance", "random"), "acquisition.rows": 8, "acquisition.samples": 4}
    later = session(settings=settings)
    plan = later.plan(1)
    assert (plan.left(), len(plan.evaluations[0].cells)) == (0, 3)
    assert {cell.identity.partition("-")[0] for cell in later.cells} == {cell.identity for cell in session().cells}
    train(later)
    hand_over_collected(later)
    found = runs.read("session", tracked, plan.sweep_identity("session"))
    assert "area_rmse.variance" in set(found.finals["metric"])
    assert set(found.cells["outcome"]) == {Outcome.FINISHED}
    assert len(session().survey.done) == 3, "the first ones are there as they were"


@pytest.mark.parametrize("setting", [{"model.latents": 3}, {"training.steps": 5}, {"data.dequantise": False}])
def test_another_training_trains(tracked: str, setting: dict[str, Any]) -> None:
    train(session())
    hand_over(session())
    assert session(settings=setting).plan(1).left() == 3


def test_the_sweeps_record_names_its_cells_axes_and_domains() -> None:
    made = session(command="sweeps/session.py")
    record = made.record(made.plan(1))
    assert record["axes"] == {"seed": [0, 1, 2]}
    assert [cell["values"] for cell in record["cells"]] == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    assert [domain["role"] for domain in record["domains"]][:3] == ["train", "valid", "test"]
    assert record["data"]["fingerprint"] == made.data.all_fingerprints


def test_a_cells_run_names_the_code_and_the_data(tracked: str) -> None:
    train(session(), packs=1)
    made = session()
    hand_over(made)
    client = MlflowClient(tracking_uri=tracked)
    (run,) = client.search_runs([made.store.id], f"tags.`{Tag.KIND}` = '{RunKind.CELL}'")
    assert run.data.tags[Tag.CODE] == code_version()
    assert run.data.tags[Tag.DATA] == made.data.fingerprint(made.cells[0].config)


def test_cells_of_a_family_without_data_axes_may_not_differ_in_the_data_they_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(type(family("pvae")), "data_axes", False)
    with pytest.raises(UserError, match="the cells of a sweep of pvae share one data set"):
        session(settings={"data.seed": [0, 1]})


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"pack_size": 0}, "--pack-size 0: must be at least 1"),
        ({"workers": 0}, "--workers 0: must be at least 1"),
        ({"checkpoint_seconds": -1.0}, "--checkpoint-every -1: must be 0 seconds or more"),
        ({"gpus": -1.0}, "--gpus -1: a pack takes a fraction of one GPU, or a whole number of them"),
        ({"gpus": 1.5}, "--gpus 1.5: a pack takes a fraction of one GPU, or a whole number of them"),
        ({"price": 0.0}, "--price 0: must be more than 0, the price of one GPU-hour or core-hour"),
        ({"price": -2.0}, "--price -2: must be more than 0, the price of one GPU-hour or core-hour"),
    ],
)
def test_counts_that_cannot_be_are_refused(options: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        check_counts(Options("tiny", "synthetic", **options))
    assert str(caught.value) == line


@pytest.mark.parametrize("gpus", [0.0, 0.25, 1.0, 2.0])
def test_a_share_of_a_gpu_or_whole_gpus_are_taken(gpus: float) -> None:
    check_counts(Options("tiny", "synthetic", gpus=gpus))


@pytest.mark.parametrize(
    ("places", "resources", "slots"),
    [
        (Resources(), {"CPU": 2.0}, 2),
        (Resources(workers=2), {"CPU": 5.0}, 2),
        (Resources(gpus=0.25), {"CPU": 16.0, "GPU": 1.0}, 4),
        (Resources(gpus=0.1), {"CPU": 16.0, "GPU": 1.0}, 10),
        (Resources(gpus=1.0), {"CPU": 2.0, "GPU": 8.0}, 2),
        (Resources(gpus=1.0), {"CPU": 2.0}, 1),  # an autoscaler may bring the first
    ],
)
def test_slots_are_what_the_scarcest_resource_holds(places: Resources, resources: dict[str, float], slots: int) -> None:
    assert places.slots(resources) == slots


# What a person sees


def test_the_description_says_what_was_read_and_what_is_to_do() -> None:
    made = session()
    text = spoken(lambda console: describe(made, made.plan(2), console))
    assert text.startswith("data: ")
    assert text.endswith("session: 3 cells, 0 done, 3 to train in 2 packs of 1 to 2\n")


def test_the_description_says_that_nothing_is_left() -> None:
    train(session())
    made = session()
    text = spoken(lambda console: describe(made, made.plan(2), console))
    assert text.endswith("session: 3 cells, 3 done, none to train\n")


def watched(packs: Any, events: list[Event], endings: list[str | None]) -> str:
    def watch(console: Console) -> None:
        with ProgressDisplay(console, packs, 0, 3) as watcher:
            for cause in endings:
                watcher.ended("0123", cause)
            for event in events:
                watcher.event(event)

    return spoken(watch, width=60)


def test_a_log_gets_a_line_with_cells_steps_and_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    packs = session().plan(1).packs
    metrics = {"valid/rate": [0.5, 2.0, 1.0], "valid/elbo": [-30.0, -20.0, -10.0]}
    text = watched(packs, [Event(packs[0].identity, 2, 4, [(2, ["a", "b", "c"], metrics)])], [None])
    assert re.fullmatch(
        r"0 s: 1/3 cells, 50% of the steps, about 0 s left \(pack 1: rate 0\.5 to 2 nats, median -ELBO 20\)\n", text
    )


def test_a_cell_that_diverges_is_named_at_once_with_its_cause() -> None:
    text = watched(session().plan(1).packs, [], [None, "step 7: it was too steep"])
    assert text == "cell 0123 diverged: step 7: it was too steep\n"


def test_a_log_gets_no_bars_and_a_line_only_now_and_then() -> None:
    packs = session().plan(1).packs
    text = watched(packs, [Event(packs[0].identity, step, 4) for step in (1, 2, 3)], [])
    assert len(text.splitlines()) <= 1
    assert "\x1b" not in text


def test_events_of_a_pack_that_was_retried_do_not_turn_progress_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    packs = session().plan(1).packs
    text = watched(packs, [Event(packs[0].identity, step, 4) for step in (3, 1)], [])
    assert [re.search(r"(\d+)% of", line).group(1) for line in text.splitlines()] == ["75", "75"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 s"), (45, "45 s"), (90, "2 min"), (720, "12 min"), (11_100, "3 h 05 min")]
)
def test_durations_read_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# The code's version


def test_the_codes_version_names_the_commit() -> None:
    folder = Path(vaesweep.__file__).parent
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True)
    version = code_version()
    assert version.startswith(vaesweep.__version__)
    if commit.returncode == 0:
        assert re.fullmatch(r"[0-9a-f]{12}\+?", version.removeprefix(f"{vaesweep.__version__} "))
        assert commit.stdout.startswith(version.removeprefix(f"{vaesweep.__version__} ").removesuffix("+"))


@pytest.mark.parametrize("fault", [FileNotFoundError("git"), subprocess.CalledProcessError(128, "git")])
def test_the_codes_version_does_without_git(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr(session_module.subprocess, "run", fail)
    assert code_version() == vaesweep.__version__


def test_a_store_that_is_refused_while_ray_starts_leaves_no_ray_behind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says why, and the timeline is printed of a command that ends early, too."""

    def refuse(_: Session) -> None:
        raise UserError("the store is full")

    calls: list[str] = []
    monkeypatch.setattr("ray.init", lambda *_, **__: calls.append("init"))
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr("ray.shutdown", lambda: calls.append("shutdown"))
    monkeypatch.setattr(Session, "store", property(refuse))
    assert script.main(SWEEP, words=["--timeline"]) == script.BAD_INPUT
    assert calls == ["init", "shutdown"]
    printed = capsys.readouterr()
    assert printed.err == "error: the store is full\n"
    lines = [line.split() for line in printed.out.partition("from, to, where, what\n")[2].splitlines()]
    spans = [(float(began), float(ended), what) for began, ended, *what in lines]
    assert [began for began, _, _ in spans] == sorted(began for began, _, _ in spans)
    assert all(began <= ended for began, ended, _ in spans)
    assert spans[0][0] == 0.0
    assert {"store", "command"} <= {what[0] for _, _, what in spans}
