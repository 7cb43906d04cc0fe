"""Files that users name, read within a bound: regular files only, and no more of them than a stated number of bytes.

A named pipe would be waited for without end, and two megabytes of gzip may unzip to gigabytes. One open file is read
from its beginning to its end, so that it does not matter whether it is replaced or grows meanwhile.
"""

import contextlib
import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from vaesweep.errors import UserError

CHUNK = 2**20  # bytes at a time, where it is not known how many there are
SPECIAL = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class ByteStream(Protocol):
    """A source of bytes: a file, standard input, or what unzips one of them."""

    def read(self, count: int, /) -> bytes | None:
        """At most `count` bytes: none at the end, `None` where there are none yet."""


class BoundedReader:
    """Reads a stream from its beginning to its end, and refuses one that holds more than `limit` bytes.

    `where` names it in errors, `remedy` says what would be right, and `verb` how it is larger than it may be.
    """

    def __init__(self, stream: ByteStream, limit: int, where: str, remedy: str, verb: str = "holds") -> None:
        self._stream, self._left = stream, limit
        self._refusal = f"{where}: {verb} more than {size(limit)}, which are read of one file at most; {remedy}"

    def read(self, count: int) -> bytes:
        """The next bytes, at most `count` and none at the end; fewer are no sign of the end."""
        chunk = self._stream.read(min(count, self._left + 1))
        if chunk is None:
            raise OSError("it gives no bytes")
        self._left -= len(chunk)
        if self._left < 0:
            raise UserError(self._refusal)
        return chunk

    def read_exactly(self, count: int) -> bytearray:
        """The next `count` bytes, fewer only at the end. Takes memory for those that there are, whatever `count` is."""
        content = bytearray()
        while len(content) < count and (chunk := self.read(min(count - len(content), CHUNK))):
            content += chunk
        return content

    def chunks(self) -> Iterator[bytes]:
        """All bytes that are left, some at a time."""
        while chunk := self.read(CHUNK):
            yield chunk


@contextlib.contextmanager
def open_regular(path: Path, remedy: str) -> Iterator[BinaryIO]:
    """The regular file at `path`, or that a link there leads to, open for reading.

    Everything else is refused at once with a `UserError` that ends with `remedy`, and so is a file that cannot be read.
    """
    try:
        refuse_special(path, path.stat(), remedy)  # before it is opened: to open a device may set it going
        with open(path, "rb", buffering=0, opener=_open_without_waiting) as file:
            refuse_special(path, os.fstat(file.fileno()), remedy)
            yield file
    except (OSError, EOFError, zlib.error, ValueError) as error:  # a null character in a name is a ValueError
        if isinstance(error, UserError):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UserError(f"{path}: cannot be read: {reason}; {remedy}") from None


@contextlib.contextmanager
def open_bounded(path: Path, limit: int, remedy: str) -> Iterator[BoundedReader]:
    """A reader of the regular file at `path`, unzipped where its name ends in `.gz`, of at most `limit` bytes."""
    with open_regular(path, remedy) as file:
        check_size(file, path, limit, remedy)
        reader = BoundedReader(file, limit, str(path), remedy)
        if path.suffix != ".gz":
            yield reader
            return
        with gzip.GzipFile(fileobj=cast(BinaryIO, reader), mode="rb") as unzipped:
            yield BoundedReader(unzipped, limit, str(path), remedy, "unzips to")


def check_regular(path: Path, remedy: str) -> None:
    """Refuse what is no regular file before another library opens it, which would wait for a pipe without end."""
    try:
        refuse_special(path, path.stat(), remedy)
    except OSError as error:
        reason = (
            "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        )
        raise UserError(f"{path}: {reason}; {remedy}") from None
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: cannot be read: {error}; {remedy}") from None


def read_file(path: Path, limit: int, remedy: str) -> bytes:
    """The content of the regular file at `path`, of at most `limit` bytes."""
    with open_regular(path, remedy) as file:
        check_size(file, path, limit, remedy)
        reader = BoundedReader(file, limit, str(path), remedy)
        content = reader.read(os.fstat(file.fileno()).st_size + 1)  # all of it, where it is not written to meanwhile
        return b"".join([content, *reader.chunks()])


def read_stream(stream: ByteStream, limit: int, where: str, remedy: str) -> bytes:
    """The content of a stream, such as standard input, of at most `limit` bytes; `where` names it in errors."""
    try:
        return b"".join(BoundedReader(stream, limit, where, remedy).chunks())
    except OSError as error:
        raise UserError(f"{where}: cannot be read: {error.strerror or error}; {remedy}") from None


def check_size(file: BinaryIO, path: Path, limit: int, remedy: str) -> None:
    """Refuse an open file that is larger than `limit` bytes, before it is read."""
    length = os.fstat(file.fileno()).st_size
    if length > limit:
        raise UserError(f"{path}: {size(length)}, where at most {size(limit)} are read of one file; {remedy}")


def size(count: float) -> str:
    """A number of bytes in words, such as `2 GiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def refuse_special(path: Path, status: os.stat_result, remedy: str) -> None:
    """Refuse what is no regular file by its `status`."""
    if not stat.S_ISREG(status.st_mode):
        kind = SPECIAL.get(stat.S_IFMT(status.st_mode), "something special")
        raise UserError(f"{path}: cannot be read: it is {kind}, not a file; {remedy}")
