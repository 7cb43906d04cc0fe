"""The errors that a command tells in one line: bad input, refused before any cluster time is spent, and tracking's.

Their messages hold what users and files have named, so that every message is made safe here, once.
"""

import os
import re
import unicodedata

LONGEST_LINE = 500  # characters of a line that a command prints of an error
# Unicode's categories of what controls a terminal, or is half a character.
_NOT_SHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_ENDS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")  # of lines
_LONGEST_WORD = 120  # characters of a word in a line that is cut


class _OneLine(Exception):
    """An error whose message is made one line."""

    def __init__(self, message: object = "") -> None:
        text = visible(_ENDS.sub(" ", str(message)))
        super().__init__(text if len(text) <= LONGEST_LINE else _shortened(text, LONGEST_LINE))


class UserError(_OneLine, ValueError):
    """Bad input. The message is one line: what is wrong, where, and what would be right.

    The command line prints it without a traceback and exits with code 2.
    """


class TrackingError(_OneLine, RuntimeError):
    """Failure of the tracking store; all that it lacks of finished cells is in the finished files."""


class RoundFailed(_OneLine):
    """Every trial of a round has failed, so that it is not the configurations that are wrong."""


class RayDied(_OneLine, RuntimeError):
    """A process of Ray has died that a command cannot be without."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, as `ray job stop`, Slurm and Kubernetes send it: it ends a command as Ctrl-C does."""


def line_of(text: object, longest: int | None = LONGEST_LINE) -> str:
    """`text` as one line of at most `longest` characters: its middle left out, and nothing in it that no one can see.

    Blanks and ends of lines become single blanks; escapes of terminals, marks of direction and halves of characters
    become `?`. Words are left out as wholes, so that no secret of a URI is parted from what it is known by.
    """
    line = visible(" ".join(str(text).split()))
    return line if longest is None or len(line) <= longest else _shortened(line, longest)


def visible(text: str) -> str:
    """`text` on one line, its blanks kept: ends of lines are blanks, what no one can see becomes `?`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if one.isspace() else "?" if unicodedata.category(one) in _NOT_SHOWN else one for one in text)


def _shortened(line: str, longest: int) -> str:
    words = [word if len(word) <= _LONGEST_WORD else _short_word(word) for word in line.split(" ")]
    if len(whole := " ".join(words)) <= longest:
        return whole
    room = longest - longest // 3 - 3  # the rest is for the end, where a message says what would be right
    head, tail = 0, len(words)
    while head < tail and len(words[head]) < room:
        room -= len(words[head]) + 1
        head += 1
    room += longest // 3
    while tail > head and len(words[tail - 1]) < room:
        tail -= 1
        room -= len(words[tail]) + 1
    return " ".join([*words[:head], "…", *words[tail:]])


def _short_word(word: str) -> str:
    """The ends of a long word, or nothing of one in which a secret may be."""
    secret = "://" in word or "=" in word or "@" in word
    return "…" if secret else f"{word[: _LONGEST_WORD // 2]}…{word[-_LONGEST_WORD // 3 :]}"


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
