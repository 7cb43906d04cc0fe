"""A transport file is read exactly or refused in one line that names it."""

import contextlib
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from specialfiles import make_special, special_files, within
from xpt import THRESHOLDS, audiograms, write_cycle, xport

from vaesweep.data.reading import CHUNK
from vaesweep.errors import UserError
from vaesweep.families.pvae.data.sources import load
from vaesweep.families.pvae.data.xport import read_xport

VALUES = [0.0, 1.0, -1.0, 5.0, 666.0, 888.0, 0.1, -10.0, 123456.789, float("nan"), 85.0, 1e-3]
WIDE = {name: [1.0, 2.0, 3.0] for name in ("SEQN", *THRESHOLDS)}


def refusal(path: Path, columns: tuple[str, ...] = ("SEQN",)) -> str:
    """The one line with which `path` is refused; it must name the file."""
    with pytest.raises(UserError) as caught:
        read_xport(path, columns)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "AUX_B.XPT"


def test_values_come_back_exactly_and_zero_is_zero(path: Path) -> None:
    path.write_bytes(xport({"SEQN": VALUES, "OTHER": VALUES[::-1]}))
    frame = read_xport(path, ("SEQN", "OTHER"))
    np.testing.assert_array_equal(frame["SEQN"], VALUES)
    np.testing.assert_array_equal(frame["OTHER"], VALUES[::-1])


def test_columns_are_taken_by_name_whatever_their_case_order_and_company(path: Path) -> None:
    path.write_bytes(xport({"text": ["a", "b"], "b": [3.0, 4.0], "a": [1.0, 2.0]}))
    assert read_xport(path, ("A", "B")).to_numpy().tolist() == [[1, 3], [2, 4]]


def test_a_file_without_bytes_is_empty(path: Path) -> None:
    path.touch()
    assert "empty" in refusal(path)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (np.random.default_rng(0).bytes(4000), "not a SAS transport file"),
        (b"SEQN,AUXU500R\n1,10\n" * 50, "begins with 'SEQN,AUXU500R"),
        (b"<!DOCTYPE html><html><body>Page not found</body></html>" * 20, "a web page"),
        (xport(WIDE).lower(), "not a SAS transport file"),
    ],
    ids=["noise", "csv", "web page", "wrong header"],
)
def test_another_kind_of_file_is_named_for_what_it_is(path: Path, raw: bytes, said: str) -> None:
    path.write_bytes(raw)
    assert said in refusal(path)


@pytest.mark.parametrize("columns", [{"SEQN": VALUES, "AGE": VALUES}, WIDE], ids=["narrow rows", "wide rows"])
def test_a_file_cut_anywhere_is_refused_unless_the_cut_is_between_two_rows(path: Path, columns: dict) -> None:
    raw, width = xport(columns), 8 * len(columns)
    start = raw.index(b"OBS     HEADER") - 20 + 80
    for size in range(0, len(raw), 8):
        path.write_bytes(raw[:size])
        if size > start and size % 80 == 0 and (size - start) % width == 0:
            assert len(read_xport(path, ("SEQN",))) == (size - start) // width
        else:
            refusal(path)


def test_a_table_without_rows_says_so(path: Path) -> None:
    path.write_bytes(xport({"SEQN": []}))
    assert "no rows" in refusal(path)


def test_damaged_bytes_in_the_header_never_give_another_error(path: Path) -> None:
    raw, rng = xport(WIDE), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(raw)
        damaged[rng.integers(640 + 140 * 3)] = rng.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(UserError):
            assert len(read_xport(path, ("SEQN",))) == 3


def test_a_missing_column_comes_with_the_nearest_name(path: Path) -> None:
    path.write_bytes(xport({"SEQN": [1.0], "RIDAGEMN": [30.0]}))
    assert "RIDAGEYR (did you mean 'RIDAGEMN'?)" in refusal(path, ("SEQN", "RIDAGEYR"))


def test_text_in_a_column_of_numbers_is_refused(path: Path) -> None:
    path.write_bytes(xport({"SEQN": ["one", "two"]}))
    assert "SEQN should hold numbers" in refusal(path)


def test_a_folder_with_the_name_of_a_file_is_refused(path: Path) -> None:
    path.mkdir()
    assert "cannot be read" in refusal(path)


@special_files
def test_what_is_no_regular_file_is_refused_at_once(path: Path, kind: str) -> None:
    called = make_special(path, kind)
    with within(10):
        assert called in (message := refusal(path))
    assert message.endswith("; download it again")


def test_a_folder_of_cycles_with_a_pipe_among_them_is_refused_at_once(tmp_path: Path) -> None:
    write_cycle(tmp_path, "B", *audiograms(12))
    for name in ("AUX_B.XPT", "DEMO_B.XPT"):
        (tmp_path / name).rename(tmp_path / "aside")
        os.mkfifo(tmp_path / name)
        for spec in (f"nhanes:{tmp_path}", f"synthetic,unseen={tmp_path}"):
            with pytest.raises(UserError, match=rf"{name}: cannot be read: it is a named pipe, not a file"), within(10):
                load(spec, 0)
        (tmp_path / "aside").replace(tmp_path / name)
    assert len(load(f"nhanes:{tmp_path}", 0).domains) == 3


@pytest.mark.parametrize("start", [b"", xport(WIDE)], ids=["zeros", "a table and zeros"])
def test_a_file_that_is_too_large_is_refused_before_it_is_read(path: Path, start: bytes) -> None:
    with path.open("wb") as file:
        file.write(start)
        file.truncate(2**40)
    with within(1):
        assert "1 TiB, where at most 256 MiB are read of one file" in refusal(path)


def test_of_a_wide_table_only_the_columns_that_are_asked_for_are_kept(path: Path) -> None:
    """As strings, these texts would take fifty megabytes."""
    rows = 80_000
    path.write_bytes(xport({"SEQN": [float(row) for row in range(rows)]} | {f"T{i}": ["ab"] * rows for i in range(9)}))
    tracemalloc.start()
    frame = read_xport(path, ("SEQN",))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frame["SEQN"].tolist() == list(range(rows))
    assert frame.index.equals(pd.RangeIndex(rows))
    assert peak - path.stat().st_size < 20 * CHUNK


@pytest.mark.parametrize("columns", range(1, 12))
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 10, 11])
def test_padding_is_no_rows_however_narrow_they_are(path: Path, rows: int, columns: int) -> None:
    values = {f"N{number}": [float(row * number) for row in range(rows)] for number in range(columns)}
    path.write_bytes(xport(values))
    frame = read_xport(path, tuple(values))
    assert frame.to_dict("list") == values
    others = pd.read_sas(path, format="xport", encoding="latin-1")
    assert len(frame) == rows
    if len(others) == rows:  # pandas loses rows that end in a text of blanks, and keeps padding wider than eight bytes
        np.testing.assert_array_equal(frame.to_numpy(), others.mask(others.abs() < 1e-70, 0.0).to_numpy())


def test_texts_of_blanks_at_the_end_of_rows_take_none_away(path: Path) -> None:
    path.write_bytes(xport({"N": [1.0, 2.0, 3.0], "T": ["a", "", ""]}))
    assert read_xport(path, ("N",))["N"].tolist() == [1, 2, 3]


def member(raw: bytes) -> bytes:
    """The table of a transport file, without the library's records."""
    return raw[240:]


def test_of_several_tables_the_one_that_has_the_columns_is_read(path: Path) -> None:
    one, other = xport({"SEQN": [1.0, 2.0], "A": [3.0, 4.0]}), xport({"OTHER": [5.0] * 9})
    for raw in (one + member(other), other + member(one)):
        path.write_bytes(raw)
        assert read_xport(path, ("SEQN", "A")).to_numpy().tolist() == [[1, 3], [2, 4]]
    path.write_bytes(one + member(one))
    assert "holds 2 tables, TABLE, TABLE; 2 of them have SEQN; save the one that is meant" in refusal(path)
    path.write_bytes(other + member(other))
    assert "none of them has SEQN" in refusal(path)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"HEADER RECORD*******LIBV8   HEADER", "version 8; save it as version 5"),
        (b"**COMPRESSED** " * 3, "PROC CPORT"),
    ],
)
def test_other_files_of_sas_are_named(path: Path, start: bytes, said: str) -> None:
    path.write_bytes(start.ljust(800))
    assert said in refusal(path)


def test_blanks_in_the_place_of_a_number_are_damage(path: Path) -> None:
    raw = bytearray(xport({"SEQN": [1.0] * 30}))
    raw[-80 * 2 : -80 * 2 + 8] = b" " * 8
    path.write_bytes(raw)
    assert "has blanks where the number of SEQN is" in refusal(path)
