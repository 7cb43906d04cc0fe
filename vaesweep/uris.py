"""URIs of stores and storage: which of them are files here, and how they are written where others may read them."""

import re
from pathlib import Path
from urllib.parse import urlsplit

MASK = "***"
SQLITE = "sqlite:///"
SERVER_NAMES = ("databricks", "databricks-uc", "uc")  # whole URIs that have no scheme
DATABASE_SCHEMES = ("postgresql", "mysql", "mssql", "sqlite")

# What stands between `user:` and the host. Nobody may have quoted what is special in a password, so that it goes on to
# the last `@` before a blank, and rather hides too much; digits before a path are a port.
_PASSWORD = re.compile(r"(://[^\s/?#@:]*:)(?!\d{1,5}(?:[/?#\s]|$))\S*@")
_SECRETS = r"pass(?:word|wd|phrase)?|pwd|token|secret|key|signature|credentials?|auth(?:orization)?"
_PARAMETER = re.compile(rf"([?&;#](?:[\w.%-]*(?:{_SECRETS})[\w.%-]*|sig|sas)=)[^\s&;#'\"]*", re.IGNORECASE)
_DRIVE = re.compile(r"[a-z]?", re.IGNORECASE)  # no scheme, or the letter of a disk


def masked(text: str) -> str:
    """A URI, or a text with URIs in it, without passwords: of users, and in parameters that look like secrets."""
    return _PARAMETER.sub(rf"\1{MASK}", _PASSWORD.sub(rf"\1{MASK}@", text))


def scheme_of(uri: str) -> str:
    """The scheme of a URI without its driver, in lower case: `postgresql` of `postgresql+psycopg2://…`."""
    return uri.partition(":")[0].partition("+")[0].lower() if ":" in uri else ""


def sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite store; `None` for any other URI, and for a database in memory."""
    path = uri.removeprefix(SQLITE).partition("?")[0]
    return Path(path) if uri.startswith(SQLITE) and path not in ("", ":memory:") else None


def is_local(uri: str) -> bool:
    """Whether a URI names a place on the disk of whoever reads it: `file:`, or a path."""
    scheme = urlsplit(uri).scheme
    return scheme == "file" or _DRIVE.fullmatch(scheme) is not None


def is_server(uri: str) -> bool:
    """Whether a store is reached over the network by MLflow's own protocol: neither a file nor a database."""
    return uri in SERVER_NAMES or (scheme_of(uri) not in DATABASE_SCHEMES and not is_local(uri))
