"""What it costs the driver to plan a sweep, by its number of cells: seconds of CPU and MiB, before anything trains.

    python benchmarks/planning.py [--cells 1000 10000 100000] [--slots 1000]

Each number in a process of its own, of the partial VAE on synthetic data, with an empty store and an empty storage.
"""

import argparse
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGETS = [round(0.5 * number, 1) for number in range(1, 11)]


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[1000, 10_000, 100_000], metavar="N")
    parser.add_argument("--slots", type=int, default=1000, help="packs that run at once (%(default)s)")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(measure(options.cells[0], options.slots)))
        return 0
    print("| cells | packs | settings checked | identities | looked up | packed | record, MiB | MiB of the driver |")
    print("|---|---|---|---|---|---|---|---|")
    for cells in options.cells:
        words = ["--alone", "--cells", str(cells), "--slots", str(options.slots)]
        done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        got = json.loads(done.stdout.splitlines()[-1])
        seconds = " | ".join(f"{got[part]:.2f} s" for part in ("session", "cells", "survey", "plan"))
        print(f"| {cells} | {got['packs']} | {seconds} | {got['record']:.2f} | {got['memory']:.0f} |", flush=True)
    return 0


def measure(count: int, slots: int) -> dict[str, float]:
    """Seconds of CPU of each part, the size of the parent run's record, and what the driver has come to hold."""
    import psutil

    from vaesweep.sweep.options import Options
    from vaesweep.sweep.session import Session

    sweep = runpy.run_path(str(ROOT / "sweeps" / "rd_curve_pvae.py"), run_name="script")["SWEEP"]
    found: dict[str, float] = {}
    begun = time.process_time()

    def took(part: str) -> None:
        nonlocal begun
        found[part], begun = time.process_time() - begun, time.process_time()

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        before = psutil.Process().memory_info().rss
        settings = {"seed": list(range(count // len(TARGETS))), "rates.total.target": TARGETS}
        session = Session(sweep, Options(preset="smoke", data="synthetic", settings=settings, out=Path(folder)))
        took("session")
        assert len(session.cells) == count
        took("cells")
        assert not session.survey.done
        took("survey")
        plan = session.plan(slots)
        took("plan")
        found |= {"packs": len(plan.packs), "record": len(json.dumps(session.record(plan))) / 2**20}
        return found | {"memory": (psutil.Process().memory_info().rss - before) / 2**20}


if __name__ == "__main__":
    raise SystemExit(main())
