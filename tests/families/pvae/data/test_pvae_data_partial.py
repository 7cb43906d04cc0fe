"""Partial audiograms from a CSV file: what counts as measured, who is who, and what is refused with its line."""

from pathlib import Path

import numpy as np
import pytest
from xpt import AUDIOGRAM

from vaesweep.errors import UserError
from vaesweep.families.pvae.data.audiograms import COLUMNS, DIMS, THRESHOLDS
from vaesweep.families.pvae.data.partial import Listeners, check, parse_partial, read_partial

WHERE = "clinic.csv"


def read(text: str) -> Listeners:
    return parse_partial(text.encode(), WHERE)


def refusal(text: str) -> str:
    with pytest.raises(UserError) as caught:
        read(text)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(WHERE)
    return message


def measured(listeners: Listeners, row: int = 0) -> dict[str, float]:
    return {name: float(value) for name, value in zip(COLUMNS, listeners.x[row], strict=True) if not np.isnan(value)}


def test_empty_cells_and_absent_columns_are_not_measured() -> None:
    found = read("age,right_500,left_8000,left_500\n61,10,,NA\n")
    assert measured(found) == {"age": 61, "right_500": 10}
    assert found.x.shape == (1, DIMS)
    assert found.x.dtype == np.float32


def test_a_complete_audiogram_is_read_in_canonical_order_whatever_the_order_and_case_of_its_columns() -> None:
    values = [*AUDIOGRAM.tolist(), 61.0]
    lines = (reversed([name.upper() for name in COLUMNS]), reversed([f"{value:g}" for value in values]))
    assert read("\n".join(",".join(line) for line in lines)).x.tolist() == [values]


def test_an_age_alone_is_a_listener_of_whom_nothing_is_measured() -> None:
    assert measured(read("age\n34\n")) == {"age": 34}


def test_german_files_are_read() -> None:
    assert measured(read("Age;left_500\n61,5;7,5\n")) == {"left_500": 7.5, "age": 61.5}


@pytest.mark.parametrize("column", ["listener", "ID", "name"])
def test_listeners_are_named_by_their_column_or_else_by_their_line(column: str) -> None:
    found = read(f"age,{column}\n61,Anna\n\n34,\n")
    assert found.names == ("Anna", "line 4")
    assert found.ignored == ()
    assert read("age\n61\n").names == ("line 2",)


def test_further_columns_are_ignored_and_named() -> None:
    found = read("id,name,sex,age,right_ear,visit_2023\n7,Anna,f,61,worse,3\n")
    assert found.names == ("7",)
    assert found.ignored == ("name", "sex", "right_ear", "visit_2023")


@pytest.mark.parametrize(
    ("column", "hint"),
    [
        ("rigth_500", " (did you mean 'right_500'?)"),
        ("left 4000 hz", " (did you mean 'left_4000'?)"),
        ("right_1k", " (did you mean 'right_1000'?)"),
        ("l4000", " (did you mean 'left_4000'?)"),
        ("right_750", ""),
        ("left_125", ""),
        ("right_12500", ""),
        ("4k", ""),
        ("0.5 khz", ""),
        ("500", ""),
        ("auxu500r", ""),
    ],
)
def test_a_column_like_a_threshold_that_is_none_is_refused_with_those_there_are(column: str, hint: str) -> None:
    message = refusal(f"age,{column}\n61,10\n")
    assert f"line 1: unknown threshold {column!r}{hint}; thresholds are right_ or left_ and one of 500, 1000" in message


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("right_500", "131", "right_500 is 131, which is not between -20 and 130 dB HL"),
        ("left_8000", "-25", "left_8000 is -25, which is not between -20 and 130 dB HL"),
        ("right_500", "666", "right_500 is 666"),
        ("right_500", "1e99", "right_500 is 1e+99"),
        ("right_500", "1e999", "right_500 is inf"),
        ("left_500", "NR", "left_500 is 'NR', which is not a number; write one, or nothing"),
        ("left_500", "> 120", "left_500 is '> 120', which is not a number"),
    ],
)
def test_an_impossible_threshold_is_refused_with_its_line_and_column(column: str, cell: str, said: str) -> None:
    assert f"line 3: {said}" in refusal(f"age,{column}\n61,10\n61,{cell}\n")


@pytest.mark.parametrize(("cell", "said"), [("", "no age; every listener needs one"), ("1961", "age is 1961")])
def test_a_listener_without_a_plausible_age_is_refused_with_its_line(cell: str, said: str) -> None:
    message = refusal(f"age,right_500\n61,10\n{cell},10\n")
    assert f"line 3: {said}" in message
    assert "years" in message


def test_a_file_without_ages_is_refused_with_the_nearest_column() -> None:
    assert "line 1: no column 'age' (did you mean 'ages'?); every listener needs an age" in refusal("ages\n61\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty; needed is a header with right_500"),
        ("age,right_500\n", "a header and no rows below it"),
        ("age,right_500\n61\n", "line 2: 1 cells where the header has 2"),
        ("age,right_500,Right_500\n61,10,20\n", "names right_500 more than once"),
        ('age,right_500\n61,"10', "line 2: not a CSV row"),
    ],
    ids=["empty", "no rows", "short row", "twice", "cut"],
)
def test_a_broken_table_is_refused(text: str, said: str) -> None:
    assert said in refusal(text)


def test_a_file_is_read_from_its_path_and_a_misspelt_one_comes_with_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / WHERE).write_text("age,right_500\n61,10\n")
    assert measured(read_partial(tmp_path / WHERE)) == {"age": 61, "right_500": 10}
    with pytest.raises(UserError, match=rf"clinc.csv: no such file or folder \(did you mean '{WHERE}'\?\)"):
        read_partial(tmp_path / "clinc.csv")


@pytest.mark.parametrize("shape", [(DIMS,), (2, THRESHOLDS), (1, 2, DIMS)])
def test_arrays_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"needed is \[listener, 15\]"):
        check(np.zeros(shape), ["somebody"] * shape[0])


@pytest.mark.parametrize("column", ["right_250", "left 1500 hz", "right_500_masked", "r500", "bc_left_500"])
def test_a_column_beside_the_models_thresholds_is_ignored_and_named(column: str) -> None:
    found = read(f"age,right_500,left_500,{column}\n61,10,15,99\n")
    assert measured(found) == {"age": 61, "right_500": 10, "left_500": 15}
    assert found.ignored == (column,)
