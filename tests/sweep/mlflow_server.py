"""A tracking server in a thread: it answers the calls that a sweep makes, and keeps what it was told."""

import base64
import datetime
import ipaddress
import json
import re
import socket
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

API = "/api/2.0/mlflow/"


@dataclass
class Server:
    """What a server knows and how it answers. `credentials` are the values of Authorization that it accepts."""

    credentials: tuple[str, ...] = ()
    artifacts: str = "mlflow-artifacts:/{}"  # of new experiments, by their number
    run_artifacts: str = ""  # of new runs; by default below those of the experiment
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    def changes(self) -> list[str]:
        """The requests that were to change something, by their path."""
        return [path for method, path in self.requests if method != "GET" and not path.endswith("/search")]

    def add_experiment(self, name: str, location: str | None = None) -> str:
        """A new experiment."""
        number = str(len(self.experiments) + 1)
        place = self.artifacts.format(number) if location is None else location
        self.experiments[number] = {
            "experiment_id": number,
            "name": name,
            "artifact_location": place,
            "lifecycle_stage": "active",
        }
        return number

    def experiment(self, name: str) -> dict[str, Any] | None:
        """The experiment called `name`."""
        return next((one for one in self.experiments.values() if one["name"] == name), None)

    def points(self, run: str) -> list[tuple[str, int]]:
        """(metric, step) of all points of a run, as often as they were written."""
        return [(metric["key"], metric["step"]) for metric in self.runs[run]["history"]]

    def answer(self, call: str, values: dict[str, Any]) -> Any:
        """What a call of MLflow's client gives; None where there is no such thing."""
        return getattr(self, "_" + re.sub(r"\W", "_", call))(values)

    def _experiments_get_by_name(self, values: dict[str, Any]) -> Any:
        found = self.experiment(values["experiment_name"])
        return found and {"experiment": found}

    def _experiments_get(self, values: dict[str, Any]) -> Any:
        found = self.experiments.get(values["experiment_id"])
        return found and {"experiment": found}

    def _experiments_search(self, values: dict[str, Any]) -> Any:
        return {"experiments": list(self.experiments.values())}

    def _experiments_create(self, values: dict[str, Any]) -> Any:
        return {"experiment_id": self.add_experiment(values["name"])}

    def _experiments_update(self, values: dict[str, Any]) -> Any:
        self.experiments[values["experiment_id"]]["name"] = values["new_name"]
        return {}

    def _experiments_delete(self, values: dict[str, Any]) -> Any:
        self.experiments[values["experiment_id"]]["lifecycle_stage"] = "deleted"
        return {}

    def _runs_create(self, values: dict[str, Any]) -> Any:
        run, experiment = uuid.uuid4().hex, self.experiments[values["experiment_id"]]
        info = {
            "run_id": run,
            "run_uuid": run,
            "experiment_id": values["experiment_id"],
            "status": "RUNNING",
            "start_time": values["start_time"],
            "lifecycle_stage": "active",
            "artifact_uri": self.run_artifacts or f"{experiment['artifact_location']}/{run}/artifacts",
        }
        self.runs[run] = {
            "info": info,
            "tags": {t["key"]: t["value"] for t in values["tags"]},
            "params": {},
            "history": [],
        }
        return self._runs_get({"run_id": run})

    def _runs_get(self, values: dict[str, Any]) -> Any:
        run = self.runs.get(values["run_id"])
        if run is None:
            return None
        latest = {metric["key"]: metric for metric in run["history"]}
        pairs = {kind: [{"key": k, "value": v} for k, v in run[kind].items()] for kind in ("tags", "params")}
        return {"run": {"info": run["info"], "data": {"metrics": list(latest.values()), **pairs}}}

    def _runs_search(self, values: dict[str, Any]) -> Any:
        wanted = re.findall(r"tags\.`([^`]+)` = '([^']*)'", values.get("filter", ""))
        start = re.search(r"start_time = (\d+)", values.get("filter", ""))
        found = [
            run
            for run, entry in self.runs.items()
            if all(entry["tags"].get(key) == value for key, value in wanted)
            and (start is None or int(start[1]) == int(entry["info"]["start_time"]))
        ]
        return {"runs": [self._runs_get({"run_id": run})["run"] for run in found]}

    def _runs_update(self, values: dict[str, Any]) -> Any:
        info = self.runs[values["run_id"]]["info"]
        info.update({key: values[key] for key in ("status", "end_time") if key in values})
        return {"run_info": info}

    def _runs_log_batch(self, values: dict[str, Any]) -> Any:
        run = self.runs[values["run_id"]]
        run["history"] += [{**m, "step": int(m.get("step", 0))} for m in values.get("metrics", [])]
        for kind in ("tags", "params"):
            run[kind].update({pair["key"]: pair["value"] for pair in values.get(kind, [])})
        return {}

    def _metrics_get_history(self, values: dict[str, Any]) -> Any:
        history = self.runs[values["run_id"]]["history"]
        return {"metrics": [metric for metric in history if metric["key"] == values["metric_key"]]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def _handle(self) -> None:
        known: Server = self.server.known
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        known.requests.append((self.command, parts.path))
        if known.credentials and self.headers.get("Authorization") not in known.credentials:
            self._send(401, {"error_code": "UNAUTHENTICATED", "message": "You are not authenticated."})
        elif parts.path.startswith("/api/2.0/mlflow-artifacts/artifacts/"):
            known.files[parts.path.removeprefix("/api/2.0/mlflow-artifacts/artifacts/")] = body
            self._send(200, {})
        elif parts.path.startswith(API):
            values = json.loads(body) if body else {key: value[0] for key, value in parse_qs(parts.query).items()}
            answer = known.answer(parts.path.removeprefix(API), values)
            missing = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such thing"}
            self._send(404 if answer is None else 200, missing if answer is None else answer)
        else:
            self._send(404, {})

    do_GET = do_POST = do_PUT = do_PATCH = _handle

    def _send(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(server: Server, certificate: Path | None = None) -> Iterator[Server]:
    """Context in which a server answers on `server.port` of this machine, by TLS where there is a certificate."""
    http = ThreadingHTTPServer(("127.0.0.1", server.port), _Handler)
    http.known = server  # type: ignore[attr-defined]
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        http.socket = context.wrap_socket(http.socket, server_side=True)
    server.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@contextmanager
def silence() -> Iterator[int]:
    """Context in which a port accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def basic(user: str, password: str) -> str:
    """The Authorization of a user."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def self_signed(folder: Path) -> Path:
    """A file with a new key and its certificate for 127.0.0.1, which nobody else has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    return file
