"""Parts of a cluster on one machine, on loopback: PostgreSQL, an MLflow server, Ray's head, its nodes, its autoscaler.

PostgreSQL ◄── MLflow server ◄── driver, a job on the head ──► nodes, each with a loopback address of its own

Every part is a `Part`: a command in a session of its own, whose environment marks all processes below it, so that the
whole of a part can be killed at once, and nothing of anybody else's.
"""

import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

PATIENCE = 600.0  # seconds within which anything that is waited for happens, on a busy machine too
MARK = "VAESWEEP_PART"  # variable of the environment of every process of a part
ROOT = Path(__file__).resolve().parents[2]
ASKED_AGAIN = 5  # times
STORE_BYTES = 100 * 2**20  # of a node's object store
FAKE_HEAD = "f" * 51 + "00000"  # the id that Ray's fake provider gives to the head
TOKEN = secrets.token_hex(32)  # of every Ray of this process


def free_port(address: str = "127.0.0.1") -> int:
    """A port on which nothing listens at present."""
    with socket.create_server((address, 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for(look: Callable[[], Any], what: str, seconds: float = PATIENCE, pause: float = 0.05) -> Any:
    """What `look` gives as soon as it gives anything that is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if seen := look():
            return seen
        time.sleep(pause)
    raise TimeoutError(f"{what}: not within {seconds:g} s")


def listens(address: str, port: int) -> bool:
    """Whether something accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
        return True
    return False


@dataclass
class Part:
    """A command and all processes below it, even those whose parents have died."""

    words: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    mark: str = ""
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin it, or begin it anew."""
        self.mark = uuid.uuid4().hex
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAY_", "MLFLOW_")) and name != MARK
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.words,
                cwd=self.folder,
                env=kept | {"OMP_NUM_THREADS": "1"} | self.environment | {MARK: self.mark},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self, name: str = "") -> list[psutil.Process]:
        """Its processes whose command line has `name`.

        They are of its session, or have its mark, or descend from one that has: a process that gives itself a title, as
        Ray's do, may write it over its environment.
        """
        processes = list(psutil.process_iter(["ppid", "cmdline"]))
        own = {process.pid: process for process in processes if self._owns(process)}
        before = -1
        while before != len(own):
            before = len(own)
            own |= {process.pid: process for process in processes if process.info["ppid"] in own}
        return [process for process in own.values() if name in " ".join(process.info["cmdline"] or ())]

    def _owns(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if self.process is not None and os.getsid(process.pid) == self.process.pid:
                return True
            return bool(process.environ().get(MARK) == self.mark)
        return False

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process that was started."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill all of it at once."""
        while found := [process for process in self.processes() if _lives(process)]:
            for process in found:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            if self.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(0.2)
        if self.process is not None:
            self.process.wait(10)

    def end(self, number: signal.Signals, seconds: float = 20.0) -> None:
        """Ask it to end by a signal, and kill what is left of it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert self.process is not None
            self.send(number)
            self.process.wait(seconds)
        self.kill()

    def check(self) -> bool:
        """False, or raise where it has ended."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.words} has ended:\n{self.log.read_text(errors='replace')[-4000:]}")
        return False


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


# --- PostgreSQL and MLflow ---------------------------------------------------------------------------------------


def postgres_folder() -> Path | None:
    """The folder of PostgreSQL's programs, `None` where it is not installed."""
    program = shutil.which("postgres")
    folders = [Path(program).parent] if program else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


@dataclass
class Postgres:
    """A PostgreSQL server on loopback."""

    part: Part
    port: int
    password: str

    @property
    def uri(self) -> str:
        """Its database, as MLflow names it: with the driver, since SQLAlchemy's own choice differs by release."""
        return f"postgresql+psycopg2://mlflow:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Begin it, and return when it answers."""
        self.part.start()
        wait_for(lambda: self._answers() or self.part.check(), "PostgreSQL")

    def _answers(self) -> bool:
        import psycopg2

        try:
            self._connection().close()
        except psycopg2.OperationalError:
            return False
        return True

    def _connection(self) -> Any:
        import psycopg2

        return psycopg2.connect(self.uri.replace("+psycopg2", ""))

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query gives."""
        with contextlib.closing(self._connection()) as connection, connection.cursor() as cursor:
            cursor.execute(query, values)
            return list(cursor.fetchall())


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A new PostgreSQL, which refuses to be root: where this process is, it runs as another user."""
    programs = postgres_folder()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="vspg"))
    password, port = secrets.token_hex(16), free_port()
    (folder / "password").write_text(password)
    prefix: list[str] = []
    if os.geteuid() == 0:
        user = next(pwd.getpwnam(name) for name in ("postgres", "nobody") if _is_user(name))
        prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        for path in (folder, folder / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)
    words = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "mlflow", "-A", "scram-sha-256"]
    options = ["--pwfile", str(folder / "password"), "--encoding", "UTF8", "--locale", "C"]
    subprocess.run([*prefix, *words, *options], check=True, capture_output=True, cwd=folder)
    words = [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-k", str(folder)]
    server = Postgres(
        Part([*prefix, *words, "-c", "listen_addresses=127.0.0.1"], folder / "log", folder=folder), port, password
    )
    try:
        server.start()
        yield server
    finally:
        server.part.end(signal.SIGINT)  # a fast shutdown
        shutil.rmtree(folder, ignore_errors=True)


def _is_user(name: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False


@dataclass
class MlflowServer:
    """The light server of `cluster/mlflow_server.sh` on loopback."""

    part: Part
    port: int

    @property
    def uri(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin it, and return when it answers."""
        self.part.start()
        wait_for(lambda: self._answers() or self.part.check(), "the MLflow server")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


@contextlib.contextmanager
def mlflow_server(store_uri: str, folder: Path) -> Iterator[MlflowServer]:
    """An MLflow server over a store, with its artifacts in `folder`."""
    port = free_port()
    environment = {
        "MLFLOW_SERVER_DIR": str(folder),
        "MLFLOW_BACKEND_STORE_URI": store_uri,
        "MLFLOW_PORT": str(port),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    server = MlflowServer(
        Part(["bash", str(ROOT / "cluster" / "mlflow_server.sh")], folder / "mlflow.log", environment, folder), port
    )
    try:
        server.start()
        yield server
    finally:
        server.part.kill()


# --- Ray ---------------------------------------------------------------------------------------------------------


class Loopback:
    """Nodes at addresses of their own on loopback."""

    head = "127.0.0.10"

    def node(self, number: int) -> tuple[str, list[str]]:
        """The address of a node, counted from 1, and the words before its command."""
        return f"127.0.0.{10 + number}", []


@dataclass
class Namespaces:
    """Nodes in network namespaces of their own, on a bridge at whose address the head is. Takes root and iproute2."""

    name: str
    head: str = "10.213.7.1"
    made: set[int] = field(default_factory=set)

    def node(self, number: int) -> tuple[str, list[str]]:
        """The address of a node, counted from 1, and the words before its command."""
        address = f"10.213.7.{1 + number}"
        if number not in self.made:
            self.made.add(number)
            space, link = f"{self.name}{number}", f"{self.name}l{number}"
            ip("netns", "add", space)
            ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", link, "master", self.name, "up")
            ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                ip("-n", space, "link", "set", device, "up")
        return address, ["ip", "netns", "exec", f"{self.name}{number}"]

    def set_link(self, number: int, state: str) -> None:
        """Set a node's cable `down` or `up`."""
        ip("link", "set", f"{self.name}l{number}", state)


def ip(*words: str) -> None:
    """A command of iproute2."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def namespaces() -> Iterator[Namespaces]:
    """A network of namespaces, which end with it."""
    network = Namespaces(f"vs{os.getpid() % 10**6}")
    ip("link", "add", network.name, "type", "bridge")
    try:
        ip("addr", "add", f"{network.head}/24", "dev", network.name)
        ip("link", "set", network.name, "up")
        yield network
    finally:
        for number in network.made:
            ip("netns", "del", f"{network.name}{number}")
        ip("link", "del", network.name)


@dataclass
class RayCluster:
    """A head, and nodes by number, each with an address of its own; `scratch` holds their temporary folders."""

    scratch: Path
    folder: Path
    environment: dict[str, str]
    network: Loopback | Namespaces = field(default_factory=Loopback)
    nodes: dict[int, Part] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.port, self.dashboard = free_port(self.network.head), free_port(self.network.head)
        self.head = Part((), self.scratch / "head.log", self.environment, self.folder)

    @property
    def address(self) -> str:
        """Where nodes and drivers find it."""
        return f"{self.network.head}:{self.port}"

    def command(self, *words: str) -> list[str]:
        """A command of Ray's."""
        return [str(Path(sys.executable).with_name("ray")), *words]

    def start_head(self) -> None:
        """Begin the head, and return when it takes jobs."""
        self.head.start()
        wait_for(lambda: self._takes_jobs() or self.head.check(), "the head")

    def _takes_jobs(self) -> bool:
        try:
            self.jobs()
        except OSError:
            return False
        return True

    def add_node(self, number: int, cpus: int = 1, temporary: Path | None = None) -> Part:
        """Begin a node in the place `number`; it joins within seconds."""
        address, prefix = self.network.node(number)
        temporary = temporary or Path(tempfile.mkdtemp(prefix=f"n{number}", dir=self.scratch))
        words = self.command(
            *("start", "--block", "--address", self.address, "--node-ip-address", address),
            *("--num-cpus", str(cpus), "--object-store-memory", str(STORE_BYTES)),
            *("--temp-dir", str(temporary), *_ports()),
        )
        node = Part([*prefix, *words], self.scratch / f"node{number}.log", self.environment, self.folder)
        self.nodes[number] = node
        node.start()
        return node

    def api(self, path: str, data: Any = None) -> Any:
        """What the head's dashboard answers; a question, not a command, is asked again where it is hung up on."""
        for _ in range(ASKED_AGAIN if data is None else 0):
            with contextlib.suppress(ConnectionResetError):  # a busy dashboard does
                return self._answer(path, data)
            time.sleep(0.5)
        return self._answer(path, data)

    def _answer(self, path: str, data: Any) -> Any:
        request = urllib.request.Request(
            f"http://{self.network.head}:{self.dashboard}{path}",
            data=None if data is None else json.dumps(data).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def alive_nodes(self) -> list[dict[str, Any]]:
        """Nodes that are alive, as Ray's state has them."""
        rows = self.api("/api/v0/nodes?detail=1&limit=1000")["data"]["result"]["result"]
        return [row for row in rows if row["state"] == "ALIVE"]

    def wait_for_nodes(self, number: int, seconds: float = PATIENCE) -> None:
        """Wait until there are `number` nodes, the head among them."""
        wait_for(lambda: len(self.alive_nodes()) == number, f"{number} nodes", seconds, 0.2)

    def submit(self, name: str, words: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        """Hand in a job by `ray job submit`, which runs in `folder` on the head."""
        variables = [f"{key}={value}" for key, value in environment.items()]
        address = f"http://{self.network.head}:{self.dashboard}"
        subprocess.run(
            [
                *self.command("job", "submit", "--address", address, "--no-wait", "--submission-id", name, "--"),
                *("env", "-C", str(folder), *variables, *words),
            ],
            env=os.environ | self.environment,
            check=True,
            capture_output=True,
        )

    def jobs(self) -> dict[str, str]:
        """Status of every job that was submitted, by name."""
        return {job["submission_id"]: job["status"] for job in self.api("/api/jobs/") if job["submission_id"]}

    def job_output(self, name: str) -> str:
        """What a job has printed."""
        return str(self.api(f"/api/jobs/{name}/logs")["logs"])

    def wait_for_job(self, name: str, seconds: float = PATIENCE) -> str:
        """The status in which a job ends."""

        def ended() -> str | None:
            status = str(self.api(f"/api/jobs/{name}")["status"])
            return status if status in ("SUCCEEDED", "FAILED", "STOPPED") else None

        return str(wait_for(ended, name, seconds, 0.3))  # each look costs the dashboard, the more the more jobs it has

    def stop(self) -> None:
        """Kill all of it."""
        for part in (*self.nodes.values(), self.head):
            part.kill()


def _ports() -> list[str]:
    """Ports that would else be the same on every node."""
    names = ("dashboard-agent-listen-port", "metrics-export-port", "runtime-env-agent-port", "node-manager-port")
    return [word for name in names for word in (f"--{name}", str(free_port()))]


def ray_environment(**more: str) -> dict[str, str]:
    """Environment of Ray's commands: a token of this process', no usage statistics, this tree's code first."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
        "RAY_grpc_client_keepalive_time_ms": "30000",  # as in cluster/
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}".rstrip(":"),
        **more,
    }


@contextlib.contextmanager
def ray_cluster(
    folder: Path, head_cpus: int = 0, nodes: int = 0, network: Loopback | Namespaces | None = None, **environment: str
) -> Iterator[RayCluster]:
    """A head with `head_cpus`, and nodes of one CPU each; its jobs run in `folder`."""
    scratch = Path(tempfile.mkdtemp(prefix="vs"))  # sockets are there, whose paths may not be long
    cluster = RayCluster(scratch, folder, ray_environment(**environment), network or Loopback())
    cluster.head.words = _head_words(cluster, head_cpus)
    with _stopping(cluster):
        cluster.start_head()
        for number in range(1, nodes + 1):
            cluster.add_node(number)
        cluster.wait_for_nodes(1 + nodes)
        yield cluster


def _head_words(cluster: RayCluster, cpus: int, *more: str) -> list[str]:
    address = cluster.network.head
    (cluster.scratch / "head").mkdir(exist_ok=True)
    return cluster.command(
        *("start", "--head", "--block", "--node-ip-address", address, "--port", str(cluster.port)),
        *("--num-cpus", str(cpus), "--object-store-memory", str(STORE_BYTES), "--temp-dir"),
        *(str(cluster.scratch / "head"), "--dashboard-host", address, "--dashboard-port", str(cluster.dashboard)),
        *("--ray-client-server-port", str(free_port(address)), *_ports(), *more),
    )


@contextlib.contextmanager
def _stopping(cluster: RayCluster) -> Iterator[None]:
    try:
        yield
    finally:
        cluster.stop()
        shutil.rmtree(cluster.scratch, ignore_errors=True)


@contextlib.contextmanager
def scaled_cluster(folder: Path, head_cpus: int = 1, most: int = 3, **environment: str) -> Iterator[RayCluster]:
    """A head with Ray's autoscaler, whose fake nodes of one CPU come and go as processes of this machine."""
    scratch = Path(tempfile.mkdtemp(prefix="vs"))
    variables = ray_environment(
        RAY_FAKE_CLUSTER="1",
        AUTOSCALER_UPDATE_INTERVAL_S="1",
        RAY_enable_autoscaler_v2="1",
        RAY_CLOUD_INSTANCE_ID=FAKE_HEAD,
        RAY_OVERRIDE_NODE_ID_FOR_TESTING=FAKE_HEAD,
        **environment,
    )
    cluster = RayCluster(scratch, folder, variables)
    types = {
        "ray.head.default": {"node_config": {}, "resources": {"CPU": head_cpus}, "max_workers": 0},
        "worker": {"node_config": {}, "resources": {"CPU": 1}, "min_workers": 0, "max_workers": most},
    }
    config = {
        "cluster_name": "fake",
        "max_workers": most,
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 1,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "head_node_id": FAKE_HEAD,
            "launch_multiple": True,
            "disable_node_updaters": True,
            "gcs_address": cluster.address,
        },
        "auth": {},
        "docker": {},
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "available_node_types": types,
        "head_node_type": "ray.head.default",
    }
    file = scratch / "autoscaler.yaml"
    file.write_text(json.dumps(config))  # JSON is YAML
    cluster.head.words = _head_words(cluster, head_cpus, "--autoscaling-config", str(file))
    with _stopping(cluster):
        cluster.start_head()
        yield cluster
