"""A storage that does not answer is refused within seconds and the process can end; one that answers is let through."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vaesweep.errors import UserError
from vaesweep.sweep import storage_probe
from vaesweep.sweep.storage_probe import check_answers

S3 = "s3://key:geheim@bucket/path?endpoint_override=http://127.0.0.1:{port}&scheme=http&region=us-east-1"
LISTING = (
    b'<?xml version="1.0"?><ListBucketResult><Name>bucket</Name><Prefix>path/</Prefix><KeyCount>0</KeyCount>'
    b"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
)
DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Not\nyours</Message></Error>'


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(50)
        yield server.getsockname()[1]


@pytest.fixture
def refused() -> int:
    """A port at which nobody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.fixture
def answering() -> Iterator[Callable[[int, bytes], int]]:
    """Makes servers that answer every request with one status and body, and gives their port."""
    servers = []

    def serve(status: int, body: bytes) -> int:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1].server_port

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def refusal(uri: str, seconds: float) -> str:
    """The one line with which a storage is refused within `seconds`."""
    before = time.monotonic()
    with pytest.raises(UserError) as caught:
        check_answers(uri)
    assert time.monotonic() - before < seconds
    message = str(caught.value)
    assert message.startswith("--storage ")
    assert "\n" not in message
    assert "geheim" not in message
    return message


def test_a_storage_that_never_answers_is_refused(monkeypatch: pytest.MonkeyPatch, silent: int) -> None:
    monkeypatch.setattr(storage_probe, "ANSWER_SECONDS", 3.0)
    assert f"127.0.0.1:{silent}" in (message := refusal(S3.format(port=silent), 10))
    assert "no answer within 3 s; name one that can be reached" in message


def test_a_process_that_has_refused_a_silent_storage_ends_at_once(silent: int) -> None:
    code = (
        "import sys; from vaesweep.sweep import storage_probe\n"
        "storage_probe.ANSWER_SECONDS = 2.0\n"
        "try: storage_probe.check_answers(sys.argv[1])\n"
        "except ValueError as error: print(error)"
    )
    before = time.monotonic()
    command = [sys.executable, "-c", code, S3.format(port=silent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "no answer within 2 s" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - before < 20


def test_a_storage_whose_port_is_closed_is_refused_with_the_cause(refused: int) -> None:
    assert "onnect" in refusal(S3.format(port=refused), 20)


def test_a_storage_that_answers_is_let_through(answering: Callable[[int, bytes], int]) -> None:
    check_answers(S3.format(port=answering(200, LISTING)))


@pytest.mark.parametrize(("status", "body", "said"), [(403, DENIED, "Not yours"), (400, b"<html>", "400")])
def test_a_storage_that_refuses_says_why(
    answering: Callable[[int, bytes], int], status: int, body: bytes, said: str
) -> None:
    message = refusal(S3.format(port=answering(status, body)), 20)
    assert said in message or "ACCESS_DENIED" in message


@pytest.mark.parametrize(
    ("uri", "said"), [("s3://", "bucket"), ("nothing://x/y", "nothing"), ("s3://bucket/x?colour=red", "colour")]
)
def test_a_uri_that_means_nothing_is_refused(uri: str, said: str) -> None:
    assert said in refusal(uri, 20)


def test_a_folder_is_let_through_whether_it_is_there_or_not(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    for folder in (tmp_path / "cells", tmp_path / "later" / "on", f"file://{tmp_path}/cells", f"file://{tmp_path}/x"):
        check_answers(str(folder))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "cells").touch()
    assert "cannot be read (Not a directory)" in refusal(str(tmp_path / "cells"), 5)


def test_a_folder_that_does_not_answer_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As one on a network disk whose server is away."""
    woken = threading.Event()
    monkeypatch.setattr(storage_probe, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(Path, "iterdir", lambda self: iter([woken.wait(30)]))
    assert "no answer within 0.5 s" in refusal(str(tmp_path), 5)
    woken.set()
