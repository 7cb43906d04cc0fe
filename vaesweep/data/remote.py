"""Data in object storage: files that a manifest lists are copied to this machine once, checked, and read from there.

    s3://bucket/mnist/manifest.json     {"format": 1, "files": [{"name": …, "bytes": …, "sha256": …}, …]}
    s3://bucket/mnist/…                 the files, under these names
    <cache>/data/<digits>/mnist/…       the copy: the digits are of the URI and the manifest

`vaesweep manifest DIR` writes the manifest of a folder, before it is uploaded. Any URI goes that pyarrow knows:
`s3://`, `gs://`, `hdfs://`, `file://`. Credentials are the environment's, never the URI's.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from filelock import FileLock
from pyarrow import fs

from vaesweep.data.cache import cache_folder
from vaesweep.data.folders import find
from vaesweep.data.reading import CHUNK, open_regular
from vaesweep.data.writing import replace_file
from vaesweep.errors import UserError
from vaesweep.uris import masked

MANIFEST, FORMAT = "manifest.json", 1
MANIFEST_BYTES = 2**28
COMPLETE = ".complete"  # beside a copy, once all of its files have been checked
COPIED_AT_ONCE = 8
HOW = f"write {MANIFEST} by `vaesweep manifest DIR` and upload it with the files"


@dataclass(frozen=True)
class Entry:
    """A file of a manifest: its name below the manifest's folder, with slashes, and what it holds."""

    name: str
    bytes: int
    sha256: str


def local_copy(uri: str, cache: Path | None = None) -> Path:
    """The copy on this machine of the folder or file at `uri`, made if there is none.

    The manifest is in the folder; for a file, in the folder that it is in. Raises `UserError` where there is none,
    where a file is not what its manifest says, or where the URI holds credentials.
    """
    uri = uri.rstrip("/")
    if "@" in uri.partition("://")[2].partition("/")[0] or masked(uri) != uri:
        raise UserError(
            f"{masked(uri)}: a URI of data holds no credentials, which runs would record; set them in the "
            "environment, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    try:
        file_system, root = fs.FileSystem.from_uri(uri)
    except (OSError, ValueError) as error:
        raise UserError(f"{uri}: {' '.join(str(error).split())}; name it as s3://bucket/folder") from None
    return copied(file_system, root, uri, cache or cache_folder() / "data")


def copied(file_system: Any, root: str, uri: str, cache: Path) -> Path:
    """The copy below `cache` of the folder or file `root` of a pyarrow file system; `uri` names it in errors."""
    manifest, only = _manifest(file_system, root, uri), ""
    if manifest is None:
        root, _, only = root.rpartition("/")
        manifest = _manifest(file_system, root, uri)
    if manifest is None:
        raise UserError(f"{uri}: there is no {MANIFEST} in it, or beside it; {HOW}")
    entries = _entries(manifest, f"{uri}: {MANIFEST}")
    if only and only not in {entry.name for entry in entries}:
        raise UserError(f"{uri}: {MANIFEST} beside it does not list {only}; {HOW}")
    digits = hashlib.sha256(f"{uri}\n".encode() + manifest).hexdigest()[:16]
    wanted = [entry for entry in entries if not only or entry.name == only]
    folder = cache / digits
    place = folder if only else folder / PurePosixPath(root).name
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # another process of this machine may be copying it
        if not _is_complete(folder, place, wanted):
            _copy(file_system, root, uri, place, wanted)
            (folder / COMPLETE).touch()
    return place / only if only else place


def write_manifest(folder: Path) -> tuple[Path, int]:
    """Write the manifest of all files of `folder` and the folders in it; where it is, and how many files it lists."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the one that holds the data")
    paths = [folder / name for name in find(folder, ()).names if name != MANIFEST]
    if not paths:
        raise UserError(f"{folder}: there is no file in it; name the folder that holds the data")
    files = []
    for path in paths:
        with open_regular(path, "make it readable, or take it away") as file:
            digest = hashlib.file_digest(cast(io.FileIO, file), "sha256").hexdigest()
        files.append({"name": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": digest})
    text = json.dumps({"format": FORMAT, "files": files}, indent=1)
    return replace_file(folder / MANIFEST, lambda draft: draft.write_text(text)), len(files)


def _manifest(file_system: Any, root: str, uri: str) -> bytes | None:
    """The manifest in `root`, None where there is none."""
    path = f"{root}/{MANIFEST}"
    try:
        about = file_system.get_file_info(path)
        if not about.is_file:
            return None
        if about.size > MANIFEST_BYTES:
            raise UserError(f"{uri}: {MANIFEST} has {about.size} bytes, and at most {MANIFEST_BYTES} are read; {HOW}")
        with file_system.open_input_stream(path) as stream:
            return bytes(stream.read())
    except OSError as error:
        raise UserError(f"{uri}: cannot be read: {masked(' '.join(str(error).split()))}") from None


def _entries(manifest: bytes, where: str) -> list[Entry]:
    try:
        values: Mapping[str, Any] = json.loads(manifest)
        if values["format"] != FORMAT:
            raise UserError(f"{where} has format {values['format']}, this vaesweep reads {FORMAT}; {HOW}")
        entries = [Entry(str(f["name"]), int(f["bytes"]), str(f["sha256"])) for f in values["files"]]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{where} is not a manifest of vaesweep; {HOW}") from None
    for entry in entries:
        parts = PurePosixPath(entry.name).parts
        if not parts or PurePosixPath(entry.name).is_absolute() or ".." in parts or entry.name == MANIFEST:
            raise UserError(f"{where} names {entry.name!r}, which is no file below it; {HOW}")
    return entries


def _is_complete(folder: Path, place: Path, entries: Iterable[Entry]) -> bool:
    """Whether all files have been copied and checked, and are still there."""
    paths = [(place / entry.name, entry.bytes) for entry in entries]
    return (folder / COMPLETE).exists() and all(path.is_file() and path.stat().st_size == n for path, n in paths)


def _copy(file_system: Any, root: str, uri: str, place: Path, entries: list[Entry]) -> None:
    needed, free = sum(entry.bytes for entry in entries), shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"{uri}: {needed} bytes are to be copied, and {place} has room for {free}; set VAESWEEP_CACHE to a folder "
            "with more"
        )

    def one(entry: Entry) -> None:
        path = place / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            replace_file(path, lambda draft: _copy_checked(file_system, f"{root}/{entry.name}", entry, draft, uri))
        except OSError as error:
            raise UserError(f"{uri}: {entry.name} cannot be copied: {masked(' '.join(str(error).split()))}") from None

    with ThreadPoolExecutor(COPIED_AT_ONCE) as threads:
        list(threads.map(one, entries))


def _copy_checked(file_system: Any, source: str, entry: Entry, draft: Path, uri: str) -> None:
    """Copy one file, some at a time, and refuse it where it is not what the manifest says."""
    digest, count = hashlib.sha256(), 0
    with file_system.open_input_stream(source) as stream, draft.open("wb") as file:
        while chunk := cast(BinaryIO, stream).read(CHUNK):
            count += len(chunk)
            if count > entry.bytes:
                break
            digest.update(chunk)
            file.write(chunk)
    if count != entry.bytes or digest.hexdigest() != entry.sha256:
        raise UserError(f"{uri}: {entry.name} is not what {MANIFEST} says; upload both anew, or {HOW}")
