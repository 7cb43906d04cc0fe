"""The `vaesweep` command: `ui` opens MLflow on the store that sweeps write to, `status` says where sweeps stand.

`report` draws the page of a sweep, `register` makes a cell a model of MLflow's registry, `manifest` lists files of data
to upload. Families bring commands of their own.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import vaesweep
from vaesweep.cli import register, report, status
from vaesweep.errors import UserError
from vaesweep.store_access import StoreFile, store_file
from vaesweep.uris import is_server, masked, sqlite_file
from vaesweep.vocabulary import store_uri

OWN = ("ui", "status", "report", "register", "manifest")  # commands that need no family


def main(words: Sequence[str] | None = None) -> int:
    """Run the command and return the process's exit code."""
    words = sys.argv[1:] if words is None else words
    arguments = _parser(families=not words or words[0] not in OWN).parse_args(words)
    try:
        return int(arguments.act(arguments))
    except UserError as error:
        print(f"error: {masked(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does; Python would complain again when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser(*, families: bool) -> argparse.ArgumentParser:
    """A parser of this package's own commands and, with `families`, of theirs, for which torch must be imported."""
    parser = argparse.ArgumentParser(prog="vaesweep", description="Rate sweeps of variational autoencoders.")
    parser.add_argument("--version", action="version", version=f"vaesweep {vaesweep.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    ui = commands.add_parser("ui", help="open the MLflow UI on the store that sweeps write to")
    ui.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    ui.add_argument("--port", type=int, default=5000, help="port to listen on (%(default)s)")
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
    print(f"MLflow on {masked(uri)}: http://{arguments.host}:{arguments.port} (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", arguments.host, "--port", str(arguments.port)]
    own = {"MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return subprocess.call(command, env=os.environ | own)


def _manifest(arguments: argparse.Namespace) -> int:
    """Write the manifest of a folder of data."""
    from vaesweep.data.remote import write_manifest  # pyarrow takes its time to import

    path, count = write_manifest(arguments.folder.expanduser())
    print(f"written: {path}, of {count} files")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
