"""Every URI that MLflow or Arrow takes is taken apart in one place, and nothing else is taken for one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from vaesweep.errors import UserError
from vaesweep.uris import check_store, folder_of, place_of, sqlite_file

FILES = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="._-/% +&="), min_size=1)
QUERIES = ["", "?", "?timeout=30", "?check_same_thread=false&timeout=3", "?cache=shared"]


@given(FILES, st.sampled_from(QUERIES), st.sampled_from(["sqlite", "sqlite+pysqlite"]))
def test_the_file_of_an_sqlite_uri_is_that_of_sqlalchemy(file: str, query: str, scheme: str) -> None:
    uri = f"{scheme}:///{file}{query}"
    assert sqlite_file(uri) == Path(str(make_url(uri).database))


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:///file:a.db?mode=ro&uri=true", "a.db"),
        ("sqlite:///file:///x/a%20b.db?uri=True&mode=rw", "/x/a b.db"),
        ("sqlite:///file://localhost/x/a.db?uri=1", "/x/a.db"),
        ("sqlite:///file:/x/a.db?uri=true&timeout=9", "/x/a.db"),
        ("sqlite:///file:a.db", "file:a.db"),
        ("sqlite:///file:x?mode=memory&uri=true", None),
        ("sqlite:///file::memory:?uri=true", None),
        ("sqlite:///:memory:?cache=shared", None),
        ("sqlite:///", None),
        ("sqlite://", None),
        ("postgresql:///a.db", None),
    ],
)
def test_a_file_is_known_however_sqlite_names_it(uri: str, file: str | None) -> None:
    assert sqlite_file(uri) == (None if file is None else Path(file))


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///a.db",
        "sqlite+pysqlite:////a.db?timeout=3",
        "http://h",
        "https://u:p@h:5/x",
        "databricks",
        "databricks://profile",
        "uc:name",
        "postgresql+psycopg2:///d?host=/run",
        "mysql+pymysql://u@h/d",
        "mssql+pyodbc://h/d",
        "mlruns",
        "file:///x/mlruns",
        "C:/mlruns",
    ],
)
def test_a_store_that_mlflow_takes_is_taken(uri: str) -> None:
    check_store(uri, "MLFLOW_TRACKING_URI")


@pytest.mark.parametrize(
    ("uri", "right"),
    [
        ("sqlite:/a.db", "sqlite:///"),
        ("sqlite:a.db", "sqlite:///"),
        ("sqlite://a.db", "sqlite:///"),
        ("SQLite:///a.db", "small letters"),
        ("sqlite:///:memory:", "in memory"),
        ("postgres://u:s3cret@h/d", "postgresql://"),
        ("htpp://h", "http://"),
        ("s3://bucket/x", "sqlite:///FILE"),
        ("http:/h", "no host"),
        ("http:///x", "no host"),
        ("results/mlflow.db", "sqlite:///results/mlflow.db"),
        ("http://h\n", "blank"),
        (" http://h", "blank"),
        ("sqlite:///a\x00.db", "control"),
    ],
)
def test_what_only_looks_like_a_store_is_refused_with_what_would_be_right(uri: str, right: str) -> None:
    with pytest.raises(UserError, match=right) as refused:
        check_store(uri, "MLFLOW_TRACKING_URI")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("text", ["a/b", "/a", "a:b/c", "run:1/x", "12:30", "C:/x", "./s3/x"])
def test_a_path_is_a_folder(text: str) -> None:
    assert place_of(text, "--storage") == folder_of(text, "--out") == Path(text)


@pytest.mark.parametrize("text", ["s3://bucket/x", "gs://b", "abfss://c@a.dfs.core.windows.net/x", "file:///a b"])
def test_a_uri_is_a_place_of_files_and_no_folder(text: str) -> None:
    assert place_of(text, "--storage") == text
    with pytest.raises(UserError, match="--out"):
        folder_of(text, "--out")


@pytest.mark.parametrize("text", ["s3:/bucket", "s3:bucket", "s3://", "gs:/b", "file:a", "file:/a", "http:/x", "a\0b"])
def test_half_a_uri_is_neither(text: str) -> None:
    with pytest.raises(UserError, match="--storage"):
        place_of(text, "--storage")
    with pytest.raises(UserError, match="--out"):
        folder_of(text, "--out")


@pytest.mark.parametrize("path", ["~\ud800", "~a\ud800b/c", "~nobody-of-this-name/x"])
def test_a_home_that_nobody_has_is_refused(path: str) -> None:
    with pytest.raises(UserError, match=r"^--out .*name the folder"):
        folder_of(path, "--out")
