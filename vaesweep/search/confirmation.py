"""Confirmation of a choice: it and the preset's default are trained again with fresh seeds, and compared seed by seed.

The best of many noisy trials looks better than it is. Cells of one seed share initial weights, batches and noise, so
the difference is taken within seeds; its interval is Student's t over seeds.
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
from vaesweep.search.rounds import CONFIRMATION, Place, SearchSession, Trainer, missed_target
from vaesweep.training.finished import FinishedCell

CHOSEN, DEFAULT = "chosen", "default"
COLUMNS = [
    *("objective", "domain", "role", "metric", "trial"),
    *("chosen", "chosen_low", "chosen_high", "default", "default_low", "default_high"),
    *("difference", "difference_low", "difference_high", "seeds", "chosen_sd", "default_sd"),
]


@dataclass(frozen=True)
class Confirmation:
    """The cells of a choice and of the default, by seed, beside the trial that was chosen."""

    trial: FinishedCell
    chosen: Mapping[int, FinishedCell]
    default: Mapping[int, FinishedCell]
    failed: Mapping[str, str]  # causes of cells that failed, by what they were for

    @property
    def seeds(self) -> list[int]:
        """The seeds with which both were trained."""
        return sorted(self.chosen.keys() & self.default.keys())


def confirm(trainer: Trainer, params: Mapping[str, Any], trial: FinishedCell, count: int) -> Confirmation:
    """Train the chosen `params` and the preset's default with `count` seeds that no trial has had."""
    session = trainer.session
    seeds = range(session.default.seed + 1, session.default.seed + 1 + count)
    wanted = [(name, seed) for name in (CHOSEN, DEFAULT) for seed in seeds]
    trained = trainer.train([_place(session, name, params if name == CHOSEN else {}, seed) for name, seed in wanted])
    cells: dict[str, dict[int, FinishedCell]] = {CHOSEN: {}, DEFAULT: {}}
    for number, cell in trained.cells.items():
        name, seed = wanted[number]
        cells[name][seed] = cell
    failed = {f"{wanted[number][0]}, seed {wanted[number][1]}": cause for number, cause in trained.failed.items()}
    return Confirmation(trial, cells[CHOSEN], cells[DEFAULT], failed)


def _place(session: SearchSession, name: str, params: Mapping[str, Any], seed: int) -> Place:
    return session.configuration({**params, "seed": seed}), {CONFIRMATION: name, "seed": seed}


def confirmation_table(
    confirmation: Confirmation, objectives: Sequence[ResolvedObjective], data: DataSet | Description
) -> pd.DataFrame:
    """One row an objective, then one a domain and metric: rate, distortion, ELBO and what the objectives are of.

    `trial` is the value that was chosen by; `chosen` and `default` are means over fresh seeds, `difference` is chosen
    less default within seeds, each with its interval; `…_sd` are standard deviations between seeds. A seed of which
    either has no value, as one that diverged, is in no mean.
    """
    rows = [_row(confirmation, one.label, one, one.value) for one in objectives]
    metrics = list(dict.fromkeys(["rate", "distortion", "elbo", *(o.number.rpartition("/")[2] for o in objectives)]))
    for domain in data.domains:
        for metric in metrics:
            row = _row(confirmation, "", None, _reader(f"{domain.name}/{metric}"))
            rows.append(row | {"domain": domain.name, "role": str(domain.role), "metric": metric})
    return pd.DataFrame(rows, columns=COLUMNS)


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
    row: dict[str, Any] = {"objective": label, "trial": read(confirmation.trial.metrics)}
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
    confirmation: Confirmation, table: pd.DataFrame, objectives: Sequence[ResolvedObjective]
) -> Iterator[str]:
    """What the fresh seeds say, in a few lines: each objective, how optimistic the trial was, and the test domain."""
    count = len(confirmation.seeds)
    for label, cause in confirmation.failed.items():
        yield f"confirmation, {label}: failed ({cause})"
    if not count:
        return
    for one, (_, row) in zip(objectives, table[table["objective"] != ""].iterrows(), strict=True):
        yield (
            f"{one.label} on {row['seeds']} fresh seeds: chosen {_interval(row, 'chosen')}, preset's default "
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
