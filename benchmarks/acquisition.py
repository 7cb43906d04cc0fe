"""Acquiring a whole test set at once against one listener at a time, side by side in one run, as ratios.

One thread, importance-weighted predictions of 100 samples, 14 measurements by one rule. Compares a loop over
listeners (one cell), all listeners of one cell together, and a pack of cells together. What counts is the time a cell
takes for the whole test set; the loop is timed on some listeners and scaled.

    python benchmarks/acquisition.py [--data nhanes:DIR] [--cells 8] [--listeners 20] [--best] [--rule reduction]
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from vaesweep.data.domains import Role
from vaesweep.families.pvae.evaluation import ADAPTIVE, AGE, STOPPING_RULE, Scale, predictor
from vaesweep.families.pvae.family import PartialVaeCell, PartialVaeFamily
from vaesweep.families.pvae.presets import STEPS_TO_THE_BEST
from vaesweep.families.pvae.tasks.acquisition import Rule, acquire
from vaesweep.families.pvae.tasks.predictive import Predictor
from vaesweep.sweep.settings import build
from vaesweep.training.stack import Stack, initial_rows

SAMPLES = 100


def seconds(work: Callable[[], object]) -> float:
    """The shortest of three."""
    found = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def one_by_one(predict: Predictor, x: Tensor, rule: Rule) -> None:
    """As anyone would write it first."""
    for listener in x:
        acquire(predict, listener[None], AGE, rule)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--cells", type=int, default=8, help="cells of the pack")
    parser.add_argument("--listeners", type=int, default=20, help="listeners that the loop is timed on")
    parser.add_argument("--best", action="store_true", help="the largest model, not the thesis'")
    parser.add_argument("--rule", choices=ADAPTIVE, default=STOPPING_RULE, help="what is measured next (%(default)s)")
    arguments = parser.parse_args()
    rule = ADAPTIVE[arguments.rule]
    torch.set_num_threads(1)
    family = PartialVaeFamily()
    config = build(PartialVaeCell, STEPS_TO_THE_BEST["larger and longer"] if arguments.best else {})
    assert isinstance(config, PartialVaeCell)
    data = family.load(arguments.data, config)
    problem = family.problem(config, data, torch.device("cpu"))
    scale = Scale(
        *(torch.tensor(v, dtype=torch.float32) for v in (data.standardisation.mean, data.standardisation.std))
    )
    x = torch.tensor(data.domain(Role.TEST).arrays["x"])

    def made(cells: int) -> Predictor:
        stack = Stack(problem.build(), initial_rows(problem.build, range(cells)))
        return predictor(stack, config.model.latents, scale, samples=SAMPLES, weighted=True)

    some = x[: arguments.listeners]
    loop = seconds(lambda: one_by_one(made(1), some, rule)) * len(x) / len(some)
    print(f"{len(x)} listeners, {x.shape[1] - len(AGE)} measurements, {SAMPLES} weighted samples, one thread")
    print(f"{'':>28}  s a cell  times faster than the loop")
    print(f"{'one listener at a time':>28}  {loop:8.2f}  {1:26.1f}")
    for cells in (1, arguments.cells):
        took = seconds(lambda cells=cells: acquire(made(cells), x, AGE, rule)) / cells  # type: ignore[misc]
        name = f"all listeners, {cells} cell{'s' if cells > 1 else ''}"
        print(f"{name:>28}  {took:8.2f}  {loop / took:26.1f}")


if __name__ == "__main__":
    main()
