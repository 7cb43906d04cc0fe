"""Lines for people: what users and files have named is shown as it is, never as markup, and cannot move a cursor."""

from rich.console import Console
from rich.text import Text

from vaesweep.errors import visible
from vaesweep.uris import masked


def tell(console: Console, line: object) -> None:
    """Print one line, however long, without the secrets of its URIs."""
    console.print(Text(visible(masked(str(line)))), soft_wrap=True)
