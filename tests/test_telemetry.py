"""Neither MLflow nor Ray reports who uses what of it, unless the user lets it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# By these MLflow takes a process for a test, in which it reports nothing anyway.
OF_TESTS = ("PYTEST_", "CI", "GITHUB_", "RUNNER_", "DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "RAY_USAGE_STATS")


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OF_TESTS)}
    return kept | {"PYTHONPATH": str(ROOT)} | more


def printed(code: str, **more: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment(**more), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["vaesweep.sweep.tracking", "vaesweep.sweep.worker", "vaesweep.analysis.runs"])
def test_mlflow_has_nothing_to_report_by(module: str) -> None:
    code = f"import {module}; from mlflow.telemetry.client import get_telemetry_client as client; print(client())"
    assert printed(code) == "None"


def test_ray_reports_nothing() -> None:
    code = "import os, vaesweep.sweep.runner; print(os.environ['RAY_USAGE_STATS_ENABLED'])"
    assert printed(code) == "0"


def test_the_user_may_let_mlflow_report() -> None:
    code = "import os, vaesweep; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    assert printed(code, MLFLOW_DISABLE_TELEMETRY="false") == "false"


@pytest.mark.parametrize(("own", "seen"), [({}, "true"), ({"MLFLOW_DISABLE_TELEMETRY": "false"}, "false")])
def test_the_server_reports_nothing_unless_the_user_lets_it(own: dict[str, str], seen: str, tmp_path: Path) -> None:
    server = tmp_path / "mlflow"
    server.write_text('#!/bin/sh\necho "$MLFLOW_DISABLE_TELEMETRY"\n')
    server.chmod(0o755)
    variables = environment(**own) | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "MLFLOW_SERVER_DIR": str(tmp_path)}
    command = ["bash", str(ROOT / "cluster" / "mlflow_server.sh")]
    assert subprocess.run(command, env=variables, capture_output=True, text=True).stdout.strip() == seen
