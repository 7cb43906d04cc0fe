"""The report of a search: trials.csv, search_confirmation.csv, and figures.

They are history, parallel coordinates, importance and Pareto front.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from vaesweep.analysis import style
from vaesweep.analysis.report import Report
from vaesweep.data.writing import replace_file
from vaesweep.search import confirmation as confirmations
from vaesweep.search.confirmation import Confirmation
from vaesweep.search.objectives import ResolvedObjective
from vaesweep.search.rounds import describe_settings
from vaesweep.search.study import (
    CAUSE,
    CELL,
    REFUSED,
    ROUND,
    Study,
    Trial,
    best_trial,
    complete,
    eligible,
    is_on_target,
    pareto_front,
)

FEWEST = 4  # complete trials from which importances are computed


@dataclass(frozen=True)
class Searched:
    """A search as it stands: its trials, their objectives, and the confirmations of what was chosen."""

    study: Study
    objectives: Sequence[ResolvedObjective]
    title: str
    confirmations: Sequence[Confirmation] = ()
    confirmed: pd.DataFrame | None = None  # their table
    curve: pd.DataFrame | None = None  # of a sweep, to be drawn beside the front: `curve.csv`

    @property
    def trials(self) -> list[Trial]:
        return self.study.trials

    @property
    def signs(self) -> list[int]:
        return [objective.sign for objective in self.objectives]


def write(searched: Searched, out: Path) -> Report:
    """Write the report's files into `out`, each replaced in one step."""
    out.mkdir(parents=True, exist_ok=True)
    table = trials_table(searched)
    paths = [
        replace_file(out / "trials.csv", partial(table.to_csv, index=False)),
        replace_file(out / "search_history.png", partial(draw_history, searched)),
    ]
    if complete(searched.trials):
        paths.append(replace_file(out / "search_parallel.png", partial(draw_parallel, searched)))
    if importances := parameter_importances(searched):
        paths.append(replace_file(out / "search_importance.png", partial(draw_importances, searched, importances)))
    if len(searched.objectives) > 1:
        paths.append(replace_file(out / "search_front.png", partial(draw_front, searched)))
    if searched.confirmed is not None:
        name = out / "search_confirmation.csv"
        paths.append(replace_file(name, partial(searched.confirmed.to_csv, index=False)))
    return Report(tuple(paths), tuple(summarise(searched, importances)))


def trials_table(searched: Searched) -> pd.DataFrame:
    """One row a trial: its number, round, state, cell and cause, whether it is on target, objectives, settings.

    `best` marks the trial that was chosen, `front` those that no other beats in all objectives.
    """
    best = best_trial(searched.trials, searched.signs[0])
    front = {trial.number for trial in pareto_front(searched.trials, searched.signs)}
    return pd.DataFrame(
        [
            {
                "trial": trial.number,
                "round": trial.user_attrs.get(ROUND),
                "state": trial.state.name.lower(),
                "cell": trial.user_attrs.get(CELL, ""),
                "on_target": is_on_target(trial) if trial.state is TrialState.COMPLETE else None,
                "best": best is not None and trial.number == best.number,
                "front": trial.number in front,
                **_values(trial, searched.objectives),
                **trial.params,
                "cause": trial.user_attrs.get(REFUSED) or trial.user_attrs.get(CAUSE, ""),
            }
            for trial in searched.trials
        ]
    )


def _values(trial: Trial, objectives: Sequence[ResolvedObjective]) -> dict[str, float]:
    values = trial.values if trial.state is TrialState.COMPLETE else [math.nan] * len(objectives)
    return {objective.label: value for objective, value in zip(objectives, values, strict=True)}


def parameter_importances(searched: Searched) -> list[dict[str, float]]:
    """The share of each objective's variance over the space that a key explains, by fANOVA; empty with few trials."""
    done = complete(searched.trials)
    if len(done) < FEWEST or any(len(set(values)) < 2 for values in zip(*(t.values for t in done), strict=True)):
        return []
    copy = optuna.create_study(directions=searched.study.optuna.directions)
    copy.add_trials(done)

    def of(number: int) -> dict[str, float]:
        evaluator = FanovaImportanceEvaluator(seed=0)
        return get_param_importances(copy, evaluator=evaluator, target=lambda trial: float(trial.values[number]))

    return [of(number) for number in range(len(searched.objectives))]


def summarise(searched: Searched, importances: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """The report in a few lines."""
    yield _counts(searched.trials)
    best = best_trial(searched.trials, searched.signs[0])
    if best is None:
        yield "no trial has come to a finite value: widen the space, or lower its learning rates"
        return
    values = ", ".join(f"{o.label} {v:.5g}" for o, v in zip(searched.objectives, best.values, strict=True))
    missed = "" if is_on_target(best) else ", which missed the target rate as all others did"
    yield f"best trial {best.number}: {values} with {describe_settings(best.params)}{missed}"
    if len(searched.objectives) > 1:
        front = pareto_front(searched.trials, searched.signs)
        yield f"that is by the first objective; {len(front)} trials are on the front"
    for objective, shares in zip(searched.objectives, importances, strict=False):
        named = ", ".join(f"{key} {share:.0%}" for key, share in shares.items())
        yield f"variance of {objective.label} over the space: {named}"
    for objective in searched.objectives:
        for domain in objective.held_out:
            yield f"{objective.label} was optimised on {domain}: its numbers there are a test of this choice no longer"
    if searched.confirmed is not None:
        yield from confirmations.summarise(searched.confirmations, searched.confirmed, searched.objectives)


def _counts(trials: Sequence[Trial]) -> str:
    done = complete(trials)
    missed = sum(not is_on_target(trial) for trial in done)
    counts = {
        "on target" if missed else "complete": len(done) - missed,
        "off target": missed,
        "diverged": sum(trial.state is TrialState.COMPLETE for trial in trials) - len(done),
        "pruned": sum(trial.state is TrialState.PRUNED for trial in trials),
        "failed": sum(trial.state is TrialState.FAIL and REFUSED not in trial.user_attrs for trial in trials),
        "refused": sum(REFUSED in trial.user_attrs for trial in trials),
        "open": sum(not trial.state.is_finished() for trial in trials),
    }
    return f"{len(trials)} trials: {', '.join(f'{n} {name}' for name, n in counts.items() if n)}"


@style.plain()
def draw_history(searched: Searched, path: Path) -> None:
    """Each objective by trial, with the best so far and, at the right, what fresh seeds came to."""
    figure = style.page(9, 3.6 * len(searched.objectives) + 0.4, f"{searched.title}: history")
    axes = figure.subplots(len(searched.objectives), 1, sharex=True, squeeze=False)[:, 0]
    for number, (axis, objective) in enumerate(zip(axes, searched.objectives, strict=True)):
        _draw_objective(axis, searched, number)
        axis.set_ylabel(objective.axis, fontsize=style.LABEL)
        axis.tick_params(labelsize=style.TICK)
    axes[-1].set_xlabel("Trial", fontsize=style.LABEL)
    style.save(figure, path)


def _draw_objective(axis: Axes, searched: Searched, number: int) -> None:
    done = complete(searched.trials)
    on = [trial for trial in done if is_on_target(trial)]
    off = [trial for trial in done if not is_on_target(trial)]
    for group, face, label in ((on, style.BLUE, "trial"), (off, "none", "off target")):
        if group:
            x, y = [t.number for t in group], [t.values[number] for t in group]
            axis.scatter(x, y, s=26, facecolors=face, edgecolors=style.BLUE, label=label, zorder=3)
    counted = eligible(searched.trials)
    if counted:
        sign = searched.signs[number]
        best = sign * np.minimum.accumulate([sign * trial.values[number] for trial in counted])
        axis.step([t.number for t in counted], best, where="post", color=style.BLACK, lw=1.4, label="best so far")
    means: list[float] = []
    if searched.confirmed is not None and len(searched.objectives) == 1:
        row, right = searched.confirmed.iloc[number], len(searched.trials)
        means = searched.confirmed[["chosen", "default"]].iloc[number].dropna().tolist()
        for name, colour, place in (("chosen", style.RED, right + 0.5), ("default", style.GREY, right + 1.5)):
            half = row[f"{name}_high"] - row[name]
            axis.errorbar(
                place, row[name], yerr=_half(half), fmt="D", ms=6, color=colour, capsize=4,
                label=f"{name}, fresh seeds",
            )  # fmt: skip
    _limits(axis, np.array([trial.values[number] for trial in done]), np.array(means), searched.signs[number])
    style.legend(axis, columns=5)


def _limits(axis: Axes, values: np.ndarray, means: np.ndarray, sign: int) -> None:
    """Leave trials out of the axis that are far worse than most, and say how many; the `means` of seeds stay in it."""
    if len(values) < 4:
        return
    costs = sign * values
    quarter, half = np.quantile(costs, [0.25, 0.5])
    bound = max([half + 6 * max(half - quarter, 0.02 * abs(half)), *(sign * means + 0.05 * abs(means))])
    if outside := int((costs > bound).sum()):
        least = min([costs.min(), *(sign * means)])
        ends = (least - 0.08 * (bound - least), bound)
        axis.set_ylim(*sorted(sign * end for end in ends))
        y, edge = (0.97, "top") if sign > 0 else (0.03, "bottom")
        text = f"{outside} worse trial{'s' if outside > 1 else ''} beyond"
        axis.text(0.01, y, text, va=edge, transform=axis.transAxes, fontsize=style.TICK)


@style.plain()
def draw_parallel(searched: Searched, path: Path) -> None:
    """Parallel coordinates: a line a trial over its settings and objectives, coloured by the rank of the first one."""
    shown = sorted(complete(searched.trials), key=lambda trial: -searched.signs[0] * trial.values[0])  # best on top
    keys = list(shown[0].params)
    scales = [_scale(shown[0].distributions[key]) for key in keys]
    costs = np.array([trial.values for trial in shown])
    scales += [_value_scale(costs[:, place], sign) for place, sign in enumerate(searched.signs)]
    names = [*keys, *(objective.axis for objective in searched.objectives)]
    figure = style.page(2.2 * len(names) + 1, 4.6, f"{searched.title}: settings and outcomes of trials")
    axis = figure.subplots()
    colours = colormaps["viridis"](np.linspace(0, 1, max(2, len(shown))))
    for rank, trial in enumerate(shown):
        values = [*(trial.params[key] for key in keys), *trial.values]
        heights = [scale.height(value) for scale, value in zip(scales, values, strict=True)]
        line = "-" if is_on_target(trial) else ":"
        axis.plot(range(len(names)), heights, line, color=colours[rank], lw=1.6, alpha=0.85)
    for place, scale in enumerate(scales):
        axis.axvline(place, color=style.BLACK, lw=0.8)
        for height, text in scale.ticks:
            axis.text(place + 0.03, height, text, fontsize=style.TICK, va="center", backgroundcolor=(1, 1, 1, 0.6))
    axis.set_xticks(range(len(names)), [name.replace(" [", "\n[") for name in names], fontsize=style.TICK)
    axis.set_yticks([])
    axis.set_ylim(-0.05, 1.05)
    axis.set_xlim(-0.1, len(names) - 0.6)
    axis.spines[["left", "right", "top", "bottom"]].set_visible(False)
    dotted = "; dotted: off target" if not all(map(is_on_target, shown)) else ""
    axis.set_title(
        f"yellow: best in {searched.objectives[0].label}, violet: worst{dotted}", fontsize=style.TICK, loc="left"
    )
    style.save(figure, path)


@dataclass(frozen=True)
class _Scale:
    """Where values lie on a vertical axis of parallel coordinates, from 0 to 1, and its ticks with their words."""

    height: Callable[[Any], float]
    ticks: Sequence[tuple[float, str]]


def _scale(distribution: BaseDistribution) -> _Scale:
    """The scale of a key: its range, by logarithm where it is drawn so, or its choices at equal distances."""
    if isinstance(distribution, CategoricalDistribution):
        places = {repr(value): place for place, value in enumerate(distribution.choices)}
        top = max(1, len(places) - 1)
        ticks = [(place / top, str(value)) for place, value in enumerate(distribution.choices)]
        return _Scale(lambda value: places[repr(value)] / top, ticks)
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high, log = distribution.low, distribution.high, distribution.log

    def height(value: float) -> float:
        if log:
            return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low) or 1.0)
        return (value - low) / (high - low or 1.0)

    middle = math.sqrt(low * high) if log else (low + high) / 2
    return _Scale(height, [(height(value), f"{value:.2g}") for value in (low, middle, high)])


def _value_scale(values: np.ndarray, sign: int) -> _Scale:
    """The scale of an objective, the better the higher; trials that are far worse than most lie at its foot."""
    costs = sign * values
    best, worst = costs.min(), min(costs.max(), np.quantile(costs, 0.5) + 6 * np.ptp(np.quantile(costs, [0.25, 0.5])))
    width = worst - best or 1.0
    ticks = [(1 - part, f"{sign * (best + part * width):.4g}") for part in (0.0, 0.5, 1.0)]
    return _Scale(lambda value: float(max(0.0, 1 - (sign * value - best) / width)), ticks)


@style.plain()
def draw_importances(searched: Searched, importances: Sequence[Mapping[str, float]], path: Path) -> None:
    """The share of each objective's variance that each key explains."""
    keys = list(importances[0])
    figure = style.page(8, 1.4 + 0.5 * len(keys), f"{searched.title}: importance")
    axis = figure.subplots()
    colours = (style.BLUE, style.ORANGE, style.GREEN, style.PINK)
    height = 0.8 / len(importances)
    for number, (objective, shares) in enumerate(zip(searched.objectives, importances, strict=True)):
        places = np.arange(len(keys)) + (number - (len(importances) - 1) / 2) * height
        axis.barh(
            places, [shares[key] for key in keys], height, color=colours[number % len(colours)], label=objective.label
        )
    axis.set_yticks(range(len(keys)), keys, fontsize=style.TICK)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_xlabel("Share of the variance over the space (fANOVA)", fontsize=style.LABEL)
    axis.tick_params(labelsize=style.TICK)
    style.legend(axis, columns=len(importances))
    style.save(figure, path)


@style.plain()
def draw_front(searched: Searched, path: Path) -> None:
    """The first two objectives of every trial, the front, and a sweep's curve beside it where there is one."""
    first, second = searched.objectives[:2]
    figure = style.page(7.5, 6, f"{searched.title}: Pareto front")
    axis = figure.subplots()
    done = complete(searched.trials)
    for on, face in ((True, style.SKY), (False, "none")):
        group = [trial for trial in done if is_on_target(trial) is on]
        if group:
            points = np.array([trial.values[:2] for trial in group])
            label = "trial" if on else "off target"
            axis.scatter(points[:, 0], points[:, 1], s=26, facecolors=face, edgecolors=style.BLUE, label=label)
    front = np.array(sorted(tuple(trial.values[:2]) for trial in pareto_front(searched.trials, searched.signs)))
    if len(front):
        axis.plot(front[:, 0], front[:, 1], "o-", color=style.RED, ms=6, lw=1.4, label="front", zorder=4)
    if searched.curve is not None:
        _draw_curve(axis, searched.curve, first, second)
    if searched.confirmed is not None:
        _draw_confirmed(axis, confirmations.of_objectives(searched.confirmed))
    axis.set_xlabel(first.axis, fontsize=style.LABEL)
    axis.set_ylabel(second.axis, fontsize=style.LABEL)
    axis.tick_params(labelsize=style.TICK)
    style.legend(axis, columns=4)
    style.save(figure, path)


def _draw_confirmed(axis: Axes, rows: pd.DataFrame) -> None:
    """Means of fresh seeds with intervals, in two objectives, of each choice and of the default at its rate."""
    pairs = [group.iloc[:2] for _, group in rows.groupby("choice")]
    for name, colour in (("chosen", style.BLACK), ("default", style.GREY)):
        for place, pair in enumerate(pairs):
            (x, y), (right, top) = pair[name], pair[f"{name}_high"]
            axis.errorbar(
                x, y, xerr=_half(right - x), yerr=_half(top - y), fmt="D", ms=6, color=colour, capsize=4, zorder=5,
                label=None if place else f"{name}, fresh seeds",
            )  # fmt: skip


def _half(width: float) -> float | None:
    """Half an interval as `errorbar` takes it; None of a mean without one."""
    return width if math.isfinite(width) else None


def _draw_curve(axis: Axes, curve: pd.DataFrame, first: ResolvedObjective, second: ResolvedObjective) -> None:
    """A sweep's curve on the objectives' domain, where it has both of their metrics."""
    domain, _, x = first.number.rpartition("/")
    other, _, y = second.number.rpartition("/")
    points = curve[(curve["domain"] == domain) & (curve["kind"] == "curve")]
    if domain == other and {x, y} <= set(curve.columns) and len(points):
        line: list[Line2D] = axis.plot(points[x], points[y], color=style.BLACK, lw=1.4, ls="--", label="sweep's curve")
        line[0].set_zorder(2)
