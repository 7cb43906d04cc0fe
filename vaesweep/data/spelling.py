"""Names that users type: a hint for a misspelt one, and a domain's name made from a file's."""

import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from vaesweep.errors import UserError

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the known word nearest to `word` whatever its case, or nothing."""
    lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), lower, n=1)
    return f" (did you mean {lower[near[0]]!r}?)" if near else ""


def slug(name: str) -> str:
    """Lower-case ASCII letters, digits and underscores, for names of domains: `HÖRSTAT 2015` -> `horstat_2015`."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", ascii_name).strip("_") or "population"


def existing(path: str | Path) -> Path:
    """The path with `~` expanded; refused where nothing can be read there, with a hint at similar names beside it.

    Of a URI, such as `s3://bucket/folder`, it is the copy on this machine (`vaesweep.data.remote`).
    """
    if isinstance(path, str) and _URI.match(path):
        from vaesweep.data.remote import local_copy  # pyarrow takes its time to import

        return local_copy(path)
    try:
        location = Path(path).expanduser()
        if location.exists():
            return location
        is_link = location.is_symlink()
        neighbours = [entry.name for entry in location.parent.iterdir()] if location.parent.is_dir() else []
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if is_link:
        raise UserError(f"{location}: a link that leads to no file or folder; name another one")
    raise UserError(f"{location}: no such file or folder{did_you_mean(location.name, neighbours)}")
