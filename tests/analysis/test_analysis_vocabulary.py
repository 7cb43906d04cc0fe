"""Which of several runs is a cell's: one rule for the writer and for every reader."""

import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from vaesweep import vocabulary
from vaesweep.vocabulary import Outcome, Tag, outcome_of, runs_by_cell


@dataclass
class Run:
    """As much of an MLflow run as the rule reads."""

    outcome: str | None
    start_time: int
    cell: str | None = "cell"
    tags: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        given = {Tag.OUTCOME: self.outcome, Tag.CELL: self.cell}
        self.tags = {key: value for key, value in given.items() if value is not None}

    @property
    def data(self) -> Any:
        return SimpleNamespace(tags=self.tags)

    @property
    def info(self) -> Any:
        return SimpleNamespace(start_time=self.start_time)


@pytest.mark.parametrize("order", range(24))
def test_a_finished_run_counts_before_all_others_however_they_are_listed(order: int) -> None:
    runs = [Run("finished", 1), Run("diverged", 2), Run("failed", 3), Run(None, 4)]
    listed = list(list(itertools.permutations(runs))[order])
    while listed:
        best = min(listed, key=runs.index)
        assert runs_by_cell(listed) == {"cell": best}
        listed.remove(best)


@pytest.mark.parametrize("outcome", [*map(str, Outcome), None])
def test_of_equals_the_newest_counts(outcome: str | None) -> None:
    runs = [Run(outcome, time) for time in (2, 3, 1)]
    assert runs_by_cell(runs) == {"cell": runs[1]}
    assert runs_by_cell(reversed(runs)) == {"cell": runs[1]}


def test_cells_are_apart_and_a_run_without_a_cell_is_none() -> None:
    runs = [Run("finished", 1, "a"), Run("failed", 2, "b"), Run("finished", 3, None)]
    assert runs_by_cell(runs) == {"a": runs[0], "b": runs[1]}


def test_an_outcome_that_is_none_of_ours_counts_as_not_ended() -> None:
    assert outcome_of(Run("excellent", 1)) is None
    runs = [Run("excellent", 2), Run("failed", 1)]
    assert runs_by_cell(runs) == {"cell": runs[1]}


@pytest.mark.parametrize(
    ("tag", "there"),
    [
        (vocabulary.table_tag(), True),
        ('[{"path": "other.json", "type": "table"}, {"path": "metrics.json", "type": "table"}]', True),
        ('[{"path": "eval_metrics.json", "type": "table"}]', False),
        ("no json", False),
        ("[1]", False),
        ("", False),
    ],
)
def test_a_run_has_our_table_where_its_tag_names_it(tag: str, there: bool) -> None:
    assert vocabulary.has_table({vocabulary.LOGGED_TABLES: tag}) is there
    assert not vocabulary.has_table({})
