"""A probe of a storage, before anything waits for it without end.

A remote one is asked by another process: a request that is never answered cannot be ended, and pyarrow would wait for
it when this process ends. A folder may lie on a network disk whose server is away; it is asked by a thread.
"""

import subprocess
import sys
import threading
from pathlib import Path

from vaesweep.errors import UserError
from vaesweep.uris import masked, place_of

ANSWER_SECONDS = 15.0  # to connect, to be refused by the host's own word, and to list one folder, with time to spare
ASK = """
import sys
from pyarrow import fs

try:
    file_system, root = fs.FileSystem.from_uri(sys.stdin.read())
    file_system.get_file_info(fs.FileSelector(root, allow_not_found=True))
except Exception as error:
    sys.exit(" ".join(str(error).split()))
"""


def check_answers(uri: str) -> None:
    """Refuse a storage, a folder or a URI, that cannot be listed or does not answer within `ANSWER_SECONDS`."""
    place = place_of(uri, "--storage")
    fault = _ask_process(place) if isinstance(place, str) else _ask_thread(place)
    if fault:
        raise UserError(f"--storage {masked(uri)}: {masked(fault)}; name one that can be reached")


def _ask_process(uri: str) -> str:
    """What is wrong with the storage at a URI, nothing if empty."""
    try:
        # The URI may hold a password, which others could read on the command line.
        command = [sys.executable, "-P", "-c", ASK]
        done = subprocess.run(command, input=uri, text=True, capture_output=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        return _silent()
    return " ".join(done.stderr.split()) or "its file system fails" if done.returncode else ""


def _ask_thread(folder: Path) -> str:
    """What is wrong with a folder, nothing if empty; it need not be there yet."""
    faults: list[str] = []
    thread = threading.Thread(target=_list, args=(folder, faults), name="storage", daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    return _silent() if thread.is_alive() else "".join(faults)


def _list(folder: Path, faults: list[str]) -> None:
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        pass
    except OSError as error:
        faults.append(f"cannot be read ({error.strerror})")


def _silent() -> str:
    return f"no answer within {ANSWER_SECONDS:g} s"
