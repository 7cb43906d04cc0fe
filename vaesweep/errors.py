"""The errors that a command tells in one line: bad input, refused before any cluster time is spent, and tracking's."""

import os
import re
import unicodedata

LONGEST_LINE = 500  # characters of a line that a command prints of an error
# Unicode's categories of what controls a terminal, or is half a character.
_NOT_SHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class UserError(ValueError):
    """Bad input. The message is one line: what is wrong, where, and what would be right.

    The command line prints it without a traceback and exits with code 2.
    """


class TrackingError(RuntimeError):
    """Failure of the tracking store; all that it lacks of finished cells is in the finished files."""


class RoundFailed(Exception):
    """Every trial of a round has failed, so that it is not the configurations that are wrong."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, as `ray job stop`, Slurm and Kubernetes send it: it ends a command as Ctrl-C does."""


def line_of(text: object, longest: int = LONGEST_LINE) -> str:
    """`text` as one line of at most `longest` characters: its middle left out, and nothing in it that no one can see.

    Blanks and ends of lines become single blanks; escapes of terminals, marks of direction and halves of characters
    become `?`.
    """
    line = " ".join(str(text).split())
    if not (line.isascii() and line.isprintable()):
        line = "".join("?" if unicodedata.category(one) in _NOT_SHOWN else one for one in line)
    if len(line) <= longest:
        return line
    end = longest // 3  # where a message says what would be right
    return f"{line[: longest - end - 3]} … {line[len(line) - end :]}"


def cause_of(error: BaseException) -> str:
    """What an error says of its cause in one line: a database's own words, an errno's with its file, or its class.

    What libraries add to it is left out: SQL, advice, and the names of their own layers.
    """
    error = getattr(error, "orig", None) or error  # of SQLAlchemy, which quotes its statement
    if isinstance(error, OSError) and error.errno is not None and (words := error.strerror or os.strerror(error.errno)):
        files = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        return line_of(": ".join([words, " → ".join(files)]) if files else words)
    text = re.sub(r"^\(\w+(?:\.\w+)*\) ", "", str(error).strip())  # (sqlite3.OperationalError) …
    return line_of(text) or type(error).__name__
