"""The errors that a command tells in one line: bad input, refused before any cluster time is spent, and tracking's.

Their messages hold what users and files have named, so that every message is made safe here, once: one line of at most
`LONGEST` characters, without control characters, which a terminal would obey.
"""

import unicodedata

LONGEST = 500  # characters of a line
_HEAD = 0.64  # of a line that is too long, the share that its beginning keeps
_CUT = " … "
_WORD = 120  # characters of a word that is shown where a line is cut


def safe_line(text: object, longest: int | None = LONGEST) -> str:
    """`text` as one line: blanks for ends of lines, escapes for what is not to be printed, its middle cut if too long.

    Words are kept whole or left out, so that no secret of a URI is separated from what it is recognised by.
    """
    words = " ".join(str(text).split()) if _has_breaks(str(text)) else str(text)
    line = words if words.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in words)
    return line if longest is None or len(line) <= longest else _shortened(line, longest)


def _has_breaks(text: str) -> bool:
    return any(character in text for character in "\n\r\t\v\f\x1c\x1d\x1e\x85\u2028\u2029")


def _escape(character: str) -> str:
    """A character as it would be written in Python, blanks of other widths as blanks."""
    if unicodedata.category(character) == "Zs":
        return " "
    return character.encode("unicode_escape").decode("ascii")


def _shortened(line: str, longest: int) -> str:
    words = [word if len(word) <= _WORD else _short_word(word) for word in line.split(" ")]
    if len(whole := " ".join(words)) <= longest:
        return whole
    room = longest - len(_CUT)
    head, used = 0, 0
    while head < len(words) and used + len(words[head]) + 1 <= room * _HEAD:
        used += len(words[head]) + 1
        head += 1
    tail = len(words)
    while tail > head and used + len(words[tail - 1]) + 1 <= room:
        used += len(words[tail - 1]) + 1
        tail -= 1
    return " ".join(words[:head]) + _CUT + " ".join(words[tail:])


def _short_word(word: str) -> str:
    """The ends of a long word, or nothing of one that may be a URI with a secret in it."""
    return "…" if "://" in word or "=" in word else f"{word[: _WORD // 2]}…{word[-_WORD // 3 :]}"


class UserError(ValueError):
    """Bad input. The message is one line: what is wrong, where, and what would be right.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(safe_line(message))


class TrackingError(RuntimeError):
    """Failure of the tracking store; all that it lacks of finished cells is in the finished files."""

    def __init__(self, message: object = "") -> None:
        super().__init__(safe_line(message))


class RoundFailed(Exception):
    """Every trial of a round has failed, so that it is not the configurations that are wrong."""

    def __init__(self, message: object = "") -> None:
        super().__init__(safe_line(message))
