"""Output that ends nothing: of a command whose reader has closed the pipe, whose terminal is gone or has few letters.

What cannot be written is left out, and a command whose tables are files goes on without a reader.
"""

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EPIPE
from typing import Any, TextIO

PLAIN = {"−": "-", "–": "-", "→": "->", "×": "x", "…": "...", "±": "+-", "·": ".", "β": "beta", "“": '"', "”": '"'}
FEWER_LETTERS = "vaesweep.plain"  # how characters are written that an encoding lacks


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(one, "?") for one in error.object[error.start : error.end]), error.end


codecs.register_error(FEWER_LETTERS, _plain)


class Output:
    """A stream in whose place nothing is written once it fails; `lost` says how."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream: TextIO = stream or open(os.devnull, "w")  # noqa: SIM115 as long as the process
        self.lost: Exception | None = None

    def write(self, text: str) -> int:
        """Write `text`, in the letters that the stream's encoding has."""
        try:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                self._stream.write(text.encode(encoding, FEWER_LETTERS).decode(encoding))
        except (OSError, ValueError) as error:
            self._lose(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write all `lines`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Have what was written reach whoever reads it."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        self.lost = self.lost or error
        with suppress(OSError, ValueError):  # Python would complain again of what is still in its buffer
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)

    @property
    def is_missing(self) -> bool:
        """Whether something was not written that somebody may still want: a reader that is gone wants no more."""
        return self.lost is not None and not (isinstance(self.lost, OSError) and self.lost.errno == EPIPE)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def surviving() -> Iterator[Output]:
    """Context in which standard output and standard error may fail; gives standard output."""
    before = sys.stdout, sys.stderr
    output, errors = Output(sys.stdout), Output(sys.stderr)
    sys.stdout, sys.stderr = output, errors
    try:
        yield output
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before
