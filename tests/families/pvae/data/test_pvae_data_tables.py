"""Tables, whoever reads them, are read within a bound: special files and endless rows are refused, memory is small."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from specialfiles import make_special, special_files, within
from xpt import AUDIOGRAM

from vaesweep.data.reading import size
from vaesweep.errors import UserError
from vaesweep.families.pvae.data.audiograms import COLUMNS, TABLE_BYTES
from vaesweep.families.pvae.data.partial import PARTIAL_BYTES, read_partial
from vaesweep.families.pvae.data.population import read_population
from vaesweep.families.pvae.data.tables import ROW_CHARACTERS

HEADER = ",".join(COLUMNS)
CELLS = ",".join(f"{value:g}" for value in [*AUDIOGRAM.tolist(), 61.0])
READERS = {"population": (read_population, TABLE_BYTES), "partial": (read_partial, PARTIAL_BYTES)}


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> Callable[[Path], Any]:
    return READERS[request.param][0]


def refusal(read: Callable[[Path], Any], path: Path) -> str:
    with pytest.raises(UserError) as caught, within(10):
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@special_files
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, reader: Callable[[Path], Any], kind: str) -> None:
    path = tmp_path / "horstat.csv"
    called = make_special(path, kind)
    message = refusal(reader, path)
    assert (f"{called}, not a file; give a CSV file" in message) or kind == "link to itself"


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    read, limit = READERS[name]
    path = tmp_path / "film.mkv"
    with path.open("wb") as file:
        file.truncate(limit + 1)
    assert f"where at most {size(limit)} are read of one file; give a CSV file" in refusal(read, path)


@pytest.mark.parametrize("start", ["", f"{HEADER}\n", f"{HEADER}\n{CELLS}\n"], ids=["header", "row", "later row"])
@pytest.mark.parametrize("filling", ["x", ",", " ", '"",', '"\n",'], ids=["text", "cells", "blanks", "quotes", "lines"])
def test_a_row_without_an_end_is_refused_with_its_line(
    tmp_path: Path, reader: Callable[[Path], Any], start: str, filling: str
) -> None:
    path = tmp_path / "endless.csv"
    path.write_text(start + filling * (2 * ROW_CHARACTERS))
    message = refusal(reader, path)
    assert f"{path}, line " in message
    assert f"more than {ROW_CHARACTERS} characters" in message or "not a CSV row" in message
    assert len(message) < 400


@pytest.mark.parametrize("filling", ["x", ",", "a line\n", '""'])
def test_a_quote_that_is_never_closed_is_refused_with_its_line(
    tmp_path: Path, reader: Callable[[Path], Any], filling: str
) -> None:
    path = tmp_path / "open.csv"
    path.write_text(f'{HEADER}\n{CELLS}\n"{filling * ROW_CHARACTERS}')
    assert "not a CSV row" in (message := refusal(reader, path)) or "more than" in message


def test_a_long_row_is_still_read(tmp_path: Path, reader: Callable[[Path], Any]) -> None:
    path = tmp_path / "notes.csv"
    path.write_text(f"{HEADER},notes\n{CELLS},{'x' * 100_000}\n")
    assert len(reader(path).x) == 1


def test_rows_take_the_memory_of_their_numbers(tmp_path: Path, reader: Callable[[Path], Any]) -> None:
    """All columns are read; as strings, the cells of these rows would take twenty times the file."""
    path = tmp_path / "many.csv"
    path.write_text(f"{HEADER}\n" + f"{CELLS}\n" * 5_000)
    tracemalloc.start()
    assert len(reader(path).x) == 5_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * path.stat().st_size


def test_many_blank_lines_are_no_rows(tmp_path: Path, reader: Callable[[Path], Any]) -> None:
    path = tmp_path / "blank.csv"
    blank = f"{' ' * 99}\n" * (ROW_CHARACTERS // 50)
    path.write_text(f"{blank}{HEADER}\n{CELLS}\n{blank}")
    assert len(reader(path).x) == 1
    path.write_text(blank)
    assert "the file is empty" in refusal(reader, path)
