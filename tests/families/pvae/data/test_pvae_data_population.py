"""A population from a CSV file: what is accepted, what is dropped and counted, what is refused with its line."""

from pathlib import Path

import numpy as np
import pytest
from xpt import AUDIOGRAM

from vaesweep.errors import UserError
from vaesweep.families.pvae.data.audiograms import COLUMNS
from vaesweep.families.pvae.data.population import read_population

ROW = [*AUDIOGRAM.tolist(), 61.0]
CELLS = [f"{value:g}" for value in ROW]


def table(*rows: list[str], header: tuple[str, ...] = COLUMNS, separator: str = ",") -> str:
    return "\n".join(separator.join(row) for row in (header, *rows)) + "\n"


def changed(column: str, cell: str) -> list[str]:
    return [cell if name == column else old for name, old in zip(COLUMNS, CELLS, strict=True)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "horstat.csv"


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_population(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_rows_are_read_in_canonical_order(path: Path) -> None:
    path.write_text(table(CELLS, CELLS))
    rows = read_population(path)
    assert rows.x.tolist() == [ROW, ROW]
    assert rows.x.dtype == np.float32
    assert rows.summary == ("horstat.csv: 2 rows read, 2 kept; dropped: none",)


def test_columns_may_have_any_order_and_case_and_company_which_is_named(path: Path) -> None:
    header = ("Sex", *(name.upper() for name in reversed(COLUMNS)), "")
    path.write_text(table(["f", *reversed(CELLS), "x"], header=header))
    rows = read_population(path)
    assert rows.x.tolist() == [ROW]
    assert rows.summary[1] == "horstat.csv: columns ignored: sex, (no name)"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_usual_encodings_separators_and_line_ends_are_read(
    path: Path, encoding: str, separator: str, newline: str
) -> None:
    text = table([*CELLS, "Göttingen"], header=(*COLUMNS, "Größe"), separator=separator)
    path.write_bytes(text.replace("\n", newline).encode(encoding))
    assert read_population(path).x.tolist() == [ROW]


def test_german_files_write_decimals_with_a_comma(path: Path) -> None:
    path.write_text(table(changed("age", "61,5"), separator=";"))
    assert read_population(path).x[0, 14] == 61.5


def test_rows_with_empty_cells_or_implausible_values_are_dropped_and_counted(path: Path) -> None:
    rows = [
        CELLS,
        changed("left_500", ""),
        changed("age", "NA"),
        changed("age", "130"),
        changed("right_500", "666"),
    ]
    path.write_text(table(*rows))
    assert read_population(path).summary == (
        "horstat.csv: 5 rows read, 1 kept; dropped: 2 with an empty cell, 2 implausible",
    )


def test_blank_lines_are_no_rows(path: Path) -> None:
    path.write_text("\n" + table(CELLS) + "\n  \n" + ",".join([""] * 15) + "\n")
    assert len(read_population(path).x) == 1


@pytest.mark.parametrize("cell", ["ten", "1.2.3", "61,5", "inf", "0x10", "1_0", "12 dB"])
def test_text_in_a_number_column_is_refused_with_its_line_and_column(path: Path, cell: str) -> None:
    path.write_text(table(CELLS, changed("left_8000", f'"{cell}"'), CELLS))
    assert f"line 3: left_8000 is {cell!r}, which is not a number" in refusal(path)


def test_a_row_of_another_length_is_refused_with_its_line(path: Path) -> None:
    path.write_text(table(CELLS, CELLS[:-1]))
    assert "line 3: 14 cells where the header has 15" in refusal(path)


def test_a_file_cut_in_the_middle_of_a_quoted_cell_is_refused(path: Path) -> None:
    path.write_text(table(CELLS) + '"10,20')
    assert "line 3: not a CSV row" in refusal(path)


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_file_says_what_is_needed(path: Path, text: str) -> None:
    path.write_text(text)
    assert "empty; needed is a header with right_500" in refusal(path)


def test_a_header_alone_has_no_rows(path: Path) -> None:
    path.write_text(table())
    assert "no rows below" in refusal(path)


def test_misspelt_columns_come_with_the_nearest_name_in_the_file(path: Path) -> None:
    header = tuple({"right_1000": "right_1k", "age": "Alter"}.get(name, name) for name in COLUMNS)
    path.write_text(table(CELLS, header=header))
    assert "missing in the header: right_1000 (did you mean 'right_1k'?), age" in refusal(path)


def test_a_header_of_other_names_lists_the_right_ones(path: Path) -> None:
    path.write_text(table(["1", "2"], header=("SEQN", "AUXU500R")))
    assert f"no known column in its first line; needed: {', '.join(COLUMNS)}" in refusal(path)


def test_a_column_named_twice_is_refused(path: Path) -> None:
    path.write_text(table([*CELLS, "3"], header=(*COLUMNS, "Age")))
    assert "names age more than once" in refusal(path)


def test_values_out_of_range_in_every_row_are_refused_with_the_ranges(path: Path) -> None:
    path.write_text(table(*[changed("age", "1961")] * 3))
    message = refusal(path)
    assert "no usable row among 3: 3 implausible" in message
    assert "ages in 0..120 years" in message


@pytest.mark.parametrize("raw", [bytes(range(256)) * 8, b"PK\x03\x04" + bytes(100)], ids=["noise", "spreadsheet"])
def test_a_file_that_is_not_text_is_refused(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    assert "not a text file" in refusal(path)
