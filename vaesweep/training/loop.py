"""The packed loop: all cells of a pack step together, each as if it were alone.

    rows, noise (seed, step) ──► stacked forward ──► Elbo ──► weights ──► gradient ──► clip ──► Adam
                                                      └─────► measured rates ──► controls' next state

Between evaluations nothing waits for the device. At an evaluation the pack reports; cells that are done (early
stopping, divergence, last step) are evaluated on every domain and removed from the stack, and the others train on.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from vaesweep.rates import RatePolicy, Weights
from vaesweep.training import skipping
from vaesweep.training.config import Pruning, TrainableConfig
from vaesweep.training.evaluate import elbo_metrics, evaluate, final_uses
from vaesweep.training.feed import Feed
from vaesweep.training.plateau import PlateauMonitor
from vaesweep.training.problem import Problem, Uses
from vaesweep.training.stack import Stack, initial_rows, layout_of
from vaesweep.training.state import RUNNING, PackState
from vaesweep.training.step import Step, StepNumbers
from vaesweep.training.world import World


@dataclass(frozen=True)
class CellResult:
    """The result of one cell: its final metrics by `domain/metric`, or the step at which it diverged.

    `kept` are tensors that its users need beside the weights (`Problem.use`).
    """

    cell: str
    step: int
    metrics: dict[str, float]
    diverged: int | None
    saturated: tuple[str, ...]
    state: PackState  # of this cell alone: weights, history
    kept: dict[str, Tensor] = field(default_factory=dict)
    cause: str | None = None  # when and why it diverged


class Listener(Protocol):
    """Receiver of a pack's progress. Called between steps, by every worker alike."""

    def progress(self, state: PackState, latest: dict[str, Tensor]) -> None:
        """Called after an evaluation; `latest` metrics are `[cell]` on the CPU, and in `state.history` too."""

    def checkpoint(self, state: PackState) -> None:
        """Called after every step, where `state` may be saved; training resumes exactly from a saved one."""

    def finished(self, result: CellResult) -> None:
        """Called when a cell has ended and has left the pack."""


def start_state(problem: Problem, configs: Sequence[TrainableConfig], cells: Sequence[str]) -> PackState:
    """The state before the first step; cells of one seed start from the same weights."""
    model = problem.build()
    flat = initial_rows(problem.build, [config.seed for config in configs]).to(problem.device)
    policy = RatePolicy(configs, problem.rate_names, problem.device)
    return PackState(
        cells=tuple(cells),
        layout=layout_of(model),
        step=0,
        flat=flat,
        exp_avg=torch.zeros_like(flat),
        exp_avg_sq=torch.zeros_like(flat),
        sums=flat[:, :0].double(),
        average=flat.clone() if configs[0].training.average else flat[:, :0].clone(),
        failed=torch.full((len(cells),), RUNNING, dtype=torch.long, device=problem.device),
        control=policy.start(),
        plateau=PlateauMonitor(configs[0].training).start(flat),
        skips=skipping.start(configs[0].training.skip, len(cells), problem.device),
    )


def continued_state(problem: Problem, configs: Sequence[TrainableConfig], pretrained: PackState) -> PackState:
    """The state before the first step of cells that go on from `pretrained`, with its weights and its history.

    The weights are those that would be kept of it. Optimiser, rate controls and schedules start anew.
    """
    flat = pretrained.weights.clone()
    return replace(
        start_state(problem, configs, pretrained.cells),
        flat=flat,
        average=flat.clone() if configs[0].training.average else flat[:, :0].clone(),
        history=dict(pretrained.history),
        evaluated=pretrained.evaluated,
        begun=pretrained.all_steps,
    )


def train_pack(
    problem: Problem,
    configs: Sequence[TrainableConfig],
    state: PackState,
    listener: Listener,
    world: World | None = None,
    *,
    compiled: bool = False,
    pretraining: bool = False,
) -> PackState:
    """Train the cells of `state` (of `start_state`, or a checkpoint) to their ends and return the state of those left.

    No cell is left, but with `pretraining` those that have come to the last step: they are not finished there.

    `configs` belong to `state.cells`, in that order, and differ in packed numbers only. All results go to `listener`.
    With several workers in `world` each takes its share of every batch. `compiled` steps pay only in runs that are long
    beside the time of compiling (`training/autotune.py`).
    """
    world = world or World()
    config_of = dict(zip(state.cells, configs, strict=True))
    while state.cells and not (pretraining and state.step >= configs[0].training.steps):
        own = [config_of[cell] for cell in state.cells]
        pack = RunningPack(problem, own, state, world, compiled=compiled, pretraining=pretraining)
        with contextlib.closing(pack.feed):
            state = pack.run_until_done(listener)
    return state


class RunningPack:
    """The cells that train now, with everything that is derived from their configurations."""

    def __init__(
        self,
        problem: Problem,
        configs: Sequence[TrainableConfig],
        state: PackState,
        world: World,
        *,
        compiled: bool = False,
        pretraining: bool = False,
    ) -> None:
        self.problem, self.configs, self.world, self.pretraining = problem, configs, world, pretraining
        self.training = configs[0].training
        self.state = state = state.to(problem.device)
        trained = Stack(problem.build(), state.flat, training=True)
        self.stack = Stack(problem.build(), state.weights)
        bfloat16 = self.training.precision == "bfloat16"
        self.arithmetic = Step(trained, problem.rate_names, compiled=compiled, bfloat16=bfloat16)
        self.policy = RatePolicy(configs, problem.rate_names, problem.device)
        self.plateau = PlateauMonitor(self.training)
        numbers = [(c.training.learning_rate, c.training.clip_norm, c.training.weight_decay) for c in configs]
        self.learning_rate, self.clip_norm, decay = torch.tensor(numbers, device=problem.device).unbind(-1)
        self.decay = decay if any(c.training.weight_decay for c in configs) else None
        self.skipping = skipping.of_cells(configs, state.skips, problem.device)
        self.seeds = sorted({config.seed for config in configs})
        self.seed_indices = torch.tensor([self.seeds.index(config.seed) for config in configs], device=problem.device)
        parts = self.training.accumulation
        self.feed = Feed(problem, self.seeds, self.seed_indices, self.training.batch_size, world, parts)

    def run_until_done(self, listener: Listener) -> PackState:
        """Step until a cell or the pretraining is done, and return the state of the cells that remain."""
        while True:
            state = self.state
            while state.step < self.training.steps:
                self.step()
                if state.step % self.training.evaluate_every == 0:
                    break
                listener.checkpoint(state)
            latest = self.evaluate()
            done = self.done()
            listener.progress(state, latest)
            if done:
                for result in self.results(done):
                    listener.finished(result)
                state = state.select([i for i in range(len(state.cells)) if i not in set(done)])
            if state.cells:
                listener.checkpoint(state)
            if done or state.step >= self.training.steps:
                return state

    def step(self) -> None:
        """One optimisation step of every cell, without waiting for the device."""
        state = self.state
        now = torch.tensor(float(state.step), dtype=torch.float64, device=self.problem.device)
        weights = self.policy.weights(state.control, now)
        gradient, measured, objective = self.sum_over_workers(*self.gradient(weights))
        pace = self.plateau.factor(state.plateau, state.step)
        learning_rate = self.learning_rate * pace.to(self.learning_rate.dtype)
        numbers = StepNumbers(learning_rate, self.clip_norm, self.decay, self.skipping)
        norm, alive = self.arithmetic.move(state, gradient, objective, numbers, self.training.average)
        state.failed = torch.where(alive | (state.failed != RUNNING), state.failed, state.all_steps)
        rates = dict(zip(self.problem.rate_names, measured[1:].nan_to_num(), strict=True))
        state.control = self.policy.advance(state.control, rates, now, pace)
        self.accumulate(torch.cat([measured, norm[None]]).double())
        state.step += 1

    def gradient(self, weights: Weights) -> tuple[Tensor, Tensor, Tensor]:
        """`Step.gradient` of this worker's share of the batch, summed over its parts."""
        state = self.state
        last = state.begun + self.training.steps
        total: tuple[Tensor, ...] = ()
        for batch in self.feed.batches(state.all_steps, last):
            part = self.arithmetic.gradient(batch, weights, self.feed.rows)
            total = tuple(map(torch.add, total, part)) if total else part
        gradient, measured, objective = total
        return gradient, measured, objective

    def sum_over_workers(self, gradient: Tensor, measured: Tensor, objective: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The sums over workers, by one all-reduce."""
        if self.world.size == 1:
            return gradient, measured, objective
        message = self.world.sum(torch.cat([gradient, measured.T, objective[:, None]], dim=1))
        sizes = [gradient.shape[1], len(measured), 1]
        gradient, measured_t, objective_c = message.split(sizes, dim=1)
        return gradient.contiguous(), measured_t.T, objective_c[:, 0]

    def accumulate(self, values: Tensor) -> None:
        sums = self.state.sums
        self.state.sums = sums + values.T if sums.shape[1] else values.T.contiguous()

    @torch.no_grad()
    def evaluate(self) -> dict[str, Tensor]:
        """Metrics since the last evaluation and of the validation domain, `[cell]` on the CPU, put into the history."""
        state = self.state
        now = torch.tensor(float(state.step), dtype=torch.float64, device=self.problem.device)
        valid = evaluate(self.stack, self.problem, self.problem.valid, self.training.batch_size, self.world, quick=True)
        state.plateau = self.plateau.judge(state.plateau, valid, self.policy.settled(state.control, now), state.weights)
        metrics = self.running() | {f"valid/{name}": value for name, value in valid.items()}
        betas = self.policy.weights(state.control, now).beta
        metrics |= {f"train/beta.{name}": beta for name, beta in betas.items()}
        metrics["train/learning_rate"] = self.learning_rate * self.plateau.factor(state.plateau, state.step)
        metrics["train/settled"] = self.policy.settled(state.control, now).double()
        if self.skipping is not None:
            metrics["train/skipped"] = self.skipping.total.double()
        for name, flag in self.policy.saturated(state.control).items():
            metrics[f"train/saturated.{name}"] = flag.double()
        names, table = list(metrics), torch.stack([value.double() for value in metrics.values()]).cpu()
        latest = dict(zip(names, table, strict=True))
        state.record(latest)
        return latest

    def running(self) -> dict[str, Tensor]:
        """Means over the steps since the last evaluation."""
        state = self.state
        steps = state.all_steps - (state.evaluated[-1] if state.evaluated else 0)
        if not steps:
            return {}
        means, state.sums = state.sums.T / steps, state.sums[:, :0]
        names = ["distortion", *(f"rate.{name}" for name in self.problem.rate_names)]
        parts = elbo_metrics(dict(zip(names, means[:-1], strict=True)))
        return {f"train/{name}": value for name, value in parts.items()} | {"train/gradient_norm": means[-1]}

    def done(self) -> list[int]:
        """Positions of the cells that end here."""
        if self.state.step >= self.training.steps and not self.pretraining:
            return list(range(len(self.state.cells)))
        ended = (self.state.failed != RUNNING) | self.plateau.stopped(self.state.plateau)
        if self.training.pruning is not None and not self.pretraining:
            ended |= self.pruned(self.training.pruning).to(ended.device)
        return ended.nonzero().flatten().tolist()

    def pruned(self, rule: Pruning) -> Tensor:
        """`[cell]`, true where the history is worse than one of the bounds."""
        pruned = torch.zeros(len(self.state.cells), dtype=torch.bool)
        if (history := self.state.history.get(f"valid/{rule.watch}")) is not None:
            for place, step in enumerate(self.state.evaluated):
                pruned |= rule.is_worse(step - self.state.begun, history[:, place].cpu())
        return pruned

    def results(self, done: Sequence[int]) -> list[CellResult]:
        """Results of the cells at the positions `done`: evaluated on every domain and put to use, unless diverged."""
        state = self.state.with_weights(self.plateau.kept(self.state.plateau, self.state.weights))
        flags = self.policy.saturated(state.control)
        sound = [i for i in done if int(state.failed[i]) == RUNNING]
        uses = Uses()
        if sound:
            stack = Stack(self.problem.build(), state.select(sound).weights)
            uses = final_uses(stack, self.problem, self.training.batch_size, self.world)
        results = []
        for i in done:
            at = sound.index(i) if i in sound else None
            results.append(
                CellResult(
                    cell=self.state.cells[i],
                    step=self.state.all_steps,
                    metrics={} if at is None else {name: float(value[at]) for name, value in uses.metrics.items()},
                    diverged=int(self.state.failed[i]) if at is None else None,
                    cause=self.cause(i) if at is None else None,
                    saturated=tuple(name for name, flag in flags.items() if bool(flag[i])),
                    state=state.select([i]),
                    kept={} if at is None else {name: value[at] for name, value in uses.kept.items()},
                )
            )
        return results

    def cause(self, cell: int) -> str:
        """The step and the cause of the failure of the cell at the position `cell`."""
        reason = skipping.cause(self.configs[cell].training.skip, self.state.skips, cell)
        return f"step {int(self.state.failed[cell])}: {reason}"
