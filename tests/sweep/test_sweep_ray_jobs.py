"""Jobs of a Ray cluster that run sweeps are told from others, whatever shell stands around their command."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from mlflow_server import silence

from vaesweep.errors import UserError
from vaesweep.sweep import ray_jobs
from vaesweep.sweep.ray_jobs import sweep_jobs


def job(identity: str, entrypoint: str, status: str = "RUNNING", start: int = 1_000, message: str = "") -> dict:
    """A job as the dashboard's list has it."""
    return {
        "type": "SUBMISSION",
        "submission_id": identity,
        "entrypoint": entrypoint,
        "status": status,
        "message": message,
        "start_time": start,
    }


@contextmanager
def dashboard(*jobs: dict, token: str = "") -> Iterator[str]:
    """Context in which a dashboard answers at the address that it gives."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = not token or self.headers.get("Authorization") == f"Bearer {token}"
            answer: Any = list(jobs) if self.path.startswith("/api/jobs") else {"version": "4", "ray_version": "2.60.0"}
            data = json.dumps(answer).encode() if allowed else b"Unauthorized: Missing authentication token"
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_ADDRESS", ray_jobs.SERVER_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "entrypoint",
    [
        "python sweeps/toy.py --preset small --set 'seed=[0,1]'",
        "MLFLOW_TRACKING_URI=http://m:5000 python -u /home/ray/vaesweep/sweeps/toy.py --preset small --set seed=[0,1]",
        "bash -c 'cd /home/ray/vaesweep && python sweeps/toy.py --preset small --set \"seed=[0,1]\" && echo done'",
    ],
)
def test_a_job_is_that_of_a_sweeps_command_whatever_stands_around_it(entrypoint: str) -> None:
    with dashboard(job("raysubmit_1", entrypoint)) as address:
        (found,) = sweep_jobs(address)
    assert (found.id, found.status, found.script) == ("raysubmit_1", "RUNNING", "toy")
    assert found.runs("sweeps/toy.py --preset small --set 'seed=[0,1]'")
    assert not found.runs("sweeps/toy.py --preset small")
    assert not found.runs("sweeps/other.py --preset small --set 'seed=[0,1]'")


def test_jobs_that_run_no_sweep_are_left_out_and_the_newest_stands_first() -> None:
    jobs = [
        job("old", "python sweeps/toy.py", start=1_000),
        job("none", "python analysis/rd_curve.py"),
        job("quotes", "python sweeps/toy.py 'never closed", start=2_000),
        job("new", "python sweeps/toy.py", start=3_000),
    ]
    with dashboard(*jobs) as address:
        assert [one.id for one in sweep_jobs(address)] == ["new", "quotes", "old"]


def test_a_message_is_told_in_short_and_secrets_are_masked() -> None:
    message = (
        "Job entrypoint command failed with exit code 2, last available logs (truncated):\na line\nerror: the cause"
    )
    entrypoint = "python sweeps/toy.py --study postgresql://me:s3cret@host/db"
    with dashboard(job("raysubmit_1", entrypoint, "FAILED", message=message)) as address:
        (found,) = sweep_jobs(address)
    assert found.message == "Job entrypoint command failed with exit code 2; error: the cause"
    assert "s3cret" not in repr(found)
    assert found.runs("sweeps/toy.py --study postgresql://me:***@host/db"), "as the sweep's record has it"


def test_the_address_that_was_asked_for_goes_before_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    monkeypatch.setenv(ray_jobs.SERVER_VARIABLE, "http://127.0.0.1:1")
    with dashboard(job("here", "python sweeps/toy.py")) as address:
        assert [one.id for one in sweep_jobs(address)] == ["here"]


def test_a_dashboard_that_wants_a_token_is_told_with_what_to_set() -> None:
    with dashboard(token="t0ken") as address, pytest.raises(UserError, match="RAY_AUTH_MODE=token") as refused:
        sweep_jobs(address)
    assert "\n" not in str(refused.value)


def test_nothing_that_answers_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no job list comes from there") as refused:
        sweep_jobs("http://127.0.0.1:1")
    assert "\n" not in str(refused.value)
    monkeypatch.setattr(ray_jobs, "LIST_SECONDS", 0.2)
    with silence() as port, pytest.raises(UserError, match="nothing within 0 s"):
        sweep_jobs(f"http://127.0.0.1:{port}")
