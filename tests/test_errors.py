"""What an error says is one line that can be printed, whatever users and files have named."""

import pickle
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaesweep.errors import LONGEST_LINE, RoundFailed, TrackingError, UserError, line_of, visible
from vaesweep.uris import masked

ANY = st.text(st.characters(exclude_categories=()), max_size=900)


@settings(deadline=None)
@given(ANY)
def test_a_message_is_one_line_within_the_limit_that_a_terminal_shows(text: str) -> None:
    for kind in (UserError, TrackingError, RoundFailed):
        line = str(kind(text))
        assert len(line) <= LONGEST_LINE
        assert not {unicodedata.category(one) for one in line} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
        line.encode()


@settings(deadline=None)
@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=60))
def test_words_that_fit_are_what_they_were(text: str) -> None:
    assert line_of(text) == text == visible(text) == str(UserError(text))


def test_a_line_keeps_its_beginning_and_what_would_be_right() -> None:
    line = line_of(f"{'x' * 4000}: cannot be read; {'word ' * 200} give a CSV file")
    assert line.startswith("xxx")
    assert line.endswith("give a CSV file")
    assert "…" in line


@pytest.mark.parametrize("length", [100, 400, 480, 500, 520, 3000])
def test_no_secret_is_parted_from_the_uri_that_it_is_known_by(length: int) -> None:
    secret = "hunter2" * 30
    text = f"{'a' * 20} {'b ' * (length // 2)}postgresql://ann:{secret}@db/x {'c ' * 300}"
    assert "hunter2" not in masked(str(UserError(text)))


def test_errors_go_from_process_to_process() -> None:
    for kind in (UserError, TrackingError, RoundFailed):
        assert str(pickle.loads(pickle.dumps(kind("said\nso")))) == "said so"
