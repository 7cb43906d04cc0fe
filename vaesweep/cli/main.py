"""The `vaesweep` command: `ui` opens MLflow on the store that sweeps write to, `status` says where sweeps stand.

`report` draws the page of a sweep, `register` makes a cell a model of MLflow's registry, `manifest` lists files of data
to upload. Families bring commands of their own.
"""

import argparse
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import vaesweep
from vaesweep.cli import doors, register, report, status
from vaesweep.data.numbers import whole
from vaesweep.errors import UserError, line_of
from vaesweep.store_access import StoreFile, refusals, store_file
from vaesweep.uris import is_server, masked, sqlite_file
from vaesweep.vocabulary import store_uri

HOSTS_VARIABLE, ORIGINS_VARIABLE = "MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
LOOPBACK, EVERY_ADDRESS = ("127.0.0.1", "localhost", "::1"), ("0.0.0.0", "::", "*")
PRIVATE = ("10.*", "192.168.*", *(f"172.{number}.*" for number in range(16, 32)))  # addresses of private networks
OWN = ("ui", "status", "report", "register", "manifest")  # commands that need no family


def main(words: Sequence[str] | None = None) -> int:
    """Run the command and return the process's exit code."""
    words = sys.argv[1:] if words is None else words

    def run() -> int:
        arguments = doors.local_paths(_parser(families=not words or words[0] not in OWN).parse_args(words))
        with refusals(lambda: store_uri(getattr(arguments, "tracking_uri", None))):
            return int(arguments.act(arguments))

    return doors.exit_code(run, reads=True)


def _parser(*, families: bool) -> argparse.ArgumentParser:
    """A parser of this package's own commands and, with `families`, of theirs, for which torch must be imported."""
    parser = argparse.ArgumentParser(prog="vaesweep", description="Rate sweeps of variational autoencoders.")
    parser.add_argument("--version", action="version", version=f"vaesweep {vaesweep.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    ui = commands.add_parser("ui", help="open the MLflow UI on the store that sweeps write to")
    ui.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    ui.add_argument("--port", type=whole(least=0, most=65535), default=5000, help="port to listen on (%(default)s)")
    ui.set_defaults(act=_ui)
    manifest = commands.add_parser("manifest", help="list the files of a folder of data, to be uploaded with it")
    manifest.add_argument("folder", type=Path, metavar="DIR", help="the folder, in which manifest.json is written")
    manifest.set_defaults(act=_manifest)
    status.register(commands)
    report.register(commands)
    register.register(commands)
    if families:
        from vaesweep.family.registry import command_modules

        for module in command_modules():
            module.register(commands)
    return parser


def _ui(arguments: argparse.Namespace) -> int:
    """Serve the MLflow UI until Ctrl-C: one worker, no job runner, which is ten times lighter than the default.

    The store's URI goes by the environment, since all users of a machine may read its command lines.
    """
    uri = store_uri()
    if is_server(uri):
        print(f"MLFLOW_TRACKING_URI names a server, which has its own UI: {masked(uri)}")
        return 0
    if (file := sqlite_file(uri)) and store_file(uri) is not StoreFile.COMPLETE:
        raise UserError(f"{file}: there is no tracking store here yet; run a sweep first, or change to its folder")
    allowed, origins, name = server_names(arguments.host, arguments.port)
    print(f"MLflow on {masked(uri)}: http://{name}:{arguments.port} (Ctrl-C ends it)", flush=True)
    if allowed:
        words = "whoever reaches it can change runs; under other names it answers where {0} and {1} have them"
        print(words.format(HOSTS_VARIABLE, ORIGINS_VARIABLE), flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", arguments.host, "--port", str(arguments.port)]
    own = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    if allowed:
        own |= {HOSTS_VARIABLE: os.environ.get(HOSTS_VARIABLE) or ",".join(allowed)}
        own |= {ORIGINS_VARIABLE: os.environ.get(ORIGINS_VARIABLE) or ",".join(origins)}
    address = f"http://{name}:{arguments.port}"
    threading.Thread(target=_print_views, args=(uri, address), name="views", daemon=True).start()
    return subprocess.call(command, env=os.environ | own)


def _print_views(uri: str, address: str) -> None:
    """Print where the saved views of each experiment open, read while the server starts."""
    from vaesweep.analysis.workbench import saved_views  # MLflow takes seconds to import

    with suppress(Exception):  # they are only nice to have
        for experiment, views in saved_views(uri).items():
            for view, path in views.items():
                print(line_of(f"{experiment}, {view}: {address}{path}", None), flush=True)


def server_names(host: str, port: int) -> tuple[list[str], list[str], str]:
    """The names under which a server at `host` is asked, and the origins of its own pages, as MLflow wants them.

    MLflow answers nobody who asks for it by a name that it was not told, and refuses what a page of such a name sends.
    Both are empty where `host` is this machine alone. The third is the name to open.
    """
    if host in LOOPBACK:
        return [], [], f"[{host}]" if ":" in host else host
    own = [socket.gethostname(), socket.getfqdn(), _own_address()] if host in EVERY_ADDRESS else [host]
    with suppress(OSError):
        own += [str(entry[4][0]) for entry in socket.getaddrinfo(own[0], None)]
    names = [f"[{name}]" if ":" in name else name for name in dict.fromkeys(own) if name]
    local = ["localhost", "127.0.0.1", "[::1]"]
    hosts = [entry for name in [*local, *names] for entry in (name, f"{name}:{port}")]
    return [*hosts, *PRIVATE], [f"http://{name}:{port}" for name in names], names[0]


def _own_address() -> str:
    """The address by which this machine is asked from its network, where it has one; nothing is sent."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # an address of nobody
        return str(probe.getsockname()[0])
    return ""


def _manifest(arguments: argparse.Namespace) -> int:
    """Write the manifest of a folder of data."""
    from vaesweep.data.remote import write_manifest  # pyarrow takes its time to import

    path, count = write_manifest(arguments.folder.expanduser())
    print(line_of(f"written: {path}, of {count} files", None))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
