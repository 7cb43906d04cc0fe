"""What `vaesweep acquire` is told to read is refused at once where it is no table: pipes, devices, endless input."""

import io
import os
from pathlib import Path

import pytest
from specialfiles import KINDS, make_special, within

from vaesweep.cli.main import main
from vaesweep.data.reading import size
from vaesweep.families.pvae.data.partial import PARTIAL_BYTES


class Endless(io.RawIOBase):
    """Standard input that never ends, in pieces as a pipe gives them; it counts the bytes that it has `given`."""

    def __init__(self, line: bytes) -> None:
        self._lines, self.given = line * (2**16 // len(line)), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._lines))
        buffer[:count] = self._lines[:count]
        self.given += count
        return count


def refusal(capsys: pytest.CaptureFixture[str], path: Path | str) -> str:
    """The one line of an error, with exit code 2 and nothing on standard output."""
    with within(30):
        assert main(["acquire", "--run", "any", "--input", str(path)]) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    (line,) = errors.splitlines()
    return line


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "link to itself"])
def test_what_is_no_regular_file_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "partial.csv"
    called = make_special(path, kind)
    assert f"{path}: cannot be read: it is {called}, not a file; give a CSV file" in refusal(capsys, path)


@pytest.mark.parametrize("content", [None, "link to itself"])
def test_what_is_not_there_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "partial.csv"
    if content:
        make_special(path, content)
    assert f"{path}: {'a link that leads to no file' if content else 'no such file'}" in refusal(capsys, path)


def test_a_pipe_of_the_shell_is_refused_with_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """`--input <(command)` gives the path of an open pipe."""
    reader, writer = os.pipe()
    assert "a named pipe" in refusal(capsys, f"/dev/fd/{reader}")
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("line", [b"61,10\n", b"y\n", b"\n", b"\0"], ids=["rows", "yes", "blank lines", "zeros"])
def test_standard_input_that_never_ends_is_refused_at_the_bound(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    endless = Endless(line)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(endless)))
    assert f"standard input: holds more than {size(PARTIAL_BYTES)}" in refusal(capsys, "-")
    assert endless.given < PARTIAL_BYTES + 2**20


def test_standard_input_that_is_no_text_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bytes(range(256)) * 8)))
    assert "standard input: not a text file" in refusal(capsys, "-")
