"""The UI answers to whoever may reach it, by MLflow's own rules, and to nobody else's pages."""

import subprocess

import pytest
from mlflow.server.security_utils import is_allowed_host_header, should_block_cors_request

from vaesweep.cli import main as command
from vaesweep.cli.main import HOSTS_VARIABLE, ORIGINS_VARIABLE, server_names


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
@pytest.mark.parametrize("name", ["box", "box.lab.example", "192.0.2.7"])
def test_a_server_for_everybody_answers_to_every_name_of_its_machine(
    host: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    monkeypatch.setattr("socket.getfqdn", lambda: "box.lab.example")
    monkeypatch.setattr(
        "socket.getaddrinfo", lambda *_: [(0, 0, 0, "", ("192.0.2.7", 0)), (0, 0, 0, "", ("fe80::1", 0))]
    )
    hosts, origins, shown = server_names(host, 5000)
    assert shown == "box"
    for asked in (f"{name}:5000", "localhost:5000", "[fe80::1]:5000", "10.1.2.3:5000"):
        assert is_allowed_host_header(hosts, asked)
    assert not should_block_cors_request(f"http://{name}:5000", "POST", origins)
    for stranger in ("http://evil.example", "http://10.evil.example", f"http://{name}:81"):
        assert should_block_cors_request(stranger, "POST", origins)
    assert not is_allowed_host_header(hosts, "evil.example:5000")


def test_a_server_at_one_name_answers_to_that() -> None:
    hosts, origins, shown = server_names("box.lab.invalid", 80)
    assert shown == "box.lab.invalid"
    assert is_allowed_host_header(hosts, "box.lab.invalid:80")
    assert origins == ["http://box.lab.invalid:80"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_server_for_this_machine_is_left_to_mlflow(host: str) -> None:
    assert server_names(host, 5000)[:2] == ([], [])


def test_what_a_user_has_allowed_is_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[dict[str, str]] = []
    monkeypatch.setattr(subprocess, "call", lambda command, env: calls.append(env) or 0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://h/d")
    monkeypatch.setenv(HOSTS_VARIABLE, "my.example")
    assert command.main(["ui", "--host", "0.0.0.0"]) == 0
    assert calls[0][HOSTS_VARIABLE] == "my.example"
    assert ":5000" in calls[0][ORIGINS_VARIABLE]
    assert HOSTS_VARIABLE in capsys.readouterr().out
