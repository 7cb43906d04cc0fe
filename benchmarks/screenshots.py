"""The pictures of the report's page and of MLflow's views in the docs, taken by headless Chromium.

    python benchmarks/screenshots.py results/rd_curve_pvae/report.html --experiment rd_curve_pvae --into docs/figures

The page is taken at desktop and at phone width; the views from an MLflow that is started on the store of the sweep
(MLFLOW_TRACKING_URI, or results/mlflow.db) and ended again.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

SIZES = {"desktop": (1280, 1750), "phone": (500, 1500)}
VIEW_SIZE = (1500, 1150)
START_SECONDS, DRAW_MILLISECONDS = 120.0, 25_000


def main() -> int:
    """Take the pictures, and print their paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="a report.html")
    parser.add_argument("--experiment", metavar="NAME", help="the experiment whose views are taken too")
    parser.add_argument("--into", type=Path, default=Path("docs/figures"), metavar="DIR", help="(%(default)s)")
    options = parser.parse_args()
    for name, size in SIZES.items():
        print(take(options.page.resolve().as_uri(), options.into / f"report_{name}.png", size))
    if options.experiment:
        with mlflow() as address:
            for name, path in addresses(options.experiment).items():
                print(take(f"{address}{path}", options.into / f"mlflow_{name}.png", VIEW_SIZE))
    return 0


def addresses(experiment: str) -> dict[str, str]:
    """Where the views of an experiment open, by the names of their pictures."""
    from vaesweep.analysis import runs
    from vaesweep.analysis.workbench import views
    from vaesweep.vocabulary import store_uri

    sweep = runs.read(experiment, store_uri())
    return {
        view.name.lower().replace("–", "_").replace(" ", "_"): view.address(sweep.experiment_id)
        for view in views(sweep)
    }


@contextlib.contextmanager
def mlflow() -> Iterator[str]:
    """The address of an MLflow that runs on the store while the context lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    words = [sys.executable, "-m", "vaesweep.cli.main", "ui", "--port", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
    try:
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, urllib.error.URLError):
                urllib.request.urlopen(f"{address}/health", timeout=2).close()
                break
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def take(address: str, path: Path, size: tuple[int, int]) -> Path:
    """A picture of what Chromium shows at `address`, in pixels of `size`."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise SystemExit("no Chromium is installed")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        words = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        words += [f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
        words += [f"--virtual-time-budget={DRAW_MILLISECONDS}", f"--screenshot={path.resolve()}", address]
        subprocess.run(words, check=True, capture_output=True, timeout=180)
    return path


if __name__ == "__main__":
    raise SystemExit(main())
