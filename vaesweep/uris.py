"""URIs of stores and of places of files: which of them are files here, and how others may read them.

A store is named as MLflow and SQLAlchemy name it (`store_of`), a place of files as Arrow names it (`place_of`). Nothing
else takes either of them apart.
"""

import re
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import parse_qs, unquote

from vaesweep.errors import UserError

MASK = "***"
SQLITE = "sqlite:///"
SERVER_NAMES = ("databricks", "databricks-uc", "uc")  # whole URIs that have no scheme
DATABASE_SCHEMES = ("postgresql", "mysql", "mssql", "sqlite")
SERVER_SCHEMES = ("http", "https", *SERVER_NAMES)
PLUGINS = "mlflow.tracking_store"  # the group of entry points by which others bring schemes of stores
PLACE_SCHEMES = (
    "file",
    "s3",
    "gs",
    "gcs",
    "abfs",
    "abfss",
    "hdfs",
    "viewfs",
)  # by which a URI is known even without //

# What stands between `user:` and the host. Nobody may have quoted what is special in a password, so that it goes on to
# the last `@` before a blank, and rather hides too much; digits before a path are a port.
_PASSWORD = re.compile(r"(://[^\s/?#@:]*:)(?!\d{1,5}(?:[/?#\s]|$))\S*@")
_SECRETS = r"pass(?:word|wd|phrase)?|pwd|token|secret|key|signature|credentials?|auth(?:orization)?"
_PARAMETER = re.compile(rf"([?&;#](?:[\w.%-]*(?:{_SECRETS})[\w.%-]*|sig|sas)=)[^\s&;#'\"]*", re.IGNORECASE)
_SCHEME = re.compile(r"([a-zA-Z][\w+.-]+):")  # not the letter of a disk
_URI = re.compile(
    r"[a-zA-Z][\w+.-]+:/|(?:" + "|".join(PLACE_SCHEMES) + r"):", re.IGNORECASE
)  # as `Path` leaves it, too
_CONTROL = re.compile(r"[\0-\x1f\x7f]")
_YES = ("true", "1", "t", "yes", "y", "on")  # as SQLAlchemy reads them


def masked(text: str) -> str:
    """A URI, or a text with URIs in it, without passwords: of users, and in parameters that look like secrets."""
    return _PARAMETER.sub(rf"\1{MASK}", _PASSWORD.sub(rf"\1{MASK}@", text))


def scheme_of(uri: str) -> str:
    """The scheme of a URI without its driver, in lower case: `postgresql` of `postgresql+psycopg2://…`."""
    return uri.partition(":")[0].partition("+")[0].lower() if ":" in uri else ""


@dataclass(frozen=True, slots=True)
class StoreUri:
    """A tracking store's URI taken apart: its scheme, and the file of an SQLite database that is not in memory."""

    uri: str
    scheme: str
    file: Path | None = None

    @property
    def is_memory(self) -> bool:
        """Whether it is an SQLite database in memory, which ends with its process."""
        return self.scheme == "sqlite" and self.file is None


def store_of(uri: str) -> StoreUri:
    """A tracking store's URI taken apart, as MLflow and SQLAlchemy read it: `sqlite+pysqlite:///a.db?timeout=30`."""
    scheme = scheme_of(uri)
    return StoreUri(uri, scheme, _sqlite_path(uri) if scheme == "sqlite" else None)


def _sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite URI: what stands before `?`, or where the query says `uri=true` the path of a `file:`."""
    _, _, rest = uri.partition("://")
    database, _, query = rest.partition("?")
    options = {name: values[-1] for name, values in parse_qs(query).items()}
    path = unquote(database.removeprefix("/")) if database.startswith("/") else ""
    if options.get("uri", "").lower() in _YES and path.startswith("file:"):
        if options.get("mode") == "memory":
            return None
        path = unquote(path.removeprefix("file:").partition("#")[0])
        if path.startswith("//"):  # file:///a.db, file://localhost/a.db
            path = "/" + path[2:].partition("/")[2]
    return None if path in ("", ":memory:") else Path(path)


def sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite store; `None` for any other URI, and for a database in memory."""
    return store_of(uri).file


def check_store(uri: str, name: str) -> None:
    """Refuse a tracking store's URI that MLflow does not take, or takes for something else than it looks.

    `name` is that of the option or variable that has it.
    """
    where, store = f"{name} {masked(uri)}", store_of(uri)
    if uri != uri.strip() or _CONTROL.search(uri):
        raise UserError(f"{where}: there is a blank or a control character at its ends, or in it; take it away")
    plain = _SCHEME.match(uri)
    if plain is None:
        if Path(uri).suffix in (".db", ".sqlite", ".sqlite3") or Path(uri).is_file():
            raise UserError(f"{where}: this is a path; write {SQLITE}{uri}")
        return  # a folder, which MLflow itself takes or refuses
    if store.scheme == "sqlite":
        path = uri.partition("?")[0].partition(":")[2]
        if not path.startswith("//") or (not path.startswith("///") and path != "//"):
            raise UserError(f"{where}: write {SQLITE}FILE, with a fourth / before a path from the root")
        if not uri.startswith("sqlite"):
            raise UserError(f"{where}: write sqlite in small letters")
        if store.is_memory:
            raise UserError(f"{where}: a database in memory ends with its command; name a file, {SQLITE}FILE")
        return
    schemes = {*SERVER_SCHEMES, *DATABASE_SCHEMES, "file", *(plugin.name for plugin in entry_points(group=PLUGINS))}
    scheme = plain[1].partition("+")[0].lower()
    if scheme not in schemes:
        right = "write postgresql://" if scheme == "postgres" else f"MLflow takes {SQLITE}FILE, http://, postgresql://"
        raise UserError(f"{where}: there are no stores {scheme}:; {right}")
    if scheme in ("http", "https") and not re.match(r"\w+://[^/?#]", uri):
        raise UserError(f"{where}: it names no host; write {scheme}://HOST…")


def is_database(uri: str, option: str) -> bool:
    """Whether an option names a database by its URI, and not a file. Raises `UserError` of one that has faults."""
    if scheme_of(uri) not in DATABASE_SCHEMES or not _SCHEME.match(uri):
        return False
    check_store(uri, option)
    return True


def place_of(text: str, option: str) -> str | Path:
    """A place of files as an option names it: a URI that Arrow takes, or the path of a folder or file here.

    Raises `UserError` of anything that only looks like one of them.
    """
    where = f"{option} {masked(text)}"
    if _CONTROL.search(text):
        raise UserError(f"{where}: there is a control character in it; name a folder, or a URI")
    if not _URI.match(text):
        return expanded(Path(text), option)
    scheme, _, rest = text.partition(":")
    if not rest.startswith("//") or not rest.strip("/"):
        right = rest if scheme.lower() == "file" else f"{scheme.lower()}://{rest.lstrip('/') or 'bucket/folder'}"
        raise UserError(f"{where}: this is no whole URI; write {right or 'a folder'}")
    return text


def folder_of(path: Path | str, option: str) -> Path:
    """The path of a folder that must be one of this machine; `~` is the user's. Raises `UserError` of a URI."""
    text = str(path)
    if _URI.match(text):
        raise UserError(f"{option} {masked(text)}: this must be a folder of this machine, and not a URI")
    if _CONTROL.search(text):
        raise UserError(f"{option} {masked(text)}: there is a control character in it; name a folder")
    return expanded(Path(text), option)


def expanded(path: Path, option: str) -> Path:
    """A path with `~` in the place of which the user's home stands. Raises `UserError` where nobody knows that."""
    try:
        return path.expanduser()
    except UnicodeEncodeError:
        raise UserError(
            f"{option} {path}: there is half a character in it, which no file has; name the folder"
        ) from None
    except RuntimeError:
        raise UserError(f"{option} {path}: whose home folder is it? name the folder itself") from None


def is_local(uri: str) -> bool:
    """Whether a URI names a place on the disk of whoever reads it: `file:`, or a path."""
    scheme = _SCHEME.match(uri)
    return scheme is None or scheme[1].lower() == "file"


def is_server(uri: str) -> bool:
    """Whether a store is reached over the network by MLflow's own protocol: neither a file nor a database."""
    return uri in SERVER_NAMES or (scheme_of(uri) not in DATABASE_SCHEMES and not is_local(uri))
