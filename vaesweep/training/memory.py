"""The memory of a device that one process may take, and the most that it has taken."""

import os
from pathlib import Path

import psutil
import torch

HEADROOM = 0.8  # of what is free: evaluations and the data of others take some too
CONTROL_GROUP = Path("/sys/fs/cgroup")  # a container's own limit, version 2 of control groups
PROCESS = Path("/proc/self")


class Meter:
    """The most memory that this process has taken since `restart`, beyond what it held when the meter was made.

    On a CPU that is resident memory, read from Linux' high-water mark; where there is none, the present size counts.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = _used_bytes(device)

    def restart(self) -> None:
        """Forget the highest value so far."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        elif (PROCESS / "clear_refs").exists():
            (PROCESS / "clear_refs").write_text("5")

    def peak(self) -> int:
        """The highest value since `restart`, in bytes."""
        if self._device.type == "cuda":
            return max(0, torch.cuda.max_memory_allocated(self._device) - self._before)
        marks = [line.split() for line in _lines(PROCESS / "status") if line.startswith("VmHWM:")]
        highest = int(marks[0][1]) * 1024 if marks else _used_bytes(self._device)
        return max(0, highest - self._before)


def available_bytes(device: torch.device, share: float) -> float:
    """Bytes that a process which is given `share` of the device may take."""
    if device.type == "cuda":
        return HEADROOM * share * torch.cuda.get_device_properties(device).total_memory
    free = [float(psutil.virtual_memory().available)]
    limit = _number(CONTROL_GROUP / "memory.max")
    if limit is not None:
        free.append(limit - (_number(CONTROL_GROUP / "memory.current") or 0.0))
    return HEADROOM * share * max(0.0, min(free))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device has no memory left."""
    phrases = ("out of memory", "can't allocate memory", "cannot allocate memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in phrases)
    )


def _used_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process(os.getpid()).memory_info().rss)


def _number(path: Path) -> float | None:
    lines = _lines(path)
    return float(lines[0]) if lines and lines[0].strip().isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
