"""Passwords: in no line that is printed or recorded, and on no command line."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient

from vaesweep.cli import main as cli
from vaesweep.uris import MASK, is_local, is_server, masked, scheme_of, sqlite_file

ROOT = Path(__file__).parents[2]

# Words that no other part of a URI below holds. A raw password has what people forget to quote, but no blank.
passwords = st.one_of(
    st.text(min_size=1).map(lambda word: "Q" + quote(word, safe="")),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12).map(lambda word: f"Q{word}Q"),
)
places = st.sampled_from(
    [
        "http://me:{}@host:5000",
        "https://:{}@host/prefix?page=1",
        "postgresql+psycopg2://me:{}@10.0.0.1:5432/store?sslmode=require",
        "mysql+pymysql://me:{}@host/store",
        "s3://AKIA123:{}@bucket/folder?region=eu-west-1",
        "ftp://me:{}@[::1]:21/x",
    ]
)
surroundings = st.sampled_from(["{}", "error: {} does not answer", "--storage '{}' --out x", "({})", '["{}", 1]'])


@given(places, passwords, surroundings)
def test_the_password_of_a_user_is_masked_in_any_text(place: str, password: str, around: str) -> None:
    text = masked(around.format(place.format(password)))
    assert password not in text
    assert MASK in text
    assert masked(text) == text


PARAMETERS = (
    *(
        "password",
        "passwd",
        "sslpassword",
        "token",
        "access_token",
        "secret",
        "secret_key",
        "AccountKey",
        "key",
        "api-key",
    ),
    *("sig", "X-Amz-Signature", "X-Amz-Credential", "sas", "client_secret", "Authorization", "passphrase", "pwd"),
)
values = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="&;#'\""), max_size=12)


@given(
    st.sampled_from(PARAMETERS),
    values.map(lambda word: f"Q{word}Q"),
    st.sampled_from(["?{}", "?a=b&{}", ";{}", "?{}&a=b"]),
)
def test_a_parameter_that_looks_like_a_secret_is_masked(name: str, value: str, query: str) -> None:
    text = masked(f"s3://bucket/folder{query.format(f'{name}={value}')} is not there")
    assert value not in text
    assert f"{name}={MASK}" in text
    assert text.startswith("s3://bucket/folder")
    assert text.endswith(" is not there")


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:///results/mlflow.db",
        "http://127.0.0.1:5000/#/experiments/1",
        "http://host:5000/a@b",
        "https://me@host/x?region=eu&endpoint_override=host:9000",
        "databricks://profile",
        "s3://bucket/folder/cells",
        "step 3: the loss was nan (12:30:05) me@example.org",
        "nhanes:~/nhanes,unseen=MORE",
    ],
)
def test_what_holds_no_secret_stays_as_it_is(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    ("uri", "scheme", "server", "local"),
    [
        ("http://host", "http", True, False),
        ("HTTPS://host", "https", True, False),
        ("databricks", "", True, True),
        ("databricks://profile", "databricks", True, False),
        ("postgresql+psycopg2://u:p@h/d", "postgresql", False, False),
        ("sqlite:///x.db", "sqlite", False, False),
        ("file:///x", "file", False, True),
        ("/x/mlruns", "", False, True),
        ("mlruns", "", False, True),
        ("C:/mlruns", "c", False, True),
        ("mlflow-artifacts:/1", "mlflow-artifacts", True, False),
    ],
)
def test_uris_are_told_apart_by_their_schemes(uri: str, scheme: str, server: bool, local: bool) -> None:
    assert (scheme_of(uri), is_server(uri), is_local(uri)) == (scheme, server, local)


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:///a/b.db", "a/b.db"),
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite:///a/b.db?timeout=3", "a/b.db"),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("http://host/b.db", None),
    ],
)
def test_the_file_of_an_sqlite_store_is_known(uri: str, file: str | None) -> None:
    assert sqlite_file(uri) == (None if file is None else Path(file))


# The UI


def test_the_ui_of_a_server_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:s3cret@host")
    assert cli.main(["ui"]) == 0
    assert "https://me:***@host" in capsys.readouterr().out


def test_the_ui_is_given_its_store_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(subprocess, "call", lambda command, env: calls.append((command, env)) or 0)
    uri = "postgresql://me:s3cret@host/store"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert cli.main(["ui", "--port", "5001"]) == 0
    ((command, environment),) = calls
    assert "s3cret" not in " ".join(command)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == uri
    assert "s3cret" not in capsys.readouterr().out


def test_the_light_server_is_given_its_store_by_the_environment(tmp_path: Path) -> None:
    """`mlflow` stands for MLflow here: it prints how it was called."""
    stand_in = tmp_path / "mlflow"
    stand_in.write_text(f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([sys.argv, dict(os.environ)]))\n")
    stand_in.chmod(0o755)
    uri = "postgresql://me:s3cret@host/store"
    own = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "MLFLOW_SERVER_DIR": str(tmp_path),
        "MLFLOW_BACKEND_STORE_URI": uri,
    }
    for given_uri in (uri, None):
        environment = os.environ | {key: value for key, value in own.items() if value != uri or given_uri}
        done = subprocess.run(
            ["bash", str(ROOT / "cluster" / "mlflow_server.sh")],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        words, variables = json.loads(done.stdout)
        assert "s3cret" not in " ".join(words)
        assert words[-4:] == ["--host", "127.0.0.1", "--port", "5000"]
        named = given_uri and given_uri.replace("://", "+psycopg2://")  # plain postgresql:// is another driver's
        assert variables["MLFLOW_BACKEND_STORE_URI"] == (named or f"sqlite:///{tmp_path}/mlflow.db")
        assert variables["MLFLOW_ARTIFACTS_DESTINATION"] == f"{tmp_path}/artifacts"


@pytest.fixture
def ui(store_file: Path) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """`vaesweep ui` on a port, ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(port: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "vaesweep.cli.main", "ui", "--port", str(port)]
        environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{store_file}?check_same_thread=false"}
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, text=True))
        return started[-1]

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.mark.slow
def test_no_process_of_the_ui_has_the_store_on_its_command_line(
    ui: Callable[[int], subprocess.Popen[str]], store_file: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    MlflowClient(f"sqlite:///{store_file}").create_experiment("seen in the UI")
    process = ui(port)
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search",
        data=b'{"max_results": 10}',
        headers={"Content-Type": "application/json"},
    )
    answer, lines, deadline = "", set(), time.monotonic() + 90
    while not answer and time.monotonic() < deadline:
        time.sleep(0.2)
        assert process.poll() is None
        for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
            lines.add(Path(f"/proc/{one.pid}/cmdline").read_text().replace("\0", " "))
        try:
            answer = urllib.request.urlopen(request, timeout=5).read().decode()
        except OSError:
            continue
    assert "seen in the UI" in answer  # it serves the store that was named
    assert any("mlflow server" in line for line in lines)
    assert len(lines) >= 3
    assert not any(store_file.name in line or "sqlite" in line for line in lines)
