"""The door of every command: whatever ends it is told in one line of standard error, with a code of one table.

0    all is well
1    something failed: cells, trials, the tracking store, a disk, Ray, or the program itself
2    bad input, refused before any time is spent
130  Ctrl-C
143  SIGTERM
"""

import argparse
import atexit
import gc
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM

from vaesweep.cli import signals
from vaesweep.cli.output import surviving
from vaesweep.environment import give_home
from vaesweep.errors import RayDied, RoundFailed, TrackingError, UserError, cause_of, line_of
from vaesweep.store_access import is_of_store, one_line, refusal
from vaesweep.uris import folder_of, masked
from vaesweep.vocabulary import store_uri

OK, FAILED, BAD_INPUT = 0, 1, 2


def exit_code(run: Callable[[], int], *, resumes: bool = False, reads: bool = False) -> int:
    """The exit code of a command, with one line on standard error where it ends by an error.

    A command that `resumes` goes on when it is given again. One that `reads` has its output for its result: where that
    is lost it has failed, but where its reader wants no more of it.
    """
    atexit.register(gc.freeze)  # Python would look for cycles in all that was imported, for more than a second
    with surviving() as output, signals.handled():
        try:
            code = _code(run, resumes=resumes)
        finally:
            output.flush()
        if reads and output.is_missing and output.lost is not None:
            _tell(f"error: standard output: {cause_of(output.lost)}")
            return FAILED
        return code


def _code(run: Callable[[], int], *, resumes: bool) -> int:
    word = signals.WORD if resumes else "interrupted"
    try:
        own_surroundings()
        return run()
    except UserError as error:
        _tell(f"error: {error}")
        return BAD_INPUT
    except TrackingError as error:
        _tell(f"error: tracking failed: {error}")
        return FAILED
    except (RoundFailed, RayDied) as error:
        _tell(f"error: {error}")
        return FAILED
    except KeyboardInterrupt as error:
        _tell(word)
        return signals.code_of(error)
    except SystemExit as error:
        if error.code != SIGTERM:  # by which Ray's own handler ends a process
            raise
        _tell(word)
        return signals.TERMINATED
    except Exception as error:
        _tell(f"error: {_fault(error)}")
        return FAILED


def _tell(line: str) -> None:
    print(line_of(masked(line)), file=sys.stderr)


def _fault(error: Exception) -> str:
    """What a line says of an error that nobody foresaw."""
    package = type(error).__module__.partition(".")[0]
    if package in ("sqlalchemy", "sqlite3", "optuna"):  # MLflow's own come as MLflow's
        return f"a database fails: {one_line(error)}"
    if is_of_store(error):
        return str(refusal(store_uri(), error))
    if isinstance(error, OSError):
        return f"{cause_of(error)}; make room, or name another place"
    if isinstance(error, MemoryError):
        return "there is not enough memory; make the data, or what runs at once, smaller"
    if package == "ray":
        return f"Ray: {cause_of(error)}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    words = f"{type(error).__name__}: {line_of(error, 250)} ({Path(place.filename).name}, line {place.lineno})"
    return f"{words}; a fault of the program: {_traceback_file(error)}"


def _traceback_file(error: Exception) -> str:
    text = masked("".join(traceback.format_exception(error)))
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="replace", prefix="vaesweep-", suffix=".traceback", delete=False
        ) as file:
            file.write(text)
    except OSError:
        return "its traceback cannot be written"
    return f"please report {file.name}"


def own_surroundings() -> None:
    """Have Matplotlib imported whatever a user has chosen for windows, notebooks and figures of his own.

    It raises of a back end that it does not know, and of a file of settings that is not text. Its warnings are of what
    is only nice to have, as a folder for its cache or a font.
    """
    give_home()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    if "matplotlib" in sys.modules or hasattr(sys, "ps1"):
        return
    os.environ.pop("MPLBACKEND", None)
    user = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "matplotlib")
    named = Path(os.environ.get("MATPLOTLIBRC") or "matplotlibrc")
    places = [Path(), named, named.parent, Path(os.environ.get("MPLCONFIGDIR") or user), user]
    if all(_is_text(place if place.is_file() else place / "matplotlibrc") for place in places):
        return
    folder, variables = os.getcwd(), {name: os.environ.pop(name, None) for name in ("MATPLOTLIBRC", "MPLCONFIGDIR")}
    with tempfile.TemporaryDirectory() as empty:
        try:
            os.chdir(empty)
            os.environ["MPLCONFIGDIR"] = empty
            import matplotlib  # noqa: F401
        finally:
            os.chdir(folder)
            os.environ |= {name: value for name, value in variables.items() if value is not None}
            if variables["MPLCONFIGDIR"] is None:
                del os.environ["MPLCONFIGDIR"]


def _is_text(file: Path) -> bool:
    """Whether a file is UTF-8, as one that is not there, or that cannot be read, is to whoever looks for it."""
    try:
        file.read_text("utf-8")
    except UnicodeDecodeError:
        return False
    except OSError:
        return True
    return True


def local_paths(arguments: argparse.Namespace) -> argparse.Namespace:
    """Parsed arguments whose paths are of this machine, `~` the user's home. Raises `UserError` where one is a URI."""
    for name, value in vars(arguments).items():
        if isinstance(value, Path):
            setattr(arguments, name, folder_of(value, f"--{name.replace('_', '-')}"))
    return arguments
