"""Lines for people show what was named as it is."""

import io

import pytest
from rich.console import Console

from vaesweep.sweep.telling import tell


@pytest.mark.parametrize("name", ["[/note]", "[bold]x[/bold]", "[red", ":warning:", "\\[x]", "[link=http://x]y"])
def test_markup_and_emoji_of_a_name_are_text(name: str) -> None:
    said = io.StringIO()
    tell(Console(file=said, force_terminal=True, width=20), f"  data: columns ignored: {name}")
    assert said.getvalue() == f"  data: columns ignored: {name}\n"


def test_escapes_line_ends_and_secrets_do_not_go_out() -> None:
    said = io.StringIO()
    tell(Console(file=said), "a\x1b[2J\nb postgresql://ann:secret@db/x")
    assert said.getvalue() == "a?[2J b postgresql://ann:***@db/x\n"
