"""Confirmation of choices: each and the preset's default are trained again with fresh seeds, and compared by seed.

The best of many noisy trials looks better than it is. Cells of one seed share initial weights, batches and noise, so
the difference is taken within seeds; its interval is Student's t over seeds. Of several objectives a few trials of the
front are confirmed, each beside the default at the trial's own rate.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from vaesweep.analysis.intervals import Interval, t_interval
from vaesweep.data.description import Description
from vaesweep.data.domains import DataSet, Role
from vaesweep.search.objectives import ResolvedObjective
from vaesweep.search.rounds import CONFIRMATION, TRIAL, Place, SearchSession, Trainer, missed_target
from vaesweep.search.study import Trial, best_trial, pareto_front
from vaesweep.training.finished import FinishedCell

CHOSEN, DEFAULT = "chosen", "default"
SETS_RATE = ("target", "beta")  # the last words of settings of a rate control by which the rate is chosen
FRONT = 3  # trials of a front that are confirmed: its ends, and between
COLUMNS = [
    *("choice", "objective", "domain", "role", "metric", "trial"),
    *("chosen", "chosen_low", "chosen_high", "default", "default_low", "default_high"),
    *("difference", "difference_low", "difference_high", "seeds", "chosen_sd", "default_sd"),
]


@dataclass(frozen=True)
class Confirmation:
    """The cells of a choice and of the default, by seed, beside the trial that was chosen."""

    choice: int  # its trial's number
    trial: FinishedCell
    chosen: Mapping[int, FinishedCell]
    default: Mapping[int, FinishedCell]
    failed: Mapping[str, str]  # causes of cells that failed, by what they were for

    @property
    def seeds(self) -> list[int]:
        """The seeds with which both were trained."""
        return sorted(self.chosen.keys() & self.default.keys())


def choices(trials: Sequence[Trial], signs: Sequence[int]) -> list[Trial]:
    """The trials to confirm: the best one or, of several objectives, `FRONT` along the front of the first two."""
    if len(signs) == 1:
        best = best_trial(trials, signs[0])
        return [] if best is None else [best]
    front = sorted(pareto_front(trials, signs), key=lambda trial: (trial.values[0], trial.number))
    places = np.linspace(0, len(front) - 1, min(FRONT, len(front))).round().astype(int)
    return [front[place] for place in places]


def default_of(params: Mapping[str, Any], objectives: Sequence[ResolvedObjective]) -> dict[str, Any]:
    """Settings of the default that a choice is compared with: none or, on a front, the choice's own rate."""
    if len(objectives) == 1:
        return {}
    return {k: v for k, v in params.items() if k.startswith("rates.") and k.rpartition(".")[2] in SETS_RATE}


def confirm(
    trainer: Trainer, chosen: Sequence[tuple[Trial, FinishedCell]], objectives: Sequence[ResolvedObjective], count: int
) -> list[Confirmation]:
    """Train the `chosen` trials' settings, and the preset's default, with `count` seeds that no trial has had."""
    session = trainer.session
    seeds = range(session.default.seed + 1, session.default.seed + 1 + count)
    settings = {
        (trial.number, name): params
        for trial, _ in chosen
        for name, params in ((CHOSEN, trial.params), (DEFAULT, default_of(trial.params, objectives)))
    }
    wanted = [(*which, seed) for which in settings for seed in seeds]
    trained = trainer.train([_place(session, name, settings[n, name], n, seed) for n, name, seed in wanted])
    cells: dict[tuple[int, str], dict[int, FinishedCell]] = {which: {} for which in settings}
    failed: dict[int, dict[str, str]] = {trial.number: {} for trial, _ in chosen}
    for place, cell in trained.cells.items():
        number, name, seed = wanted[place]
        cells[number, name][seed] = cell
    for place, cause in trained.failed.items():
        number, name, seed = wanted[place]
        failed[number][f"{name if name == DEFAULT else f'trial {number}'}, seed {seed}"] = cause
    return [
        Confirmation(t.number, cell, cells[t.number, CHOSEN], cells[t.number, DEFAULT], failed[t.number])
        for t, cell in chosen
    ]


def _place(session: SearchSession, name: str, params: Mapping[str, Any], number: int, seed: int) -> Place:
    return session.configuration({**params, "seed": seed}), {CONFIRMATION: name, TRIAL: number, "seed": seed}


def confirmation_table(
    confirmations: Sequence[Confirmation], objectives: Sequence[ResolvedObjective], data: DataSet | Description
) -> pd.DataFrame:
    """Of each `choice`, a trial's number, one row an objective, then one a domain and metric.

    The metrics are rate, distortion, ELBO and what the objectives are of. `trial` is the value that was chosen by;
    `chosen` and `default` are means over fresh seeds, `difference` is chosen less default within seeds, each with its
    interval; `…_sd` are standard deviations between seeds. A seed of which either has no value, as one that diverged,
    is in no mean.
    """
    metrics = list(dict.fromkeys(["rate", "distortion", "elbo", *(o.number.rpartition("/")[2] for o in objectives)]))
    rows = []
    for confirmation in confirmations:
        rows += [_row(confirmation, one.label, one, one.value) for one in objectives]
        for domain in data.domains:
            for metric in metrics:
                row = _row(confirmation, "", None, _reader(f"{domain.name}/{metric}"))
                rows.append(row | {"domain": domain.name, "role": str(domain.role), "metric": metric})
    return pd.DataFrame(rows, columns=COLUMNS)


def of_objectives(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a confirmation's table that have the objectives, in their order of each choice."""
    return table[table["objective"] != ""]


def _reader(number: str) -> Any:
    return lambda metrics: metrics.get(number, math.nan)


def _row(confirmation: Confirmation, label: str, objective: ResolvedObjective | None, read: Any) -> dict[str, Any]:
    seeds = confirmation.seeds
    chosen, default = (
        np.array([read(cells[seed].metrics) for seed in seeds], float)
        for cells in (confirmation.chosen, confirmation.default)
    )
    both = np.isfinite(chosen) & np.isfinite(default)
    chosen, default = chosen[both], default[both]
    row: dict[str, Any] = {"choice": confirmation.choice, "objective": label, "trial": read(confirmation.trial.metrics)}
    if objective is not None:
        domain, _, row["metric"] = objective.number.rpartition("/")
        row["domain"] = domain if objective.less is None else f"{domain} - {objective.less.rpartition('/')[0]}"
    for name, values in ((CHOSEN, chosen), (DEFAULT, default), ("difference", chosen - default)):
        interval = t_interval(values) if len(values) else Interval(math.nan, math.nan, math.nan, 0)
        row |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    for name, values in ((CHOSEN, chosen), (DEFAULT, default)):
        row[f"{name}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return row | {"seeds": len(chosen)}


def summarise(
    confirmations: Sequence[Confirmation], table: pd.DataFrame, objectives: Sequence[ResolvedObjective]
) -> Iterator[str]:
    """What the fresh seeds say of each choice: its objectives, how optimistic the trial was, and the test domain."""
    for confirmation in confirmations:
        own = table[table["choice"] == confirmation.choice]
        who = "" if len(confirmations) == 1 else f"trial {confirmation.choice}: "
        for line in _summarise(confirmation, own, objectives):
            yield who + line


def _summarise(
    confirmation: Confirmation, table: pd.DataFrame, objectives: Sequence[ResolvedObjective]
) -> Iterator[str]:
    for label, cause in confirmation.failed.items():
        yield f"confirmation, {label}: failed ({cause})"
    if not confirmation.seeds:
        return
    default = "preset's default" if len(objectives) == 1 else "default at this rate"
    for one, (_, row) in zip(objectives, of_objectives(table).iterrows(), strict=True):
        yield (
            f"{one.label} on {row['seeds']} fresh seeds: chosen {_interval(row, 'chosen')}, {default} "
            f"{_interval(row, 'default')}; difference {_interval(row, 'difference', '+')}: {verdict(row, one.sign)}"
        )
        optimism = one.sign * (row["chosen"] - row["trial"])
        yield (
            f"the trial's own {one.label} was {row['trial']:.5g}, {abs(optimism):.3g} "
            f"{'better' if optimism > 0 else 'worse'} than the mean of fresh seeds; "
            f"standard deviation between seeds {row['chosen_sd']:.3g}"
        )
    metrics = {"distortion", "elbo", *(one.number.rpartition("/")[2] for one in objectives)}
    tests = table[(table["role"] == Role.TEST) & table["metric"].isin(metrics)]
    for _, row in tests.iterrows():
        yield f"{row['domain']} {row['metric']}: difference {_interval(row, 'difference', '+')}"
    for name, cells in ((CHOSEN, confirmation.chosen), (DEFAULT, confirmation.default)):
        diverged = sum(cell.diverged is not None for cell in cells.values())
        missed = sum(missed_target(cell) for cell in cells.values()) - diverged
        if diverged or missed:
            yield f"of the {name} cells {diverged} diverged and {missed} missed the target rate"


def verdict(row: "pd.Series[Any]", sign: int) -> str:
    """The fresh seeds' verdict on an objective of `sign` 1 where less is better."""
    low, high = sorted((sign * row["difference_low"], sign * row["difference_high"]))
    if high < 0:
        return "better than the default"
    return "worse than the default" if low > 0 else "not shown to differ from the default"


def _interval(row: "pd.Series[Any]", name: str, plus: str = "") -> str:
    ends = f"{row[f'{name}_low']:{plus}.4g} to {row[f'{name}_high']:{plus}.4g}"
    return f"{row[name]:{plus}.5g} (95 % {ends})" if row["seeds"] > 1 else f"{row[name]:{plus}.5g} (one seed)"
