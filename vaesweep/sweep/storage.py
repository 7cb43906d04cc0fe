"""Storage of checkpoints of packs and of finished cells, in a local folder or at any URI that pyarrow supports.

    <storage>/checkpoints/<cells>-<step>.safetensors  the latest state of cells that step together
    <storage>/finished/<cell>.safetensors             a finished cell: weights, history, final metrics
    <storage>/splits/<token>-<pack>                   a request to a pack, for seconds (`vaesweep.sweep.splits`)

Writes are atomic.
"""

import os
import time
import uuid
from pathlib import Path

from pyarrow import fs

from vaesweep.errors import UserError
from vaesweep.uris import masked, place_of

CHECKPOINTS, FINISHED, SUFFIX = "checkpoints", "finished", ".safetensors"
DRAFT, DAMAGED = ".part", ".damaged"
DRAFT_SECONDS = 600.0  # after which nobody writes a draft any more


class Storage:
    """Bytes by name below one folder or URI. Where it is `dry` nothing is changed there: for plans."""

    def __init__(self, uri: str, *, dry: bool = False) -> None:
        self.dry = dry
        place = place_of(uri, "--storage")
        self.uri = place if isinstance(place, str) else str(place.resolve())
        try:
            self._fs, self._root = fs.FileSystem.from_uri(self.uri)
        except (OSError, ValueError) as error:
            raise UserError(
                f"--storage {masked(uri)}: {masked(str(error))}; give a folder, or a URI such as s3://bucket/folder"
            ) from None

    @property
    def folder(self) -> Path | None:
        """The local folder, `None` for a remote storage."""
        return Path(self._root) if isinstance(self._fs, fs.LocalFileSystem) else None

    def write(self, name: str, data: bytes) -> None:
        """Write `data` to `name`, atomically."""
        if self.dry:
            return
        path = f"{self._root}/{name}"
        self._fs.create_dir(os.path.dirname(path), recursive=True)
        if not isinstance(self._fs, fs.LocalFileSystem):  # an object store's upload is atomic by itself
            with self._fs.open_output_stream(path) as stream:
                stream.write(data)
            return
        draft = Path(f"{path}.{uuid.uuid4().hex}{DRAFT}")
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError:  # such as a full disk
            draft.unlink(missing_ok=True)
            raise

    def read(self, name: str, length: int | None = None) -> bytes:
        """The content of `name`, or its first `length` bytes."""
        with self._fs.open_input_file(f"{self._root}/{name}") as file:
            # A damaged header may ask for more than there is memory: pyarrow makes room before it reads.
            return bytes(file.read(None if length is None else min(length, file.size())))

    def names(self, folder: str, suffix: str = SUFFIX) -> list[str]:
        """All complete files of a folder, `folder/name.safetensors`; none if it is not there."""
        selector = fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True)
        return sorted(
            f"{folder}/{f.base_name}" for f in self._fs.get_file_info(selector) if f.is_file and f.path.endswith(suffix)
        )

    def older(self, folder: str, seconds: float) -> list[str]:
        """All files of a folder that were last written more than `seconds` ago."""
        selector = fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True)
        files = [file for file in self._fs.get_file_info(selector) if file.is_file and file.mtime is not None]
        before = time.time() - seconds
        return sorted(f"{folder}/{file.base_name}" for file in files if file.mtime.timestamp() < before)

    def exists(self, name: str) -> bool:
        """Whether the file `name` exists."""
        return bool(self._fs.get_file_info(f"{self._root}/{name}").is_file)

    def set_aside(self, name: str) -> str:
        """Rename a damaged file so that nothing reads it any more; its new name."""
        aside = f"{name}.{uuid.uuid4().hex[:8]}{DAMAGED}"
        if not self.dry:
            self._fs.move(f"{self._root}/{name}", f"{self._root}/{aside}")
        return aside

    def sweep_drafts(self) -> int:
        """Delete drafts that processes have left behind which died while they wrote; their number."""
        drafts: list[Path] = []
        if isinstance(self._fs, fs.LocalFileSystem):
            for folder in (CHECKPOINTS, FINISHED):
                drafts += Path(self._root, folder).glob(f"*{DRAFT}")
        old = [draft for draft in drafts if time.time() - draft.stat().st_mtime > DRAFT_SECONDS]
        for draft in old:
            draft.unlink(missing_ok=True)
        return len(old)

    def delete(self, name: str) -> None:
        """Delete the file `name` if it exists."""
        if self.exists(name) and not self.dry:
            self._fs.delete_file(f"{self._root}/{name}")


def finished_name(cell: str) -> str:
    """The name of a finished cell's file."""
    return f"{FINISHED}/{cell}{SUFFIX}"


def checkpoint_name(group: str, step: int) -> str:
    """The name of the file of a group of cells that step together, after `step` steps."""
    return f"{CHECKPOINTS}/{group}-{step}{SUFFIX}"
