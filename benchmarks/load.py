"""How a sweep's cost grows with its cells: tracking of 100, 2 000 and 10 000 tiny cells, in a file and over HTTP.

    python benchmarks/load.py [--cells 100 2000 10000] [--stores sqlite server] [--sweeps] [--results load.jsonl]

A process of its own adds cells that have ended to a tracker whose thread does not run yet, which tells what a waiting
cell takes, and then lets it write all of them: CPU of that process a cell, points a second, and how many points the
store has in the end. The server is MLflow's, on loopback, with one worker and an SQLite file. With `--sweeps` the same
number of cells is also trained by the sweep's own command, whose driver is one process.

Each result is a line of the file of results as soon as there is one; what stands there is not measured again.
"""

import argparse
import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from make_store import settings
from process_time import LOOK_SECONDS, ROOT, environment_of, python

STARTED_SECONDS = 180.0  # within which a server answers
METRICS, STEPS, DOMAINS, MODEL = 15, (15, 30), ("a", "b", "c", "d", "e"), 20_000  # of a cell; its file has MODEL bytes
COLUMNS = {
    "store": "store",
    "cells": "cells",
    "kib_a_waiting_cell": "KiB a waiting cell",
    "ms_a_cell": "ms CPU a cell",
    "points_a_second": "points a second",
    "lost": "points lost",
    "driver_ms_a_cell": "driver of a sweep, ms CPU a cell",
    "sweep_seconds": "sweep, s",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[100, 2000, 10_000], help="(%(default)s)")
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "server"], default=["sqlite", "server"])
    parser.add_argument("--sweeps", action="store_true", help="train as many cells by the sweep's command, too")
    parser.add_argument("--results", type=Path, default=Path("load.jsonl"), help="(%(default)s)")
    parser.add_argument("--track", type=int, help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    if options.track is not None:
        print(json.dumps(track(options.track)))
        return 0
    done = [json.loads(line) for line in options.results.read_text().splitlines()] if options.results.exists() else []
    for cells in options.cells:
        for store in options.stores:
            found = next((one for one in done if (one["store"], one["cells"]) == (store, cells)), {})
            if found and (not options.sweeps or "sweep_seconds" in found):
                continue
            result = {"store": store, "cells": cells} | measured(store, cells, sweep=options.sweeps)
            done = [one for one in done if one is not found] + [result]
            options.results.write_text("".join(f"{json.dumps(one)}\n" for one in done))
    print_table(done)
    return 0


def measured(store: str, cells: int, *, sweep: bool) -> dict[str, Any]:
    """What is to be known of a store and a number of cells."""
    with started(store) as (folder, uri):
        command = python(Path(__file__), "--track", str(cells))
        environment = environment_of(ROOT) | {"MLFLOW_TRACKING_URI": uri}
        found = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        result: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
        result["lost"] = result.pop("points") - points_in(folder / "mlflow.db")
    if sweep:
        with started(store) as (folder, uri):
            result |= swept(cells, folder, uri)
    return result


def track(cells: int) -> dict[str, Any]:
    """Track so many cells in the store of this process's environment; what that took."""
    import torch
    from driver_memory import resident

    from vaesweep.families.pvae.family import PartialVaeCell
    from vaesweep.sweep.cells import Cell
    from vaesweep.sweep.tracking import Store, Tracker
    from vaesweep.training.finished import FinishedCell

    own = [Cell(PartialVaeCell(seed=seed), "pvae", "data", {"seed": seed}) for seed in range(cells)]
    store = Store(os.environ["MLFLOW_TRACKING_URI"], "load")
    parent = store.open_sweep({"sweep": "s", "name": "load", "family": "pvae", "preset": "tiny", "cells": []}, {})
    tags = {cell.identity: {"vaesweep.sweep": "s", "vaesweep.pack": "p", "vaesweep.code": "c"} for cell in own}
    history = {f"valid/m{i}": torch.tensor([1.0, 2.0], dtype=torch.float64) for i in range(METRICS)}
    metrics = {f"{domain}/m{i}": 1.0 for domain in DOMAINS for i in range(6)}
    config = PartialVaeCell().model_dump(mode="json")
    tracker = Tracker(store, parent, own, {}, tags)
    before, cpu = resident(), time.process_time()
    for cell in own:
        ended = FinishedCell(cell.identity, "pvae", config, STEPS[-1], metrics, None, (), STEPS, history, {}, {})
        tracker.ended(ended, b"x" * MODEL)
    waiting, began = resident() - before, time.monotonic()
    with tracker:
        pass
    seconds, points = time.monotonic() - began, cells * (len(metrics) + len(history) * len(STEPS))
    return {
        "kib_a_waiting_cell": 1024 * waiting / cells,
        "ms_a_cell": 1000 * (time.process_time() - cpu) / cells,
        "points_a_second": points / seconds,
        "points": points,
    }


def swept(cells: int, folder: Path, uri: str) -> dict[str, Any]:
    """The driver's CPU time and the seconds of a sweep of so many cells by its own command."""
    with tempfile.TemporaryDirectory(prefix="vs", dir="/tmp") as of_ray:
        environment = environment_of(ROOT, RAY_TMPDIR=of_ray) | {"MLFLOW_TRACKING_URI": uri}
        command = python(ROOT / "sweeps" / "rd_curve_pvae.py", "--set", *settings(cells))
        began, cpu = time.monotonic(), 0.0
        with (folder / "sweep.log").open("w") as log:
            driver = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
            while driver.poll() is None:
                with contextlib.suppress(psutil.Error):
                    times = psutil.Process(driver.pid).cpu_times()
                    cpu = max(cpu, times.user + times.system)
                time.sleep(LOOK_SECONDS)
        if driver.returncode:
            raise SystemExit(f"the sweep ended with {driver.returncode}: {(folder / 'sweep.log').read_text()[-2000:]}")
        return {"driver_ms_a_cell": 1000 * cpu / cells, "sweep_seconds": time.monotonic() - began}


@contextlib.contextmanager
def started(store: str) -> Iterator[tuple[Path, str]]:
    """A new store: the folder with its file `mlflow.db`, and its URI."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if store == "sqlite":
            yield folder, f"sqlite:///{folder}/mlflow.db"
            return
        with serving(folder) as uri:
            yield folder, uri


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A light MLflow server on loopback, with its file in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *words], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, folder / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        of_server = [*psutil.Process(server.pid).children(recursive=True), psutil.Process(server.pid)]
        for process in of_server:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, left = psutil.wait_procs(of_server, timeout=20)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + STARTED_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.5)
    raise SystemExit(f"the server does not start: {log.read_text()[-2000:]}")


def points_in(file: Path) -> int:
    """The number of points that a store has."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        return int(database.execute("select count(*) from metrics").fetchone()[0])


def print_table(results: list[dict[str, Any]]) -> None:
    """Print the results as a table in Markdown."""
    shown = {name: title for name, title in COLUMNS.items() if any(name in one for one in results)}
    print(f"| {' | '.join(shown.values())} |\n|{'---|' * len(shown)}")
    for one in sorted(results, key=lambda one: (one["store"], one["cells"])):
        values = [one.get(name, "–") for name in shown]
        print(f"| {' | '.join(f'{v:.1f}' if isinstance(v, float) else str(v) for v in values)} |")


if __name__ == "__main__":
    raise SystemExit(main())
