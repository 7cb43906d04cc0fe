"""Output that is gone, closed, full, or lacks letters ends no command and loses nothing but its lines."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vaesweep.cli.output import PLAIN, Output, surviving

ROOT = Path(__file__).parents[2]
SAY = """
import sys
from vaesweep.cli.doors import exit_code
def run():
    for number in range(20000):
        print("−ELBO → 3 × β", number)
    open(sys.argv[1], "w").write("done")
    return 0
sys.exit(exit_code(run, reads=len(sys.argv) > 2))
"""


def say(folder: Path, shell: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command that prints much and then writes a file `done`, in a shell's line in which `$SAY` stands for it."""
    (folder / "say.py").write_text(SAY)
    own = {"SAY": f"{sys.executable} say.py done {' '.join(words)}", "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell], cwd=folder, env=os.environ | own, capture_output=True, text=True
    )


@pytest.mark.parametrize("shell", ["$SAY | head -1", "$SAY >&-", "$SAY >/dev/full", "$SAY >&- 2>&-"])
def test_a_command_goes_on_without_its_output(tmp_path: Path, shell: str) -> None:
    done = say(tmp_path, shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "done").exists()


def test_a_reader_that_wants_no_more_is_no_failure(tmp_path: Path) -> None:
    assert say(tmp_path, "$SAY | head -1", "reads").returncode == 0


def test_a_command_whose_result_is_its_output_fails_where_that_is_lost(tmp_path: Path) -> None:
    done = say(tmp_path, "$SAY >/dev/full", "reads")
    assert done.returncode == 1
    assert done.stderr == "error: standard output: No space left on device\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
def test_letters_that_an_encoding_lacks_are_written_with_others(tmp_path: Path, encoding: str) -> None:
    done = say(tmp_path, "$SAY >lines", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = (tmp_path / "lines").read_bytes().decode(encoding).splitlines()[-1:]
    assert line.endswith("19999")
    assert "?" not in line


@pytest.mark.parametrize("letter", [*PLAIN, "漢", "🙂", "\ud800"])
def test_every_letter_can_be_written_in_ascii(letter: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    output = Output(stream)
    output.write(f"a{letter}b")
    output.flush()
    assert stream.buffer.getvalue() == f"a{PLAIN.get(letter, '?')}b".encode()  # type: ignore[attr-defined]
    assert output.lost is None


def test_a_stream_that_somebody_has_closed_is_written_to_no_more() -> None:
    stream = io.StringIO()
    output = Output(stream)
    stream.close()
    output.write("a")
    output.flush()
    assert isinstance(output.lost, ValueError)


def test_the_streams_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with surviving():
        print("nobody reads this", flush=True)
    assert sys.stdout is None
