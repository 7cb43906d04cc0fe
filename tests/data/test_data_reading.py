"""Files are read within a bound or refused in one line: true bytes, no special files, no memory beyond what is kept."""

import contextlib
import gzip
import io
import os
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specialfiles import bomb, make_special, special_files, within

from vaesweep.data.reading import BoundedReader, open_bounded, open_regular, read_file, read_stream, size
from vaesweep.errors import UserError

REMEDY = "give another one"
LIMIT = 1000


def refusal(path: Path, limit: int = LIMIT) -> str:
    """The one line with which both readers refuse `path`."""
    lines = set()
    for read in (lambda: read_file(path, limit, REMEDY), lambda: unzipped(path, limit)):
        with pytest.raises(UserError) as caught, within(10):
            read()
        lines.add(str(caught.value))
    (line,) = lines
    assert line.startswith(f"{path}: ")
    assert line.endswith(f"; {REMEDY}")
    assert "\n" not in line
    return line


def unzipped(path: Path, limit: int) -> bytes:
    with open_bounded(path, limit, REMEDY) as reader:
        return b"".join(reader.chunks())


@special_files
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    assert make_special(tmp_path / "x", kind) in refusal(tmp_path / "x")


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "x")
    (tmp_path / "y").symlink_to("nowhere")
    assert "No such file" in refusal(tmp_path / "y")


def test_a_link_to_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"content")
    (tmp_path / "y").symlink_to("x")
    assert read_file(tmp_path / "y", LIMIT, REMEDY) == unzipped(tmp_path / "y", LIMIT) == b"content"


def test_a_file_that_becomes_a_pipe_before_it_is_opened_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, regular = tmp_path / "x", tmp_path / "y"
    os.mkfifo(path)
    regular.touch()
    monkeypatch.setattr(Path, "stat", lambda self, **_: os.stat(regular))
    with pytest.raises(UserError, match="a named pipe"), within(10), open_regular(path, REMEDY):
        pass


@given(content=st.binary(max_size=2 * LIMIT), limit=st.integers(0, LIMIT))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_file_gives_its_bytes_up_to_the_bound(tmp_path: Path, content: bytes, limit: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    if len(content) <= limit:
        assert read_file(path, limit, REMEDY) == unzipped(path, limit) == content
    else:
        assert f"{size(len(content))}, where at most {size(limit)} are read" in refusal(path, limit)


@pytest.mark.parametrize("length", [2**31, 2**40])
def test_a_file_too_large_is_refused_before_it_is_read(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x.gz"
    with path.open("wb") as file:
        file.truncate(length)
    with within(1):
        assert size(length) in refusal(path, 2**30)


def test_files_of_the_kernel_which_say_that_they_are_empty_are_read_up_to_the_bound_too() -> None:
    path = Path("/proc/self/status")
    assert path.stat().st_size == 0
    assert read_file(path, 10**6, REMEDY).startswith(b"Name:")
    assert "holds more than 5 bytes" in refusal(path, 5)


def test_a_file_may_be_replaced_or_grow_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"before")
    with open_bounded(path, LIMIT, REMEDY) as reader:
        assert reader.read(3) == b"bef"
        other = tmp_path / "y"
        other.write_bytes(b"after all")
        other.replace(path)
        assert reader.read_exactly(LIMIT) == b"ore"
    with pytest.raises(UserError, match=f"holds more than {size(LIMIT)}"):
        read_while_it_grows(path)
    assert LIMIT < path.stat().st_size <= LIMIT + 30


def read_while_it_grows(path: Path) -> None:
    """Read a file that is always ten bytes longer than what has been read of it."""
    with open_bounded(path, LIMIT, REMEDY) as reader, path.open("ab") as writer:
        while reader.read(10):
            writer.write(bytes(10))
            writer.flush()


class Counting(io.RawIOBase):
    """A stream of `content` in pieces of at most `piece` bytes, which counts the bytes that it has `given`."""

    def __init__(self, content: bytes, piece: int) -> None:
        self._content, self._piece, self.given = io.BytesIO(content), piece, 0

    def read(self, count: int = -1) -> bytes:
        assert count >= 0
        chunk = self._content.read(min(count, self._piece))
        self.given += len(chunk)
        return chunk


@given(content=st.binary(max_size=300), limit=st.integers(0, 300), piece=st.integers(1, 400))
def test_a_stream_is_never_read_beyond_the_bound(content: bytes, limit: int, piece: int) -> None:
    stream = Counting(content, piece)
    if len(content) <= limit:
        assert read_stream(stream, limit, "standard input", REMEDY) == content
    else:
        with pytest.raises(UserError, match=f"^standard input: holds more than {limit} bytes"):
            read_stream(stream, limit, "standard input", REMEDY)
    assert stream.given <= limit + 1, "one more tells that there are more"


@given(content=st.binary(max_size=300), counts=st.lists(st.integers(0, 100), max_size=9), piece=st.integers(1, 400))
def test_exact_reads_are_the_stream_piece_by_piece(content: bytes, counts: list[int], piece: int) -> None:
    reader, expected = BoundedReader(Counting(content, piece), 300, "x", REMEDY), io.BytesIO(content)
    for count in counts:
        assert reader.read_exactly(count) == expected.read(count)


def test_a_count_that_a_file_does_not_hold_takes_no_memory() -> None:
    reader = BoundedReader(io.BytesIO(b"short"), 2**40, "x", REMEDY)
    assert reader.read_exactly(2**40) == b"short"


def test_a_stream_that_fails_is_refused() -> None:
    class Broken(io.RawIOBase):
        def read(self, count: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    class Waiting(io.RawIOBase):
        def read(self, count: int = -1) -> None:
            return None

    for stream, said in ((Broken(), "Input/output error"), (Waiting(), "it gives no bytes")):
        with pytest.raises(UserError, match=f"^x: cannot be read: {said}; {REMEDY}$"):
            read_stream(stream, LIMIT, "x", REMEDY)


MEMBERS = st.lists(
    st.tuples(
        st.one_of(st.binary(max_size=80), st.builds(lambda n: bytes(n), st.integers(0, 2 * LIMIT))),
        st.integers(0, 9),
        st.sampled_from([b"", b"\0", b"\0" * 600]),  # zeros may stand between members, as tapes leave them
    ),
    max_size=4,
)


@given(members=MEMBERS, kept=st.floats(0, 1), damage=st.none() | st.tuples(st.integers(0, 3000), st.integers(1, 255)))
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_gzip_gives_its_true_bytes_or_is_refused(
    tmp_path: Path, members: list[tuple[bytes, int, bytes]], kept: float, damage: tuple[int, int] | None
) -> None:
    """Members one after another, cut anywhere, or with a changed byte: what is read is a sequence of whole members."""
    content, ends, whole = b"", [0], [b""]
    for data, level, padding in members:
        content += gzip.compress(data, level, mtime=0)
        ends.append(len(content))
        whole.append(whole[-1] + data)
        content += padding
    raw = bytearray(content[: round(kept * len(content))])
    if damage and raw:
        raw[damage[0] % len(raw)] ^= damage[1]
    path = tmp_path / "x.gz"
    path.write_bytes(raw)
    complete = sum(end <= len(raw) for end in ends) - 1
    sound = not damage and not raw[ends[complete] :].strip(b"\0") and max(len(whole[complete]), len(raw)) <= LIMIT
    if sound:
        assert unzipped(path, LIMIT) == whole[complete]
        return
    with contextlib.suppress(UserError):
        read = unzipped(path, LIMIT)
        assert len(read) <= LIMIT
        assert damage
        assert read in whole


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"plain text", "Not a gzipped file"),
        (gzip.compress(b"content")[:-3], "ended before"),
        (gzip.compress(b"content")[:-8] + bytes(8), "CRC check failed"),
        (gzip.compress(b"content") + b"something else", "Not a gzipped file"),
        (gzip.compress(b"")[:10] + b"\xff" * 20, "invalid block type"),
        (b"\x1f\x8b\x08\x08" + bytes(6) + b"a name without an end" * 20, "ended before"),
        (zlib.compress(b"content"), "Not a gzipped file"),
    ],
    ids=["text", "cut", "checksum", "more", "damaged", "endless name", "zlib"],
)
def test_damaged_gzip_says_what_is_wrong(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        unzipped(path, LIMIT)
    assert str(caught.value).startswith(f"{path}: cannot be read: ")
    assert said in str(caught.value)


def test_a_bomb_takes_no_more_memory_than_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(bomb(b"", b"0", 8))
    for limit in (2**20, 2**24, 2**26):
        tracemalloc.start()
        with pytest.raises(UserError, match=f"unzips to more than {size(limit)}"):
            with open_bounded(path, limit, REMEDY) as reader:
                reader.read_exactly(2**40)
        assert tracemalloc.get_traced_memory()[1] < 1.2 * limit + 2**22
        tracemalloc.stop()


def test_many_empty_members_are_read_to_their_end(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"") * 20_000 + gzip.compress(b"end"))
    with within(10):
        assert unzipped(path, 10**6) == b"end"


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1536, "1.5 KiB"),
        (2**28, "256 MiB"),
        (2**31, "2 GiB"),
        (2**50, "1024 TiB"),
    ],
)
def test_sizes_are_told_in_words(count: int, words: str) -> None:
    assert size(count) == words
