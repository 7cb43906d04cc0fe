"""The files of data in a folder that users name: one rule for every loader, on every Python and file system.

A folder of data holds more than data. What is taken for data is said by the endings of names; all else is left out and
counted by reason, and what looks like data and cannot be had is refused, so that nothing is missing in silence:

- files with a wanted ending, whatever its case, in the order of their names, links to files followed
- folders below, links to folders followed, each folder once
- left out: what is hidden, files of editors and downloads, a second name of a file that is there, a copy of a file
  beside it of the same bytes, what other programs put there, and other endings
- refused: folders that cannot be read, links that lead nowhere, pipes and the like under a wanted name
"""

import filecmp
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from vaesweep.data.reading import refuse_special
from vaesweep.errors import UserError, line_of

FOREIGN = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"})
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".opdownload", ".aria2", ".filepart", ".tmp")
BACKUPS = ("~", ".bak", ".orig", ".old", ".swp", ".swo", "#")
_COPY = re.compile(
    r"(?P<stem>.+?)( ?\([0-9]+\)|[ _-]+[Cc]opy( ?\(?[0-9]+\)?)?| - Kopie( \([0-9]+\))?)(?P<ending>\.\w+)"
)
_COPY_OF = re.compile(r"(Copy of |Kopie von )(?P<name>.+)")
REMEDY = "make it readable, or take it away"
DEEPEST = 64  # folders in folders
SHOWN = 4  # endings that a summary names


@dataclass(frozen=True)
class Found:
    """The files of a folder: `names` below it, with slashes, in order; and names of what was left out, by reason."""

    folder: Path
    names: tuple[str, ...]
    left_out: Mapping[str, tuple[str, ...]]
    links: int = 0

    @property
    def summary(self) -> tuple[str, ...]:
        """A line on what was left out and on links that were followed, none where there is nothing to say."""
        parts = [self._counted(reason, names) for reason, names in self.left_out.items()]
        lines = [f"left out: {', '.join(parts)}"] if parts else []
        if self.links:
            lines.append(f"{self.links} of its files or folders are links, which are followed")
        return (line_of(f"{self.folder}: {'; '.join(lines)}"),) if lines else ()

    @staticmethod
    def _counted(reason: str, names: tuple[str, ...]) -> str:
        if reason != OTHER:
            return f"{len(names)} {reason}, such as {min(names)}"
        endings = Counter(os.path.splitext(name)[1].lower() or "none" for name in names)
        shown = ", ".join(f"{ending} {count}" for ending, count in endings.most_common(SHOWN))
        return f"{len(names)} {reason} ({shown}{', …' * (len(endings) > SHOWN)})"


HIDDEN, TEMPORARY, COPIES = "hidden", "of editors or unfinished downloads", "copies of a file beside them"
SECOND, OTHER = "second names of what is there", "with other endings"


def find(folder: Path, endings: Collection[str], *, deep: bool = True) -> Found:
    """The files of `folder`, and with `deep` of the folders in it, whose names end in one of `endings`.

    `endings` are in lower case, with their dot; of none all files are wanted. Raises `UserError` where a folder cannot
    be read, or where a file with a wanted ending is none.
    """
    return _Walk(folder, endings, deep=deep).found()


class _Walk:
    """A walk through a folder; folders proper come before linked ones, so that a folder is known by its own name."""

    def __init__(self, folder: Path, endings: Collection[str], *, deep: bool) -> None:
        self._folder, self._endings, self._deep = folder, endings, deep
        self._files: dict[str, tuple[int, int]] = {}
        self._linked: dict[str, tuple[int, int]] = {}
        self._left_out: dict[str, list[str]] = {}
        self._seen: set[tuple[int, int]] = set()
        self._links = 0

    def found(self) -> Found:
        """Everything."""
        linked = self._walk_all([("", 0)])
        while linked:
            self._links += len(linked)
            linked = self._walk_all(sorted(linked))
        own = set(self._files.values())
        for name, identity in sorted(self._linked.items()):
            if identity in own:
                self._leave_out(SECOND, name)
            else:
                own.add(identity)
                self._files[name] = identity
                self._links += 1
        names = sorted(self._files, key=_order)
        copies = [name for name in names if self._is_copy(name)]
        for name in copies:
            self._leave_out(COPIES, name)
        kept = tuple(name for name in names if name not in set(copies))
        reasons = {reason: tuple(sorted(names)) for reason, names in sorted(self._left_out.items())}
        return Found(self._folder, kept, reasons, self._links)

    def _leave_out(self, reason: str, name: str) -> None:
        self._left_out.setdefault(reason, []).append(name)

    def _walk_all(self, folders: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """Walk through folders and those in them; the linked folders that were met, with their depths."""
        linked: list[tuple[str, int]] = []
        while folders:
            name, depth = folders.pop(0)
            status = self._status(name)
            if (status.st_dev, status.st_ino) in self._seen:
                self._leave_out(SECOND, name)
                continue
            self._seen.add((status.st_dev, status.st_ino))
            if depth > DEEPEST:
                raise UserError(f"{self._folder / name}: is more than {DEEPEST} folders deep; name one of them")
            for entry in self._entries(name):
                below = f"{name}/{entry.name}" if name else entry.name
                if self._is_folder(entry, below):
                    (linked if entry.is_symlink() else folders).append((below, depth + 1))
        return linked

    def _is_folder(self, entry: "os.DirEntry[str]", name: str) -> bool:
        """Whether an entry is a folder to be walked through; of anything else it is noted what it is."""
        if entry.name.startswith(".") or entry.name in FOREIGN:
            self._leave_out(HIDDEN if entry.name.startswith(".") else OTHER, name)
            return False
        wanted = not self._endings or os.path.splitext(entry.name)[1].lower() in self._endings
        if self._is_dir(entry) and not (wanted and self._endings):
            if not self._deep:
                self._leave_out("folders, which are not looked into", name)
            return self._deep
        if entry.name.lower().endswith((*UNFINISHED, *BACKUPS)) or entry.name.startswith(("~$", "#")):
            self._leave_out(TEMPORARY, name)
        elif not wanted:
            self._leave_out(OTHER, name)
        else:
            status = self._status(name)
            refuse_special(self._folder / name, status, REMEDY)
            (self._linked if entry.is_symlink() else self._files)[name] = (status.st_dev, status.st_ino)
        return False

    def _is_dir(self, entry: "os.DirEntry[str]") -> bool:
        try:
            return entry.is_dir()
        except OSError:
            return False

    def _entries(self, name: str) -> list["os.DirEntry[str]"]:
        try:
            with os.scandir(self._folder / name) as entries:
                return sorted(entries, key=lambda entry: _order(entry.name))
        except (OSError, ValueError) as error:
            raise UserError(f"{self._folder / name}: cannot be read ({_reason(error)}); {REMEDY}") from None

    def _status(self, name: str) -> os.stat_result:
        try:
            return (self._folder / name).stat()
        except (OSError, ValueError) as error:
            reason = "it is a link that leads nowhere" if (self._folder / name).is_symlink() else _reason(error)
            raise UserError(f"{self._folder / name}: cannot be read: {reason}; {REMEDY}") from None

    def _is_copy(self, name: str) -> bool:
        """Whether a file is called as a copy of one beside it, and has the same bytes."""
        parent, slash, own = name.rpartition("/")
        if match := _COPY.fullmatch(own):
            original = f"{parent}{slash}{match['stem']}{match['ending']}"
        elif match := _COPY_OF.fullmatch(own):
            original = f"{parent}{slash}{match['name']}"
        else:
            return False
        if original not in self._files:
            return False
        try:
            return filecmp.cmp(self._folder / name, self._folder / original, shallow=False)
        except OSError:
            return False  # what cannot be read is refused by who reads it


def _order(name: str) -> tuple[str, str]:
    """By the composed form of a name, which file systems may decompose."""
    return unicodedata.normalize("NFC", name), name


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
