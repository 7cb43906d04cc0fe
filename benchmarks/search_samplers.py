"""Samplers at equal compute: chance, TPE, a Gaussian process and the grid, several seeds of the sampler each, a table.

Partial VAEs at a target rate; every trial has as many steps. Packs train in this process, without Ray and MLflow, and
configurations that several searches ask are trained once. The best value found is of one training seed, and so
optimistic for all alike.

    python benchmarks/search_samplers.py [--trials 24] [--batch 8] [--seeds 5] [--steps 600]
"""

import argparse
import itertools
import math
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from vaesweep.family import CellConfig, family
from vaesweep.search.objectives import maximise, resolve
from vaesweep.search.rounds import Trained, search
from vaesweep.search.search import SAMPLERS
from vaesweep.search.space import loguniform, uniform
from vaesweep.search.study import Study, Trial
from vaesweep.sweep.cells import Cell, make_packs
from vaesweep.sweep.jobs import PackJob
from vaesweep.sweep.settings import Settings, build
from vaesweep.sweep.storage import Storage, finished_name
from vaesweep.sweep.worker import run_job
from vaesweep.training import finished
from vaesweep.training.finished import FinishedCell

SPACE = {
    "training.learning_rate": loguniform(1e-4, 1e-1),
    "training.weight_decay": uniform(0.0, 0.3),
    "training.clip_norm": loguniform(0.3, 100.0),
    "rates.total.step_size": loguniform(2e-3, 5e-2),
}
OWNER = family("pvae")
CPU = torch.device("cpu")


class Bench:
    """Trains configurations in packs, each once."""

    def __init__(self, steps: int, folder: str) -> None:
        self.base = {"training.steps": steps, "rates.total.kind": "target", "rates.total.target": 2.5}
        self.base |= {"training.evaluate_every": max(1, steps // 4), "data.draws": 1}
        self.data = OWNER.load("synthetic", OWNER.config())
        self.print = self.data.fingerprint()
        self.storage = Storage(folder)

    def config(self, settings: Settings) -> CellConfig:
        return build(OWNER.config, {**self.base, **settings})

    def cell(self, settings: Settings) -> Cell:
        return Cell(self.config(settings), "pvae", self.print, {})

    def train(self, settings: Sequence[Settings]) -> list[FinishedCell]:
        """The finished cells of some settings."""
        cells = [self.cell(one) for one in settings]
        new = {c.identity: c for c in cells if not self.storage.exists(finished_name(c.identity))}
        for pack in make_packs(list(new.values()), 64):
            configs = {cell.identity: cell.config.model_dump_json() for cell in pack.cells}
            domains = self.data.fingerprints()
            job = PackJob(pack.identity, "pvae", configs, self.storage.uri, 1e9, None, "auto", domains=domains)
            run_job(job, self.data, lambda event: None, CPU)
        names = [finished_name(cell.identity) for cell in cells]
        return [finished.from_bytes(self.storage.read(name), name) for name in names]

    def trial_results(self, asked: Sequence[Trial]) -> Trained:
        return Trained(dict(enumerate(self.train([trial.params for trial in asked]))))


def grid(count: int) -> Iterator[dict[str, float]]:
    """At most `count` places: all keys crossed, at the middles of equal parts of their ranges, the first the finest."""
    levels = dict.fromkeys(SPACE, 1)
    for key in itertools.cycle(SPACE):  # one level more at a time, as long as it fits
        levels[key] += 1
        if math.prod(levels.values()) > count:
            levels[key] -= 1
            break
    axes = []
    for key, number in levels.items():
        optuna = SPACE[key].of_optuna()
        low, high = (math.log(optuna.low), math.log(optuna.high)) if optuna.log else (optuna.low, optuna.high)
        middles = low + (np.arange(number) + 0.5) / number * (high - low)
        axes.append((np.exp(middles) if optuna.log else middles).tolist())
    for values in itertools.product(*axes):
        yield dict(zip(SPACE, values, strict=True))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("trials", 24), ("batch", 8), ("seeds", 5), ("steps", 600)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    marks = sorted({arguments.trials // 3, 2 * arguments.trials // 3, arguments.trials})
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments.steps, folder)
        objectives = resolve([maximise("valid/elbo")], OWNER, bench.config({}), bench.data)
        print(f"{arguments.steps} steps, rounds of {arguments.batch}; best validation ELBO, nats, mean (sd) of seeds")
        print(f"{'':>8}", *(f"{f'{mark} trials':>18}" for mark in marks))
        for sampler in SAMPLERS:
            best = np.full((arguments.seeds, len(marks)), np.nan)
            for seed in range(arguments.seeds):
                study = Study(None, "bench", SPACE, ["maximise"], sampler=sampler, seed=seed)
                identify = lambda settings: bench.cell(settings).identity  # noqa: E731
                train = bench.trial_results
                search(study, arguments.trials, arguments.batch, train, identify, objectives, constrained=False)
                values = [trial.values[0] for trial in study.trials]
                best[seed] = [max(values[:mark]) for mark in marks]
            columns = zip(best.mean(axis=0), best.std(axis=0, ddof=1), strict=True)
            print(f"{sampler:>8}", *(f"{mean:>10.3f} ({sd:.3f})" for mean, sd in columns), flush=True)
        cells = bench.train(list(grid(arguments.trials)))
        values = [objectives[0].value(cell.metrics) for cell in cells]
        print(f"{'grid':>8} {np.nanmax(values):.3f} of all {len(values)}")


if __name__ == "__main__":
    main()
