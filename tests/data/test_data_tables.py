"""A table's rows are its lines: none is swallowed, whatever quotes, separators and encodings there are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaesweep.data.tables import Table
from vaesweep.errors import UserError

CELL = st.text(st.characters(exclude_characters='",;\t\r\n\0\ufeff', codec="utf-8"), max_size=6)


def texts(raw: bytes) -> list[list[str]]:
    table = Table.parse(raw, "x.csv")
    return [[table.text(row, name) for name in table.header] for row in table.rows()]


def refusal(text: str | bytes) -> str:
    with pytest.raises(UserError) as caught:
        Table.parse(text.encode() if isinstance(text, str) else text, "x.csv")
    assert str(caught.value).startswith("x.csv")
    return str(caught.value)


@settings(deadline=None)
@given(
    st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.booleans(),
)
def test_every_line_is_a_row_in_any_encoding_and_separation(
    rows: list[tuple[str, str]], separator: str, end: str, encoding: str, quoted: bool
) -> None:
    quote = '"' if quoted else ""
    lines = [separator.join(f"{quote}{cell}{quote}" for cell in row) for row in [("a", "b"), *rows]]
    kept = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    raw = end.join(lines).encode(encoding)
    if kept:
        assert texts(raw) == kept
        assert Table.parse(raw, "x.csv").blank == len(rows) - len(kept)
    else:
        assert "no rows below" in refusal(raw)


@settings(deadline=None)
@given(st.integers(0, 9), st.integers(1, 9), st.sampled_from(['"', '"wears aids', 'x""', '"a,b']))
def test_a_cell_that_runs_over_a_line_end_is_refused_by_the_line_of_its_quote(
    first: int, rows: int, stray: str
) -> None:
    lines = [f"{n},ok" for n in range(20)]
    opens = not stray.startswith("x")
    lines[first] = f"{first},{stray}"
    lines[first + rows] = f"{first + rows},{stray[::-1] if opens else stray}"
    if opens:
        assert f"line {first + 2}: not a CSV row" in refusal("a,note\n" + "\n".join(lines))
    else:
        assert len(texts(("a,note\n" + "\n".join(lines)).encode())) == 20


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;", "sep=;;;", "\ufeffsep=;"])
def test_excels_line_on_the_separator_is_followed(line: str) -> None:
    assert texts(f"{line}\na;b\n1,5;2,2,2\n".encode()) == [["1,5", "2,2,2"]]
    assert texts(b"sep=\t\na\tb\n1\t2\n") == [["1", "2"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sep=|\na|b\n", "line 1: cells separated by '|'; separate them by semicolons, tabs, commas"),
        ("a,b,c\n1,2\n", "line 2: 2 cells where the header has 3"),
        ("a,b\n1,2,3\n", "line 2: 3 cells where the header has 2"),
        (",,\n,,\n", "all of its cells are empty"),
        (" \n\n", "the file is empty"),
        ("a,b\n,\n,\n", "a header and no rows below it"),
        ("a\n1\n".encode("utf-16-le"), "UTF-16 without its mark; save the table as CSV (UTF-8)"),
        (b"PK\x03\x04" + bytes(100), "an Excel or OpenOffice table; save the table as CSV (UTF-8)"),
    ],
)
def test_what_is_no_table_is_refused_with_what_would_help(text: str | bytes, said: str) -> None:
    assert said in refusal(text if isinstance(text, str) else text * 40 if text[:2] != b"PK" else text)
