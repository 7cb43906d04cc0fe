"""Requests to packs that they let go of half of their cells, as files in the storage. Knows no Ray.

    <storage>/splits/<token>-<pack>    the driver with this token asks this pack

idle device ──► request ──► the worker's checkpoint ──► event with the released cells ──► a smaller job and a new one
"""

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from vaesweep.sweep.identity import digest
from vaesweep.sweep.jobs import PackJob
from vaesweep.sweep.storage import Storage

SPLITS = "splits"
STALE_SECONDS = 3600.0  # after which no driver waits for an answer


def request_name(job: PackJob) -> str:
    """The name of the file that asks the pack of `job` to split."""
    return f"{SPLITS}/{job.token}-{job.pack}"


def is_requested(storage: Storage, job: PackJob) -> bool:
    """Whether the driver of `job` asks its pack to split; false where the storage does not answer."""
    with contextlib.suppress(OSError):
        return storage.exists(request_name(job))
    return False


def latter_half(cells: Sequence[str]) -> list[str]:
    """The half of a pack's unfinished cells that it lets go, the smaller one where their number is odd."""
    return list(cells[len(cells) - len(cells) // 2 :])


def split(job: PackJob, released: Sequence[str]) -> tuple[PackJob, PackJob]:
    """What is left of a job, and a job of its `released` cells, as a pack of their own."""
    others = [cell for cell in job.configs if cell not in set(released)]
    return job.without(released), replace(job.without(others), pack=digest(list(released)))


def drop_stale_requests(storage: Storage) -> None:
    """Delete requests that drivers have left behind which died."""
    for name in storage.older(SPLITS, STALE_SECONDS):
        with contextlib.suppress(OSError):
            storage.delete(name)
