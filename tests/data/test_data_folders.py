"""A folder's data are the same files everywhere, and what is left out is counted by its reason."""

import os
from pathlib import Path

import pytest

from vaesweep.data import folders
from vaesweep.data.folders import find
from vaesweep.errors import UserError

ENDINGS = (".wav",)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def test_wanted_endings_in_any_case_and_folder_in_the_order_of_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "b/x.wav", "a.WAV", "b.wav", "b/a/y.Wav", "notes.txt", "z.mp3", "none")
    found = find(tmp_path, ENDINGS)
    assert found.names == ("a.WAV", "b.wav", "b/a/y.Wav", "b/x.wav")
    assert "3 with other endings (" in found.summary[0]
    assert ".txt 1" in found.summary[0]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".x.wav", "1 hidden, such as .x.wav"),
        ("._a.wav", "1 hidden"),
        (".Trash/x.wav", "1 hidden, such as .Trash"),
        (".x.swp", "1 hidden"),
        ("x.wav.part", "1 of editors or unfinished downloads"),
        ("x.wav.crdownload", "1 of editors or unfinished downloads"),
        ("a.wav~", "1 of editors or unfinished downloads"),
        ("#a.wav#", "1 of editors or unfinished downloads"),
        ("a.wav.bak", "1 of editors or unfinished downloads"),
        ("__MACOSX/a.wav", "1 with other endings"),
        ("a.flac", "1 with other endings (.flac 1)"),
    ],
)
def test_what_is_no_data_is_left_out_and_counted(tmp_path: Path, name: str, reason: str) -> None:
    touch(tmp_path, "a.wav", name)
    found = find(tmp_path, ENDINGS)
    assert found.names == ("a.wav",)
    assert reason in found.summary[0]


@pytest.mark.parametrize(
    "copy", ["a (1).wav", "a(2).wav", "a - Copy.wav", "a copy.wav", "a copy 2.wav", "Copy of a.wav"]
)
def test_a_copy_is_left_out_where_its_bytes_are_those_of_the_file_beside_it(tmp_path: Path, copy: str) -> None:
    touch(tmp_path, "a.wav", "b (1).wav")
    (tmp_path / copy).write_bytes(b"a.wav")
    found = find(tmp_path, ENDINGS)
    assert found.names == ("a.wav", "b (1).wav")
    assert f"1 copies of a file beside them, such as {copy}" in found.summary[0]
    (tmp_path / copy).write_bytes(b"other")
    assert copy in find(tmp_path, ENDINGS).names


def test_links_are_followed_once_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "store/x.wav", "data/a.wav", "data/sub/b.wav")
    data = tmp_path / "data"
    (data / "x.wav").symlink_to(tmp_path / "store" / "x.wav")
    (data / "again.wav").symlink_to(data / "a.wav")
    (data / "loop").symlink_to(data)
    (data / "sub" / "up").symlink_to(data)
    (data / "linked").symlink_to(tmp_path / "store")
    found = find(data, ENDINGS)
    assert [(data / name).read_bytes() for name in found.names] == [b"data/a.wav", b"store/x.wav", b"data/sub/b.wav"]
    assert "second names of what is there" in found.summary[0]
    assert "are links, which are followed" in found.summary[0]


def test_without_anything_to_say_there_is_no_line(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    assert find(tmp_path, ENDINGS).summary == ()
    assert find(tmp_path, ()).names == ("a.wav",)


@pytest.mark.parametrize("kind", ["broken link", "pipe", "folder"])
def test_what_looks_like_data_and_is_none_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.wav"
    {"broken link": lambda: path.symlink_to("nowhere"), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    with pytest.raises(UserError, match=r"x\.wav: cannot be read: it is a"):
        find(tmp_path, ENDINGS)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.wav", "shut/b.wav")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(folders.os, "scandir", refuse)
    with pytest.raises(UserError, match=r"shut: cannot be read \(Permission denied\); make it readable"):
        find(tmp_path, ENDINGS)


def test_names_that_a_terminal_would_obey_are_not_in_the_summary(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", ".\x1b[31m.wav")
    assert find(tmp_path, ENDINGS).summary[0].isprintable()


def test_decomposed_names_stand_where_composed_ones_do(tmp_path: Path) -> None:
    touch(tmp_path, "a\u0308.wav", "z.wav", "b.wav")
    assert find(tmp_path, ENDINGS).names == ("b.wav", "z.wav", "a\u0308.wav")
