"""A partial VAE trained as anyone would write it: one module, autograd, torch.optim.Adam, an evaluation now and then.

What the benchmarks compare the packed loop with. It steers no rate and writes nothing down, which is in its favour.
"""

from collections.abc import Callable

import torch

from vaesweep.families.pvae.family import PartialVaeCell
from vaesweep.training.batch_order import NOISE, BatchOrder, generator
from vaesweep.training.problem import Problem

EVALUATION_ROWS = 1024  # at a time


def plain_step(problem: Problem, config: PartialVaeCell) -> tuple[torch.nn.Module, Callable[[int], None]]:
    """A model, and one optimisation step of it: the same batches and the same mathematics as the packed loop's."""
    model = problem.build().to(problem.device)
    adam = torch.optim.Adam(model.parameters(), lr=config.training.learning_rate)
    order = BatchOrder(config.seed, problem.train_rows, config.training.batch_size, problem.device)

    def step(number: int) -> None:
        batch = problem.train_batch(order.rows(number), generator(config.seed, NOISE, number, problem.device))
        elbo, _ = model(**batch)
        adam.zero_grad()
        (elbo.distortion + elbo.total_rate()).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.training.clip_norm)
        adam.step()

    return model, step


@torch.no_grad()
def plain_evaluation(problem: Problem, model: torch.nn.Module, domain: str, rows: int) -> float:
    """The ELBO on the first `rows` evaluation rows of a domain, nats per datum."""
    total = 0.0
    for start in range(0, rows, EVALUATION_ROWS):
        batch = problem.evaluation_batch(domain, slice(start, min(start + EVALUATION_ROWS, rows)))
        total += float(model(**batch)[0].value().sum())
    return total / rows


def plain_training(problem: Problem, config: PartialVaeCell, report: Callable[[float], object]) -> None:
    """A whole cell: its steps, the validation domain every so many of them, every domain in the end."""
    model, step = plain_step(problem, config)
    for number in range(config.training.steps):
        step(number)
        if (number + 1) % config.training.evaluate_every == 0:
            report(plain_evaluation(problem, model, problem.valid, problem.quick_rows(problem.valid)))
    for domain, rows in problem.domains.items():
        plain_evaluation(problem, model, domain, rows)
