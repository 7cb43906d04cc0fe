"""Evaluation of cells that have been trained: on further domains, and for further uses, from their finished weights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vaesweep.data.domains import DataSet
from vaesweep.family import CellConfig, family
from vaesweep.sweep.identity import training_part
from vaesweep.sweep.jobs import Event, PackJob, Report
from vaesweep.sweep.storage import Storage, finished_name
from vaesweep.training import finished, memory
from vaesweep.training.evaluate import final_uses
from vaesweep.training.finished import FinishedCell
from vaesweep.training.problem import Problem
from vaesweep.training.sealed import DamagedFile
from vaesweep.training.stack import Stack, joined, layout_of
from vaesweep.training.world import World

EVALUATED_TOGETHER = 16  # cells that are evaluated as one stack, at most


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of cells that have been trained, on the domains and for the uses that they lack."""

    job: PackJob
    storage: Storage
    configs: Mapping[str, CellConfig]
    data: DataSet
    device: torch.device

    def run(self, report: Report) -> None:
        """Evaluate every cell and write its finished file, as many at a time as the device has memory for."""
        left, size = list(self.configs), min(self.job.pack_size or EVALUATED_TOGETHER, len(self.configs))
        problem = family(self.job.family).problem(next(iter(self.configs.values())), self.data, self.device)
        while left:
            cells = left[:size]
            try:
                for cell in self._evaluate(problem, cells):
                    self.storage.write(finished_name(cell.cell), finished.to_bytes(cell))
            except (MemoryError, RuntimeError) as error:
                if size == 1 or not memory.is_out_of_memory(error):
                    raise
                size = max(1, size // 2)
                continue
            left = left[size:]
            done = len(self.configs) - len(left)
            report(Event(self.job.pack, done, len(self.configs), finished=cells))

    def _evaluate(self, problem: Problem, cells: Sequence[str]) -> Iterator[FinishedCell]:
        assert self.job.sources is not None
        sources = [self._read(self.job.sources[cell], cell) for cell in cells]
        model = problem.build()
        names = [name for name, _ in layout_of(model)]  # a file keeps no order
        flat = torch.cat([joined([source.weights[name][None] for name in names]) for source in sources])
        stack = Stack(model, flat.to(self.device))
        lacking = {d for source, cell in zip(sources, cells, strict=True) for d in self._lacking(source, cell)}
        domains = [domain for domain in problem.domains if domain in lacking]
        chunk = next(iter(self.configs.values())).training.batch_size
        uses = final_uses(stack, problem, chunk, World(), domains)
        for i, (cell, source) in enumerate(zip(cells, sources, strict=True)):
            metrics = {name: float(value[i]) for name, value in uses.metrics.items()}
            kept = {name: value[i] for name, value in uses.kept.items()}
            yield self._merged(cell, source, metrics, kept)

    def _read(self, name: str, cell: str) -> FinishedCell:
        source = finished.from_bytes(self.storage.read(name), f"{self.storage.uri}/{name}")
        if training_part(source.cell) != training_part(cell) and source.cell != cell:
            raise DamagedFile(f"{self.storage.uri}/{name} is the file of another cell, {source.cell}")
        return source

    def _lacking(self, source: FinishedCell, cell: str) -> list[str]:
        """The domains that the cell lacks: all where it is another cell that was evaluated otherwise."""
        if source.cell != cell:
            return list(self.job.domains)
        return [domain for domain, data in self.job.domains.items() if not evaluated_on(source, domain, data)]

    def _merged(
        self, cell: str, source: FinishedCell, metrics: Mapping[str, float], kept: Mapping[str, Tensor]
    ) -> FinishedCell:
        """The finished cell with what was evaluated; what it had stays, where it is the same cell on the same data."""
        lacking = self._lacking(source, cell)
        own = source.metrics if source.cell == cell else {}
        stays = {name: value for name, value in own.items() if name.rpartition("/")[0] not in lacking}
        config = self.configs[cell].model_dump(mode="json")
        return replace(
            source,
            cell=cell,
            config=config,
            metrics={**metrics, **stays},
            kept={**source.kept, **kept} if source.cell == cell else dict(kept),
            domains={**(source.domains if source.cell == cell else {}), **self.job.domains},
        )


def evaluated_on(cell: FinishedCell, domain: str, data: str) -> bool:
    """Whether a finished cell has been evaluated on a domain with the fingerprint `data`.

    Files of release 0.1 do not say so; their identity does, by which they were found.
    """
    if not cell.domains:
        return f"{domain}/elbo" in cell.metrics
    return cell.domains.get(domain) == data
