"""What the driver pays for packs that run at once, by their number: CPU of each event and of each pack's start.

    python benchmarks/many_packs.py [--packs 4 8 16 32] [--events 40]

The driver is the real one, without a tracker. In the place of training each pack tells its events, `--pause` seconds
apart, each with the points of `--cells` cells. Ray is told that this machine has a CPU for each pack, since they do no
work. Each number is measured in a process of its own; its time is that of the driver alone, not of Ray's processes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

METRICS = 12  # of each cell in an event


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=int, nargs="+", default=[4, 8, 16, 32], metavar="N", help="that run at once")
    parser.add_argument("--events", type=int, default=40, help="of each pack (%(default)s)")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between a pack's events (%(default)s)")
    parser.add_argument("--cells", type=int, default=32, help="of each pack (%(default)s)")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(measure(options.packs[0], options.events, options.pause, options.cells)))
        return 0
    print("| packs at once | ms CPU an event | events a second | ms CPU a pack without events | MiB |")
    print("|---|---|---|---|---|")
    for packs in options.packs:
        told, silent = (alone(options, packs, events) for events in (options.events, 0))
        events = packs * options.events
        rate, start = events / max(told["training"], 1e-9), 1000 * silent["cpu"] / packs
        print(
            f"| {packs} | {1000 * (told['cpu'] - silent['cpu']) / events:.2f} "
            f"| {rate:.1f} | {start:.0f} | {told['memory']:.0f} |",
            flush=True,
        )
    return 0


def alone(options: argparse.Namespace, packs: int, events: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    words = ["--alone", "--packs", str(packs), "--events", str(events)]
    words += ["--pause", str(options.pause), "--cells", str(options.cells)]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(packs: int, events: int, pause: float, cells: int) -> dict[str, float]:
    """The driver's CPU seconds, its MiB, and the seconds from the first event to the last."""
    import psutil
    import ray
    from rich.console import Console

    from vaesweep.families.pvae.family import PartialVaeCell
    from vaesweep.sweep import runner
    from vaesweep.sweep.cells import Cell, Pack
    from vaesweep.sweep.cluster import Resources
    from vaesweep.sweep.jobs import ConfigTexts, Event, PackJob
    from vaesweep.sweep.progress import ProgressDisplay
    from vaesweep.sweep.storage import Storage

    class Unheard:
        """A tracker that tracks nothing, and keeps the times of points."""

        def __init__(self) -> None:
            self.times: list[float] = []

        def points(self, *_: Any) -> None:
            self.times.append(time.monotonic())

        def failed(self, *_: Any) -> None:
            """A cell that has no finished file, as all of them here."""

    def told(config: dict[str, Any], data: Any) -> None:
        job = PackJob.from_json(config["pack"]["job"])
        names = list(job.configs)
        for number in range(events):
            time.sleep(pause)
            points = [(number, names, {f"valid/m{metric}": [float(number)] * len(names) for metric in range(METRICS)})]
            ray.tune.report({"event": Event(job.pack, number, events, points).to_json()})

    runner.trainable = lambda workers: told  # type: ignore[assignment]
    made = [
        Pack(
            tuple(
                Cell(PartialVaeCell(seed=seed), "pvae", "data", {})
                for seed in range(number * cells, (number + 1) * cells)
            )
        )
        for number in range(packs)
    ]
    heard = Unheard()
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nothing:
        storage = Storage(str(Path(folder) / "cells"))
        jobs = [PackJob(pack.identity, "pvae", ConfigTexts(pack), storage.uri) for pack in made]
        ray.init("local", num_cpus=packs, include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
        try:
            used, console = time.process_time(), Console(file=nothing)
            with ProgressDisplay(console, made, 0, packs * cells) as display:
                runner.run_packs(jobs, (), storage, Resources(), packs, heard, display)  # type: ignore[arg-type]
            used = time.process_time() - used
        finally:
            ray.shutdown()
    seconds = heard.times[-1] - heard.times[0] if len(heard.times) > 1 else 0.0
    return {"cpu": used, "training": seconds, "memory": psutil.Process().memory_info().rss / 2**20}


if __name__ == "__main__":
    raise SystemExit(main())
