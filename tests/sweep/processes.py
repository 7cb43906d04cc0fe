"""Commands that run, watched from outside: their processes, and waiting for what they do."""

import subprocess
import time
from collections.abc import Callable
from typing import Any

import psutil

PATIENCE = 240.0  # seconds within which anything that is waited for happens, on a busy machine too
TRIAL, CONTROLLER, WORKER = "ray::ImplicitFunc", "ray::TrainController", "RayTrainWorker"


def processes(process: subprocess.Popen[str], name: str) -> list[psutil.Process]:
    """The processes below the driver whose command line has `name`."""
    children = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if name in " ".join(child.cmdline()):
                children.append(child)
        except psutil.Error:
            continue
    return children


def wait(process: subprocess.Popen[str], look: Callable[[], Any]) -> Any:
    """What `look` gives as soon as it gives anything; the process must still run then."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if seen := look():
            return seen
        time.sleep(0.02)
    raise TimeoutError
