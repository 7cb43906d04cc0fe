"""Step time of the packed loop against one model at a time, side by side in one run, as ratios.

Compares, on the partial VAE with the thesis' batch of 64 and one thread: a plain PyTorch loop (module, autograd,
torch.optim.Adam) over one cell, and the packed loop at several pack sizes. What counts is the time a cell and step.

    python benchmarks/packed_step.py [--sizes 1 8 64] [--steps 40] [--device cuda]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch

from vaesweep.families.pvae import PartialVaeCell, PartialVaeFamily
from vaesweep.rates import TargetRate
from vaesweep.training.loop import measure_pack, start_state
from vaesweep.training.order import NOISE, Order, generator
from vaesweep.training.problem import Problem


def plain_step(problem: Problem, config: PartialVaeCell) -> Callable[[int], None]:
    """One optimisation step as anyone would write it, the same batches and the same mathematics."""
    model = problem.build().to(problem.device)
    adam = torch.optim.Adam(model.parameters(), lr=config.training.learning_rate)
    order = Order(config.seed, problem.train_rows, config.training.batch_size, problem.device)

    def step(number: int) -> None:
        batch = problem.train_batch(order.rows(number), generator(config.seed, NOISE, number, problem.device))
        elbo, _ = model(**batch)
        adam.zero_grad()
        (elbo.distortion + elbo.total_rate()).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.training.clip_norm)
        adam.step()

    return step


def plain_seconds(problem: Problem, config: PartialVaeCell, steps: int, clock: Callable[[], float]) -> float:
    """Seconds of a plain step, the median over blocks."""
    step = plain_step(problem, config)
    marks = [clock()]
    for block in range(6):
        for number in range(steps):
            step(block * steps + number)
        marks.append(clock())
    return statistics.median(b - a for a, b in pairwise(marks[1:])) / steps


def packed_seconds(problem: Problem, cells: int, clock: Callable[[], float]) -> float:
    """Seconds of a step of a pack of `cells` cells: targets and seeds differ, as in a sweep; the best of three."""
    targets = [0.125 + 15 * i / cells for i in range(cells)]
    configs = [
        PartialVaeCell(seed=i % 3, rates={"total": TargetRate(target=target)}) for i, target in enumerate(targets)
    ]
    names = [str(i) for i in range(cells)]
    return min(measure_pack(problem, configs, start_state(problem, configs, names), clock).step for _ in range(3))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 16, 64, 128])
    parser.add_argument("--steps", type=int, default=40, help="plain steps a block")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    family = PartialVaeFamily()
    problem = family.problem(PartialVaeCell(), family.load("synthetic", PartialVaeCell()), device)
    plain = plain_seconds(problem, PartialVaeCell(), arguments.steps, clock)
    print(f"{'':>14}  ms a step  ms a cell and step  times faster than plain")
    print(f"{'plain PyTorch':>14}  {1e3 * plain:9.2f}  {1e3 * plain:18.3f}  {1:23.1f}")
    for size in arguments.sizes:
        seconds = packed_seconds(problem, size, clock)
        row = f"{1e3 * seconds:9.2f}  {1e3 * seconds / size:18.3f}  {plain * size / seconds:23.1f}"
        print(f"{f'pack of {size}':>14}  {row}")


if __name__ == "__main__":
    main()
