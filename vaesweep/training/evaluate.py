"""Evaluation of a whole pack on a named domain: every cell on the same masks and the same noise."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from vaesweep.elbo import Elbo
from vaesweep.training.problem import Problem, Uses
from vaesweep.training.stack import Batch, Stack
from vaesweep.training.world import World

ROWS = "rows"  # first part of the names of what is kept of each datum


def evaluate(
    stack: Stack, problem: Problem, domain: str, chunk: int, world: World, *, quick: bool = False
) -> dict[str, Tensor]:
    """Means over a domain: `distortion`, `rate`, `rate.<name>`, `elbo` (nats per datum) and the family's own metrics.

    Each is `[cell]`, float64. `quick` takes the domain's first evaluation rows only; `chunk` rows are held at a time,
    and the workers of `world` share them.
    """
    rows = problem.quick_rows(domain) if quick else problem.domains[domain]
    return _evaluated(stack, problem, domain, chunk, world, rows, ())[0]


def final_uses(
    stack: Stack, problem: Problem, chunk: int, world: World, domains: Collection[str] | None = None
) -> Uses:
    """Final metrics of trained cells by `domain/metric`, and the tensors that their users need, on the CPU.

    Evaluated are `domains`, by default all; of what the cells are put to use for (`Problem.use`) there is all. Of what
    `Problem.kept_rows` names each datum's value is kept, as `rows/domain/quantity` `[cell, row]`.
    """
    metrics: dict[str, Tensor] = {}
    kept: dict[str, Tensor] = {}
    for domain in problem.domains if domains is None else domains:
        names = problem.kept_rows(domain)
        means, rows = _evaluated(stack, problem, domain, chunk, world, problem.domains[domain], names)
        metrics |= {f"{domain}/{name}": value.cpu() for name, value in means.items()}
        kept |= {f"{ROWS}/{domain}/{name}": value.float().cpu() for name, value in rows.items()}
    uses = problem.use(stack)
    metrics |= {name: value.cpu() for name, value in uses.metrics.items()}
    return Uses(metrics, kept | {name: value.cpu() for name, value in uses.kept.items()})


@torch.no_grad()
def _evaluated(
    stack: Stack, problem: Problem, domain: str, chunk: int, world: World, rows: int, kept: Collection[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Metrics of the first `rows` of a domain, `[cell]`, and each row's value of what is `kept`, `[cell, row]`."""
    share = world.share(rows)
    stop = max(share.stop, share.start + 1)  # a worker without a share evaluates one row, which counts nothing
    counts = share.stop > share.start
    sums: dict[str, Tensor] = {}
    table = torch.zeros(len(kept), len(stack), rows, dtype=torch.float64, device=problem.device)
    chunks = problem.evaluation_chunks(domain, slice(share.start, stop), chunk)
    for some in _joined(chunks, chunk, problem.evaluation_rows // (chunk * len(stack))):
        batch = problem.evaluation_batch(domain, some)
        values = stack.apply(_measure(problem), batch, shared=True)
        for name, value in values.items():
            for total in _chunk_sums(value if counts else torch.zeros_like(value), chunk):
                sums[name] = sums[name] + total if name in sums else total
        for number, name in enumerate(kept if counts else ()):
            table[number, :, some] = values[name]
    totals = world.sum(torch.stack(list(sums.values())))
    by_row = dict(zip(kept, world.sum(table), strict=True)) if kept else {}
    return _metrics(problem, dict(zip(sums, totals / rows, strict=True))), by_row


def _joined(chunks: Iterable[slice], size: int, most: int) -> Iterator[slice]:
    """The same rows in fewer slices: up to `most` neighbours of `size` rows each as one.

    A shorter chunk stays alone: products of other shapes may round otherwise.
    """
    joined: slice | None = None
    for chunk in chunks:
        fits = joined is not None and joined.stop == chunk.start and chunk.stop - joined.start <= most * size
        if joined is not None and fits and chunk.stop - chunk.start == size:
            joined = slice(joined.start, chunk.stop)
            continue
        if joined is not None:
            yield joined
        joined = chunk
    if joined is not None:
        yield joined


def _chunk_sums(value: Tensor, size: int) -> tuple[Tensor, ...]:
    """The sums of `value` `[cell, row]` over each `size` rows, `[cell]`, float64, in their order.

    Sums of these are the same to the last bit however many chunks were evaluated together.
    """
    value = value.double()
    if value.shape[-1] <= size:
        return (value.sum(-1),)
    return value.unflatten(-1, (-1, size)).sum(-1).unbind(-1)


def _measure(problem: Problem) -> Any:
    def measure(result: tuple[Elbo, Any], batch: Batch) -> dict[str, Tensor]:
        elbo, output = result
        weight = problem.weight(batch)
        parts = {"distortion": elbo.distortion} | {f"rate.{name}": elbo.rate(name) for name in elbo.rates}
        scaled = {name: weight * value for name, value in parts.items()} if weight != 1 else parts
        return scaled | problem.measure(elbo, output, batch)

    return measure


def _metrics(problem: Problem, means: dict[str, Tensor]) -> dict[str, Tensor]:
    return elbo_metrics(means) | problem.summarise(means)


def elbo_metrics(means: dict[str, Tensor]) -> dict[str, Tensor]:
    """`distortion`, each `rate.<name>`, their sum `rate` and `elbo` = -(distortion + rate), from the parts' means.

    A model without rates has a `rate` of 0.
    """
    rates = {name: value for name, value in means.items() if name.startswith("rate.")}
    rate = sum(rates.values(), start=torch.zeros_like(means["distortion"]))
    return {"distortion": means["distortion"], "rate": rate, **rates, "elbo": -(means["distortion"] + rate)}
