"""The workers that train one pack together: one process, or several that share each batch and sum their results."""

from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """A process alone, or rank `rank` of `size` data-parallel workers of an initialised torch.distributed group."""

    rank: int = 0
    size: int = 1

    def share(self, rows: int) -> slice:
        """This worker's part of `rows` rows; parts differ by at most one row and cover all."""
        return slice(self.rank * rows // self.size, (self.rank + 1) * rows // self.size)

    def sum(self, value: Tensor) -> Tensor:
        """The sum of `value` over workers, in place."""
        if self.size > 1:
            dist.all_reduce(value)
        return value

    @property
    def leads(self) -> bool:
        """Whether this worker is the one that writes files."""
        return self.rank == 0


def current_world() -> World:
    """The initialised torch.distributed group, or a process alone."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World()
